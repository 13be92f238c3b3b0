"""Ctrl-C and a polite kill at every moment: exit code 130, one line, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SRGAN3DLib.app.interrupts import Interrupts

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def heed() -> None:
    """As at a terminal: a shell's background jobs ignore SIGINT, and so would the children of a suite that is one."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)


def begin(folder: Path, script: str, ready: str) -> subprocess.Popen:
    """Start `script`, and wait until it has made the file `ready`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", script], cwd=folder, env=environment, stderr=subprocess.PIPE, preexec_fn=heed)
    for _ in range(1200):
        if (folder / ready).exists():
            return child
        time.sleep(0.05)
    raise AssertionError(f"not ready: {child.communicate(timeout=5)}")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("module", ["SRGAN3DLib.app.cli", "SRGAN3DLib.app.dispatcher", "SRGAN3DLib.volumes.volume"])
def test_while_libraries_are_loaded(tmp_path: Path, number: int, module: str) -> None:
    """A library that is half loaded turns an interrupt into an error of its own, or swallows it."""
    script = f"""if True:
        import builtins, pathlib, sys, time
        from SRGAN3DLib import __main__
        load = builtins.__import__
        def slow(name, *more, **keys):
            if {module.rsplit(".", 1)[1]!r} in (name.rsplit(".", 1)[-1], *(more[2] or () if len(more) > 2 else ())):
                pathlib.Path("ready").touch()
                try:
                    time.sleep(60)
                except BaseException as error:
                    raise ImportError("half loaded") from error
            return load(name, *more, **keys)
        builtins.__import__ = slow
        sys.argv = ["srgan3d", "super-resolve", "in.nii", "out.nii"]
        sys.exit(__main__.main())
    """
    child = begin(tmp_path, script, "ready")
    child.send_signal(number)
    _, printed = child.communicate(timeout=60)
    assert (child.returncode, printed) == (130, b"srgan3d: cancelled\n")


@pytest.mark.parametrize("swallowed", [False, True])
def test_while_it_works_temporary_files_go(tmp_path: Path, swallowed: bool) -> None:
    """Also where a library makes another error of the interrupt."""
    script = f"""if True:
        import pathlib, sys, time
        from SRGAN3DLib import __main__
        import SRGAN3DLib.app.dispatcher as d
        from SRGAN3DLib.volumes.files import whole_file
        def work(job, report, cancelled, on_ready):
            on_ready()
            with whole_file("out.bin") as part:
                pathlib.Path("ready").touch()
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    if {swallowed}:
                        raise ValueError("made of it")
                    raise
        d.do_job = work
        sys.argv = ["srgan3d", "models"]
        sys.exit(__main__.main())
    """
    child = begin(tmp_path, script, "ready")
    child.send_signal(signal.SIGTERM)
    _, printed = child.communicate(timeout=60)
    assert (child.returncode, printed) == (130, b"srgan3d: cancelled\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_a_second_signal_ends_at_once_and_removes_what_is_half_written(tmp_path: Path) -> None:
    script = """if True:
        import pathlib, sys, time
        from SRGAN3DLib import __main__
        import SRGAN3DLib.app.dispatcher as d
        from SRGAN3DLib.volumes.files import replacing
        def work(job, report, cancelled, on_ready):
            on_ready()
            with replacing(pathlib.Path("out.bin")):
                pathlib.Path("ready").touch()
                while True:
                    try:
                        time.sleep(60)
                    except KeyboardInterrupt:
                        pathlib.Path(f"seen{len(list(pathlib.Path().glob('seen*')))}").touch()
        d.do_job = work
        sys.argv = ["srgan3d", "models"]
        sys.exit(__main__.main())
    """
    child = begin(tmp_path, script, "ready")
    for n in range(3):
        child.send_signal(signal.SIGINT)
        while not (tmp_path / f"seen{n}").exists():
            time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_training_is_asked_before_it_is_interrupted(capfd: pytest.CaptureFixture) -> None:
    interrupts = Interrupts()
    interrupts.work(asked_first=True)
    assert not interrupts.requested()
    interrupts._handle(signal.SIGINT, None)
    assert interrupts.requested() and "the state is being saved" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        interrupts._handle(signal.SIGINT, None)
    interrupts.end()
    interrupts._handle(signal.SIGINT, None)  # too late to matter


def test_what_the_parent_ignores_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    others = {number: signal.getsignal(number) for number in NUMBERS}
    hook = sys.unraisablehook
    try:
        Interrupts().install()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and signal.getsignal(signal.SIGTERM) is not others[signal.SIGTERM]
    finally:
        sys.unraisablehook = hook
        for number, handler in (others | {signal.SIGHUP: before}).items():
            signal.signal(number, handler)
