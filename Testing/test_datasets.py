"""Volumes to patches: exact, reproducible, on the true axes only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.configs import DegradationConfig, GeneratorConfig, TrainConfig
from SRGAN3DLib.datasets import TrainingSet, degrade_patch, find_scans, orders_allowed
from SRGAN3DLib.degradations import AxisBlur, Degradation
from SRGAN3DLib.errors import VolumeError
from SRGAN3DLib.volume import Volume


@pytest.fixture
def config(tmp_path: Path, small_head: np.ndarray) -> TrainConfig:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    Volume.from_array(small_head, OBLIQUE).write(data / "iso_T1w.nii.gz")
    Volume.from_array(small_head, OBLIQUE).write(data / "sub" / "thick_T2w.nii.gz")
    head = "file,subject,contrast,licence,truth_axes\n"
    (tmp_path / "volumes.csv").write_text(head + 'data/iso_T1w.nii.gz,anna,T1w,CC0,"0,1,2"\ndata/sub/thick_T2w.nii.gz,bert,T2w,MIT,1\n')
    return TrainConfig(str(data), str(tmp_path / "run"), generator=GeneratorConfig(blur_aware=True), patch=8, batch=3, gan_steps=0)


@pytest.mark.parametrize("blur", [AxisBlur("box"), AxisBlur("gaussian", 1.3), AxisBlur("kspace", 0.5)])
def test_a_patch_is_cut_from_the_whole_degradation(small_head: np.ndarray, blur: AxisBlur) -> None:
    factors, start = [2, 1, 3], [0, 20, 7]
    whole = Degradation((2, 1, 3), (blur, blur, blur)).forward(small_head)
    patch = degrade_patch(small_head, [blur] * 3, factors, start, 7)
    assert np.abs(patch - whole[0:7, 20:27, 7:14]).max() < 1e-4 * np.ptp(small_head)


def test_volumes_csv_names_the_true_axes(config: TrainConfig) -> None:
    scans = find_scans(config.data)
    assert [(s.path.name, s.subject, s.contrast, s.licence, s.truth_kji) for s in scans] == [
        ("iso_T1w.nii.gz", "anna", "T1w", "CC0", (0, 1, 2)),
        ("thick_T2w.nii.gz", "bert", "T2w", "MIT", (1,)),
    ]
    data = TrainingSet(config)
    assert {v.scan.subject for v in data.volumes} == {"anna"} and "ground truth on axes (1,)" in data.skipped[0][1]
    thin = TrainingSet(dataclasses.replace(config, generator=GeneratorConfig((1, 1, 2))))  # one true axis is enough here
    assert {v.scan.subject for v in thin.volumes} == {"anna", "bert"}
    assert all(way[2] == 1 for v in thin.volumes if v.scan.subject == "bert" for way in v.orders)


def test_orders_lay_true_axes_onto_enlarged_ones() -> None:
    assert len(orders_allowed((0, 1, 2), (2, 2, 2))) == 6
    assert orders_allowed((1,), (1, 1, 4)) == ((0, 2, 1), (2, 0, 1))
    assert orders_allowed((0, 1), (2, 2, 2)) == ()


def test_batches_are_a_function_of_seed_and_step(config: TrainConfig) -> None:
    one, two = TrainingSet(config), TrainingSet(config)
    lr, hr, mtf = one.batch(5)
    assert lr.shape == (3, 1, 8, 8, 8) and hr.shape == (3, 1, 16, 16, 16) and mtf.shape == (3, 3)
    assert all(np.array_equal(a, b) for a, b in zip((lr, hr, mtf), two.batch(5), strict=True))
    assert not np.array_equal(lr, one.batch(6)[0])
    assert not np.array_equal(lr, TrainingSet(dataclasses.replace(config, seed=1)).batch(5)[0])
    threaded = list(one.batches(4, 7))
    assert len(threaded) == 3 and np.array_equal(threaded[1][0], lr)


def test_lr_is_the_degraded_hr(config: TrainConfig) -> None:
    """With box blur every LR voxel is the mean of its HR cell, whatever flip, order or gain was drawn."""
    data = TrainingSet(dataclasses.replace(config, degradation=DegradationConfig("box"), unknown_blur=0.0, mtf_error=0.0))
    for step in range(4):
        lr, hr, mtf = data.batch(step)
        cells = hr.reshape(3, 1, 8, 2, 8, 2, 8, 2).mean(axis=(3, 5, 7))
        assert np.abs(cells - lr).max() < 1e-5 and np.allclose(mtf, 2 / np.pi, atol=1e-6)


def test_an_error_in_the_thread_is_raised_here(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrainingSet(config)

    def fail(step: int) -> None:
        raise VolumeError(f"step {step} failed")

    monkeypatch.setattr(data, "batch", fail)
    with pytest.raises(VolumeError, match="step 3 failed"):
        list(data.batches(3, 9))
