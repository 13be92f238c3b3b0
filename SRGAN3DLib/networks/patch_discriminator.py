"""A discriminator that judges every small neighbourhood of an image by itself, beside the scan that it was made from.

[P1]'s discriminator gives one verdict for a whole patch: what an average over the patch hides, such as too little fine detail, costs the
generator nothing. Here each output sees 21 voxels of the fine grid (Isola et al. 2017; Li and Wand 2016). Tensors are (N, C, K, J, I).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SRGAN3DLib.contract.configs import DiscriminatorConfig, GeneratorConfig

from .discriminator import Discriminator
from .generator import conv, norm_layer, trilinear

DETAIL = 10.0  # fine detail is faint beside the anatomy: unscaled, a network learns for long that it is not there
LAYERS = ((1, 1), (2, 2), (2, 1), (4, 2))  # width in `features`, stride


class PatchDiscriminator(nn.Module):
    """5 convolutions 3^3, two of stride 2 -> (N, 1, K / 4, J / 4, I / 4), linear.

    `beside`: channels of what it is shown beside the image (`seen_beside`), 0 for none.
    """

    def __init__(self, config: DiscriminatorConfig, beside: int = 0):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        inputs = 1 + max(1, beside)
        for index, (width, stride) in enumerate(LAYERS):
            layers.append(conv(inputs, width * config.features, stride))
            if index:
                layers.append(norm_layer(config.norm, width * config.features))
            layers.append(nn.LeakyReLU(config.slope))
            inputs = width * config.features
        self.layers = nn.Sequential(*layers, conv(inputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`x`: the image, then what is beside it, the scan first. The detail is what the image has beyond the scan, or beyond itself."""
        image, smooth = x[:, :1], x[:, 1:2] if x.shape[1] > 1 else F.avg_pool3d(x, 3, 1, 1, count_include_pad=False)
        y: Tensor = self.layers(torch.cat([DETAIL * (image - smooth), x[:, 1:] if x.shape[1] > 1 else image], dim=1))
        return torch.sigmoid(y) if self.config.output == "sigmoid" else y


def make_discriminator(config: DiscriminatorConfig, generator: GeneratorConfig) -> Discriminator | PatchDiscriminator:
    """The discriminator of `config` for what a generator of `generator` makes."""
    if config.head != "patch":
        return Discriminator(config)
    return PatchDiscriminator(config, generator.channels if config.conditional else 0)


def seen_beside(told: Tensor, generator: GeneratorConfig) -> Tensor:
    """What a conditional discriminator sees beside an image: the generator's input (N, channels, K, J, I), interpolated to its grid."""
    return trilinear(told, generator.factors)
