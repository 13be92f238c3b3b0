"""Random damage to DICOM files: every one must be read or end in a typed error, without a crash, within seconds.

    python Testing/fuzz_dicom.py [--count 2000] [--seed 0] [--keep FOLDER]

The cases run in a child process, so that a crash is seen and counted. Prints one line of counts; exit code 1 where anything failed.
A case is made from (seed, number) alone, so it can be made again: `--only NUMBER` runs one and shows its traceback.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tinydicom

from SRGAN3DLib.contract.errors import SRGAN3DError

SLOW_SECONDS = 5.0
WORDS = (
    b"",
    b"abc",
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e400",
    b"\\\\\\\\",
    b"1\\2",
    b"9" * 20,
    b"\xff\xfe",
    b"\0\0\0\0",
    b"1,5",
)
LENGTHS = (0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0, 1, 65535, 0x10000)


def good_files(folder: Path) -> None:
    """A whole series in one of several forms below `folder/FORM`."""
    stack = np.random.default_rng(0).integers(0, 900, (6, 64, 66)).astype(np.uint16)
    along = [(0.0, 0.0, 3.0 * k) for k in range(6)]
    tinydicom.classic(folder / "classic", stack, along)
    tinydicom.classic(folder / "implicit", stack, along, syntax=tinydicom.IMPLICIT)
    tinydicom.classic(folder / "big", stack, along, syntax=tinydicom.BIG)
    tinydicom.classic(folder / "bare", stack, along, preamble=False)
    tinydicom.enhanced(folder / "enhanced" / "all.dcm", stack, along, slopes=[1.0 + k for k in range(6)], between=3.0)
    _packed(folder, "rle", "1.2.840.10008.1.2.5")
    _packed(folder, "jpeg2000", "1.2.840.10008.1.2.4.90")
    tinydicom.pack_jpeg(folder / "classic", folder / "jpeg")


def _packed(folder: Path, form: str, syntax: str) -> None:
    import pydicom

    for path in sorted((folder / "classic").iterdir()):
        one = pydicom.dcmread(path)
        one.compress(syntax, generate_instance_uid=False)
        (folder / form).mkdir(exist_ok=True)
        one.save_as(folder / form / path.name)


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to three of: bits, bytes, lengths, texts, cuts, repeats."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(raw), 1400)) if rng.random() < 0.8 else rng.randrange(len(raw))
        kind = rng.randrange(7)
        if kind == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            for where in range(at, min(at + rng.randint(1, 16), len(raw))):
                raw[where] = rng.randrange(256)
        elif kind == 2:
            raw[at : at + 4] = rng.choice(LENGTHS).to_bytes(4, rng.choice(("little", "big")))
        elif kind == 3:
            word = rng.choice(WORDS)
            raw[at : at + len(word)] = word
        elif kind == 4:
            del raw[max(at, 4) :]
        elif kind == 5:
            raw[at:at] = raw[at : at + rng.randint(1, 200)] * rng.randint(1, 4)
        else:
            del raw[at : at + rng.randint(1, 60)]
        if not raw:
            return b"\0"
    return bytes(raw)


def make_case(good: Path, folder: Path, seed: int, number: int) -> None:
    """The files of case `number`: a whole series of which one file, or every one, is damaged."""
    rng = random.Random(f"{seed} {number}")
    form = rng.choice(sorted(path.name for path in good.iterdir()))
    files = sorted((good / form).iterdir())
    hit = set(files) if rng.random() < 0.2 else {rng.choice(files)}
    alike = rng.random() < 0.5
    state = rng.getstate()
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        if alike:  # the same damage to every file: it gets past the comparison of slices
            rng.setstate(state)
        data = path.read_bytes()
        (folder / path.name).write_bytes(damage(data, rng) if path in hit else data)


def run_case(folder: Path) -> str:
    """read, a typed error's class, `slow` or `untyped ...`."""
    from SRGAN3DLib.volumes.volume import Volume

    start = time.process_time()
    try:
        Volume.read(folder)
        outcome = "read"
    except SRGAN3DError as error:
        text = str(error)
        outcome = type(error).__name__ if text.isprintable() and len(text) < 2000 else f"unprintable message {text!r}"
    except BaseException as error:
        outcome = f"untyped {type(error).__name__}: {error}"
    return outcome if time.process_time() - start < SLOW_SECONDS else f"slow ({outcome})"


def child(good: Path, seed: int, numbers: range) -> None:
    """Runs cases; says each number before and each outcome after."""
    for number in numbers:
        print(json.dumps([number]), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            make_case(good, Path(folder) / "case", seed, number)
            print(json.dumps([number, run_case(Path(folder) / "case")]), flush=True)


def fuzz(count: int, seed: int) -> tuple[Counter[str], dict[int, str]]:
    """(counts of outcomes, the failures by number). A crash ends a child; the next one goes on behind it."""
    counts: Counter[str] = Counter()
    failures: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        good_files(Path(folder))
        start = 0
        while start < count:
            code = [sys.executable, __file__, "--child", folder, "--seed", str(seed), "--first", str(start), "--count", str(count)]
            done = subprocess.run(code, capture_output=True, text=True, errors="replace")
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            for number, outcome in (line for line in lines if len(line) == 2):
                counts[outcome.split(" ")[0]] += 1
                if outcome not in ("read", "VolumeError", "ResourceError"):
                    failures[number] = outcome
            last = lines[-1][0] if lines else start
            if done.returncode != 0:
                counts["crash"] += 1
                failures[last] = f"crash, exit code {done.returncode}: {done.stderr[-300:]}"
            start = last + 1
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path, help="put the files of every failure there")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.seed, range(args.first, args.count))
        return 0
    if args.only is not None:
        from SRGAN3DLib.volumes.volume import Volume

        with tempfile.TemporaryDirectory() as folder:
            good_files(Path(folder) / "good")
            make_case(Path(folder) / "good", Path(folder) / "case", args.seed, args.only)
            print(Volume.read(Path(folder) / "case"))
        return 0
    start = time.monotonic()
    counts, failures = fuzz(args.count, args.seed)
    print(f"{sum(counts.values())} DICOM series in {time.monotonic() - start:.0f} s: {dict(counts)}")
    for number, outcome in sorted(failures.items()):
        print(f"  case {number}: {outcome}")
        if args.keep:
            with tempfile.TemporaryDirectory() as folder:
                good_files(Path(folder))
                make_case(Path(folder), args.keep / str(number), args.seed, number)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
