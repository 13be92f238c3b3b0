"""Where a one-axis model's factor goes: along the thick axis, or where it was asked for; the values are those of the turned array."""

from __future__ import annotations

import numpy as np
import pytest

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import preset
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.job_values import place_factors
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Generator
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.volume import Volume

SLICES = (1, 1, 3)  # over I, J, K


def placed(model: tuple[int, ...], spacing: tuple[float, ...], asked: tuple[int, ...] | None = None) -> tuple[int, ...]:
    return tuple(model[a] for a in place_factors(model, spacing, asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((0.9, 0.9, 3.0), (1, 1, 3)),
        ((3.0, 0.9, 0.9), (3, 1, 1)),  # sagittal slices
        ((0.9, 3.0, 0.9), (1, 3, 1)),
        ((1.0, 1.0, 1.0), (1, 1, 3)),  # isotropic: as the model is
        ((2.5, 0.43, 1.72), (1, 1, 3)),  # its own axis is thick as well
        ((1.2, 1.0, 1.0), (1, 1, 3)),
    ],
)
def test_the_thick_axis_is_found(spacing: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert placed(SLICES, spacing) == expected


def test_what_is_asked_is_done_or_refused() -> None:
    assert placed(SLICES, (1.0, 1.0, 3.0), (3, 1, 1)) == (3, 1, 1)
    assert placed((2, 2, 2), (1.0, 1.0, 3.0)) == (2, 2, 2)
    with pytest.raises(JobError, match=r"factors \(2, 2, 2\): the model has \(1, 1, 3\)"):
        placed(SLICES, (1.0, 1.0, 1.0), (2, 2, 2))


def test_a_turned_scan_gives_the_turned_result() -> None:
    import torch

    torch.manual_seed(0)
    config = preset("fast", (3, 1, 1))
    network = Generator(config)
    with torch.no_grad():
        network.output.weight.normal_(0, 0.1)
    resolver = SuperResolver(Checkpoint(CheckpointHeader("m", config), network.state_dict()), "cpu", "fp32")
    array = np.random.default_rng(0).uniform(50, 100, (7, 20, 22)).astype(np.float32)
    scan = Volume(array, Geometry(array.shape, np.diag([0.9, 0.9, 3.0, 1.0])))  # type: ignore[arg-type]
    wanted = resolver(scan, "gaussian")
    turned = resolver(scan.permute((2, 1, 0)), "gaussian")  # slices along I
    assert turned.info["factors_kji"] == [1, 1, 3]
    assert turned.volume.array.shape == (22, 20, 21)
    assert np.abs(turned.volume.array - wanted.volume.array.transpose(2, 1, 0)).max() < 1e-3
    assert turned.volume.geometry.spacing_ijk_mm == pytest.approx((1.0, 0.9, 0.9))
    assert resolver(scan, "gaussian", factors_ijk=(1, 3, 1)).volume.array.shape == (7, 60, 22)
    again = resolver(scan, "gaussian")  # back to the first way
    assert np.array_equal(again.volume.array, wanted.volume.array)
