"""Scores of synthesis: they agree with the referee, and by hand."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from SRGAN3DLib.evaluation.synthesis import best_mapping, body_mask, dice, scored_mask, synthesis_scores


def images(head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.where(head > 300, 40.0, np.where(head > 40, 900.0, -1000.0)) + rng.normal(0, 5, head.shape)
    target[:6] = -1024
    return target, target + rng.normal(0, 60, head.shape)


@pytest.mark.shared
@pytest.mark.parametrize("hu", [True, False])
def test_agrees_with_the_referee(small_head: np.ndarray, referee: ModuleType, hu: bool) -> None:
    target, result = images(small_head)
    source = small_head.astype(np.float64)
    wanted = referee.synthesis(target, result, source, hu, None)
    row = synthesis_scores(target, result, {"T1w": source}, scored_mask(body_mask(source), target, hu), hu)
    for name in ("mae", "psnr", "mae_best_constant", "mae_best_mapping", "mae_against_mapping"):
        assert row[name] == pytest.approx(wanted[name], rel=1e-6), name
    assert row["ssim"] == pytest.approx(wanted["ssim"], abs=1e-3) and row["voxels"] == wanted["voxels"]
    if hu:
        assert row["bone_dice"] == pytest.approx(wanted["bone_dice"])
        assert row["mae_of"] == pytest.approx(wanted["mae_of"])


def test_a_perfect_result(small_head: np.ndarray) -> None:
    target, _ = images(small_head)
    row = synthesis_scores(target, target, {"T1w": small_head}, body_mask(small_head), True)
    assert row["mae"] == 0 and row["psnr"] == float("inf") and row["bone_dice"] == 1
    assert row["ssim"] == pytest.approx(1) and row["ms_ssim"] == pytest.approx(1)


def test_the_best_mapping_is_that_of_the_better_input(small_head: np.ndarray) -> None:
    """A target that is a function of one input is mapped exactly; noise as the other input does not help."""
    source = np.arange(2560.0)
    assert np.abs(best_mapping(source, 3 * source) - 3 * source).mean() < 3 * 10
    target = small_head * 2.0
    noise = np.random.default_rng(0).normal(size=target.shape)
    row = synthesis_scores(target, target + 1, {"noise": noise, "same": small_head}, body_mask(small_head), False)
    assert row["mae_best_mapping"] == row["mae_mapping_of"]["same"] < row["mae_mapping_of"]["noise"]


def test_dice_by_hand() -> None:
    assert dice(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool)) == pytest.approx(0.5)
