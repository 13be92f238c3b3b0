"""One process a folder: refused while the holder lives, free when it was killed, also where the file system cannot lock."""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.training import run_lock
from SRGAN3DLib.training.run_lock import NAME, RunLock, check_free

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from SRGAN3DLib.training.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(run: Path) -> subprocess.Popen:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_another_process_is_named_until_it_is_killed(tmp_path: Path) -> None:
    check_free(tmp_path)
    child = holder(tmp_path)
    for _ in range(2):
        with pytest.raises(JobError, match=rf"process {child.pid} on .* is at work in this folder"):
            check_free(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / NAME).exists()
    with RunLock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_twice_in_one_process(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(JobError, match="is at work"):
        RunLock(tmp_path).acquire()
    check_free(tmp_path)
    with pytest.raises(JobError, match="cannot be written"):
        RunLock(tmp_path / "absent").acquire()


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1e999, "host": "x"}', "[1]", "\0"])
def test_a_lock_file_that_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["host"] == socket.gethostname()


def test_a_file_system_that_cannot_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the file itself counts: for a process of this machine as long as it lives, for another machine's until it is deleted."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock, "lock_file", refuse)
    path = tmp_path / NAME
    with RunLock(tmp_path), pytest.raises(JobError, match=r"is at work .* delete .*in-use\.lock if that process has ended"):
        check_free(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(json.dumps({"pid": ended.pid, "host": socket.gethostname()}))
    check_free(tmp_path)
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(JobError, match="process 1 on elsewhere"):
        check_free(tmp_path)
