"""Reads thousands of damaged NIfTI, NRRD and MetaImage files: each must be read, or end in an error of ours, quickly and in little memory.

    python Testing/fuzz.py --count 2000 --seed 0 [--format nifti|nrrd|metaimage] [--keep FOLDER]

A case is made from a good file by the format's name and a number, so a failure is repeated by naming both. Prints a line for each
kind of outcome and for each failure; exit code 1 where there was one.
"""

from __future__ import annotations

import argparse
import collections
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from corpus import meta, nifti, nrrd, scan

from SRGAN3DLib.contract.errors import SRGAN3DError
from SRGAN3DLib.volumes.deflate import Deflated
from SRGAN3DLib.volumes.volume import Volume, read_geometry, read_provenance

SECONDS = 5.0
MEMORY = 2**30  # bytes above what the process holds
SHAPE = (8, 9, 10)
PROVENANCE = '{"program":"SRGAN3D","note":"' + "a long text " * 60 + '"}'
WORDS = (
    *(
        b"",
        b"0",
        b"-1",
        b"1",
        b"2",
        b"3",
        b"11",
        b"99999999999999999999",
        b"1e308",
        b"nan",
        b"inf",
        b"-inf",
        b"%n%n%s",
        b"../x.raw",
        b"NaN",
    ),
    *(
        b"/etc/hostname",
        b"/dev/zero",
        b"LIST",
        b"LOCAL",
        b"a%03d.raw 1 12 0",
        b"a%d 1 999999999 1",
        b"raw",
        b"gzip",
        b"bzip2",
        b"text",
        b"hex",
    ),
    *(
        b"True",
        b"False",
        b"none",
        b"(1,0,0)",
        b"(nan,0,0)",
        b"(1,2",
        b"float",
        b"MET_SHORT",
        b"block",
        b"big",
        b'"m" "m" "m"',
        b"\xff\xfe",
        b"\0",
    ),
    *(b"x" * 1000, b"9" * 400, b"\n\n", b"\r", b":", b"=", b":=", b"#"),
)


def good_files(folder: Path) -> dict[str, list[Path]]:
    """A few whole files of each format; damaged ones are made of these."""
    array = scan(SHAPE)
    volume = Volume.from_array(array, np.diag([1.0, 1.1, 1.2, 1]))
    short = array.astype("<i2").tobytes()
    files: dict[str, list[Path]] = {"nifti": [], "nrrd": [], "metaimage": []}

    def add(kind: str, name: str) -> Path:
        files[kind].append(folder / name)
        return folder / name

    nifti(array.astype(np.int16), scl_slope=0.5, qform_code=1)(add("nifti", "a.nii"))
    volume.write(add("nifti", "b.nii.gz"), provenance=PROVENANCE)
    nifti(array[None])(add("nifti", "c.nii"))
    volume.write(add("nrrd", "a.nrrd"), provenance=PROVENANCE)
    nrrd(array)(add("nrrd", "b.nrrd"))
    (folder / "d.raw").write_bytes(short)
    (folder / "d.raw.gz").write_bytes(_packed(short))
    for n in range(SHAPE[0]):
        (folder / f"s{n}.raw").write_bytes(short[n * 180 : (n + 1) * 180])
    nrrd(array[:0].reshape(0, 9, 10), type="short", sizes="10 9 8", data_file="d.raw.gz", encoding="gzip")(add("nrrd", "c.nhdr"))
    nrrd(array[:0].reshape(0, 9, 10), type="short", sizes="10 9 8", data_file="s%d.raw 0 7 1", kinds="domain domain domain")(
        add("nrrd", "d.nhdr")
    )
    volume.write(add("metaimage", "a.mha"), provenance=PROVENANCE)
    meta(array[:0].reshape(0, 9, 10), DimSize="10 9 8", ElementType="MET_SHORT", ElementDataFile="d.raw")(add("metaimage", "b.mhd"))
    meta(array[:0].reshape(0, 9, 10), DimSize="10 9 8", ElementType="MET_SHORT", ElementDataFile="s%d.raw 0 7 1")(add("metaimage", "c.mhd"))
    fields = {"DimSize": "10 9 8", "ElementType": "MET_SHORT", "CompressedData": "True", "ElementDataFile": "d.raw.gz"}
    meta(array[:0].reshape(0, 9, 10), **fields)(add("metaimage", "d.mhd"))
    return files


def _packed(data: bytes) -> bytes:
    with tempfile.TemporaryFile() as file:
        packer = Deflated(file)
        packer.write(data)
        packer.close()
        file.seek(0)
        return file.read()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four random faults, most of them in the header."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        end = min(len(out), rng.choice((120, 352, 1200, len(out))))
        at = rng.randrange(max(1, end))
        kind = rng.randrange(8)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + rng.choice((1, 2, 4, 8))] = rng.randbytes(rng.choice((1, 2, 4, 8)))
        elif kind == 2:
            del out[at : len(out) if rng.random() < 0.5 else at + rng.randrange(1, 40)]
        elif kind == 3:
            out[at:at] = rng.choice(WORDS)
        elif kind == 4:
            _replace_word(out, rng)
        elif kind == 5:
            extreme = rng.choice((0, -1, 2**15 - 1, 2**31 - 1, -(2**31), 2**63 - 1))
            out[at : at + 8] = extreme.to_bytes(8, "little", signed=True)[: rng.choice((2, 4, 8))]
        elif kind == 6:
            out[at : at + 4] = np.float32(rng.choice((np.nan, np.inf, -1, 0, 1e38, 1e-38))).tobytes()
        else:
            out += rng.choice((b"more", bytes(100), data[:50], data))
    return bytes(out)


def _replace_word(out: bytearray, rng: random.Random) -> None:
    """Another word in place of one of the header's text; a line left out or said twice."""
    lines = bytes(out[:2000]).split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.2:
        lines[at : at + 1] = [lines[at]] * rng.choice((0, 2))
    else:
        words = lines[at].split(b" ")
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        lines[at] = b" ".join(words)
    out[:2000] = b"\n".join(lines)


def try_case(kind: str, number: int, files: list[Path], folder: Path) -> str:
    """The outcome of one case: `read`, or the class of our error. Raises whatever else the library raises."""
    rng = random.Random(f"{kind} {number}")
    source = rng.choice(files)
    path = folder / f"case{''.join(source.suffixes)}"
    content = source.read_bytes()
    if source.name.endswith(".gz") and rng.random() < 0.7:  # damage what lies inside
        import gzip

        path.write_bytes(_packed(damaged(gzip.decompress(content), rng)))
    else:
        path.write_bytes(damaged(content, rng))
    outcomes = []
    for read in (Volume.read, read_geometry, read_provenance):
        try:
            read(path)
            outcomes.append("read")
        except SRGAN3DError as error:
            text = str(error)
            if not text.startswith(str(path)) or "\n" in text or not text.isprintable() or len(text) > len(str(path)) + 400:
                raise AssertionError(f"a message that is not one clear line: {text!r}") from None
            outcomes.append(type(error).__name__)
    return outcomes[0]


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS:g} s of CPU time")


def fuzz(kinds: list[str], count: int, seed: int, keep: Path | None) -> int:
    """Try `count` cases of each kind; returns the number of failures."""
    failures = 0
    warnings.simplefilter("error")  # numpy's own warnings are no clear line either
    signal.signal(signal.SIGVTALRM, _too_slow)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = good_files(folder)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, resource.RLIM_INFINITY))
        for kind in kinds:
            seen: collections.Counter[str] = collections.Counter()
            begun, slowest = time.perf_counter(), 0.0
            for number in range(seed * 1_000_000, seed * 1_000_000 + count):
                start = time.process_time()
                signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
                try:
                    seen[try_case(kind, number, every[kind], folder)] += 1
                except BaseException as error:
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    failures += 1
                    print(f"FAILED {kind} {number}: {type(error).__name__}: {error}", flush=True)
                    if keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        for case in folder.glob("case*"):
                            (keep / f"{kind}-{number}{''.join(case.suffixes)}").write_bytes(case.read_bytes())
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                slowest = max(slowest, time.process_time() - start)
                for case in folder.glob("case*"):
                    case.unlink()
            outcomes = ", ".join(f"{outcome} {n}" for outcome, n in seen.most_common())
            print(f"{kind}: {count} cases, {outcomes}; slowest {slowest:.2f} s, all {time.perf_counter() - begun:.0f} s", flush=True)
    return failures


def _address_space() -> int:
    import psutil

    return int(psutil.Process().memory_info().vms)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=2000, help="cases of each format (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("nifti", "nrrd", "metaimage"), action="append")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the files that failed are kept")
    args = parser.parse_args()
    return int(fuzz(args.format or ["nifti", "nrrd", "metaimage"], args.count, args.seed, args.keep) > 0)


if __name__ == "__main__":
    sys.exit(main())
