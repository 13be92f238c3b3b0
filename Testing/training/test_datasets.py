"""Volumes to patches: exact, reproducible, on the true axes only."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from grids import FINE, OBLIQUE

from SRGAN3DLib.contract.configs import UNKNOWN_MTF, UNKNOWN_NOISE, DegradationConfig, GeneratorConfig, NoiseConfig, TrainConfig
from SRGAN3DLib.contract.errors import ResourceError, VolumeError
from SRGAN3DLib.physics.degradations import AxisBlur, Degradation
from SRGAN3DLib.training import datasets
from SRGAN3DLib.training.datasets import TrainingSet, coarsen, degrade_patch, other_contrast
from SRGAN3DLib.volumes.scans import find_scans
from SRGAN3DLib.volumes.volume import Volume


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


@pytest.mark.parametrize("blur", [AxisBlur("box", 1.3), AxisBlur("gaussian"), AxisBlur("kspace")])
def test_patches_at_every_border(small_head: np.ndarray, blur: AxisBlur) -> None:
    """Mirrored borders and odd ends: the patch in each corner of the volume is the whole volume's."""
    array = small_head[:39, :47, :43]
    whole = Degradation((2, 3, 2), (blur, blur, blur)).forward(array)
    for corner in np.ndindex(2, 2, 2):
        start = [c * (n - 6) for c, n in zip(corner, whole.shape, strict=True)]
        patch = degrade_patch(array, [blur] * 3, [2, 3, 2], start, 6)
        cut = whole[tuple(slice(at, at + 6) for at in start)]
        assert patch.shape == (6, 6, 6) and np.abs(patch - cut).max() < 1e-5 * np.ptp(array)


def test_a_table_without_its_columns(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "volumes.csv").write_text("name,size\na,1\n")
    with pytest.raises(VolumeError, match=r"volumes\.csv: has no column 'file'"):
        find_scans(config.data)
    (tmp_path / "volumes.csv").write_bytes(b"file,\xff\xfe\n")
    with pytest.raises(VolumeError, match=r"volumes\.csv: cannot be read"):
        find_scans(config.data)


def test_without_a_table_the_spacing_tells_the_true_axes(config: TrainConfig, tmp_path: Path) -> None:
    """Both scans lie on 2.3 x 1.1 x 0.9 mm (K, J, I): K is thick."""
    (tmp_path / "volumes.csv").unlink()
    with pytest.raises(VolumeError, match=r"iso_T1w\.nii\.gz: ground truth along J, I only \(spacing 2\.3 x 1\.1 x 0\.9 mm"):
        TrainingSet(config)
    flat = TrainingSet(dataclasses.replace(config, generator=GeneratorConfig((2, 1, 2))))
    assert [v.scan.subject for v in flat.volumes] == ["iso", "thick"]
    assert all(v.orders == ((1, 0, 2), (2, 0, 1)) for v in flat.volumes)  # K lies where nothing is enlarged


def test_the_split_is_by_subject_and_a_resumed_run_keeps_it(config: TrainConfig, tmp_path: Path, small_head: np.ndarray) -> None:
    data = Path(config.data)
    for name in ("carl_T1w.nii.gz", "carl_T2w.nii.gz", "dora_T1w.nii.gz"):
        Volume.from_array(small_head, FINE).write(data / name)
    (data / "bad.nii.gz").write_bytes(b"no scan")
    config = dataclasses.replace(config, validation_share=0.3, validation_box=24, seed=3)
    (tmp_path / "run").mkdir()
    first = TrainingSet(config)
    first.write_split()
    trained, judging = {v.scan.subject for v in first.volumes}, {case.name.split("_")[0] for case in first.cases}
    assert len(trained) == 2 and len(judging) == 1 and not trained & judging and len(first.cases) % 3 == 0
    assert [path.name for path, _ in first.skipped] == ["bad.nii.gz", "thick_T2w.nii.gz"]

    Volume.from_array(small_head, FINE).write(data / "ella_T1w.nii.gz")
    again = TrainingSet(config)
    assert [v.scan.path for v in again.volumes] == [v.scan.path for v in first.volumes]
    assert any(f"ella_T1w.nii.gz: new since the run began, not used ({tmp_path}" in why for _, why in again.skipped)
    assert all(np.array_equal(a, b) for a, b in zip(first.batch(4), again.batch(4), strict=True))

    used = first.volumes[0].scan.path
    kept = used.read_bytes()
    used.write_bytes(kept[:-40] + bytes(40))  # damaged, of the same size
    with pytest.raises(VolumeError, match=rf"{used.name}: .*but this run has used it"):
        TrainingSet(config)
    used.unlink()
    with pytest.raises(VolumeError, match=rf"{used.name}.* is gone since the run began"):
        TrainingSet(config)


def test_who_judges_is_not_trained_on(config: TrainConfig, tmp_path: Path, small_head: np.ndarray) -> None:
    Volume.from_array(small_head, FINE).write(Path(config.data) / "carl_T1w.nii.gz")
    (tmp_path / "judges").mkdir()
    Volume.from_array(small_head, FINE).write(tmp_path / "judges" / "carl_T2w.nii.gz")
    (tmp_path / "judges" / "empty.nii.gz").write_bytes(b"")
    data = TrainingSet(dataclasses.replace(config, validation=str(tmp_path / "judges"), validation_box=24))
    assert {v.scan.subject for v in data.volumes} == {"anna"} and {case.name for case in data.cases} == {"carl_T2w.nii.gz"}
    reasons = {path.name: why for path, why in data.skipped}
    assert set(reasons) == {"carl_T1w.nii.gz", "thick_T2w.nii.gz", "empty.nii.gz"}
    assert "subject 'carl' is in the validation set" in reasons["carl_T1w.nii.gz"] and "0 bytes" in reasons["empty.nii.gz"]
    (tmp_path / "judges" / "carl_T2w.nii.gz").unlink()
    with pytest.raises(VolumeError, match=r"judges: no scan fit for validation .*empty\.nii\.gz: empty file"):
        TrainingSet(dataclasses.replace(config, validation=str(tmp_path / "judges")))


def test_a_slice_model_is_judged_along_a_true_axis(config: TrainConfig, tmp_path: Path, small_head: np.ndarray) -> None:
    """The box is laid with J, which is true, where the network enlarges; it has the very voxels of the scan."""
    (tmp_path / "judges").mkdir()
    Volume.from_array(small_head, OBLIQUE).write(tmp_path / "judges" / "thick.nii.gz")
    generator = GeneratorConfig((4, 1, 1))
    data = TrainingSet(dataclasses.replace(config, generator=generator, validation=str(tmp_path / "judges"), validation_box=48, patch=6))
    assert [case.lr.shape for case in data.cases] == [(12, 40, 44)] * 3
    assert np.array_equal(data.cases[0].hr, small_head.transpose(1, 0, 2))


def test_too_little_memory_is_told_before_loading(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """84 480 voxels: held once, four more while read; 4 bytes each."""
    need = 84_480 * 4 * 5
    monkeypatch.setattr(datasets, "available_bytes", lambda: need)
    TrainingSet(config)
    monkeypatch.setattr(datasets, "available_bytes", lambda: need - 1)
    monkeypatch.setattr(Volume, "read", lambda path: pytest.fail("read before the check"))
    with pytest.raises(ResourceError, match=r"data: its 1 scans fit for training take 2M of memory, 2M are free"):
        TrainingSet(config)


def test_what_is_skipped_says_why(config: TrainConfig, small_head: np.ndarray) -> None:
    data = Path(config.data)
    (data / "broken.nii.gz").write_bytes(b"no scan")
    Volume.from_array(small_head[:12], FINE).write(data / "small.nii.gz")
    reasons = {path.name: why for path, why in TrainingSet(config).skipped}
    assert set(reasons) == {"broken.nii.gz", "small.nii.gz", "thick_T2w.nii.gz"}
    assert "holds no patch of 8 LR voxels" in reasons["small.nii.gz"] and "broken.nii.gz" in reasons["broken.nii.gz"]
    with pytest.raises(VolumeError, match=r"no scan fit for training with factors \(4, 4, 4\) \(.*iso_T1w"):
        TrainingSet(dataclasses.replace(config, patch=12, generator=GeneratorConfig((4, 4, 4))))


def test_fine_scans_are_seen_coarser_too(tmp_path: Path, small_head: np.ndarray) -> None:
    """0.9 mm is seen at 0.9, 1.08 and 1.305 mm: band-limited, fewer voxels, the same head."""
    (tmp_path / "data").mkdir()
    Volume.from_array(small_head, np.diag([0.9, 0.9, 0.9, 1])).write(tmp_path / "data" / "a.nii.gz")
    config = TrainConfig(str(tmp_path / "data"), "run", patch=8, batch=2, gan_steps=0)
    volumes = TrainingSet(config).volumes
    assert [v.array.shape for v in volumes] == [(40, 48, 44), (33, 40, 37), (28, 33, 30)]
    assert [round(v.spacing_mm[0], 3) for v in volumes] == [0.9, 1.08, 1.305]
    assert all(abs(v.array.mean() - volumes[0].array.mean()) < 0.01 for v in volumes)
    wave = np.cos(2 * np.pi * 3 * (np.arange(60) / 60))[:, None, None] * np.ones((1, 6, 6))
    assert np.abs(coarsen(wave, 1.2)[:, 0, 0] - np.cos(2 * np.pi * 3 * np.arange(50) / 50)).max() < 1e-6


def test_volumes_csv_names_the_true_axes(config: TrainConfig) -> None:
    scans = find_scans(config.data)
    assert [(s.path.name, s.subject, s.contrast, s.licence, s.truth_kji) for s in scans] == [
        ("iso_T1w.nii.gz", "anna", "T1w", "CC0", (0, 1, 2)),
        ("thick_T2w.nii.gz", "bert", "T2w", "MIT", (1,)),
    ]
    data = TrainingSet(config)
    assert {v.scan.subject for v in data.volumes} == {"anna"} and "ground truth along J only (its table)" in data.skipped[0][1]
    thin = TrainingSet(dataclasses.replace(config, generator=GeneratorConfig((1, 1, 2))))  # one true axis is enough here
    assert {v.scan.subject for v in thin.volumes} == {"anna", "bert"}
    assert all(way[2] == 1 for v in thin.volumes if v.scan.subject == "bert" for way in v.orders)


def test_batches_are_a_function_of_seed_and_step(config: TrainConfig) -> None:
    one, two = TrainingSet(config), TrainingSet(config)
    lr, hr, mtf, noise = one.batch(5)
    assert lr.shape == (3, 1, 8, 8, 8) and hr.shape == (3, 1, 16, 16, 16) and mtf.shape == (3, 3)
    assert noise.shape == (3,) and all(part.dtype == np.float32 for part in (lr, hr, mtf, noise))
    assert all(np.array_equal(a, b) for a, b in zip((lr, hr, mtf, noise), two.batch(5), strict=True))
    assert not np.array_equal(lr, one.batch(6)[0])
    assert not np.array_equal(lr, TrainingSet(dataclasses.replace(config, seed=1)).batch(5)[0])
    threaded = list(one.batches(4, 7))
    assert len(threaded) == 3 and np.array_equal(threaded[1][0], lr)


def test_lr_is_the_degraded_hr(config: TrainConfig) -> None:
    """With box blur every LR voxel is the mean of its HR cell, whatever flip, order or gain was drawn."""
    data = TrainingSet(dataclasses.replace(config, degradation=DegradationConfig("box"), unknown_blur=0.0, mtf_error=0.0))
    for step in range(4):
        lr, hr, mtf, _ = data.batch(step)
        cells = hr.reshape(3, 1, 8, 2, 8, 2, 8, 2).mean(axis=(3, 5, 7))
        assert np.abs(cells - lr).max() < 1e-5 and np.allclose(mtf, 2 / np.pi, atol=1e-6)


def test_lr_is_the_degraded_hr_along_each_axis(config: TrainConfig) -> None:
    """Unequal factors find the network's axes whatever way the array's were laid."""
    generator = GeneratorConfig((1, 2, 3))
    data = TrainingSet(dataclasses.replace(config, generator=generator, degradation=DegradationConfig("box"), patch=6))
    for step in range(4):
        lr, hr, *_ = data.batch(step)
        assert hr.shape == (3, 1, 6, 12, 18)
        assert np.abs(hr.reshape(3, 1, 6, 6, 2, 6, 3).mean(axis=(4, 6)) - lr).max() < 1e-5


def test_what_the_network_is_told(config: TrainConfig) -> None:
    gaussian = dataclasses.replace(config, degradation=DegradationConfig("gaussian"), batch=8)
    unknown = TrainingSet(dataclasses.replace(gaussian, unknown_blur=1.0)).batch(0)[2]
    assert (unknown == UNKNOWN_MTF).all()
    exact = TrainingSet(dataclasses.replace(gaussian, unknown_blur=0.0, mtf_error=0.0)).batch(0)[2]
    assert np.allclose(exact, 0.4107, atol=1e-3)
    data = TrainingSet(dataclasses.replace(gaussian, unknown_blur=0.3, mtf_error=0.2))
    told = np.concatenate([data.batch(step)[2] for step in range(25)])
    known = told[told[:, 0] != UNKNOWN_MTF]
    assert 0.6 < len(known) / len(told) < 0.8  # whole triples are unknown, never one axis
    assert (told[told[:, 0] == UNKNOWN_MTF] == UNKNOWN_MTF).all() and known.min() >= 0 and known.max() <= 1
    assert abs(known.mean() - 0.41) < 0.05 and 0.05 < known.std() < 0.2


def test_what_the_network_is_told_of_the_noise(config: TrainConfig) -> None:
    """The level of each noisy patch, as far off as an estimate is; a clean patch is told a level near 0, and some are told nothing."""
    noise = NoiseConfig(share=0.5, most=0.1, unknown=0.2, error=0.1, floor=0.004)
    unaware = dataclasses.replace(config, noise=noise, batch=8, gain_spread=0.0)
    assert (TrainingSet(unaware).batch(0).noise == np.float32(UNKNOWN_NOISE)).all()
    data = TrainingSet(dataclasses.replace(unaware, generator=GeneratorConfig(noise_aware=True)))
    told = np.concatenate([data.batch(step).noise for step in range(40)])
    known = told[told != np.float32(UNKNOWN_NOISE)]
    assert 0.7 < len(known) / len(told) < 0.9 and known.min() >= 0
    assert 0.4 < np.mean(known < 0.012) < 0.7 and 0.08 < known.max() < 0.14
    exact = TrainingSet(dataclasses.replace(data.config, noise=NoiseConfig(1.0, 0.1, unknown=0.0, error=0.0, floor=0.0)))
    for step in range(3):
        lr, _, _, told = exact.batch(step)
        again = exact.batch(step)
        assert np.array_equal(lr, again.lr) and (told > 0).all() and told.max() <= 0.1


def test_the_noise_added_is_the_noise_told(tmp_path: Path) -> None:
    """On a flat bright block the noise's standard deviation can be read off."""
    block = np.full((40, 40, 40), 100, np.float32) + np.linspace(0, 0.5, 40, dtype=np.float32)  # a scan, no label map
    block[0] = 0
    Volume.from_array(block, FINE).write(tmp_path / "block_T1w.nii.gz")
    noise = NoiseConfig(1.0, 0.1, unknown=0.0, error=0.0, floor=0.0)
    box = {"degradation": DegradationConfig("random"), "gain_spread": 0.0}
    config = TrainConfig(str(tmp_path), "run", generator=GeneratorConfig(noise_aware=True), patch=16, batch=6, noise=noise, **box)
    batch = TrainingSet(config).batch(0)
    for lr, told in zip(batch.lr[:, 0], batch.noise, strict=True):
        spread = np.median(np.abs(np.diff(lr, axis=2))) / 0.6745 / np.sqrt(2)  # of neighbours, as good as the same tissue
        assert spread == pytest.approx(told, rel=0.15, abs=0.002)


def test_another_contrast_changes_truth_and_scan_alike(config: TrainConfig) -> None:
    plain = dataclasses.replace(config, degradation=DegradationConfig("box"), other_contrast=0.0)
    changed = TrainingSet(dataclasses.replace(plain, other_contrast=1.0))
    for step in range(4):
        lr, hr, *_ = changed.batch(step)
        assert np.abs(hr.reshape(3, 1, 8, 2, 8, 2, 8, 2).mean(axis=(3, 5, 7)) - lr).max() < 1e-5
    assert not np.allclose(changed.batch(0).hr, TrainingSet(plain).batch(0).hr)
    for seed in range(20):
        curve = other_contrast(np.random.default_rng(seed))
        low, mid, high = curve(np.array([0.0, 0.5, 1.0], np.float32))
        assert low == 0 and mid >= 0 and (abs(high - 1) < 1e-6 or abs(high - 0.1) < 1e-6)  # brighter stays brighter, or turns dark


def test_wide_spacings_are_seen(tmp_path: Path, small_head: np.ndarray) -> None:
    """Each scan as often as its spacing allows; an axis that was interpolated is the truth again at twice its spacing."""
    (tmp_path / "data").mkdir()
    for name in ("whole_T1w", "smooth_T1w"):
        Volume.from_array(small_head, np.eye(4)).write(tmp_path / "data" / f"{name}.nii.gz")
    head = "file,subject,contrast,licence,truth_axes\n"
    rows = 'data/whole_T1w.nii.gz,anna,T1w,CC0,"0,1,2"\ndata/smooth_T1w.nii.gz,bert,T1w,CC0,"0,1"\n'
    (tmp_path / "volumes.csv").write_text(head + rows)
    config = TrainConfig(str(tmp_path / "data"), "run", patch=8, coarser=(1.0, 1.5, 2.0), coarsest_mm=2.1)
    found = {(v.scan.subject, round(v.spacing_mm[0], 2)) for v in TrainingSet(config).volumes}
    assert found == {("anna", 1.0), ("anna", 1.5), ("anna", 2.0), ("bert", 2.0)}


def test_leaving_early_ends_the_thread(config: TrainConfig) -> None:
    batches = TrainingSet(config).batches(0, 10_000)
    next(batches)
    batches.close()
    deadline = time.monotonic() + 20
    while any(thread.name == "batches" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(thread.name == "batches" for thread in threading.enumerate())
    assert list(TrainingSet(config).batches(7, 7)) == []


def test_an_error_in_the_thread_is_raised_here(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrainingSet(config)

    def fail(step: int, share: slice) -> None:
        raise VolumeError(f"step {step} failed")

    monkeypatch.setattr(data, "batch", fail)
    with pytest.raises(VolumeError, match="step 3 failed"):
        list(data.batches(3, 9))
