"""What a job leaves beside its result: the same facts everywhere, the detail, the page; and what is refused before the work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tinydicom
from grids import OBLIQUE

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.app.dispatcher import do_job
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.jobs import InfoJob, SuperResolveJob
from SRGAN3DLib.volumes.volume import Volume

CHANGING = ("Output", "Created", "Seconds")


def run(job: SuperResolveJob | InfoJob) -> dict:
    return do_job(job, lambda event: None)


@pytest.fixture
def job(small_head: np.ndarray, tiny_model: Path, tmp_path: Path) -> SuperResolveJob:
    Volume.from_array(small_head, OBLIQUE).write(tmp_path / "in.nii.gz")
    return SuperResolveJob(
        str(tmp_path / "in.nii.gz"), str(tmp_path / "out.nii.gz"), str(tiny_model), blur="box", device="cpu", precision="fp32"
    )


def series(folder: Path, head: np.ndarray, **more: str) -> Path:
    elements = {"modality": (0x00080060, "CS")}
    changes = {elements[name][0]: (elements[name][1], value) for name, value in more.items()}
    tinydicom.classic(folder, head.astype(np.uint16), [(0, 0, 1.0 * k) for k in range(len(head))], more=changes)
    return folder


def test_every_format_says_the_same(job: SuperResolveJob, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    told = []
    for name in ("a.nii.gz", "b.nii", "c.nrrd", "d.mha", "e/"):
        info = run(replace(job, output=f"{tmp_path}/{name}"))
        inside, beside = (run(InfoJob(file)) for file in (f"{tmp_path}/{name}", info["provenance"]["sr"]))
        assert inside == beside and inside["Output"] == name.strip("/") and inside["Sources"] == ["in.nii.gz"]
        told.append({key: value for key, value in inside.items() if key not in CHANGING})
    assert all(one == told[0] for one in told)
    assert (
        told[0]["Model"]["sha256"] == info["model"]["sha256"]
        and told[0]["Blur"]["source"] == "given"
        and str(tmp_path) not in json.dumps(told)
    )
    assert (tmp_path / "a.json").is_file() and (tmp_path / "e.json").is_file()
    capsys.readouterr()
    assert main(["info", str(tmp_path / "c.nrrd"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["Output"] == "c.nrrd"
    assert main(["info", job.input]) == 3
    assert "holds no provenance of SRGAN3D" in capsys.readouterr().err


def test_detail_and_report(job: SuperResolveJob, tmp_path: Path) -> None:
    info = run(replace(job, detail_map=str(tmp_path / "detail.nrrd"), report=str(tmp_path / "page.html")))
    sr, detail = (Volume.read(info["outputs"][name]) for name in ("sr", "detail"))
    assert detail.geometry.box_distance_mm(sr.geometry) < 1e-4 and detail.array.min() < 0 < detail.array.max()
    assert run(InfoJob(str(tmp_path / "detail.nrrd")))["Volume"] == "detail" and (tmp_path / "detail.json").is_file()
    assert 'data-overlay="detail"' in (tmp_path / "page.html").read_text(encoding="utf-8") and info["report"] == str(tmp_path / "page.html")
    assert set(info["artefacts"]) == {"checkerboard", "ringing"}


def test_one_stem_two_results(job: SuperResolveJob, tmp_path: Path) -> None:
    run(replace(job, output=str(tmp_path / "x.nii.gz")))
    run(replace(job, output=str(tmp_path / "x.nrrd")))
    run(replace(job, output=str(tmp_path / "x.nii.gz")))
    assert json.loads((tmp_path / "x.json").read_text())["Output"] == "x.nii.gz"
    assert json.loads((tmp_path / "x.nrrd.json").read_text())["Output"] == "x.nrrd"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"output": "foreign.nrrd"}, JobError, "is no JSON of SRGAN3D; it is not replaced"),
        ({"detail_map": "out.nrrd"}, JobError, "its JSON would be called out.json"),
        ({"detail_map": "d.nrrd", "blur": "unknown"}, JobError, "detail map: what the scan determined cannot be told"),
        ({"report": "page.txt"}, JobError, "must end in .html"),
        ({"report": "absent/page.html"}, JobError, "its folder does not exist"),
        ({"detail_map": "d.tiff"}, VolumeError, "unknown extension"),
        ({"participants": ("1",)}, JobError, "is no BIDS dataset"),
    ],
)
def test_refused_before_the_work(job: SuperResolveJob, tmp_path: Path, changes: dict, error: type, message: str) -> None:
    (tmp_path / "foreign.json").write_text("{}")
    places = {key: str(tmp_path / value) if key in ("output", "detail_map", "report") else value for key, value in changes.items()}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        run(replace(job, **places))
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "foreign.json").read_text() == "{}"


def test_dicom_in_and_out(job: SuperResolveJob, small_head: np.ndarray, tmp_path: Path) -> None:
    source = series(tmp_path / "Nobody^Ann", small_head)
    info = run(replace(job, input=str(source), output=f"{tmp_path}/out/"))
    back = Volume.read(tmp_path / "out")
    assert info["modality"] == "MR" and back.array.shape == (80, 96, 88)
    assert back.geometry.box_distance_mm(Volume.read(source).geometry) < 1e-3
    facts = run(InfoJob(str(tmp_path / "out")))
    assert facts["Sources"] == ["DICOM series 1.2.3.1"] and "Nobody" not in json.dumps(facts)
    with pytest.raises(JobError, match="is there already"):
        run(replace(job, input=str(source), output=f"{tmp_path}/out/"))


def test_another_modality_needs_force(job: SuperResolveJob, small_head: np.ndarray, tmp_path: Path) -> None:
    source = series(tmp_path / "ct", small_head, modality="CT")
    with pytest.raises(VolumeError, match=r"is computed tomography \(CT\), and the model was trained on MRI"):
        run(replace(job, input=str(source)))
    run(replace(job, input=str(source), force=True))


def test_a_bids_dataset(job: SuperResolveJob, small_head: np.ndarray, tmp_path: Path) -> None:
    ds, out = tmp_path / "ds", tmp_path / "out"
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz"):
        (ds / name).parent.mkdir(parents=True)
        Volume.from_array(small_head, OBLIQUE).write(ds / name)
    (ds / "sub-01" / "anat" / "sub-01_T2w.nii.gz").write_bytes(b"no scan")
    (ds / "dataset_description.json").write_text('{"Name": "ds", "BIDSVersion": "1.9.0"}')
    whole = replace(job, input=str(ds), output=str(out), report=str(tmp_path / "pages"), detail_map=str(tmp_path / "details"))
    info = run(whole)
    assert len(info["done"]) == 2 and len(info["failed"]) == 1 and info["skipped"] == []
    sidecar = json.loads((out / "sub-02/ses-a/anat/sub-02_ses-a_desc-SR_FLAIR.json").read_text())
    assert sidecar["Sources"] == ["bids:source:sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz"] and sidecar["SkullStripped"] is False
    assert (tmp_path / "pages/sub-01/anat/sub-01_desc-SR_T1w.html").is_file() and (tmp_path / "details/sub-01/anat").is_dir()
    (out / "sub-01/anat/sub-01_desc-SR_T1w.nii.gz").unlink()
    again = run(replace(whole, resume=True))
    assert len(again["done"]) == 1 and again["skipped"] == [str(out / "sub-02/ses-a/anat/sub-02_ses-a_desc-SR_FLAIR.nii.gz")]
    one = run(replace(whole, output=str(tmp_path / "o2"), participants=("02",), contrasts=("FLAIR",)))
    assert len(one["done"]) == 1 and one["failed"] == []
