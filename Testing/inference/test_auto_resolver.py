"""The chooser at work: one model a scan, the wanted spacing in the same box, and the account of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.app.dispatcher import do_job
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.inference.auto_resolver import AutoResolver
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.physics.interpolation import resample
from SRGAN3DLib.volumes.volume import Volume


def scan(spacing: tuple[float, float, float], head: np.ndarray) -> Volume:
    """A made-up head on an oblique grid with this spacing along I, J, K."""
    matrix = OBLIQUE.copy()
    matrix[:3, :3] *= np.array(spacing) / np.linalg.norm(OBLIQUE[:3, :3], axis=0)
    return Volume.from_array(head, matrix)


@pytest.mark.parametrize(
    ("spacing", "wanted", "model"),
    [((0.75, 0.75, 5.5), (0.75, 0.75, 0.75), "slice-x5"), ((0.9, 0.9, 0.9), (1.0, 1.0, 1.0), "t1-x2"), ((0.9, 3.0, 0.9), None, "slice-x3")],
)
def test_the_models_own_result_then_one_resampling(spacing, wanted, model, small_head: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    volume = scan(spacing, small_head[:20, :24, :22])
    result = AutoResolver("cpu", "fp32")(volume, blur="box", spacing_ijk_mm=wanted)
    assert result.info["choice"]["model"] == result.info["model"]["name"] == model and result.info["asked"]["model"] == "auto"
    assert model in result.info["choice"]["reason"]
    own = SuperResolver.load(model, "cpu", "fp32")(volume, blur="box").volume
    assert result.volume.geometry.box_distance_mm(volume.geometry) < 1e-4
    if wanted is None:
        assert np.array_equal(result.volume.array, own.array) and result.info["resampled_from_kji"] is None
        return
    assert np.array_equal(result.volume.array, resample(own.array, result.volume.array.shape))  # type: ignore[arg-type]
    assert result.info["resampled_from_kji"] == list(own.array.shape)
    for found, target, n in zip(result.volume.geometry.spacing_ijk_mm, wanted, result.volume.geometry.shape_kji[::-1], strict=True):
        assert abs(found / target - 1) <= 0.5 / (n - 0.5)


def test_a_folder_of_unlike_scans_gets_a_model_each(small_head: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scan((1, 1, 1), small_head[:20, :24, :22]).write(tmp_path / "in" / "head.nii.gz")
    scan((0.8, 0.8, 2.4), small_head[:20, :24, :22]).write(tmp_path / "in" / "stack.nii.gz")
    info = do_job(SuperResolveJob(str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", spacing="isotropic"), lambda event: None)
    assert [one["model"]["name"] for one in info["done"]] == ["t1-x2", "slice-x3"]
    for one in info["done"]:
        spacing = Volume.read(one["output"]).geometry.spacing_ijk_mm
        assert max(spacing) / min(spacing) < 1.03
