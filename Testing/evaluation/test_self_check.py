"""The self-check: right on a scan whose truth is known, cheap, and honest where it cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from grids import FINE, OBLIQUE

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.evaluation.self_check import SelfCheck, head_block, nearest_blur, noise_to_add, self_check
from SRGAN3DLib.inference.fitness import fitness
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.volumes.volume import Volume


def test_a_block_around_the_head() -> None:
    array = np.zeros((60, 130, 200), np.float32)
    array[10:50, 20:60, 120:180] = 500 + np.random.default_rng(0).normal(0, 20, (40, 40, 60))
    block = head_block(Volume.from_array(array, OBLIQUE), (2, 2, 2))
    assert block.array.shape == (60, 96, 96) and block.array[30, 40 - 0, 48] > 0
    centre = np.argwhere(block.array > 100).mean(axis=0)
    assert np.abs(centre[2] - 48) < 2
    with pytest.raises(VolumeError, match="60 voxels along K: a self-check by factor 4 needs 96"):
        head_block(Volume.from_array(array, OBLIQUE), (4, 4, 4))


def test_blur_and_noise_are_those_of_the_scan() -> None:
    assert [nearest_blur((m, m, m), (2, 2, 2)) for m in (0.3, 0.45, 0.6, 0.95)] == ["gaussian", "gaussian", "box", "kspace"]
    assert nearest_blur((0.4, 1.0, 1.0), (2, 1, 1)) == "gaussian" and nearest_blur(None, (2, 2, 2)) == "box"
    white = np.random.default_rng(0).normal(0, 3.0, (40, 40, 40))
    for kind in ("box", "gaussian", "kspace"):
        coarse = Degradation.named(kind, (2, 2, 2)).forward(white)
        added = noise_to_add(white.shape, (2, 2, 2), kind, 3.0)
        assert np.sqrt(coarse.std() ** 2 + added**2) == pytest.approx(3.0, rel=0.03)


def test_the_verdict_says_what_to_do() -> None:
    info = {"model": "m"}
    assert SelfCheck(2.11, 1.1, 0.01, info).verdict == "m helps on this scan: about +2.1 dB over the best interpolation"
    assert "no better than interpolation on this scan (+0.1 dB): not advised" in SelfCheck(0.1, 1.0, 0.01, info).verdict
    assert "worse than interpolation on this scan (-0.5 dB): not advised" in SelfCheck(-0.5, 1.0, 0.01, info).verdict


def test_shipped_model_on_a_made_up_head(small_head: np.ndarray) -> None:
    """The check says a gain, always the same, and leaves the scan as it is."""
    volume = Volume.from_array(np.tile(small_head, (2, 2, 2)), np.diag([2.0, 2.0, 2.0, 1.0]))
    resolver, before = SuperResolver.load("t1-x2", "cpu"), volume.array.copy()
    first, again = self_check(volume, resolver), self_check(volume, resolver)
    assert first == again and np.array_equal(before, volume.array)
    assert np.isfinite(first.gain_db) and first.sharper > 0 and first.info["block_kji"] == [80, 96, 88]


def test_check_by_the_command_line(small_head: np.ndarray, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    big = np.tile(small_head, (2, 2, 2))
    Volume.from_array(big, FINE).write(tmp_path / "in" / "a.nii.gz")
    Volume.from_array(small_head[:20], FINE).write(tmp_path / "in" / "thin.nii.gz")
    command = ["check", str(tmp_path / "in"), "--model", str(tiny_model), "--device", "cpu", "--json"]
    assert main(command) == 3
    info = json.loads(capsys.readouterr().out)
    (row,), (failure,) = info["scans"], info["failed"]
    assert row["scan"] == "a.nii.gz" and "tiny" in row["verdict"] and "thin.nii.gz" in failure["message"]
    assert {line["fact"] for line in row["fitness"]} >= {"spacing", "noise", "blur", "background", "field of view"}
    assert main(["check", str(tmp_path / "in" / "a.nii.gz"), "--model", str(tiny_model), "--device", "cpu"]) == 0
    assert "spacing: " in capsys.readouterr().out
    assert main(["check", str(tmp_path / "gone.nii.gz")]) == 3


def test_fitness_tells_what_lies_outside(small_head: np.ndarray, tiny_model: Path) -> None:
    resolver = SuperResolver.load(tiny_model, "cpu", "fp32")
    volume = Volume.from_array(small_head, np.diag([9.0, 9.0, 9.0, 1.0]))
    lines = {line.fact: line for line in fitness(volume, resolver.header, resolver.look(volume, "box", "30"))}
    assert not lines["spacing"].as_in_training and "0.50 to 5.00 mm" in lines["spacing"].expect
    assert not lines["noise"].as_in_training and "30.0 %" in lines["noise"].shows
    assert lines["blur"].as_in_training and lines["field of view"].as_in_training
    assert "outside" in str(lines["noise"]) and "as in training" in str(lines["blur"])
    unknown = fitness(volume, resolver.header, resolver.look(volume, "unknown", "unknown"))
    assert [line.as_in_training for line in unknown if line.fact in ("noise", "blur")] == [False, False]
