"""Training from pairs on real files: what is made from what, weights, both stages, resume, and what is left out and why."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import FINE
from PIL import Image

from SRGAN3DLib.contract.configs import DiscriminatorConfig, GeneratorConfig, TrainConfig, read_train_config
from SRGAN3DLib.contract.errors import Cancelled, JobError, VolumeError
from SRGAN3DLib.contract.synthesis import InputImage, OutputImage, SynthesisConfig, ct_output
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.training.laid_pair import lay_pair
from SRGAN3DLib.training.losses import weighted_content_loss, weighted_gradient_difference_loss
from SRGAN3DLib.training.pair_checks import check_pair
from SRGAN3DLib.training.paired_dataset import PairedSet, changed
from SRGAN3DLib.training.synthesis_trainer import SynthesisTrainer
from SRGAN3DLib.volumes.pairs import find_pairs
from SRGAN3DLib.volumes.volume import Volume


def hu_of(head: np.ndarray) -> np.ndarray:
    """A made-up CT of the made-up head: air, soft tissue, and bone where the MR is dark inside."""
    ct = np.full(head.shape, -1000.0)
    ct[head > 40] = 1200
    ct[head > 100] = 0
    ct[head > 200] = 40 + head[head > 200] / 20
    return ct


@pytest.fixture
def pairs(tmp_path: Path, small_head: np.ndarray) -> Path:
    """Three subjects: T1w, T2w, target, one with a mask, of slightly different heads."""
    rng = np.random.default_rng(0)
    rows = []
    for name in ("a", "b", "c"):
        head = (small_head * rng.uniform(0.8, 1.2)).astype(np.float32)
        for contrast, array in (("T1w", head), ("T2w", 700 - head), ("CT", hu_of(small_head))):
            Volume.from_array(array, FINE).write(tmp_path / f"{name}_{contrast}.nii.gz")
        rows.append([name, f"{name}_T1w.nii.gz", f"{name}_T2w.nii.gz", f"{name}_CT.nii.gz", ""])
    mask = small_head > 50
    Volume.from_array(mask.astype(np.float32), FINE).write(tmp_path / "c_mask.nii.gz")
    rows[2][4] = "c_mask.nii.gz"
    return table(tmp_path / "pairs.csv", rows)


def table(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["subject", "T1w", "T2w", "target", "mask"], *rows])
    return path


SYNTHESIS = SynthesisConfig((InputImage("T1w", "T1w"), InputImage("T2w", "T2w")), ct_output(), patch_kji=(16, 16, 16))


def config(data: Path, out: Path, **changes: object) -> TrainConfig:
    generator = GeneratorConfig((1, 1, 1), features=4, blocks=1, norm="batch", upsampling="subpixel", input_channels=2, coarse=(2, 2, 2))
    judge = DiscriminatorConfig(features=4, dense=8)
    small = TrainConfig(
        str(data), str(out), generator=generator, discriminator=judge, synthesis=SYNTHESIS, steps=6, gan_steps=4, batch=2, content="l1",
        validate_every=5, validation_box=32, save_every=3, validation_share=0.34, device="cpu", precision="fp32",
        gradient_difference_weight=0.1,
    )  # fmt: skip
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def rows_of(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "waited")} for line in lines]


def test_both_stages_and_what_they_leave(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    info = SynthesisTrainer(config(pairs, run)).fit()
    assert info["steps"] == 10 and np.isfinite(info["best_gain_db"])
    header = Checkpoint.load(run / "model-sharp.safetensors").header
    assert header.task == "synthesis" and [image.name for image in header.inputs] == ["T1w", "T2w"]
    assert header.output == ct_output() and header.generator.coarse == (2, 2, 2)
    split = json.loads((run / "split.json").read_text())
    assert len(split["subjects"]["train"]) == 2 and len(split["subjects"]["validation"]) == 1
    assert {entry["subject"] for entry in header.training_data} == set(split["subjects"]["train"])
    assert read_train_config(run / "config.json").synthesis == SYNTHESIS
    assert "CT" in (run / "report.md").read_text()
    assert all("gradient_difference" in row for row in rows_of(run)) and "d_loss" in rows_of(run)[-1]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(pairs: Path, tmp_path: Path) -> None:
    SynthesisTrainer(config(pairs, tmp_path / "whole")).fit()
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(Cancelled):
        SynthesisTrainer(config(pairs, tmp_path / "part")).fit(cancelled)
    SynthesisTrainer(config(pairs, tmp_path / "part")).fit()
    assert rows_of(tmp_path / "part") == rows_of(tmp_path / "whole")
    one, other = (Checkpoint.load(tmp_path / name / "model-sharp.safetensors").tensors for name in ("part", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_conditional_discriminator_sees_the_inputs(pairs: Path, tmp_path: Path) -> None:
    conditional = dataclasses.replace(SYNTHESIS, conditional=True)
    trainer = SynthesisTrainer(config(pairs, tmp_path / "run", synthesis=conditional, steps=1, r1_weight=1.0, r1_every=1))
    assert trainer.discriminator is not None and trainer.discriminator.config.input_channels == 3
    trainer.fit()


def test_factors_above_one(pairs: Path, tmp_path: Path, small_head: np.ndarray) -> None:
    """A CT at twice the slices: its patches are twice as fine along K."""
    fine = FINE.copy()
    fine[:3, 2] /= 2
    fine[:3, 3] -= fine[:3, 2] / 2
    for name in ("a", "b", "c"):
        Volume.from_array(hu_of(small_head).repeat(2, axis=0), fine).write(tmp_path / f"{name}_CT.nii.gz")
    generator = GeneratorConfig((2, 1, 1), features=4, blocks=0, upsampling="subpixel", input_channels=2, coarse=(1, 2, 2))
    data = PairedSet(config(pairs, tmp_path / "run", generator=generator))
    inputs, target, weight = data.batch(0)
    assert inputs.shape == (2, 2, 16, 16, 16) and target.shape == weight.shape == (2, 1, 32, 16, 16)
    SynthesisTrainer(config(pairs, tmp_path / "run", generator=generator, steps=2, gan_steps=0)).fit()


def test_a_batch_is_a_function_of_its_number(pairs: Path, tmp_path: Path) -> None:
    one, other = (PairedSet(config(pairs, tmp_path / "run")) for _ in range(2))
    for part, again in zip(one.batch(7), other.batch(7), strict=True):
        assert np.array_equal(part, again)
    halves = [one.batch(7, slice(rank, None, 2))[0] for rank in range(2)]
    assert np.array_equal(np.concatenate(halves), one.batch(7)[0])


def test_augmentation_leaves_the_target_alone(pairs: Path, tmp_path: Path) -> None:
    """Every target patch is a piece of the target as it is, mirrored left to right at most; the inputs are changed."""
    plain = dataclasses.replace(SYNTHESIS, contrast_spread=0.0, bias=0.0, blurred=0.0, noise=0.0, flips="none")
    changed_set, still = PairedSet(config(pairs, tmp_path / "a")), PairedSet(config(pairs, tmp_path / "b", synthesis=plain))
    values = np.unique(np.concatenate([laid.target.ravel() for laid in changed_set.pairs]))
    target = changed_set.batch(0)[1]
    assert np.isin(target, values).all()
    rng = np.random.default_rng(1)
    patch = still.pairs[0].inputs[:, :16, :16, :16]
    places = [(0, n) for n in still.pairs[0].inputs.shape[1:]]
    assert np.array_equal(changed(patch, places, plain, rng), patch)
    assert not np.array_equal(changed(patch, places, SYNTHESIS, rng), patch)


def test_what_is_not_known_counts_nothing(pairs: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    """Outside the CT's field of view, inside the head: weight 0. Outside the mask: its own weight."""
    cut = hu_of(small_head)
    cut[:12] = -1024
    Volume.from_array(cut, FINE).write(tmp_path / "a_CT.nii.gz")
    laid = lay_pair(find_pairs(pairs)[0], SYNTHESIS)
    assert (laid.weight[:12][laid.mask[:12]] == 0).all() and (laid.weight[12:][laid.mask[12:]] == 1).all()
    assert np.allclose(laid.weight[~laid.mask], SYNTHESIS.outside_weight)
    assert 0.5 < laid.known_share < 1 and check_pair(laid).fault == ""


def test_a_misregistered_pair_is_listed_and_left_out(pairs: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    moved = FINE.copy()
    moved[:3, 3] += 6.0 * FINE[:3, 0] / np.linalg.norm(FINE[:3, 0])
    Volume.from_array(hu_of(small_head), moved).write(tmp_path / "b_CT.nii.gz")
    data = PairedSet(config(pairs, tmp_path / "run", validation_share=0.0))
    assert [laid.pair.subject for laid in data.pairs] == ["a", "c"]
    SynthesisTrainer(config(pairs, tmp_path / "run", validation_share=0.0))
    listed = (tmp_path / "run" / "pairs.md").read_text()
    assert listed.count("| used |") == 2 and "| left out: misregistered" in listed
    with Image.open(tmp_path / "run" / "pairs" / "b.png") as picture:
        assert picture.height == 240 and picture.mode == "RGB"
    (path, reason), = data.skipped  # fmt: skip
    assert path.name == "b_CT.nii.gz" and "misregistered: mutual information rises" in reason and "mm along I" in reason


def test_a_pair_of_two_heads_is_left_out(pairs: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 300, (40, 48, 44)).astype(np.float32)
    Volume.from_array(noise, FINE).write(tmp_path / "b_CT.nii.gz")
    data = PairedSet(config(pairs, tmp_path / "run", validation_share=0.0))
    assert len(data.pairs) == 2 and "share no information" in data.skipped[0][1]


@pytest.mark.parametrize(
    "change, words",
    [
        ("far", "mask and target have no voxel in common"),
        ("not HU", "are no Hounsfield units"),
        ("empty mask", "the mask is empty"),
        ("gone", "no such file (subject b)"),
    ],
)
def test_every_bad_pair_says_what_is_wrong(pairs: Path, small_head: np.ndarray, tmp_path: Path, change: str, words: str) -> None:
    if change == "far":
        away = FINE.copy()
        away[:3, 3] += 900
        Volume.from_array(hu_of(small_head), away).write(tmp_path / "b_CT.nii.gz")
    elif change == "not HU":
        Volume.from_array(small_head, FINE).write(tmp_path / "b_CT.nii.gz")
    elif change == "empty mask":
        Volume.from_array(np.zeros((40, 48, 44), np.float32), FINE).write(tmp_path / "empty.nii.gz")
        text = pairs.read_text().splitlines()
        pairs.write_text("\n".join(line + "empty.nii.gz" if line.startswith("b,") else line for line in text))
    else:
        (tmp_path / "b_CT.nii.gz").unlink()
    data = PairedSet(config(pairs, tmp_path / "run", validation_share=0.0))
    assert len(data.pairs) == 2 and words in data.skipped[0][1]


def test_unhappy_runs(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="the network takes 1 images, the pairs have 2"):
        SynthesisTrainer(config(pairs, tmp_path / "run", generator=GeneratorConfig((1, 1, 1), blocks=0)))
    with pytest.raises(VolumeError, match="no pair fit for train"):
        PairedSet(
            config(table(tmp_path / "bad.csv", [["a", "x.nii.gz", "y.nii.gz", "z.nii.gz", ""]]), tmp_path / "run", validation_share=0.0)
        )
    with pytest.raises(JobError, match="its normalisation must be affine"):
        OutputImage("CT", "HU")
    with pytest.raises(JobError, match="an input is named twice"):
        SynthesisConfig((InputImage("T1w"), InputImage("T1w")), ct_output())


def test_weighted_losses_by_hand() -> None:
    target, weight = torch.zeros(1, 1, 1, 1, 4), torch.tensor([1.0, 1, 2, 0]).reshape(1, 1, 1, 1, 4)
    made = torch.tensor([1.0, 0, 2, 9]).reshape(1, 1, 1, 1, 4)
    assert weighted_content_loss("l1", made, target, weight).item() == pytest.approx((1 + 0 + 4) / 4)
    assert weighted_content_loss("mse", made, target, weight).item() == pytest.approx((1 + 0 + 8) / 4)
    assert weighted_gradient_difference_loss(made, target, weight).item() == pytest.approx((1 * 1 + 4 * 1) / 2)


def test_tolerance_forgives_one_voxel() -> None:
    target = torch.zeros(1, 1, 5, 5, 5)
    target[..., 2, 2, 2] = 1
    made = target.roll(1, dims=-1).clone().requires_grad_()
    weight = torch.ones_like(target)
    assert weighted_content_loss("l1", made, target, weight).item() > 0
    loss = weighted_content_loss("l1", made, target, weight, tolerance=1)
    assert loss.item() == 0
    far = target.roll(2, dims=-1)
    assert weighted_content_loss("l1", far, target, weight, tolerance=1).item() > 0
