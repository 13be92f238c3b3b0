"""Whole files or none: the old file stays until the new one is complete, and nothing else is left in the folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from SRGAN3DLib.contract.errors import JobError, ResourceError
from SRGAN3DLib.volumes.files import is_full, replacing, whole_file, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert part.parent == tmp_path and part.name.startswith(".") and not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_fault_leaves_the_old_file(tmp_path: Path, fault: type[BaseException]) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(fault), whole_file(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise fault
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "error", "words"), [(errno.ENOSPC, ResourceError, "the disk is full"), (errno.EACCES, JobError, "cannot be written")]
)
def test_faults_of_the_disk_name_the_file(tmp_path: Path, number: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"a.txt: {words}"), whole_file(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []
    assert is_full(OSError(number, "")) == (error is ResourceError)


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"absent.a\.txt: cannot be written \(No such file"):
        write_text(tmp_path / "absent" / "a.txt", "x")
    with pytest.raises(OSError, match="No such file"), replacing(tmp_path / "absent" / "a.txt"):
        pass


def test_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(JobError, match="cannot be written"):
        write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").is_dir() and names(tmp_path) == ["a"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.txt") as first, whole_file(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first" and names(tmp_path) == ["a.txt"]  # whoever ends last


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Sánchez ✓")
    assert (tmp_path / "a.txt").read_bytes() == "Sánchez ✓".encode()


def test_the_mode_is_the_users_own(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.txt") as part:
            part.unlink()
            os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))  # as some writers do
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["chmod", "fsync", "replace", "replace and rename"])
def test_a_share_that_refuses_does_not_cost_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for name in call.split(" and "):
        monkeypatch.setattr(os, name, refuse)
    write_text(tmp_path / "a.txt", "first")
    write_text(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "second" and names(tmp_path) == ["a.txt"]


def test_what_cannot_be_moved_or_copied_is_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr("SRGAN3DLib.volumes.files._copy", refuse)
    with pytest.raises(JobError, match=r"a\.txt: cannot be written .*the whole file is kept as .*\.part"):
        write_text(tmp_path / "a.txt", "work")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["work"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name, there in (("a.txt", True), ("b.txt", False)):
        if there:
            write_text(tmp_path / "real" / name, "old")
        (tmp_path / name).symlink_to(Path("real") / name)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / "real" / name).read_text() == "new"
    assert names(tmp_path / "real") == ["a.txt", "b.txt"]


def test_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="NUL"):
        write_text(f"{tmp_path}/a\0b", "x")
    with pytest.raises(JobError, match="too long"), whole_file(tmp_path / ("x" * 300)) as part:
        part.write_text("x")
    assert names(tmp_path) == []
