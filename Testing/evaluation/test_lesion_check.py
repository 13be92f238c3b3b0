"""The lesion table of a model: its rows say what was done, and interpolation does what it must on a made-up head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.errors import Cancelled
from SRGAN3DLib.evaluation.lesion_check import LARGEST_SIDE, _middle, lesion_report, lesion_table
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.volumes.volume import Volume

MATRIX = np.diag([1.6, 1.6, 1.6, 1.0])


@pytest.fixture
def head(small_head: np.ndarray) -> Volume:
    return Volume.from_array(small_head.repeat(2, 0).repeat(2, 1).repeat(2, 2), MATRIX)


def test_rows_of_a_made_up_head(head: Volume, tiny_model: Path) -> None:
    resolver = SuperResolver.load(tiny_model, "cpu", "fp32")
    rows = [
        row
        for noise in (0.0, 4.0)
        for row in lesion_table(
            resolver, head, "head", "box", noise, blur="known", noise_told="known", sizes_mm=(3.0, 6.0), contrasts=(0.2,)
        )
    ]
    assert [(row["size_mm"], row["noise_percent"]) for row in rows] == [(3.0, 0.0), (6.0, 0.0), (3.0, 4.0), (6.0, 4.0)]
    assert all(row["model"] == "tiny" and set(row["kept"]) == {"cubic", "tiny"} for row in rows)
    small, large, noisy, _ = rows
    assert 0.3 < small["kept"]["cubic"] < large["kept"]["cubic"] < 1.1
    assert noisy["invented"]["cubic"] != small["invented"]["cubic"] and min(row["invented"]["tiny"] for row in rows) > 0
    text = lesion_report(rows)
    assert "head, box.\n" in text and "head, box + 4 % noise.\n" in text and text.count("| 6 | 20 % |") == 2
    with pytest.raises(Cancelled):
        lesion_table(resolver, head, "head", "box", 0.0, cancelled=lambda: True)


def test_the_middle_is_a_multiple_of_the_factors() -> None:
    volume = Volume.from_array(np.random.default_rng(0).uniform(0, 1, (133, 20, 21)).astype(np.float32), MATRIX)
    middle = _middle(volume, (4, 2, 2))
    assert middle.array.shape == (LARGEST_SIDE, 20, 20)
    np.testing.assert_array_equal(middle.array, volume.array[2:130, :, :20])
    np.testing.assert_allclose(middle.geometry.ijk_to_ras[:3, 3], [0, 0, 3.2])


def test_evaluate_writes_the_table(head: Volume, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SRGAN3DLib.evaluation.evaluation.lesion_table", lambda *given, **more: [
        {"scan": given[2], "degradation": given[3], "noise_percent": given[4], "factors_kji": [2, 2, 2], "size_mm": 3.0, "contrast": 0.1,
         "kept": {"cubic": 0.5, "tiny": 0.6}, "invented": {"cubic": 0.01, "tiny": 0.02}}
    ])  # fmt: skip
    head.write(tmp_path / "head.nii.gz")
    words = ["--degradation", "box", "--no-panels", "--lesions", "--device", "cpu"]
    assert (
        main(["evaluate", "--model", str(tiny_model), "--data", str(tmp_path / "head.nii.gz"), "--out", str(tmp_path / "r"), *words]) == 0
    )
    assert json.loads((tmp_path / "r" / "report.json").read_text())["lesions"][0]["degradation"] == "box"
    assert "| 3 | 10 % | 0.50 | 0.60 | 1.0 % | 2.0 % |" in (tmp_path / "r" / "report.md").read_text()
