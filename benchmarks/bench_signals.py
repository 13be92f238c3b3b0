"""Ends `super-resolve` at random moments by SIGKILL, SIGINT and SIGTERM, and counts what must never be.

    python benchmarks/bench_signals.py --count 50

A half file is one under its final name that cannot be read as a whole. After SIGINT and SIGTERM no temporary file may be left,
the exit code must be 130 (or 0, where the work had ended before; or the signal's own, where Python had not yet started), and stderr must
hold no traceback. Prints one line for each signal and exits with 1 if anything was wrong. POSIX only.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from SRGAN3DLib.contract.errors import CANCELLED, SRGAN3DError
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def heed() -> None:
    """As at a terminal: what a shell runs in the background ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def once(source: Path, folder: Path, number: signal.Signals | None, after_s: float) -> tuple[int, str, float]:
    """(exit code, stderr, seconds) of one run that gets a signal `after_s` its start; None lets it end."""
    words = ["super-resolve", str(source), str(folder / "out.nii.gz"), "--model", "t1-x2", "--device", "cpu", "--quiet"]
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "SRGAN3DLib", *words],
        cwd=ROOT,
        preexec_fn=heed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if number is not None:
        try:
            child.wait(after_s)
        except subprocess.TimeoutExpired:
            child.send_signal(number)
    _, printed = child.communicate(timeout=300)
    return child.returncode, printed, time.monotonic() - begun


def faults(folder: Path, number: signal.Signals, code: int, printed: str) -> list[str]:
    """What is wrong after one run."""
    found = []
    final = folder / "out.nii.gz"
    if final.exists():
        try:
            Volume.read(final)
        except SRGAN3DError as error:
            found.append(f"half file: {error}")
    if number != signal.SIGKILL:
        found += [f"left behind: {path.name}" for path in folder.iterdir() if path not in (final, folder / "out.json")]
        if code not in (0, CANCELLED, -number):  # the last: Python itself had not started, so that nobody could answer
            found.append(f"exit code {code}")
        if "Traceback" in printed or "Exception ignored" in printed:
            found.append(f"traceback: {printed[-300:]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="runs for each signal (default: 50)")
    parser.add_argument("--signal", choices=[one.name for one in SIGNALS], action="append", help="only this one (may be repeated)")
    parser.add_argument("--size", type=int, default=48, help="voxels of the scan along each axis (default: 48)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as base:
        source = Path(base) / "in.nii"
        array = np.random.default_rng(0).gamma(2, 100, (options.size,) * 3).astype(np.float32)
        Volume.from_array(array, np.diag([1.5, 1.5, 1.5, 1.0])).write(source)
        (Path(base) / "whole").mkdir()
        whole_s = once(source, Path(base) / "whole", None, 0)[2]
        for number in [one for one in SIGNALS if one.name in (options.signal or (one.name,))]:
            ended, found = 0, []
            for n in range(options.count):
                folder = Path(base) / f"{number.name}{n}"
                folder.mkdir()
                code, printed, _ = once(source, folder, number, rng.uniform(0.1, 1.05 * whole_s))
                ended += code == 0
                found += faults(folder, number, code, printed)
            print(f"{number.name}: {options.count} runs of {whole_s:.1f} s, {ended} had ended before, {len(found)} faults", flush=True)
            for fault in found:
                print(f"  {fault}")
            wrong += len(found)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
