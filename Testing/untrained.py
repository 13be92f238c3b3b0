"""Checkpoints with random weights."""

from __future__ import annotations

from pathlib import Path


def save_untrained(path: Path, **options: object) -> Path:
    """A checkpoint whose numbers are random, small enough for tests; `options` go to its `GeneratorConfig`."""
    import torch

    from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
    from SRGAN3DLib.contract.configs import GeneratorConfig
    from SRGAN3DLib.networks.checkpoint import Checkpoint
    from SRGAN3DLib.networks.generator import Generator

    torch.manual_seed(1)
    base: dict = {"features": 4, "blocks": 1, "norm": "none", "upsampling": "subpixel", "blur_aware": True, "interpolation_residual": True}
    config = GeneratorConfig(**(base | options))
    network = Generator(config)
    torch.nn.init.normal_(network.output.weight, std=0.02)
    header = CheckpointHeader(path.stem, config, contrasts=("T1w",), spacing_range_mm=(0.5, 5.0))
    Checkpoint(header, network.state_dict()).save(path)
    return path
