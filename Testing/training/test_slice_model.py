"""A model that enlarges one axis, trained on thick slices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.contract.configs import GeneratorConfig, TrainConfig
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume


def test_a_slice_model_learns_from_the_true_axes_of_thick_slices(tmp_path: Path, small_head: np.ndarray) -> None:
    """K is 2.3 mm: J and I, 1.1 and 0.9 mm, become slices four times as thick, and one of them is judged."""
    for name in ("a", "b"):
        Volume.from_array(small_head, OBLIQUE).write(tmp_path / f"{name}.nii.gz")
    generator = GeneratorConfig((4, 1, 1), features=4, blocks=1, norm="none", upsampling="subpixel", interpolation_residual=True)
    sizes = {"validation_box": 32, "steps": 1, "gan_steps": 0, "patch": 6, "validate_every": 1, "validation_share": 0.5}
    config = TrainConfig(str(tmp_path), str(tmp_path / "run"), generator=generator, batch=2, device="cpu", precision="fp32", **sizes)  # type: ignore[arg-type]
    Trainer(config).fit()
    header = Checkpoint.load(tmp_path / "run" / "model.safetensors").header
    assert header.spacing_range_mm == pytest.approx((0.9, 4.4)) and len(header.training_data) == 1
    assert "gain_box" in json.loads((tmp_path / "run" / "validation.jsonl").read_text())
