"""The networks: counts of method.md section 1, shapes for any factors, no checkerboard to begin with, heads of the discriminator."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import UNKNOWN_MTF, UNKNOWN_NOISE, DiscriminatorConfig, Factors, GeneratorConfig, preset
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.networks.discriminator import Discriminator
from SRGAN3DLib.networks.generator import NOISE_UNIT, STAGES, Conditions, Generator, cells, replicate, shuffle, trilinear, with_conditions
from SRGAN3DLib.training.losses import adversarial_loss

pytestmark = pytest.mark.usefixtures("one_thread")
UPSAMPLINGS = tuple(STAGES)
FACTORS: tuple[Factors, ...] = ((1, 1, 1), (1, 1, 3), (2, 2, 2), (1, 2, 2), (2, 1, 4), (3, 2, 1), (4, 4, 4))


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_meta(config: GeneratorConfig) -> int:
    with torch.device("meta"):
        return parameters(Generator(config))


# ---------------------------------------------------------------- the generator
@pytest.mark.parametrize(
    ("upsampling", "factor", "features", "blocks", "count"),
    [
        ("resize-conv", 2, 32, 6, 529_377),
        ("resize-conv", 4, 32, 6, 750_689),
        ("subpixel", 2, 32, 6, 417_209),
        ("subpixel", 4, 32, 6, 431_097),
        ("subpixel-nn", 2, 32, 6, 805_793),
        ("subpixel-nn", 4, 32, 6, 1_690_593),
        ("resize-conv", 2, 64, 8, 2_108_289),
        ("subpixel", 2, 64, 8, 1_996_121),
        ("subpixel-nn", 2, 64, 8, 2_771_777),
    ],
)
def test_parameter_counts(upsampling: str, factor: int, features: int, blocks: int, count: int) -> None:
    assert on_meta(GeneratorConfig((factor,) * 3, features, blocks, upsampling=upsampling)) == count  # type: ignore[arg-type]


def test_parameter_counts_of_the_presets() -> None:
    assert on_meta(preset("paper")) == 529_377
    fast = 417_209 - 2 * 32 * 14 + 4 * 32 * 27  # without 14 batch norms, with four more input channels
    assert on_meta(preset("fast")) == fast == 419_769
    assert on_meta(preset("large")) == 982_881


@pytest.mark.parametrize("factors", [(2, 2, 2), (4, 4, 4), (1, 1, 5)])
def test_the_large_preset_is_a_file_below_4_mb(factors: Factors) -> None:
    """Four bytes a parameter, and 12 kB for the header."""
    assert 4 * on_meta(preset("large", factors)) + 12_000 < 4_000_000


def test_the_trunk_adds_up() -> None:
    network = Generator(preset("paper"))
    names = ("first", "first_norm", "blocks", "last", "last_norm")
    assert sum(parameters(getattr(network, name)) for name in names) == 361_632
    assert len(network.blocks) == 6
    assert [parameters(getattr(network.blocks[0], name)) for name in ("conv1", "norm1", "conv2", "norm2")] == [27_680, 64] * 2


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("factors", FACTORS, ids=str)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_shapes(upsampling: str, factors: Factors, norm: str) -> None:
    config = GeneratorConfig(factors, 4, 1, norm=norm, upsampling=upsampling, interpolation_residual=True)  # type: ignore[arg-type]
    with torch.no_grad():
        y = Generator(config).eval()(torch.randn(2, 1, 3, 5, 4))
    assert y.shape == (2, 1, 3 * factors[0], 5 * factors[1], 4 * factors[2])
    assert len(config.stages) == (2 if 4 in factors else 1)
    assert tuple(math.prod(f) for f in zip(*config.stages, strict=True)) == factors


def test_every_combination_of_factors_is_split_into_stages() -> None:
    for factors in itertools.product((1, 2, 3, 4), repeat=3):
        stages = GeneratorConfig(factors).stages
        assert tuple(math.prod(f) for f in zip(*stages, strict=True)) == factors
        assert all(f <= 3 for stage in stages for f in stage)


def test_the_residual_block_has_no_activation_after_the_sum() -> None:
    block = Generator(GeneratorConfig(features=2, blocks=1, norm="none")).blocks[0]
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = -torch.ones(1, 2, 3, 3, 3)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_output_is_linear(upsampling: str) -> None:
    network = Generator(GeneratorConfig(features=4, blocks=1, upsampling=upsampling)).eval()  # type: ignore[arg-type]
    nn.init.constant_(network.output.bias, 7.0)
    with torch.no_grad():
        assert network(torch.randn(1, 1, 4, 4, 4)).max() > 5  # a tanh would stop at 1


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_interpolation_residual_begins_as_trilinear(norm: str) -> None:
    network = Generator(GeneratorConfig(features=4, blocks=1, norm=norm, blur_aware=True, interpolation_residual=True)).eval()  # type: ignore[arg-type]
    x = torch.randn(1, 1, 4, 5, 6)
    with torch.no_grad():
        assert torch.equal(network(with_conditions(x, network.config)), trilinear(x, (2, 2, 2)))


def test_trilinear_by_hand() -> None:
    x = torch.tensor([0.0, 1.0, 5.0]).reshape(1, 1, 1, 1, 3)
    assert trilinear(x, (1, 1, 2)).flatten().tolist() == [0, 0.25, 0.75, 2, 4, 5]
    assert trilinear(x.reshape(1, 1, 3, 1, 1), (3, 1, 1)).flatten().tolist() == pytest.approx(
        [0, 0, 1 / 3, 2 / 3, 1, 7 / 3, 11 / 3, 5, 5], abs=1e-6
    )
    assert trilinear(x, (1, 1, 1)) is x


# ---------------------------------------------------------------- upsampling
def test_replicate_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 1, 2, 2)
    assert replicate(x, (1, 1, 3)).reshape(2, 6).tolist() == [[1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4]]
    assert replicate(x, (2, 2, 1)).reshape(2, 4, 2).tolist() == [[[1, 2], [1, 2], [3, 4], [3, 4]]] * 2


def test_shuffle_by_hand() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1, 1)  # channel 4 a + 2 b + c goes to the phase (a, b, c)
    assert shuffle(x, (2, 2, 2)).reshape(2, 2, 2).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]).reshape(1, 3, 1, 1, 2)
    assert shuffle(x, (1, 1, 3)).flatten().tolist() == [1, 10, 100, 2, 20, 200]


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 3)], ids=str)
def test_shuffle_is_torch_pixel_shuffle_in_the_plane(factors: Factors) -> None:
    x = torch.randn(2, 4 * 2, 1, 3, 5)
    assert torch.equal(shuffle(x, (1, 2, 2))[:, :, 0], F.pixel_shuffle(x[:, :, 0], 2))
    y = torch.randn(1, 2 * math.prod(factors), 3, 4, 5)
    assert shuffle(y, factors).sum().item() == pytest.approx(y.sum().item(), abs=1e-3)


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 3), (3, 2, 1)], ids=str)
def test_subpixel_nn_begins_as_replication_and_a_convolution(factors: Factors) -> None:
    stage = STAGES["subpixel-nn"](5, factors, 0.25)
    assert stage.conv.kernel_size == tuple(3 * f for f in factors) and stage.conv.stride == factors
    kernel = stage.conv.weight[:, :, :: factors[0], :: factors[1], :: factors[2]]
    assert torch.equal(replicate(kernel, factors), stage.conv.weight)
    x = torch.randn(1, 5, 4, 3, 6)
    plain = F.conv3d(x, kernel.transpose(0, 1).flip(2, 3, 4), stage.conv.bias, padding=1)  # a transposed kernel runs backwards
    torch.testing.assert_close(stage.conv(x), replicate(plain, factors))


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 3), (3, 2, 1), (1, 1, 1)], ids=str)
def test_resize_conv_is_replication_and_a_convolution(factors: Factors) -> None:
    """Phase by phase on the coarse grid, yet the values and the gradients of the plain way, border included."""
    torch.manual_seed(0)
    stage = STAGES["resize-conv"](5, factors, 0.25).double()
    x = torch.randn(2, 5, 4, 3, 6, dtype=torch.float64, requires_grad=True)
    wanted = F.leaky_relu(stage.after(replicate(F.leaky_relu(stage.before(x), 0.25), factors)), 0.25)
    found, weights = stage(x), torch.randn_like(wanted)
    torch.testing.assert_close(found, wanted)
    inputs = [x, *stage.parameters()]
    for one, other in zip(*(torch.autograd.grad((y * weights).sum(), inputs) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 1, 3)], ids=str)
def test_the_phases_begin_alike(upsampling: str, factors: Factors) -> None:
    """Of any input the voxels of one cell differ by the border and the smoothing only, so no grid is printed on the image."""
    stage = STAGES[upsampling](4, factors, 0.25)
    with torch.no_grad():
        y = stage(torch.randn(1, 4, 6, 6, 6))
    if upsampling == "resize-conv":  # replicated before its last convolution: alike where the neighbours are
        with torch.no_grad():
            y = replicate(F.leaky_relu(stage.before(torch.randn(1, 4, 6, 6, 6)), 0.25), factors)
    cells = y[:, :, :: factors[0], :: factors[1], :: factors[2]]
    torch.testing.assert_close(y, replicate(cells, factors))


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 3, 2), (4, 4, 4)], ids=str)
def test_no_checkerboard_at_the_start(upsampling: str, factors: Factors) -> None:
    """A flat image stays flat away from its border."""
    torch.manual_seed(1)
    network = Generator(GeneratorConfig(factors, 4, 1, norm="none", upsampling=upsampling)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        y = network(torch.ones(1, 1, 17, 17, 17))[0, 0]
    inner = y[tuple(slice(8 * f, 9 * f) for f in factors)]
    assert float(inner.max() - inner.min()) < 1e-6
    assert float(y.max() - y.min()) > 1e-4  # the border does show: the network is not dead


# ---------------------------------------------------------------- told the blur and the noise
BLUR, NOISE, BOTH = GeneratorConfig(blur_aware=True), GeneratorConfig(noise_aware=True), GeneratorConfig(blur_aware=True, noise_aware=True)


def test_the_blur_is_three_constant_channels() -> None:
    x = torch.randn(2, 1, 2, 3, 4)
    y = with_conditions(x, BLUR, Conditions((0.4, 0.6, 1.0)))
    assert y.shape == (2, 4, 2, 3, 4) and torch.equal(y[:, :1], x)
    for channel, value in enumerate((0.4, 0.6, 1.0), start=1):
        assert (y[:, channel] == torch.tensor(value)).all()
    each = with_conditions(x, BLUR, Conditions(torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])))
    assert each[1, 1:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.5, 0.6]) and each[0, 3, 1, 2, 3].item() == pytest.approx(0.3)
    assert (with_conditions(x, BLUR)[:, 1:] == UNKNOWN_MTF).all()
    assert with_conditions(x.half(), BLUR, Conditions((0.4, 0.6, 1.0))).dtype == torch.float16


def test_the_noise_is_the_last_channel() -> None:
    x = torch.randn(2, 1, 2, 3, 4)
    both = with_conditions(x, BOTH, Conditions((0.4, 0.6, 1.0), 0.05))
    assert both.shape == (2, 5, 2, 3, 4) and torch.equal(both[:, :4], with_conditions(x, BLUR, Conditions((0.4, 0.6, 1.0), 0.05)))
    assert both[:, 4].unique().item() == pytest.approx(0.05 / NOISE_UNIT)
    alone = with_conditions(x, NOISE, Conditions(noise=torch.tensor([0.0, 0.08])))
    assert alone.shape == (2, 2, 2, 3, 4) and alone[1, 1, 1, 1, 1].item() == pytest.approx(0.8) and (alone[0, 1] == 0).all()
    unknown = with_conditions(x, BOTH)
    assert unknown[:, 4].unique().item() == pytest.approx(UNKNOWN_NOISE / NOISE_UNIT)
    assert torch.equal(with_conditions(x, GeneratorConfig(), Conditions((0.4, 0.6, 1.0), 0.05)), x)  # a network that is told nothing


# ---------------------------------------------------------------- the discriminator
def convolutions(network: Discriminator) -> list[nn.Conv3d]:
    return [layer for layer in network.features if isinstance(layer, nn.Conv3d)]


def test_the_discriminator_is_the_papers() -> None:
    with torch.device("meta"):
        network = Discriminator(DiscriminatorConfig(head="flatten", output="sigmoid", patch=(48, 48, 48)))
    layers = convolutions(network)
    assert [layer.out_channels for layer in layers] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.stride[0] for layer in layers] == [1, 2] * 4
    assert all(layer.kernel_size == (3, 3, 3) for layer in layers)
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in network.features) == 7  # from the second on
    assert {layer.negative_slope for layer in network.features if isinstance(layer, nn.LeakyReLU)} == {0.3}
    assert [(layer.in_features, layer.out_features) for layer in network.dense if isinstance(layer, nn.Linear)] == [
        (512 * 3**3, 1024),
        (1024, 1),
    ]
    convs = 1_792 + 110_656 + 221_312 + 442_496 + 884_992 + 1_769_728 + 3_539_456 + 7_078_400
    norms = 2 * (64 + 2 * 128 + 2 * 256 + 2 * 512)
    assert parameters(network) == convs + norms + 512 * 27 * 1024 + 1024 + 1025


def test_a_pooled_head_takes_any_patch() -> None:
    network = Discriminator(DiscriminatorConfig(features=2, dense=4)).eval()
    with torch.no_grad():
        for shape in ((16, 16, 16), (5, 9, 33), (1, 2, 3)):
            assert network(torch.randn(2, 1, *shape)).shape == (2, 1)
    assert network.dense[0].in_features == 16


@pytest.mark.parametrize("patch", [(16, 16, 16), (5, 9, 17)])
def test_a_flatten_head_takes_its_own_patch_only(patch: tuple[int, int, int]) -> None:
    network = Discriminator(DiscriminatorConfig(head="flatten", features=2, dense=4, patch=patch)).eval()
    assert network.dense[0].in_features == 16 * math.prod(-(-n // 16) for n in patch)
    with torch.no_grad():
        assert network(torch.randn(2, 1, *patch)).shape == (2, 1)
    with pytest.raises(ValueError, match=r"flatten head takes patches of \(\d+, \d+, \d+\), not \(16, 16, 24\)"):
        network(torch.randn(2, 1, 16, 16, 24))


def gradient_at_the_fake(output: str, logit: float) -> float:
    """RMS of d l_adversarial / d image, the discriminator answering about `logit` before its output."""
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(output=output, features=2, dense=4, norm="none"))  # type: ignore[arg-type]
    nn.init.constant_(network.dense[-1].bias, logit)
    fake = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    adversarial_loss(network(fake)).backward()
    assert fake.grad is not None
    return float(fake.grad.square().mean().sqrt())


def test_a_sigmoid_output_lets_the_gradient_vanish() -> None:
    """A discriminator sure of itself (logit -12): d/dl (s(l) - 1)^2 = -2 s (1 - s)^2 = -1.2e-5, of (l - 1)^2 it is -26."""
    ratio = gradient_at_the_fake("sigmoid", -12) / gradient_at_the_fake("linear", -12)
    s = 1 / (1 + math.exp(12))
    assert ratio == pytest.approx(2 * s * (1 - s) ** 2 / 26, rel=0.3)
    assert ratio < 1e-6
    undecided = gradient_at_the_fake("sigmoid", 0) / gradient_at_the_fake("linear", 0)
    assert undecided == pytest.approx(0.25 / 2, rel=0.3)  # 2 (1/2) (1/4) against 2: while it is unsure, both teach
    assert 0 <= Discriminator(DiscriminatorConfig(output="sigmoid", features=2, dense=4)).eval()(torch.randn(1, 1, 8, 8, 8)).item() <= 1


def test_cells_undo_the_shuffle_and_run_as_the_same_network() -> None:
    """The voxels of a cell as channels: nothing is lost, and `on_cells` is the network that takes them."""

    x = torch.randn(2, 3, 4, 8, 6)
    assert cells(x, (2, 4, 3)).shape == (2, 3 * 24, 2, 2, 2) and torch.equal(shuffle(cells(x, (2, 4, 3)), (2, 4, 3)), x)
    config = GeneratorConfig((2, 1, 1), features=4, blocks=1, upsampling="subpixel", input_channels=3, coarse=(1, 4, 2))
    network = Generator(config).eval()
    assert config.stages == ((2, 2, 2), (1, 2, 1)) and config.channels == 24
    with torch.no_grad():
        assert network(x).shape == (2, 1, 8, 8, 6)
        assert torch.allclose(network.on_cells()(cells(x, (1, 4, 2))), network(x), atol=1e-6)
    with pytest.raises(JobError, match="coarse"):
        GeneratorConfig(coarse=(2, 2, 2), interpolation_residual=True)
