"""BIDS datasets: the right images, the right names, and a description that validators accept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SRGAN3DLib.app.bids import BidsImage, bids_facts, bids_images, is_bids_dataset, write_description
from SRGAN3DLib.contract.errors import JobError, VolumeError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "ds"
    names = (
        "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T1w.json", "sub-01/anat/sub-01_run-2_T2w.nii",
        "sub-01/func/sub-01_bold.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_acq-3d_FLAIR.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_T2starw.nii.gz",
        "derivatives/x/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz", "sub-01/anat/notes.txt", "sub-01/anat/sub-01_desc-SR_T1w.nii.gz",
    )  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    return folder


def names(images: list[BidsImage], out: Path) -> list[str]:
    return [image.target.relative_to(out).as_posix() for image in images]


def test_names_of_a_derivative(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert is_bids_dataset(dataset) and not is_bids_dataset(dataset / "sub-01")
    assert names(bids_images(dataset, out), out) == [
        "sub-01/anat/sub-01_desc-SR_T1w.nii.gz",
        "sub-01/anat/sub-01_run-2_desc-SR_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_acq-3d_desc-SR_FLAIR.nii.gz",
    ]
    assert names(bids_images(dataset, out, ["02"]), out) == names(bids_images(dataset, out, ["sub-02"]), out)
    assert len(bids_images(dataset, out, contrasts=["T1w"])) == 1
    with pytest.raises(JobError, match="no participant sub-9; there are sub-01, sub-02"):
        bids_images(dataset, out, ["9"])
    with pytest.raises(VolumeError, match="without an image of PDw"):
        bids_images(dataset, out, contrasts=["PDw"])


def test_description(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_description(out, dataset)
    write_description(out, dataset)
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "SRGAN3D"
    with pytest.raises(JobError, match="holds another BIDS dataset"):
        write_description(dataset, dataset)
    assert description["DatasetLinks"]["source"] == "file:///ds"


def test_facts_about_the_source(dataset: Path) -> None:
    source, own = dataset / "sub-01/anat/sub-01_T1w.nii.gz", dataset / "sub-01/anat/sub-01_T1w.json"
    own.write_text('{"SkullStripped": true}')
    assert bids_facts(dataset, source) == {"Sources": ["bids:source:sub-01/anat/sub-01_T1w.nii.gz"], "SkullStripped": True}
    own.unlink()
    assert bids_facts(dataset, source)["SkullStripped"] is False
    own.write_text("[")
    with pytest.raises(VolumeError, match=r"sub-01_T1w\.json: is no sidecar of BIDS"):
        bids_facts(dataset, source)
