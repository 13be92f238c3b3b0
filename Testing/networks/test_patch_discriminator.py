"""The discriminator of neighbourhoods: its outputs, how far each sees, and what it is shown beside the image."""

from __future__ import annotations

import pytest
import torch

from SRGAN3DLib.contract.configs import DiscriminatorConfig, GeneratorConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.networks.discriminator import Discriminator
from SRGAN3DLib.networks.generator import Conditions, with_conditions
from SRGAN3DLib.networks.patch_discriminator import PatchDiscriminator, make_discriminator, seen_beside

TOLD = GeneratorConfig((2, 2, 3), blur_aware=True, noise_aware=True)


def test_one_verdict_for_each_neighbourhood() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorConfig("patch", norm="none", features=4)).eval()
    x = torch.randn(1, 1, 48, 44, 40)
    y = network(x)
    assert y.shape == (1, 1, 12, 11, 10)
    changed = x.clone()
    changed[..., 20, 20, 20] += 5
    felt = ((network(changed) - y).abs() > 1e-7).nonzero()[:, 2:] * 4  # output n sees the voxels about 4 n
    assert len(felt) and (felt - 20).abs().max() <= 12  # 21 voxels wide


def test_it_sees_the_scan_and_what_the_generator_is_told() -> None:
    config = DiscriminatorConfig("patch", norm="none", features=4, conditional=True)
    network = make_discriminator(config, TOLD)
    assert isinstance(network, PatchDiscriminator)
    scan = torch.rand(2, 1, 8, 8, 8)
    beside = seen_beside(with_conditions(scan, TOLD, Conditions((0.4, 0.6, 1.0), 0.05)), TOLD)
    assert beside.shape == (2, 5, 16, 16, 24) and torch.allclose(beside[:, 4], torch.tensor(0.5))
    image = torch.rand(2, 1, 16, 16, 24)
    one, other = network(torch.cat([image, beside], 1)), network(torch.cat([image, beside.flip(0)], 1))
    assert one.shape == (2, 1, 4, 4, 6) and not torch.allclose(one, other)


def test_which_discriminator() -> None:
    assert isinstance(make_discriminator(DiscriminatorConfig(), TOLD), Discriminator)
    blind = make_discriminator(DiscriminatorConfig("patch"), TOLD)
    assert isinstance(blind, PatchDiscriminator) and blind.layers[0].in_channels == 2
    with pytest.raises(JobError, match="only a patch head can be conditional"):
        DiscriminatorConfig("pooled", conditional=True)
