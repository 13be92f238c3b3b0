"""Lines that a worker must survive: those that once did harm, and random changes of right ones.

`python Testing/fuzz_worker.py --lines 2000 --seed 1` sends so many to one worker and says how many were answered, how many were
not, and what the answers were. The cases in `KEPT` are also a test (Testing/app/test_worker_lines.py).
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JOB = {"request": "super-resolve", "id": "x", "input": "none.nii", "output": "out.nii"}
BATCH = 500
CODES = {2, 3, 4, 5, 130}


def line(**changes: object) -> bytes:
    return json.dumps({**JOB, **changes}).encode()


KEPT = (
    b"",
    b"\x00" * 64,
    b"\xff\xfe{}",
    b'{"request": "super-resolve", "id": "x"',
    b"[" * 5_000,
    b"[" * 100_000,
    b'{"request": "load", "id": "x", "model": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    b"9" * 5_000,
    b'{"request": 1e999}',
    b'{"request": NaN, "id": "x"}',
    b'{"request": ["load"], "id": "x"}',
    b'{"request": {"a": 1}, "id": "x"}',
    b'{"request": "load", "id": "\\ud800"}',
    b'{"request": "load", "id": ""}',
    b'{"request": "load", "id": null}',
    b'{"request": "load", "id": {"a": [1]}}',
    b'{"request": "load", "id": "' + b"i" * 1000 + b'"}',
    b'{"request": "load", "id": "x", "model": "\\ud800"}',
    b'{"request": "load", "id": "x", "model": "a\\u0000b"}',
    b'{"request": "load", "id": "x", "model": ""}',
    b'{"request": "load", "id": "x", "model": "auto"}',
    b'{"request": "load", "id": "x", "device": "cuda:-1"}',
    b'{"request": "load", "id": "x", "memory_limit": "-4G"}',
    b'{"request": "cancel", "id": 3}',
    b'{"request": "stop", "now": true}',
    line(job="train"),
    line(job="models"),
    line(event="done"),
    line(input="a\0b"),
    line(input="\udcff.nii"),
    line(input="\ud800.nii"),
    line(input="n" * 300 + ".nii"),
    line(input="d/" * 5000 + "a.nii"),
    line(output="o" * 300 + ".nii"),
    line(input=7),
    line(input=["a"]),
    line(model="t1-x2,t1-x2-sharp", alpha=float("nan")),
    line(model="t1-x2", alpha=0.5),
    line(blur="\x1b[31m"),
    line(blur="nan"),
    line(blur="1e400mm"),
    line(flips=3),
    line(flips=True),
    line(precision="int4"),
    line(roi_ijk=[[0, 1e9], [0, 1], [0, 1]]),
    line(roi_ijk=[[0, 10**400], [0, 1], [0, 1]]),
    line(ijk_to_ras=[[float("inf")] * 4] * 4),
    line(ijk_to_ras="x"),
    line(factors_ijk=[0, 0, 0]),
    line(model="t1-x2", factors_ijk=[3, 3, 3]),
    line(spacing="0"),
    line(spacing="nan,nan,nan"),
    line(nested=[[[[]]]]),
    b'{"request": "super-resolve", "id": "x", "input": "' + b"a" * (3 << 20) + b'"}',
    b"x" * (5 << 20),
)


def changed(rng: random.Random) -> bytes:
    """A kept line or a right one, with bytes changed, left out, doubled or exchanged for those of another."""
    raw = bytearray(rng.choice([*(one for one in KEPT if len(one) < 4096), line(), line(model="t1-x2", blur="1.2mm", flips=2)]))
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(raw))
        kind = rng.randrange(5)
        if kind == 0:
            raw[at:at] = rng.choice([b'"', b"{", b"[", b"\\ud83d", b"\\u0000", b"null", b"-1", b"1e309", b"\x80", b"]", b",", b":"])
        elif kind == 1:
            del raw[at : at + rng.randint(1, 8)]
        elif kind == 2 and at < len(raw):
            raw[at] = rng.randrange(256)
        elif kind == 3:
            raw[at:at] = raw[at : at + rng.randint(1, 40)]
        else:
            other = rng.choice(KEPT)[:2048]
            raw[at:] = other[rng.randint(0, len(other)) :]
    return bytes(raw).replace(b"\n", b" ")


def ends_or_cancels(raw: bytes) -> bool:
    """Whether it is a right request that has no answer: a stop or a cancel."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("request") in ("stop", "cancel")


def converse(lines: list[bytes], seconds: float) -> tuple[list[dict], int]:
    """Send all lines to one worker, then the end; (answers after hello, exit code). Raises where it hangs or says what is no JSON."""
    child = subprocess.Popen(
        [sys.executable, "-m", "SRGAN3DLib", "worker", "--protocol", "2"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    answers: list[dict] = []
    done = threading.Event()

    def read() -> None:
        assert child.stdout is not None
        for row in child.stdout:
            answers.append(json.loads(row))
            if answers[-1].get("id") == "the last one":
                break
        done.set()
        child.stdout.read()

    threading.Thread(target=read, daemon=True).start()
    try:
        for raw in lines:
            child.stdin.write(raw + b"\n")
        child.stdin.write(line(id="the last one") + b"\n")
        child.stdin.flush()
        assert done.wait(seconds), "the worker does not answer"
        child.stdin.close()
        return answers[1:-1], child.wait(30)
    finally:
        child.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    lines = [raw for raw in (changed(rng) for _ in range(options.lines)) if not ends_or_cancels(raw)]
    answers, code = [], 0
    for first in range(0, len(lines), BATCH):  # fewer than the worker keeps for a client that reads later
        more, ended_with = converse([*KEPT, *lines[first : first + BATCH]], 600)
        answers, code = answers + more, code or ended_with
    sent = len(lines) + len(KEPT) * -(-len(lines) // BATCH)
    kinds = collections.Counter(answer.get("error", answer["event"]) for answer in answers if answer["event"] not in ("log", "progress"))
    ended = sum(kinds.values())
    wrong = [answer for answer in answers if answer["event"] == "failed" and answer["exit_code"] not in CODES]
    print(f"{sent} lines, {ended} answers {dict(kinds)}, {len(wrong)} untyped, exit code {code}")
    for answer in wrong[:20]:
        print(answer)
    return int(bool(wrong) or code != 0 or ended != sent)


if __name__ == "__main__":
    sys.exit(main())
