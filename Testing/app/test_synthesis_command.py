"""The whole road: a made-up dataset in SynthRAD's layout, from `train --pairs` to a CT on disk; the command's and the worker's answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from grids import FINE, SHEARED
from test_worker import Client

from SRGAN3DLib.app.cli import main, parser
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.jobs import SynthesizeJob, TrainJob, job_from_json, job_to_json
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.volumes.volume import Volume

SMALL = ["--steps", "4", "--gan-steps", "2", "--patch-kji", "16", "--batch", "2", "--device", "cpu", "--precision", "fp32"]
SMALL += ["--discriminator-features", "4", "--validate-every", "2", "--save-every", "2", "--coarse", "2,2,2"]


def made_up_head() -> np.ndarray:
    """Scalp, dark skull and brain, with texture, (28, 32, 30) = (K, J, I)."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in (28, 32, 30)), indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2)
    head = np.select([radius < 0.6, radius < 0.75, radius < 0.9], [500 + 80 * np.sin(9 * k) * np.sin(11 * j), 60.0, 260.0], 0.0)
    return np.maximum(head + np.random.default_rng(4).normal(0, 4, head.shape), 0).astype(np.float32)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases, one of them trained on less; RUN beside them."""
    folder, head = tmp_path_factory.mktemp("road"), made_up_head()
    ct = np.where(head > 300, 40.0 + head / 30, np.where(head > 40, 1000.0, -1000.0))
    for number in (1, 2, 3):
        case = folder / "Task1" / "HN" / f"1HNA00{number}"
        case.mkdir(parents=True)
        Volume.from_array(head * (1 + 0.1 * number), FINE).write(case / "mr.mha")
        Volume.from_array(ct, FINE).write(case / "ct.mha")
        Volume.from_array((head > 40).astype(np.float32), FINE).write(case / "mask.mha")
    code = main(["train", "--task", "synthesis", "--pairs", str(folder / "Task1"), "--out", str(folder / "run"), "--quiet",
                 "--validation-share", "0.34", *SMALL])  # fmt: skip
    assert code == 0
    return folder


def case(road: Path, number: int) -> Path:
    return road / "Task1" / "HN" / f"1HNA00{number}"


def test_from_pairs_to_a_ct_on_disk(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = Checkpoint.load(road / "run" / "model.safetensors").header
    assert header.task == "synthesis" and header.output is not None and header.output.unit == "HU"
    assert [image.name for image in header.inputs] == ["mr"]
    made = road / "made.nii.gz"
    code = main(["synthesize", str(case(road, 3) / "mr.mha"), str(made), "--model", str(road / "run" / "model.safetensors"), "--json"])
    info = json.loads(capsys.readouterr().out)
    assert code == 0 and info["dtype"] == "int16" and info["output_image"]["unit"] == "HU"
    result, source = Volume.read(made), Volume.read(case(road, 3) / "mr.mha")
    assert result.dtype == "int16" and result.geometry.box_distance_mm(source.geometry) < 1e-4
    assert -1024 <= result.array.min() < result.array.max() <= 3071


def test_evaluate_scores_only_subjects_that_were_not_trained_on(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(road / "run" / "model.safetensors")
    code = main(
        ["evaluate", "--task", "synthesis", "--pairs", str(road / "Task1"), "--model", model, "--out", str(road / "report"), "--quiet"]
    )
    report = json.loads((road / "report" / "report.json").read_text())
    assert code == 0 and len(report["subjects"]) == 1 and len(report["failed"]) == 2
    assert all("was trained on; it is not scored" in line for line in report["failed"])
    assert (road / "report" / f"{report['subjects'][0]['subject']}.png").stat().st_size > 10_000
    assert "bone Dice" in (road / "report" / "report.md").read_text() and "MAE" in capsys.readouterr().out


def test_the_worker_synthesizes_arrays_on_any_grid(road: Path, tmp_path: Path) -> None:
    """As Slicer asks for it: a sheared grid that no file format keeps, an array in, an array out, the model ready for the next."""
    array = Volume.read(case(road, 1) / "mr.mha").array
    np.save(tmp_path / "mr.npy", array)
    model = str(road / "run" / "model.safetensors")
    body = {"input": str(tmp_path / "mr.npy"), "output": str(tmp_path / "ct.npy"), "model": model, "ijk_to_ras": SHEARED.tolist()}
    one = Client()
    one.ask("synthesize", id="1", **body)
    done = one.wait_for("done", "failed")
    assert done["event"] == "done", done
    made = np.load(tmp_path / "ct.npy")
    assert made.shape == array.shape and np.allclose(done["info"]["ijk_to_ras"], SHEARED)
    one.ask("synthesize", id="2", **body, also={"T2w": str(tmp_path / "mr.npy")}, also_ijk_to_ras={"T2w": SHEARED.tolist()})
    failed = one.wait_for("done", "failed")
    assert failed["event"] == "failed" and failed["exit_code"] == 2 and "has no input T2w" in failed["message"]
    one.ask("super-resolve", id="3", input=body["input"], output=body["output"], ijk_to_ras=body["ijk_to_ras"], model=model)
    assert "is a model for synthesis" in one.wait_for("done", "failed")["message"]
    one.ask("stop")


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["synthesize", "MR", "OUT.nii.gz", "--model", "MODEL", "--also", "T2w"], 2, "must be NAME=FILE"),
        (["synthesize", "MR", "OUT.nii.gz", "--model", "MODEL", "--also", "T2w=MR"], 2, "has no input T2w; it takes mr"),
        (["synthesize", "MR", "OUT.nii.gz", "--model", "MODEL", "--also", "mr=MR"], 2, "mr is the model's first input"),
        (["synthesize", "CT", "OUT.nii.gz", "--model", "MODEL"], 3, "must be an MR scan"),
        (["synthesize", "MR", "MR", "--model", "MODEL"], 2, "is an input itself"),
        (["synthesize", "MR", "OUT.xyz", "--model", "MODEL"], 3, "OUT.xyz"),
        (["synthesize", "GONE", "OUT.nii.gz", "--model", "MODEL"], 3, "no such file"),
        (["synthesize", "MR", "OUT.nii.gz", "--model", "t1-x2"], 2, "is a model for super-resolution; synthesis is asked of it"),
        (["super-resolve", "MR", "OUT.nii.gz", "--model", "MODEL"], 2, "is a model for synthesis; super-resolution is asked of it"),
        (["train", "--task", "synthesis", "--out", "RUN"], 2, "needs --pairs"),
        (["train", "--pairs", "PAIRS", "--out", "RUN"], 2, "--pairs: only with --task synthesis"),
        (
            ["train", "--task", "synthesis", "--pairs", "PAIRS", "--out", "RUN", "--coarse", "two"],
            2,
            "--coarse 'two': must be three numbers",
        ),
        (["train", "--task", "synthesis", "--pairs", "GONE", "--out", "RUN"], 3, "no such folder or file"),
        (["train", "--out", "RUN"], 2, "--data must name the scans"),
        (["evaluate", "--task", "synthesis", "--pairs", "GONE", "--model", "MODEL", "--out", "RUN"], 3, "no such folder or file"),
    ],
)
def test_unhappy_paths(road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str) -> None:
    places = {
        "MR": case(road, 1) / "mr.mha", "CT": case(road, 1) / "ct.mha", "MODEL": road / "run" / "model.safetensors",
        "PAIRS": road / "Task1", "GONE": tmp_path / "gone.mha", "RUN": tmp_path / "other",
        "OUT.nii.gz": tmp_path / "OUT.nii.gz", "OUT.xyz": tmp_path / "OUT.xyz",
    }  # fmt: skip
    given = [f"{w.split('=')[0]}={places[w.split('=')[1]]}" if "=" in w else str(places.get(w, w)) for w in words]
    assert main([*given, "--quiet"]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1], lines
    assert not (tmp_path / "OUT.nii.gz").exists() and Volume.read(case(road, 1) / "mr.mha")


def test_jobs_and_options() -> None:
    args = parser().parse_args(
        ["synthesize", "a.nii", "o.nii", "--model", "m", "--also", "T2w=b.nii", "--register", "rigid", "--flips", "2"]
    )
    job = args.make(args)
    assert job == SynthesizeJob("a.nii", "o.nii", "m", {"T2w": "b.nii"}, register="rigid", flips=2)
    assert job_from_json(json.loads(json.dumps(job_to_json(job)))) == job
    with pytest.raises(JobError, match="is not among the further inputs"):
        SynthesizeJob("a", "b", "m", also_ijk_to_ras={"T2w": np.eye(4).tolist()})
    with pytest.raises(JobError, match="ijk_to_ras"):
        SynthesizeJob("a", "b", "m", {"T2w": "c"}, also_ijk_to_ras={"T2w": [[1, 2]]})


def test_a_run_goes_on_from_its_config(road: Path, tmp_path: Path) -> None:
    words = ["train", "--task", "synthesis", "--pairs", str(road / "Task1"), "--out", str(tmp_path / "run")]
    args = parser().parse_args([*words, "--config", str(road / "run" / "config.json"), "--tolerance", "1"])
    job = args.make(args)
    assert isinstance(job, TrainJob) and job.config.synthesis is not None
    assert job.config.synthesis.tolerance == 1 and job.config.synthesis.patch_kji == (16, 16, 16)
    assert job.config.generator.coarse == (2, 2, 2) and job.config.generator.input_channels == 1
