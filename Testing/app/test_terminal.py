"""The command line on every kind of terminal: not Unicode, closed, full, or with a reader that has left. Never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from SRGAN3DLib.app.cli import worst_code
from SRGAN3DLib.app.terminal import printable

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from SRGAN3DLib.__main__ import main; sys.exit(main())"


def run(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    """`srgan3d words...`, or a shell line with that command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    function = f"srgan3d() {{ {sys.executable} -c '{COMMAND}' \"$@\"; }}; "
    command = ["bash", "-c", function + shell] if shell else [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("scan.nii", "scan.nii"),
        ("脳 ü", "脳 ü"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\udcff", "\\udcff"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2028", "\\u2028"),
    ],
)
def test_nothing_commands_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_names_and_arguments_reach_the_terminal_as_escapes() -> None:
    for words in (["models", "\x1b[31mred"], ["\x1b[31mred"], ["models", "--\x1b[31mred"], ["super-resolve", "\x1b]0;title\x07", "o.nii"]):
        done = run(*words)
        assert done.returncode in (2, 3, 4) and b"\x1b" not in done.stdout + done.stderr and b"\\x1b" in done.stderr, words


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_that_is_not_unicode(encoding: str) -> None:
    done = run("models", "脳.safetensors", PYTHONIOENCODING=encoding, LC_ALL="C")
    assert done.returncode == 4 and b"Traceback" not in done.stderr and (b"\\u8133" in done.stderr) is (encoding != "utf-8")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("srgan3d models | head -c 1; exit ${PIPESTATUS[0]}", 0),
        ("srgan3d models | true; exit ${PIPESTATUS[0]}", 0),
        ("srgan3d --help | true; exit ${PIPESTATUS[0]}", 0),
        ("srgan3d models > /dev/full", 5),
        ("srgan3d --help > /dev/full", 5),
        ("srgan3d models --json > /dev/full", 5),
        ("srgan3d models >&-", 0),
        ("srgan3d models <&- >&- 2>&-", 0),
        ("srgan3d models none 2>&-", 4),
        ("srgan3d models none 2>/dev/full", 4),
        ("srgan3d fly 2>/dev/full", 2),
    ],
)
def test_streams_that_are_closed_full_or_left(line: str, code: int, unbuffered: str) -> None:
    done = run(shell=line, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == code and b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, done.stderr
    if code == 5:
        assert done.stderr.startswith(b"srgan3d: standard output: cannot be written") and done.stderr.count(b"\n") == 1


def test_a_file_does_not_get_the_number_of_a_closed_stream() -> None:
    """What a library prints to number 1 would land in it."""
    script = "import os; from SRGAN3DLib.app.terminal import prepare; prepare(); fd = os.open('/dev/null', 0); os.write(2, b'%d' % fd)"
    done = run(shell=f'{sys.executable} -c "{script}" <&- >&-')
    assert int(done.stderr) > 2


def test_a_wrong_model_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "in.nii").write_bytes(b"")
    script = "import sys, SRGAN3DLib.app.cli as c; code = c.main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    for words in (
        ["super-resolve", "in.nii", "out.nii", "--model", "t1-x3"],
        ["super-resolve", "in.nii", "out.nii", "--model", "t1-x2", "--factors", "4,1,1"],
        ["super-resolve", "in.nii", "out.nii", "--device", "toaster"],
        ["super-resolve", "in.nii", "out.nii", "--blur", "fog"],
        ["super-resolve", "in.nii", "out.nii", "--memory-limit", "lots"],
        ["evaluate", "--data", ".", "--out", "o", "--model", "t1-x3"],
        ["demo", "--model", "t1-x3"],
        ["fit", "in.nii", "-o", "m.safetensors", "--init", "t1-x3"],
        ["blend", "t1-x2", "t1-x3", "-o", "m.safetensors"],
    ):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        code, loaded = done.stdout.split()
        assert code in ("2", "4") and loaded == "False" and done.stderr.count("\n") == 1, (words, done.stdout, done.stderr)


@pytest.mark.parametrize(("codes", "worst"), [((), 0), ((3,), 3), ((3, 5, 4), 5), ((5, 1, 3), 1)])
def test_a_batch_ends_with_the_code_of_its_worst_failure(codes: tuple[int, ...], worst: int) -> None:
    assert worst_code({"failed": [{"exit_code": code} for code in codes]}) == worst
    assert worst_code(json.loads('{"failed": ["a line of a report"], "exit_code": 5}')) == 5


@pytest.mark.parametrize("megabytes", [90, 300, 900])
def test_an_address_space_that_is_too_small(megabytes: int, tmp_path: Path) -> None:
    """Below it OpenBLAS and glibc end the process with codes of their own."""
    done = run(shell=f"ulimit -v {megabytes * 1024}; srgan3d super-resolve {tmp_path}/in.nii {tmp_path}/out.nii")
    assert done.returncode == 5 and done.stderr.count(b"\n") == 1 and b"ulimit -v" in done.stderr, done.stderr
