"""Pairs on disk: a table, SynthRAD's folders of 2023 and 2025, BIDS; and what is said of those that are not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes.pairs import find_pairs


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_table(tmp_path: Path) -> None:
    touch(*(tmp_path / "scans" / f"{name}.nii.gz" for name in ("t1", "t2", "ct", "mask")))
    table = tmp_path / "pairs.csv"
    table.write_text(
        "subject,T1w,T2w,target,mask,licence\n"
        "a,scans/t1.nii.gz,scans/t2.nii.gz,scans/ct.nii.gz,scans/mask.nii.gz,CC0\n"
        "b,scans/t1.nii.gz,,scans/ct.nii.gz,,\n"
        "c,scans/t1.nii.gz,scans/gone.nii.gz,scans/ct.nii.gz,,\n"
    )
    whole, empty, gone = find_pairs(table)
    assert list(whole.inputs) == ["T1w", "T2w"] and whole.target == tmp_path / "scans" / "ct.nii.gz"
    assert whole.mask == tmp_path / "scans" / "mask.nii.gz" and whole.licence == "CC0" and whole.size() == 4
    assert "line 3 has no T2w" in empty.problem
    assert "gone.nii.gz: no such file (subject c)" in gone.problem
    assert list(find_pairs(table, ("T2w",), "T1w")[0].inputs) == ["T2w"]


@pytest.mark.parametrize("ending, region", [(".nii.gz", "brain"), (".mha", "HN")])
def test_synthrad(tmp_path: Path, ending: str, region: str) -> None:
    """2023 has .nii.gz below Task1/brain, 2025 .mha below Task1/HN; overview pictures lie beside the cases."""
    for case in ("1A001", "1A002"):
        touch(*(tmp_path / "Task1" / region / case / f"{name}{ending}" for name in ("mr", "ct", "mask")))
    touch(tmp_path / "Task1" / region / "overviews" / "1A001_train.png", tmp_path / "Task1" / region / "1A003" / f"ct{ending}")
    one, other, part = find_pairs(tmp_path)
    assert (one.subject, other.subject) == ("1A001", "1A002")
    assert list(one.inputs) == ["mr"] and one.inputs["mr"].name == f"mr{ending}" and one.mask is not None
    assert "has no image called mr beside ct" in part.problem


def test_synthrad_task2_has_a_cone_beam_ct(tmp_path: Path) -> None:
    touch(*(tmp_path / "Task2" / "TH" / "2THA001" / f"{name}.mha" for name in ("cbct", "ct", "mask")))
    assert list(find_pairs(tmp_path)[0].inputs) == ["cbct"]


def test_bids(tmp_path: Path) -> None:
    for subject in ("sub-01", "sub-02"):
        touch(*(tmp_path / subject / "anat" / f"{subject}_{suffix}.nii.gz" for suffix in ("T1w", "T2w")))
        touch(tmp_path / subject / "ct" / f"{subject}_ct.nii.gz")
    touch(tmp_path / "sub-03" / "ses-a" / "anat" / "sub-03_ses-a_T1w.nii.gz")
    one, other, part = find_pairs(tmp_path)
    assert one.subject == "sub-01" and list(one.inputs) == ["T1w", "T2w"] and other.target is not None
    assert part.subject == "sub-03_ses-a" and "no image with the suffix T2w; exactly one is needed" in part.problem
    flair = find_pairs(tmp_path, ("T1w",), "T2w")
    assert flair[0].target is not None and flair[0].target.name == "sub-01_T2w.nii.gz"


def test_what_is_no_pair(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no such folder or file; pairs are"):
        find_pairs(tmp_path / "gone")
    with pytest.raises(VolumeError, match="holds no pair; pairs are"):
        find_pairs(tmp_path)
    touch(tmp_path / "pairs.txt")
    with pytest.raises(VolumeError, match="not a table of pairs"):
        find_pairs(tmp_path / "pairs.txt")
    (tmp_path / "pairs.csv").write_text("subject,T1w\na,b\n")
    with pytest.raises(VolumeError, match="has no column 'target'; it has subject, T1w"):
        find_pairs(tmp_path / "pairs.csv")
    (tmp_path / "pairs.csv").write_text("subject,T1w,target\na,t,c\na,t,c\n")
    with pytest.raises(VolumeError, match="subject 'a' stands there twice"):
        find_pairs(tmp_path / "pairs.csv")
