"""A batch: whatever happens to one volume, the others are done, the file is named, and the exit code is that of the worst."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.app.dispatcher import do_job
from SRGAN3DLib.contract.errors import ResourceError, VolumeError
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.evaluation.pictures import LONGEST_NAME, picture_names
from SRGAN3DLib.volumes.volume import Volume

FAST = ("--device", "cpu", "--precision", "fp32", "--quiet")


@pytest.fixture
def scans(small_head: np.ndarray, tmp_path: Path) -> Path:
    """Three small scans: a.nii, b.nii and c.nii."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "abc":
        Volume.from_array(small_head[:16, :18, :20], OBLIQUE).write(folder / f"{name}.nii")
    return folder


def fail_on(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, method: str) -> None:
    """Reading or writing the volume `name` raises `error`."""
    kept: Any = getattr(Volume, method)

    def broken(*given: Any, **more: Any) -> Any:
        if any(isinstance(one, Path) and one.name == name for one in given):
            raise error
        return kept(*given, **more)

    monkeypatch.setattr(Volume, method, staticmethod(broken) if method == "read" else broken)


@pytest.mark.parametrize("method", ["read", "write"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VolumeError("damaged"), 3),
        (ResourceError("memory limit 450M: too little; the least limit that would do is 658M"), 5),
        (MemoryError(), 5),
        (RuntimeError("could not create a primitive"), 5),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), 3),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 5),
        (ZeroDivisionError("a fault of ours"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_any_failure_of_one_leaves_the_others_to_be_done(
    scans: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    error: Exception,
    code: int,
    method: str,
) -> None:
    fail_on(monkeypatch, "b.nii", error, method)
    assert main(["super-resolve", str(scans), str(tmp_path / "out"), "--model", str(tiny_model), *FAST]) == code
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.nii", "c.json", "c.nii"]
    printed = capsys.readouterr()
    assert "2 done, 1 failed" in printed.out and "b.nii" in printed.out.splitlines()[-1] and "Traceback" not in printed.err


def test_too_large_for_the_limit_names_the_least_that_would_do(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Also for one volume alone; `--json` carries the same."""
    for name, n in (("large", 160), ("small", 16)):
        array = np.random.default_rng(0).gamma(2, 100, (n, n, n)).astype(np.float32)
        (tmp_path / "in").mkdir(exist_ok=True)
        Volume.from_array(array, OBLIQUE).write(tmp_path / "in" / f"{name}.nii")
    from SRGAN3DLib.inference.memory import resident_bytes

    assert main(["super-resolve", str(tmp_path / "in" / "small.nii"), str(tmp_path / "warm.nii"), "--model", str(tiny_model), *FAST]) == 0
    capsys.readouterr()
    limit = f"{(resident_bytes() >> 20) + 90}M"
    options = ["--model", str(tiny_model), "--memory-limit", limit, *FAST]
    assert main(["super-resolve", str(tmp_path / "in"), str(tmp_path / "out"), "--json", *options]) == 5
    info = json.loads(capsys.readouterr().out)
    assert [Path(one["output"]).name for one in info["done"]] == ["small.nii"]
    assert "large.nii" in info["failed"][0]["message"] and "the least limit" in info["failed"][0]["message"]
    assert main(["super-resolve", str(tmp_path / "in" / "large.nii"), str(tmp_path / "one.nii"), *options]) == 5
    assert "large.nii" in capsys.readouterr().err and not (tmp_path / "one.nii").exists()


def test_what_the_output_cannot_hold_is_refused_before_the_work(small_head: np.ndarray, tmp_path: Path) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(small_head[:16, :16, :16].T.astype(np.int16), OBLIQUE)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "in.nii")

    def never(*given: Any, **more: Any) -> Any:
        raise AssertionError("it has begun to work")

    job = SuperResolveJob(str(tmp_path / "in.nii"), str(tmp_path / "out.nrrd"), like_input_dtype=True)
    with pytest.raises(VolumeError, match=r"out\.nrrd: .*scaled"):
        do_job(job, lambda event: None, load=lambda job: never)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["1.3.12.2.145.nii", "1.3.12.2.146.nii"], ["1.3.12.2.145", "1.3.12.2.146"]),
        (["a.run1_T1w.nii.gz", "a.run2_T1w.nii.gz"], ["a.run1_T1w", "a.run2_T1w"]),
        (["x/b.nii", "x_b.nii", "X_B.nrrd"], ["x_b", "x_b-2", "X_B-3"]),
        (["a.nii", "a.nii.gz", "a-2.nii"], ["a", "a-2", "a-2-2"]),
        (["dicom/1.2.3/"], ["dicom_1.2.3"]),
        (['a:b*c?"<>|\n.nii'], ["a_b_c______"]),
        ([".nii"], ["scan"]),
    ],
)
def test_every_scan_has_a_picture_of_its_own(names: list[str], expected: list[str]) -> None:
    assert picture_names(names) == expected


def test_a_picture_of_a_long_name_can_be_written(tmp_path: Path) -> None:
    found = picture_names([f"{'脳' * 80}{n}.nii" for n in range(12)])
    assert len(set(found)) == 12 and all(len(name.encode()) <= LONGEST_NAME + 3 for name in found)
    for name in found:
        (tmp_path / f"{name}_gaussian.png").touch()


def test_evaluate_scores_the_others(
    small_head: np.ndarray, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Names that look like markup or mathematics; one scan for which the memory does not suffice."""
    (tmp_path / "data").mkdir()
    for name in ("[red] $x_$", "a.run1", "a.run2"):
        Volume.from_array(small_head, np.eye(4)).write(tmp_path / "data" / f"{name}.nii")
    fail_on(monkeypatch, "a.run1.nii", MemoryError(), "read")
    out = tmp_path / "report"
    command = ["evaluate", "--model", str(tiny_model), "--data", str(tmp_path / "data"), "--degradation", "box", "--out", str(out), *FAST]
    assert main(command) == 5
    assert sorted(path.name for path in out.glob("*.png")) == ["[red] $x_$_box.png", "a.run2_box.png"]
    report = json.loads((out / "report.json").read_text())
    assert len(report["scans"]) == 2 and "a.run1.nii" in report["failed"][0]
    assert "[red] $x_$.nii" in capsys.readouterr().out
