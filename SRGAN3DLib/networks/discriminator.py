"""The discriminator of [P1] (Sanchez & Vilaplana 2017), built from its configuration. Tensors are (N, C, K, J, I) float."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from SRGAN3DLib.contract.configs import DiscriminatorConfig

from .generator import conv, norm_layer


class Discriminator(nn.Module):
    """8 convs 3^3, 64 -> 512, stride 2 where the filters double, dense, LeakyReLU, dense -> (N, 1) [P1].

    `flatten` ties the dense layer to `config.patch`; `pooled` averages over the patch first and takes any size.
    """

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        inputs, side = config.input_channels, config.patch
        for index in range(8):
            outputs, stride = config.features * 2 ** (index // 2), 1 + index % 2
            layers.append(conv(inputs, outputs, stride))
            if index:
                layers.append(norm_layer(config.norm, outputs))
            layers.append(nn.LeakyReLU(config.slope))
            inputs = outputs
            side = tuple(-(-s // stride) for s in side)  # type: ignore[assignment]
        self.features = nn.Sequential(*layers)
        wide = inputs * math.prod(side) if config.head == "flatten" else inputs
        self.dense = nn.Sequential(nn.Linear(wide, config.dense), nn.LeakyReLU(config.slope), nn.Linear(config.dense, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.config.head == "flatten" and tuple(x.shape[2:]) != self.config.patch:
            raise ValueError(f"a flatten head takes patches of {self.config.patch}, not {tuple(x.shape[2:])}")
        y = self.features(x)
        y = y.flatten(1) if self.config.head == "flatten" else y.mean(dim=(2, 3, 4))
        y = self.dense(y)
        return torch.sigmoid(y) if self.config.output == "sigmoid" else y
