"""Roles by subject: nobody on both sides, whole subjects held out by the seed, and a split on disk that rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SRGAN3DLib.contract.errors import SRGAN3DError, VolumeError
from SRGAN3DLib.training.split import Member, Split
from SRGAN3DLib.volumes.scans import Scan


def members(folder: Path, *files: str, source: str = "data") -> list[Member]:
    """`subject_number.nii` each, of as many bytes as its name has."""
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_text(name)
    role = "train" if source == "data" else "validation"
    return [Member(Scan(folder / name, name, name.split("_")[0]), source, role) for name in files]


def roles(split: Split) -> dict[str, str]:
    return {f"{member.source}/{member.scan.name}": member.role for member in split.members}


def test_a_subject_is_never_on_both_sides(tmp_path: Path) -> None:
    train = members(tmp_path / "a", "anna_1.nii", "anna_2.nii", "bert_1.nii", "carl_1.nii")
    judges = members(tmp_path / "b", "anna_3.nii", source="validation")
    same = Member(Scan(tmp_path / "a" / "carl_1.nii", "carl_1.nii", "renamed"), "validation", "validation")
    split = Split([*train, *judges, same], tmp_path / "split.json", 0, 0.0)
    assert [member.scan.name for member in split.of("train")] == ["bert_1.nii"]
    assert "subject 'anna' is in the validation set" in split.members[0].reason and "anna_1.nii" in split.members[0].reason
    split.write()
    written = json.loads((tmp_path / "split.json").read_text())
    assert written["subjects"] == {"train": ["bert"], "validation": ["anna", "renamed"]}
    assert written["files"][2] == {
        "source": "data", "file": "bert_1.nii", "subject": "bert", "subject_from": "", "contrast": "", "bytes": 10, "role": "train",
        "reason": "",
    }  # fmt: skip


def test_whole_subjects_are_held_out_by_the_seed(tmp_path: Path) -> None:
    files = [f"s{number}_{scan}.nii" for number in range(10) for scan in range(3)]
    chosen = set()
    for seed in range(6):
        split = Split(members(tmp_path / "a", *files), tmp_path / "split.json", seed, 0.2)
        out, rest = ({member.scan.subject for member in split.of(role)} for role in ("validation", "train"))
        assert len(out) == 2 and len(rest) == 8 and len(split.of("validation")) == 6
        assert roles(split) == roles(Split(members(tmp_path / "a", *files), tmp_path / "split.json", seed, 0.2))
        chosen.add(frozenset(out))
    assert len(chosen) > 1
    small = Split(members(tmp_path / "a", *files[:6]), tmp_path / "split.json", 0, 0.9)
    assert len(small.of("validation")) == len(small.of("train")) == 3  # one subject stays on either side
    with pytest.raises(VolumeError, match=r"--validation-share 0\.2 needs two subjects; all scans fit for training are of 's0'"):
        Split(members(tmp_path / "a", *files[:3]), tmp_path / "split.json", 0, 0.2)


def test_the_split_on_disk_rules(tmp_path: Path) -> None:
    path, files = tmp_path / "split.json", ("anna_1.nii", "bert_1.nii", "carl_1.nii")
    first = Split(members(tmp_path / "a", *files), path, 0, 0.3)
    first.write()
    again = Split(members(tmp_path / "a", *files, "dora_1.nii"), path, 0, 0.3)
    assert roles(again) == roles(first) | {"data/dora_1.nii": "skipped"}
    assert "dora_1.nii: new since the run began, not used" in again.members[-1].reason
    before = path.read_text()
    again.write()
    assert path.read_text() == before
    moved = members(tmp_path / "elsewhere", *files)  # the same scans in another place
    assert roles(Split(moved, path, 0, 0.3)) == roles(first)


def test_a_used_scan_that_went_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    Split(members(tmp_path / "a", "anna_1.nii", "bert_1.nii"), path, 0, 0.0).write()
    for listed in (True, False):  # a CSV still lists what is gone, a folder does not
        now = members(tmp_path / "a", "anna_1.nii", "bert_1.nii")
        (tmp_path / "a" / "bert_1.nii").unlink()
        with pytest.raises(VolumeError, match=r"bert_1\.nii.* is gone since the run began .*split\.json"):
            Split(now if listed else now[:1], path, 0, 0.0)
    now = members(tmp_path / "a", "anna_1.nii", "bert_1.nii")
    (tmp_path / "a" / "bert_1.nii").write_text("another scan")
    with pytest.raises(VolumeError, match=r"bert_1\.nii: has 12 bytes, it had 10"):
        Split(now, path, 0, 0.0)
    now = members(tmp_path / "a", "anna_1.nii", "bert_1.nii")
    with pytest.raises(VolumeError, match=r"bert_1\.nii: cannot be used any more \(why not\)"):
        Split([now[0], now[1].skipped("why not")], path, 0, 0.0)

    def fail(scan: Scan) -> None:
        raise VolumeError(f"{scan.path}: damaged")

    with pytest.raises(VolumeError, match=r"anna_1\.nii: damaged; but this run has used it"):
        Split(now, path, 0, 0.0).try_each("train", fail)
    fresh = Split(now, tmp_path / "other.json", 0, 0.0)
    fresh.try_each("train", fail)
    assert [member.reason for member in fresh.of("skipped")] == [
        f"{tmp_path / 'a' / name}: damaged" for name in ("anna_1.nii", "bert_1.nii")
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"files": [{}]}', '{"files": 3}'])
def test_a_spoilt_split(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(SRGAN3DError, match=r"split\.json: not a readable split"):
        Split(members(tmp_path / "a", "anna_1.nii"), tmp_path / "split.json", 0, 0.0)
