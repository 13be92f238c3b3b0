"""The resolver: what it does equals the plain network, what it says is what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from grids import ALL_ORDERS, OBLIQUE, SHEARED, stored

from SRGAN3DLib.app.dispatcher import do_job
from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.contract.errors import Cancelled, JobError, ResourceError
from SRGAN3DLib.contract.events import Event, Log, Progress
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.inference.blur_choice import parse_blur
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Conditions, Generator, with_conditions
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.volume import Volume


def tiny(factors: tuple[int, int, int] = (2, 2, 2), spacing: tuple[float, float] = (0.5, 5.0), blur_aware: bool = True) -> Checkpoint:
    torch.manual_seed(1)
    config = GeneratorConfig(factors, features=4, blocks=1, norm="none", blur_aware=blur_aware, interpolation_residual=True)
    network = Generator(config)
    torch.nn.init.normal_(network.output.weight, std=0.02)
    return Checkpoint(CheckpointHeader("tiny", config, spacing_range_mm=spacing), network.state_dict())


@pytest.mark.parametrize("blur_aware", [True, False])
def test_equals_the_plain_network(small_head: np.ndarray, blur_aware: bool) -> None:
    checkpoint = tiny(blur_aware=blur_aware)
    result = SuperResolver(checkpoint, "cpu", "fp32")(
        Volume.from_array(small_head, OBLIQUE), "gaussian", back_projection=False, allow_negative=True
    )
    scale = IntensityScale.fit(small_head)
    lr = torch.from_numpy(scale.apply(small_head).astype(np.float32))[None, None]
    with torch.no_grad():
        wanted = checkpoint.generator()(with_conditions(lr, checkpoint.header.generator, Conditions(parse_blur("gaussian", (1, 1, 1)))))
    difference = np.abs(scale.undo(wanted[0, 0].numpy()) - result.volume.array).max()
    assert difference < 1e-5 * np.ptp(small_head)


def test_mirrored_views(small_head: np.ndarray) -> None:
    """A mirrored scan has the mirrored answer, where all views are averaged; a region the values of the whole."""
    resolver = SuperResolver(tiny(), "cpu", "fp32")
    whole = resolver(Volume.from_array(small_head, OBLIQUE), "box", flips=8)
    mirrored = resolver(Volume.from_array(small_head[::-1, :, ::-1].copy(), OBLIQUE), "box", flips=8).volume.array[::-1, :, ::-1]
    once = resolver(Volume.from_array(small_head, OBLIQUE), "box")
    assert whole.info["flips"] == 8 and once.info["flips"] == 1
    near = 1e-5 * np.ptp(small_head)
    assert np.abs(mirrored - whole.volume.array).max() < near < np.abs(once.volume.array - whole.volume.array).max()
    region = resolver(Volume.from_array(small_head, OBLIQUE), "box", roi_ijk=((10, 30), (5, 40), (0, 20)), flips=8).volume.array
    assert np.abs(region - whole.volume.array[0:40, 10:80, 20:60]).max() < near
    with pytest.raises(JobError, match="flips 3: 1, 2, 4 or 8"):
        resolver(Volume.from_array(small_head, OBLIQUE), flips=3)


def test_geometry_and_info(small_head: np.ndarray) -> None:
    volume = Volume.from_array(small_head, SHEARED)
    result = SuperResolver(tiny((1, 2, 3)), "cpu")(volume)
    assert result.volume.array.shape == (40, 96, 132)
    assert result.volume.geometry.box_distance_mm(volume.geometry) < 1e-9
    assert result.info["blur"]["source"] == "estimated" and result.info["blur"]["mtf_kji"][0] == 1.0
    assert result.info["asked"] == {"device": "cpu", "precision": "auto", "memory_limit": None, "blur": "auto", "noise": "auto"}
    assert result.info["precision"] in ("fp32", "bf16") and result.info["fallbacks"] == []


def test_warns_of_what_the_model_never_saw(small_head: np.ndarray) -> None:
    events: list[Event] = []
    result = SuperResolver(tiny(spacing=(1.8, 2.6)), "cpu")(Volume.from_array(small_head, OBLIQUE), on_progress=events.append)
    assert "trained on 1.80 to 2.60 mm" in result.info["warnings"][0]
    assert any(isinstance(e, Log) and e.level == "warning" for e in events) and any(isinstance(e, Progress) for e in events)


def test_blur_told_wrongly_is_said(small_head: np.ndarray) -> None:
    from scipy.ndimage import gaussian_filter

    smooth = Volume.from_array(gaussian_filter(small_head, 0.6), OBLIQUE)
    result = SuperResolver(tiny(), "cpu")(smooth, "kspace")
    assert any("looks like" in warning for warning in result.info["warnings"])


def test_small_scans_are_told_nothing() -> None:
    slab = np.random.default_rng(0).normal(100, 10, (2, 20, 20)).astype(np.float32)
    result = SuperResolver(tiny(), "cpu")(Volume.from_array(slab, OBLIQUE))
    assert result.volume.array.shape == (4, 40, 40) and result.info["blur"]["source"] == "unknown"
    assert any("too small" in warning for warning in result.info["warnings"])


def test_cancel_and_too_little_memory(small_head: np.ndarray) -> None:
    volume = Volume.from_array(small_head, OBLIQUE)
    with pytest.raises(Cancelled):
        SuperResolver(tiny(), "cpu")(volume, cancelled=lambda: True)
    with pytest.raises(ResourceError, match=r"memory limit 50M.*\d{3}M"):
        SuperResolver(tiny(), "cpu", memory_limit="50M")(volume)


@pytest.mark.parametrize(("text", "wanted"), [("gaussian", 0.4107), ("box", 0.6366), ("kspace", 1.0), ("1.0", 0.4107), ("2.0mm", 0.4107)])
def test_parse_blur(text: str, wanted: float) -> None:
    assert parse_blur(text, (2.0, 2.0, 2.0)) == pytest.approx((wanted,) * 3, abs=1e-4)


@pytest.mark.parametrize("text", ["fog", "-1", "nan", "mm", "1 mm x", ""])
def test_parse_blur_refuses(text: str) -> None:
    with pytest.raises(JobError, match="blur"):
        parse_blur(text, (1.0, 1.0, 1.0))


def test_run_equals_the_resolver(small_head: np.ndarray, tmp_path: Path) -> None:
    """The dispatcher behind CLI, worker and panel gives the very result of the Python call."""
    tiny().save(tmp_path / "tiny.safetensors")
    volume = Volume.from_array(small_head, OBLIQUE)
    volume.write(tmp_path / "in.nrrd")
    job = SuperResolveJob(
        str(tmp_path / "in.nrrd"), str(tmp_path / "out.nrrd"), str(tmp_path / "tiny.safetensors"), device="cpu", precision="fp32"
    )
    do_job(job, lambda event: None)
    direct = SuperResolver.load(tmp_path / "tiny.safetensors", "cpu", "fp32")(Volume.read(tmp_path / "in.nrrd"))
    assert np.array_equal(Volume.read(tmp_path / "out.nrrd").array, direct.volume.array)


@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 1, 1)])
def test_one_result_however_the_scan_is_stored(small_head: np.ndarray, factors: tuple[int, int, int]) -> None:
    """All 48 orders of the axes give one result in one place, the same figures along the same directions, and the same region."""
    resolver = SuperResolver(tiny(factors), "cpu", "fp32")
    matrix = OBLIQUE.copy()
    matrix[:3, 2] *= 1.7  # one thick axis
    array = small_head[:18, :22, :20]
    first = resolver(Volume.from_array(array, matrix), "auto")
    canonical = AxisOrder.towards_ras(first.volume.geometry).apply(first.volume.array)
    corners = sorted(map(tuple, first.volume.geometry.corners_ras().round(6)))
    figures = _by_direction(first.info)
    for order in ALL_ORDERS:
        turned, geometry = stored(array, Volume.from_array(array, matrix).geometry, order)
        result = resolver(Volume(turned, geometry), "auto")
        seen = AxisOrder.towards_ras(result.volume.geometry).apply(result.volume.array)
        assert np.abs(seen - canonical).max() <= 1e-5 * np.ptp(array)
        assert np.allclose(sorted(map(tuple, result.volume.geometry.corners_ras().round(6))), corners, atol=1e-4)
        assert _by_direction(result.info) == figures
    box = ((2, 9), (5, 14), (3, 12))
    turned, geometry = stored(array, Volume.from_array(array, matrix).geometry, ALL_ORDERS[29])
    roi = ALL_ORDERS[29].box(box, array.shape)
    part = resolver(Volume(turned, geometry), "auto", roi_ijk=roi[::-1])
    inside = first.volume.array[tuple(slice(a * f, b * f) for (a, b), f in zip(box, first.info["factors_kji"], strict=True))]
    assert np.abs(ALL_ORDERS[29].inverse.apply(part.volume.array) - inside).max() <= 1e-5 * np.ptp(array)


def _by_direction(info: dict) -> dict[str, tuple[int, float]]:
    """Factor and transfer of each axis, by its direction; a direction and its opposite are one axis."""
    names = [next(pair for pair in ("RL", "AP", "SI") if letter in pair) for letter in info["directions_kji"]]
    return {name: (f, mtf) for name, f, mtf in zip(names, info["factors_kji"], info["blur"]["mtf_kji"], strict=True)}
