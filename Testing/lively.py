"""Generators whose every weight matters, for tests of what must equal them."""

from __future__ import annotations

import torch
from torch import nn

from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.networks.generator import Conditions, Generator, with_conditions

TOLD = Conditions((0.3, 0.6, 1.0), 0.05)


def lively(config: GeneratorConfig, seed: int = 0) -> Generator:
    """A generator whose every weight and statistic matters."""
    torch.manual_seed(seed)
    generator = Generator(config).eval()
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        generator.output.weight.normal_(0, 0.1)
        assert generator.output.bias is not None
        generator.output.bias.fill_(0.3)
    return generator


def plain(generator: Generator, image: torch.Tensor, told: Conditions = TOLD) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(generator(with_conditions(image, generator.config, told)))
