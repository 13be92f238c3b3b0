"""The synthesizer: equals the plain network for any plan, keeps HU, lies where the first input lies, and refuses what makes no sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import FINE, MATRICES, OBLIQUE, SHEARED

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.contract.errors import Cancelled, CheckpointError, JobError, ResourceError, SRGAN3DError, VolumeError
from SRGAN3DLib.contract.events import Event, Log, Progress
from SRGAN3DLib.contract.synthesis import InputImage, OutputImage, ct_output
from SRGAN3DLib.inference import memory, tiling
from SRGAN3DLib.inference.synthesizer import Synthesizer
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Generator
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.resampling import resample
from SRGAN3DLib.volumes.volume import Volume

BOTH = (InputImage("T1w", "T1w"), InputImage("T2w", "T2w"))


def checkpoint(output: OutputImage | None = None, inputs: tuple[InputImage, ...] = BOTH, **options: object) -> Checkpoint:
    torch.manual_seed(3)
    base: dict = {"factors": (1, 1, 1), "features": 4, "blocks": 1, "norm": "none", "upsampling": "subpixel", "coarse": (2, 2, 2)}
    config = GeneratorConfig(**(base | options | {"input_channels": len(inputs)}))
    network = Generator(config)
    torch.nn.init.normal_(network.output.weight, std=0.1)
    header = CheckpointHeader("tiny", config, task="synthesis", inputs=inputs, output=output or OutputImage("FLAIR"))
    return Checkpoint(header, network.state_dict())


def identity(output: OutputImage) -> Checkpoint:
    """A network that gives its one input back: one feature, no block, every kernel a unit impulse."""
    one = checkpoint(output, (InputImage("MR"),), features=2, blocks=0, upsampling="resize-conv", coarse=(1, 1, 1), slope=0.25)
    tensors = {name: torch.zeros_like(t) for name, t in one.tensors.items()}
    tensors["first.weight"][0, 0, 1, 1, 1] = 1.0
    for layer in ("stages.0.before", "stages.0.after"):
        tensors[f"{layer}.weight"][0, 0, 1, 1, 1] = 1.0
    tensors["output.weight"][0, 0, 1, 1, 1] = 1.0
    return replace(one, tensors=tensors)


@pytest.fixture
def heads(small_head: np.ndarray) -> dict[str, Volume]:
    """T1w and T2w on one grid of odd sizes."""
    array = small_head[:39, :47, :43]
    return {"T1w": Volume.from_array(array, OBLIQUE), "T2w": Volume.from_array(700 - array, OBLIQUE)}


def plain(one: Checkpoint, images: dict[str, Volume], pad: tuple[int, int, int]) -> np.ndarray:
    """The network on the whole volume at once, in the output's unit, on the first input's grid."""
    order = AxisOrder.towards_ras(images["T1w"].geometry)
    scaled = [np.ascontiguousarray(order.apply(IntensityScale.fit(v.array).apply(v.array))) for v in images.values()]
    shape = scaled[0].shape
    x = np.pad(np.stack(scaled), [(0, 0), *((0, -n % c) for n, c in zip(shape, pad, strict=True))])
    with torch.no_grad():
        y = one.generator()(torch.from_numpy(x.astype(np.float32))[None])[0, 0].numpy()
    y = y[tuple(slice(n * f) for n, f in zip(shape, one.header.generator.factors, strict=True))]
    assert one.header.output is not None
    return order.inverse.apply(y * one.header.output.gain + one.header.output.offset)


@pytest.mark.parametrize("coarse", [(1, 1, 1), (2, 2, 2), (1, 4, 4)])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_equals_the_plain_network(heads: dict[str, Volume], coarse: tuple[int, int, int], norm: str) -> None:
    one = checkpoint(coarse=coarse, norm=norm)
    result = Synthesizer(one, "cpu", "fp32")(heads)
    wanted = plain(one, heads, coarse)
    assert result.volume.geometry == heads["T1w"].geometry
    assert np.abs(result.volume.array - wanted).max() < 1e-5 * np.ptp(wanted)
    assert list(result.volumes) == ["FLAIR"]


def test_factors_above_one(heads: dict[str, Volume]) -> None:
    """CT at twice the MR's slices is the same code."""
    one = checkpoint(ct_output(), factors=(2, 1, 1), coarse=(1, 2, 2))
    result = Synthesizer(one, "cpu", "fp32")(heads)
    back = AxisOrder.towards_ras(heads["T1w"].geometry).inverse.per_axis((2, 1, 1))
    assert result.volume.geometry.box_distance_mm(heads["T1w"].geometry) < 1e-4
    assert result.volume.array.shape == tuple(n * f for n, f in zip(heads["T1w"].array.shape, back, strict=True))
    assert np.abs(result.volume.array - np.clip(plain(one, heads, (1, 2, 2)), -1024, 3071)).max() < 0.51


@pytest.mark.parametrize("flips", [1, 2, 8])
def test_any_plan_and_any_region_give_one_answer(heads: dict[str, Volume], monkeypatch: pytest.MonkeyPatch, flips: int) -> None:
    synthesizer = Synthesizer(checkpoint(), "cpu", "fp32")
    whole = synthesizer(heads, flips=flips).volume.array
    near = 1e-5 * np.ptp(whole)
    region = synthesizer(heads, roi_ijk=((3, 20), (11, 30), (5, 38)), flips=flips)
    assert np.abs(region.volume.array - whole[5:38, 11:30, 3:20]).max() < near
    assert region.volume.geometry.box_distance_mm(heads["T1w"].geometry.crop(((5, 38), (11, 30), (3, 20)))) < 1e-6
    monkeypatch.setattr(tiling, "LEAST_CORE", 4)
    monkeypatch.setattr(tiling, "affordable_plan", lambda network, shape, limit: tiling.plan_of(network, shape, (3, 2, 4), (5, 4, 3)))
    pieces = synthesizer(heads, flips=flips)
    assert pieces.info["tiles"]["pieces"] == 24 * flips
    assert np.abs(pieces.volume.array - whole).max() < near


def test_flips_are_the_mean_over_mirrored_heads(heads: dict[str, Volume]) -> None:
    """A mirrored head has the mirrored answer where all eight views are averaged; cells of odd sizes included."""
    synthesizer = Synthesizer(checkpoint(), "cpu", "fp32")
    whole = synthesizer(heads, flips=8).volume.array
    mirrored = {name: v.with_array(v.array[::-1, :, ::-1].copy(), v.geometry) for name, v in heads.items()}
    again = synthesizer(mirrored, flips=8).volume.array[::-1, :, ::-1]
    once = synthesizer(heads).volume.array
    near = 1e-5 * np.ptp(whole)
    assert np.abs(again - whole).max() < near < np.abs(once - whole).max()


def test_a_model_that_saw_left_right_views_only_is_not_turned_over(heads: dict[str, Volume]) -> None:
    one = checkpoint()
    seen = replace(one, header=replace(one.header, training={"config": {"synthesis": {"flips": "left-right"}}}))
    assert Synthesizer(seen, "cpu", "fp32")(heads, flips=2).info["flips"] == 2
    with pytest.raises(JobError, match="flips 4: tiny was trained on left-right mirrored views; at most 2"):
        Synthesizer(seen, "cpu", "fp32")(heads, flips=4)


@pytest.mark.parametrize("name", MATRICES)
def test_inputs_on_two_grids(small_head: np.ndarray, name: str) -> None:
    """The second input is brought to the first one's grid by the matrices; both results are then the same."""
    first = Volume.from_array(small_head, MATRICES[name])
    other = Geometry((44, 50, 40), FINE)
    second = Volume(resample(700 - small_head, first.geometry, other, "cubic", 0.0), other)
    synthesizer = Synthesizer(checkpoint(), "cpu", "fp32")
    scale = IntensityScale.fit(second.array)
    brought = first.with_array(resample(second.array, other, first.geometry, "linear", scale.offset), first.geometry)
    if (share := float((brought.array != scale.offset).mean())) < 0.55:
        with pytest.raises(VolumeError, match="covers"):
            synthesizer({"T1w": first, "T2w": second})
        return
    result = synthesizer({"T1w": first, "T2w": second})
    assert result.volume.geometry == first.geometry
    assert result.info["inputs"]["T2w"]["same_grid"] is False
    assert 0 <= result.info["share_outside_field_of_view"] < 1 - share + 0.1


def test_a_phantom_of_known_hu_keeps_them(tmp_path: Path) -> None:
    """Identity network: a phantom whose MR numbers are 0 to 1 of the fixed map comes back within 1 HU; saved as int16, not wrapped."""
    hu = np.full((24, 26, 28), -1000.0, np.float32)
    for value, box in ((-80, slice(2, 8)), (40, slice(8, 14)), (700, slice(14, 19)), (1500, slice(19, 22))):
        hu[box, 4:22, 4:24] = value + np.arange(20)
    scanned = (hu + 1024) / 1024  # what the network must see; the robust scale of the input is undone here
    volume = Volume.from_array(scanned * 100, SHEARED)
    scale = IntensityScale.fit(volume.array)
    output = replace(ct_output(), offset=-1024.0 + 1024 * scale.offset / 100, gain=1024.0 * scale.gain / 100)
    result = Synthesizer(identity(output), "cpu")({"MR": volume})
    assert result.info["precision"] == "fp32"
    assert np.abs(result.volume.array - hu).max() <= 1
    result.volume.write(tmp_path / "ct.nii.gz", dtype="input")
    again = Volume.read(tmp_path / "ct.nii.gz")
    assert again.dtype == "int16" and np.abs(again.array - hu).max() <= 1


def test_no_hu_wraps_around(heads: dict[str, Volume]) -> None:
    """Numbers far beyond 16 bits are clipped to the range of HU."""
    output = replace(ct_output(), gain=1e6)
    array = Synthesizer(checkpoint(output), "cpu")(heads).volume.array
    assert array.min() == -1024 and array.max() == 3071


def test_the_fill_where_an_input_ends(heads: dict[str, Volume]) -> None:
    first = heads["T1w"]
    part = Volume(heads["T2w"].array[:28], first.geometry.crop(((0, 28), (0, 47), (0, 43))))
    result = Synthesizer(checkpoint(ct_output()), "cpu")({"T1w": first, "T2w": part})
    assert (result.volume.array[28:] == -1024).all() and (result.volume.array[:28] != -1024).any()
    assert result.info["share_outside_field_of_view"] == pytest.approx(11 / 39)


def test_a_model_made_for_another_spacing(heads: dict[str, Volume]) -> None:
    """The head is brought to the model's spacing and back: the box stays, the numbers are near those of the plain grid."""
    one = checkpoint()
    other = replace(one, header=replace(one.header, working_spacing_kji_mm=(2.3, 1.0, 1.0)))
    result = Synthesizer(other, "cpu", "fp32")(heads)
    assert result.info["working_grid"]["exact"] is False
    assert result.volume.geometry == heads["T1w"].geometry and np.isfinite(result.volume.array).all()
    region = Synthesizer(other, "cpu", "fp32")(heads, roi_ijk=((3, 20), (11, 30), (5, 38))).volume
    assert np.abs(region.array - result.volume.array[5:38, 11:30, 3:20]).max() < 1e-5 * np.ptp(result.volume.array)


def test_memory_limit(heads: dict[str, Volume]) -> None:
    big = {name: Volume.from_array(np.tile(v.array, (2, 2, 2)), OBLIQUE) for name, v in heads.items()}
    free = Synthesizer(checkpoint(), "cpu", "fp32")(big)
    limit = memory.resident_bytes() + (160 << 20)
    held = Synthesizer(checkpoint(), "cpu", "fp32", limit)(big)
    assert np.abs(held.volume.array - free.volume.array).max() < 1e-5 * np.ptp(free.volume.array)
    with pytest.raises(ResourceError, match="memory limit"):
        Synthesizer(checkpoint(), "cpu", "fp32", "1M")(big)


def test_progress_and_cancel(heads: dict[str, Volume]) -> None:
    events: list[Event] = []
    Synthesizer(checkpoint(), "cpu", "fp32")(heads, on_progress=events.append)
    steps = [e for e in events if isinstance(e, Progress)]
    assert steps[-1].done == pytest.approx(steps[-1].total)
    assert any("not for dose" in e.message for e in events if isinstance(e, Log) and e.level == "warning")
    with pytest.raises(Cancelled):
        Synthesizer(checkpoint(), "cpu", "fp32")(heads, cancelled=lambda: True)


def test_rigid_registration(small_head: np.ndarray) -> None:
    """A second scan that was moved by 4 mm and turned by 5 degrees is brought back to within half a voxel."""
    geometry = Geometry(small_head.shape, FINE)
    turn = np.radians(5)
    move = np.array([[np.cos(turn), -np.sin(turn), 0, 4.0], [np.sin(turn), np.cos(turn), 0, -2], [0, 0, 1, 1], [0, 0, 0, 1.0]])
    moved = Volume(700 - small_head, Geometry(small_head.shape, move @ FINE))
    first = Volume(small_head, geometry)
    result = Synthesizer(checkpoint(), "cpu", "fp32")({"T1w": first, "T2w": moved}, register="rigid")
    quality = result.info["registration"]["inputs"]["T2w"]
    assert quality["information_after"] > quality["information_before"]
    aligned = Synthesizer(checkpoint(), "cpu", "fp32")({"T1w": first, "T2w": Volume(700 - small_head, geometry)}).volume.array
    crooked = Synthesizer(checkpoint(), "cpu", "fp32")({"T1w": first, "T2w": moved}).volume.array
    assert np.abs(result.volume.array - aligned).mean() < 0.3 * np.abs(crooked - aligned).mean()


def unhappy(heads: dict[str, Volume]) -> dict[str, tuple[dict[str, Volume], dict, str]]:
    first, second = heads["T1w"], heads["T2w"]
    away = np.eye(4)
    away[:3, 3] = 500
    far = Volume(second.array, Geometry(second.array.shape, away))
    ct = second.with_array(second.array - 1000, second.geometry)
    return {
        "missing input": ({"T1w": first}, {}, "the input T2w is missing; it takes T1w, T2w"),
        "surplus input": ({**heads, "PDw": first}, {}, "has no input PDw; it takes T1w, T2w"),
        "CT as input": ({"T1w": first, "T2w": ct}, {}, "as a CT has; the input T2w must be an MR scan"),
        "no overlap": ({"T1w": first, "T2w": far}, {}, "covers 0 % of the box"),
        "bad region": (heads, {"roi_ijk": ((0, 99), (0, 5), (0, 5))}, "it must lie within"),
        "bad flips": (heads, {"flips": 3}, "flips 3"),
        "bad interpolation": ({"T1w": first, "T2w": Volume(second.array, Geometry(second.array.shape, OBLIQUE @ np.diag([1.1, 1, 1, 1])))},
                              {"interpolation": "sinc"}, "interpolation 'sinc': choose from"),
        "bad registration": (heads, {"register": "affine"}, "register 'affine': none or rigid"),
    }  # fmt: skip


UNHAPPY = (
    "missing input",
    "surplus input",
    "CT as input",
    "no overlap",
    "bad region",
    "bad flips",
    "bad interpolation",
    "bad registration",
)


@pytest.mark.parametrize("case", UNHAPPY)
def test_unhappy_paths(heads: dict[str, Volume], case: str) -> None:
    images, options, words = unhappy(heads)[case]
    with pytest.raises(SRGAN3DError) as error:
        Synthesizer(checkpoint(), "cpu", "fp32")(images, **options)
    assert words in str(error.value) and "\n" not in str(error.value) and error.value.exit_code in (2, 3)


def test_a_super_resolution_model_is_refused() -> None:
    one = checkpoint()
    with pytest.raises(CheckpointError, match="a model for super-resolution, not for synthesis; use super-resolve"):
        Synthesizer(replace(one, header=replace(one.header, task="super-resolution")))


def test_a_contrast_named_otherwise_is_told(heads: dict[str, Volume]) -> None:
    named = {**heads, "T2w": replace(heads["T2w"], path=Path("sub-1_FLAIR.nii.gz"))}
    info = Synthesizer(checkpoint(), "cpu", "fp32")(named).info
    assert any("by its name FLAIR, but it is given as T2w" in line for line in info["warnings"])
