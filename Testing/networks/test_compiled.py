"""The compiled generator equals the plain one, on the whole and by pieces; its memory is what it says."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from lively import TOLD, lively, plain

from SRGAN3DLib.contract.configs import Factors, GeneratorConfig, preset
from SRGAN3DLib.networks.compiled import CompiledGenerator, onednn_takes, tail_halo, trunk_halo
from SRGAN3DLib.networks.generator import Conditions, Generator


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / (wanted.max() - wanted.min()))


@pytest.mark.parametrize("upsampling", ["resize-conv", "subpixel", "subpixel-nn"])
@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 2), (3, 2, 1), (4, 4, 4), (1, 4, 3)])
def test_equals_the_plain_generator(upsampling: str, factors: Factors) -> None:
    config = GeneratorConfig(factors, features=4, blocks=1, upsampling=upsampling)  # type: ignore[arg-type]
    generator, image = lively(config), torch.randn(1, 1, 7, 5, 6)
    assert relative(CompiledGenerator(generator)(image), plain(generator, image)) < 5e-6


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_equals_the_plain_presets(name: str) -> None:
    generator, image = lively(preset(name)), torch.rand(1, 1, 9, 10, 11)
    compiled = CompiledGenerator(generator)
    assert relative(compiled(image, TOLD), plain(generator, image)) < 5e-6
    unknown = relative(compiled(image), plain(generator, image, Conditions()))
    assert unknown < 5e-6


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 9), (9, 1, 4)])
def test_thin_volumes_and_several_images(shape: tuple[int, int, int]) -> None:
    config = GeneratorConfig(features=4, blocks=2, input_channels=2, interpolation_residual=True, blur_aware=True)
    generator, image = lively(config), torch.randn(1, 2, *shape)
    assert relative(CompiledGenerator(generator)(image, TOLD), plain(generator, image)) < 5e-6


@pytest.mark.parametrize("slab_voxels", [1, 60, 100])
@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_steps_of_any_size_through_the_trunk(slab_voxels: int, blocks: int) -> None:
    """Residual blocks are done in place, a few planes at a time: no step may see what the step before has changed."""
    generator, image = lively(GeneratorConfig(features=4, blocks=blocks)), torch.randn(1, 1, 11, 4, 5)
    compiled = CompiledGenerator(generator)
    compiled.slab_voxels = slab_voxels
    assert relative(compiled(image), plain(generator, image)) < 5e-6


@pytest.mark.parametrize(
    ("upsampling", "factors", "halo"),
    [
        ("resize-conv", (2, 2, 2), (2, 2, 2)),
        ("resize-conv", (4, 1, 1), (3, 4, 4)),  # two stages: 2 voxels of the grid between are 1 or 2 here, and 2 more
        ("subpixel", (2, 2, 2), (1, 1, 1)),
        ("subpixel-nn", (4, 4, 4), (2, 2, 2)),
    ],
)
def test_halos_are_as_derived_and_no_wider(upsampling: str, factors: Factors, halo: tuple[int, int, int]) -> None:
    """A voxel at the halo's edge changes the core's share of the output; the tail never reads further."""
    config = GeneratorConfig(factors, features=4, blocks=1, upsampling=upsampling)  # type: ignore[arg-type]
    assert tail_halo(config) == halo and trunk_halo(config) == 4
    compiled = CompiledGenerator(lively(config))
    sizes = [2 * h + 2 for h in halo]
    features, image = torch.randn(1, 4, *sizes), torch.zeros(1, 1, *sizes)
    margins = tuple((h, h) for h in halo)
    share = compiled.tail(features, image, margins)  # type: ignore[arg-type]
    for axis in range(3):
        touched = features.clone()
        touched.select(axis + 2, 0).add_(1)
        assert not torch.equal(compiled.tail(touched, image, margins), share)  # type: ignore[arg-type]


def test_planes_beyond_what_is_kept_are_left_out() -> None:
    generator, image = lively(GeneratorConfig(features=4, blocks=2)), torch.randn(1, 1, 20, 4, 5)
    compiled, heard = CompiledGenerator(generator), list[float]()
    compiled.slab_voxels = 40
    whole = compiled.trunk(image).clone()
    kept = compiled.trunk(image, TOLD, (8, 11), heard.append)
    assert torch.equal(kept[:, :, 8:11], whole[:, :, 8:11])
    assert heard == sorted(heard) and heard[-1] == 1


def test_a_tick_may_stop_the_trunk() -> None:
    def stop(part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CompiledGenerator(lively(GeneratorConfig(features=4, blocks=1))).trunk(torch.zeros(1, 1, 8, 8, 8), tick=stop)


def test_bf16_stays_near() -> None:
    generator, image = lively(preset("fast")), torch.rand(1, 1, 12, 12, 12)
    found = CompiledGenerator(generator, torch.bfloat16)(image, TOLD)
    assert found.dtype == torch.float32 and relative(found, plain(generator, image)) < 0.02


def test_what_onednn_takes() -> None:
    assert onednn_takes(torch.float32) == torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    assert not onednn_takes(torch.float64)


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The road of builds without it (and of float64): the same answer, more scratch."""
    generator, image = lively(GeneratorConfig(features=4, blocks=1)), torch.randn(1, 1, 6, 5, 7)
    usual = CompiledGenerator(generator)
    monkeypatch.setattr("SRGAN3DLib.networks.compiled.onednn_takes", lambda dtype: False)
    bare = CompiledGenerator(generator)
    assert relative(bare(image), plain(generator, image)) < 5e-6
    assert bare.trunk_bytes((9, 9, 9)) > usual.trunk_bytes((9, 9, 9)) and bare.tail_bytes((9, 9, 9)) > usual.tail_bytes((9, 9, 9))


def test_a_pytorch_without_the_questions_of_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS on ARM: `torch.ops.mkldnn` has no such operators. fp32 on the CPU works, half precisions are refused in one line."""
    from SRGAN3DLib.contract.errors import DeviceError
    from SRGAN3DLib.inference.devices import choose, describe

    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not onednn_takes(torch.bfloat16) and not onednn_takes(torch.float16) and not onednn_takes(torch.float32)
    assert describe()[-1].usable
    choice = choose("cpu", "fp32")
    image = torch.rand(1, 1, 8, 8, 8)
    generator = lively(GeneratorConfig(features=4, blocks=1))
    assert relative(CompiledGenerator(generator, choice.dtype, choice.device)(image), plain(generator, image)) < 5e-6
    for precision in ("bf16", "fp16"):
        with pytest.raises(DeviceError, match=f"precision {precision} on cpu: the CPU lacks .* use auto or fp32"):
            choose("cpu", precision)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert onednn_takes(torch.float32) and not onednn_takes(torch.bfloat16)


def test_costs_grow_with_what_is_asked() -> None:
    compiled = CompiledGenerator(Generator(preset("paper")).eval())
    half = CompiledGenerator(Generator(preset("paper")).eval(), torch.bfloat16)
    for cost in ("trunk_bytes", "features_bytes", "tail_bytes"):
        small, large = (getattr(compiled, cost)((n, n, n)) for n in (16, 32))
        assert small < large
        assert getattr(half, cost)((32, 32, 32)) < large
    assert compiled.trunk_bytes((100, 64, 64)) >= 2 * 100 * 64 * 64 * 32 * 4  # two feature tensors
    assert 0.5 < compiled.trunk_share < 0.65  # method.md: 365 thousand of 690 thousand MAC per LR voxel


def test_no_global_switch_is_left_behind() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.is_inference_mode_enabled()
    CompiledGenerator(lively(GeneratorConfig(features=4, blocks=0)))(torch.zeros(1, 1, 3, 3, 3))
    assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.is_inference_mode_enabled())


def test_margins_of_every_kind() -> None:
    """A core cut out of a volume in all 27 ways of touching its border: the shares of a 3 x 3 x 3 grid add up to the whole."""
    generator = lively(GeneratorConfig((1, 2, 3), features=4, blocks=0, interpolation_residual=True))
    compiled, image = CompiledGenerator(generator), torch.randn(1, 1, 7, 8, 9)
    features, halo, shape = compiled.trunk(image), compiled.tail_halo, (7, 8, 9)
    output = torch.zeros(7 + 2, 16 + 2, 27 + 2)
    for core in itertools.product(*(((0, 2), (2, 4), (4, n)) for n in shape)):
        reach = [(max(0, a - h), min(n, b + h)) for (a, b), h, n in zip(core, halo, shape, strict=True)]
        k, j, i = (slice(*r) for r in reach)
        margins = tuple((a - ra, rb - b) for (a, b), (ra, rb) in zip(core, reach, strict=True))
        share = compiled.tail(features[:, :, k, j, i], image[:, :, k, j, i], margins)  # type: ignore[arg-type]
        k, j, i = (slice(a * f, b * f + 2) for (a, b), f in zip(core, (1, 2, 3), strict=True))
        output[k, j, i] += share
    assert relative(output[1:-1, 1:-1, 1:-1], plain(generator, image)[0, 0]) < 5e-6
