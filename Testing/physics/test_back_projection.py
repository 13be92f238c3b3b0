"""The consistency figure: nought for a result that explains the scan, the right size for one that does not, and cheap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grids import OBLIQUE
from scipy import ndimage

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import preset
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Generator
from SRGAN3DLib.physics.back_projection import EDGE, assumed, consistency, gaussian_of, give_back, likely_blur, reach
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.volumes.volume import Volume


@pytest.mark.parametrize("width", [0.6, 1.0, 1.4])
def test_gaussian_of_its_own_transfer(width: float) -> None:
    assert gaussian_of(AxisBlur("gaussian", width).mtf).width == pytest.approx(width)
    assert gaussian_of(1.0).width == 0.4 and gaussian_of(0.0).width == pytest.approx(gaussian_of(1e-6).width)


@pytest.mark.parametrize("kind", ["gaussian", "box", "kspace"])
@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 1, 1)])
def test_a_result_that_explains_the_scan(small_head: np.ndarray, kind: str, factors: tuple[int, int, int]) -> None:
    """LR made from SR by A itself: nought; every LR voxel off by 5 of a range of 500: 1 %."""
    operator = Degradation.named(kind, factors)
    scan = operator.forward(small_head)
    small_head = np.ascontiguousarray(small_head[tuple(slice(0, n * f) for n, f in zip(scan.shape, factors, strict=True))])
    scan = operator.forward(small_head)
    assert consistency(scan, small_head, operator, 500.0)["rms_of_range"] < 1e-6
    assert consistency(scan + 5, small_head, operator, 500.0)["rms_of_range"] == pytest.approx(0.01, rel=1e-3)


def test_large_scans_by_slices_and_regions_without_their_borders() -> None:
    operator = Degradation.named("gaussian", (2, 1, 1))
    result = np.random.default_rng(0).normal(0, 1, (80, 200, 220)).astype(np.float32)
    scan = operator.forward(result)
    found = consistency(scan, result, operator, 1.0)
    assert found["voxels"] == 8 * 200 * 220 and found["rms_of_range"] < 1e-5
    part = consistency(scan[5:35], np.ascontiguousarray(result[10:70]), operator, 1.0, ((True, True), (False, False), (False, False)))
    assert part["rms_of_range"] < 1e-5  # the neighbours beyond the cut are missing, but not asked for
    tiny = consistency(scan[5:8], np.ascontiguousarray(result[10:16]), operator, 1.0, ((True, True), (False, False), (False, False)))
    assert tiny["voxels"] == 3 * 200 * 220 and 2 * EDGE > 3


def test_what_is_assumed_is_said() -> None:
    blurs, words = assumed("auto", (1.0, 0.4, 0.5), "estimated")
    assert blurs is not None and blurs[1].mtf == pytest.approx(0.4) and "band-limited 1.00 / gaussian 0.40 / gaussian 0.50" in words
    assert assumed("kspace", (1.0, 1.0, 1.0), "given") == ((AxisBlur("sinc"),) * 3, "kspace blur, as given")
    assert assumed("unknown", None, "unknown") == (None, "the blur of the scan is not known (unknown)")


def test_in_the_info_of_a_run(small_head: np.ndarray, tiny_model: Path) -> None:
    resolver = SuperResolver.load(tiny_model, "cpu", "fp32")
    volume = Volume.from_array(small_head, OBLIQUE)
    whole = resolver(volume).info["consistency"]
    assert 0 < whole["rms_of_range"] < 0.2 and "estimated" in whole["assumes"] and whole["voxels"] == small_head.size
    part = resolver(volume, roi_ijk=((2, 40), (0, 30), (8, 40))).info["consistency"]
    assert part["voxels"] == 30 * 26 * 28 and 0 < part["rms_of_range"] < 0.2
    unknown = resolver(volume, "unknown").info["consistency"]
    assert unknown["rms_of_range"] is None and "not known" in unknown["assumes"]


@pytest.mark.parametrize(("kind", "left"), [("box", 1e-6), ("sinc", 0.12), ("gaussian", 0.6)])
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 4), (3, 1, 2)])
def test_one_step_gives_the_scan_back(kind: str, left: float, factors: tuple[int, int, int]) -> None:
    """A box is met exactly, a band but for its window, a gaussian in part; and what the scan does not see stays as it was."""
    rng = np.random.default_rng(0)
    truth, start = (ndimage.gaussian_filter(rng.standard_normal((24, 24, 24)), 0.7).astype(np.float32) for _ in range(2))
    operator = Degradation(factors, (AxisBlur(kind),) * 3)  # type: ignore[arg-type]
    scan, result = operator.forward(truth), start.copy()
    give_back(scan, result, operator)
    before, after = (np.sqrt(np.mean((operator.forward(x) - scan) ** 2)) for x in (start, result))
    assert after < left * before
    if kind == "box":
        assert np.abs(result - start - operator.pseudo_inverse(scan - operator.forward(start), start.shape)).max() < 1e-5  # type: ignore[arg-type]
    error = [np.sqrt(np.mean((x - truth) ** 2)) for x in (start, result)]
    assert error[1] < error[0]


def test_in_slabs_or_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    operator = Degradation((2, 2, 2), (AxisBlur("sinc"), AxisBlur("box", 1.1), AxisBlur("gaussian")))
    scan, whole = rng.standard_normal((20, 15, 12)).astype(np.float32), rng.standard_normal((40, 30, 24)).astype(np.float32)
    slabs = whole.copy()
    give_back(scan, whole, operator)
    monkeypatch.setattr("SRGAN3DLib.physics.back_projection.SLAB_VOXELS", 2000)
    give_back(scan, slabs, operator)
    assert np.abs(whole - slabs).max() < 1e-5


def test_reach_is_as_far_as_a_voxel_is_felt() -> None:
    for kind in ("box", "gaussian", "sinc"):
        operator = Degradation((2, 1, 1), (AxisBlur(kind),) * 3)  # type: ignore[arg-type]
        scan, result = np.zeros((60, 1, 1), np.float32), np.zeros((120, 1, 1), np.float32)
        result[60] = 1
        give_back(scan, result, operator)
        felt = np.flatnonzero(np.abs(result[:, 0, 0]) > 1e-7) // 2
        assert max(30 - felt[0], felt[-1] - 30) <= reach(operator)[0]
        assert reach(operator)[1:] == (0, 0)


def test_the_likely_blur_has_the_transfer() -> None:
    assert [likely_blur(m).kind for m in (0.3, 0.6, 0.9)] == ["gaussian", "box", "sinc"]
    for mtf in (0.25, 0.41, 0.55, 0.64, 0.75, 0.85, 1.0):
        assert likely_blur(mtf).mtf == pytest.approx(mtf, abs=2e-3)


def test_the_checkpoint_says_whether_it_is_done(small_head: np.ndarray) -> None:
    config = preset("fast")
    network = Generator(config)
    volume = Volume.from_array(small_head[:20, :20, :20], OBLIQUE)
    results = {}
    for wanted in (False, True):
        resolver = SuperResolver(Checkpoint(CheckpointHeader("m", config, back_projection=wanted), network.state_dict()), "cpu", "fp32")
        results[wanted] = resolver(volume, "box", allow_negative=True, noise="0")
        assert results[wanted].info["consistency"]["back_projection"] is wanted
    assert results[True].info["consistency"]["rms_of_range"] < 1e-6 < results[False].info["consistency"]["rms_of_range"]
    assert (
        resolver(volume, "box", back_projection=False, allow_negative=True, noise="0").volume.array.tobytes()
        == results[False].volume.array.tobytes()
    )
    assert resolver(volume, "unknown").info["consistency"]["back_projection"] is False
    region = resolver(volume, "box", roi_ijk=((3, 9), (0, 20), (5, 17)), allow_negative=True, noise="0").volume.array
    assert np.abs(region - results[True].volume.array[10:34, :, 6:18]).max() < 1e-3
