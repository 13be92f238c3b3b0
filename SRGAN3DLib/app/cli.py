"""The command line: words become a job, events a progress bar on stderr, and errors one line and an exit code.

Everything that a person reads while the work runs goes to stderr, results go to stdout. The options of the commands are in
`options.py` and `training_options.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NoReturn

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import CANCELLED, Cancelled, ResourceError
from SRGAN3DLib.contract.events import Failed
from SRGAN3DLib.contract.jobs import FitJob, Job, TrainJob
from SRGAN3DLib.contract.protocol import WORKER_PROTOCOLS
from SRGAN3DLib.training.ranks import Ranks

from . import options, synthesis_options, terminal, training_options
from .interrupts import Interrupts

EPILOG = "exit codes: 0 done, 1 a fault of the program, 2 bad usage, 3 bad input, 4 bad checkpoint, 5 resources, 130 cancelled"


class Parser(argparse.ArgumentParser):
    """A parser whose messages cannot command the terminal: an argument may hold control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(terminal.printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own hides a full disk."""
        terminal.write(message, file or sys.stderr)


def parser() -> argparse.ArgumentParser:
    """All commands and their options; `args.make(args)` is the job."""
    top = Parser(prog="srgan3d", description="Super-resolution of 3-D head MRI.", epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"srgan3d {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for add in (*options.COMMANDS, *synthesis_options.COMMANDS, *training_options.COMMANDS):
        verb = add(verbs)
        verb.epilog = EPILOG
        verb.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
        verb.add_argument("--quiet", action="store_true", help="no progress on stderr, only warnings and errors")
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
    worker = verbs.add_parser("worker", help="serve jobs as JSON lines on stdin and stdout (docs/worker-protocol.md)")
    worker.add_argument(
        "--protocol", type=int, default=1, choices=WORKER_PROTOCOLS, help="the version of the protocol that the client speaks (default: 1)"
    )
    return top


def main(argv: list[str] | None = None, interrupts: Interrupts | None = None) -> int:
    """Run one command; returns the exit code. `interrupts` has the signals, where the caller has taken them over."""
    interrupts = interrupts or Interrupts()
    terminal.prepare()
    debug = False
    try:
        args = parser().parse_args(argv)
        debug = getattr(args, "debug", False)
        code = _serve(args, interrupts) if args.verb == "worker" else _do(args, interrupts)
        terminal.finish_output()
    except SystemExit:  # argparse: --help, --version, or a mistake that it has explained
        _finish_help()
        raise
    except BaseException as error:
        interrupts.end()
        if debug and not interrupts.requested():
            raise
        code = _explain(error, interrupts.requested())
    interrupts.end()
    terminal.finish_errors()
    return code


def _do(args: argparse.Namespace, interrupts: Interrupts) -> int:
    job = args.make(args)
    from .console import Console
    from .dispatcher import check_job, do_job

    check_job(job)
    with Console(quiet=args.quiet) as console:
        training = isinstance(job, TrainJob | FitJob)
        info = do_job(job, console.report, interrupts.requested, on_ready=lambda: interrupts.work(asked_first=training))
    if Ranks.here().first:  # it prints for all
        _print(job, info, args.json)
    return worst_code(info)


def worst_code(info: dict[str, Any]) -> int:
    """The exit code of a batch: that of its worst failure. A fault of the program is worse than any other."""
    codes = [one["exit_code"] for one in info.get("failed") or () if isinstance(one, dict)] + [info.get("exit_code", 0)]
    return 1 if 1 in codes else max(codes, default=0)


def _print(job: Job, info: dict[str, Any], as_json: bool) -> None:
    from .console import print_result

    try:
        if as_json:
            print(json.dumps(info, indent=1, default=str))
        else:
            print_result(job, info)
    except OSError as error:  # of stdout, which is small enough to be buffered, or not
        terminal.drop_output(error)


def _serve(args: argparse.Namespace, interrupts: Interrupts) -> int:
    from .worker import main as serve

    return serve(args.protocol)


def _explain(error: BaseException, interrupted: bool) -> int:
    """One line on stderr; returns the exit code. Once a signal has come, whatever a library made of it is a cancelled run."""
    if interrupted:
        what = str(error) if isinstance(error, Cancelled) and str(error) else "cancelled"
        terminal.say(f"srgan3d: {what}")
        return CANCELLED
    failure = Failed.of(error)
    terminal.say(f"srgan3d: {failure.message}" + (" (--debug shows where)" if failure.exit_code == 1 else ""))
    return failure.exit_code


def _finish_help() -> None:
    try:
        terminal.finish_output()
    except ResourceError as error:
        terminal.say(f"srgan3d: {error}")
        sys.exit(error.exit_code)
    finally:
        terminal.finish_errors()
