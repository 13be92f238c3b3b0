"""What the panel says before the click, worked out by hand."""

from __future__ import annotations

import pytest
import slicer_double  # noqa: F401  (texts need slicer.i18n)
from SRGAN3DSlicer import forecast, model_card, tasks
from SRGAN3DSlicer.preferences import Measured

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import GeneratorConfig

HEADER = CheckpointHeader(
    "m", GeneratorConfig((1, 2, 3), features=32), contrasts=("T1w",), spacing_range_mm=(1.0, 2.0), training_data=({"file": "a_T1w.nii.gz"},)
)
FACTORS = (3, 2, 1)  # of HEADER along I, J, K
FINE = (FACTORS, (1.0, 1.5, 2.0), (100, 100, 100), ("R", "A", "S"), False, False, [])
PLAN = tasks.Plan("m", HEADER, FACTORS)
FAST = Measured(3000.0)


def test_size_memory_and_time() -> None:
    found = forecast.forecast(PLAN, (10, 20, 30), (1, 1, 1), FAST)
    assert found.shape_kji == (10, 40, 90) and found.output_bytes == 4 * 36_000
    assert found.bytes_needed == forecast.BASE_BYTES + 8 * 6000 + 4 * 36_000 + 8 * 32 * 6000
    assert found.seconds == 2.0 and found.measured
    assert forecast.forecast(PLAN, (10, 20, 30), (1, 1, 1), FAST, flips=4).seconds == 4 * found.seconds
    frames = forecast.forecast(PLAN, (10, 20, 30), (1, 1, 1), FAST, frames=3)
    assert (frames.seconds, frames.output_bytes) == (6.0, 3 * found.output_bytes) and frames.bytes_needed == found.bytes_needed
    half = forecast.forecast(PLAN, (10, 20, 30), (1, 1, 1), Measured(3000.0, "bf16", 10**9))
    assert half.bytes_needed == 10**9 + 8 * 6000 + 4 * 36_000 + 4 * 32 * 6000
    guess = forecast.forecast(PLAN, (10, 20, 30), (1, 1, 1), None)
    assert not guess.measured and guess.seconds > 0


def test_memory_limit_bounds_the_need() -> None:
    shape, unit = (200, 200, 200), (1.0, 1.0, 1.0)
    free = forecast.forecast(PLAN, shape, unit, None).bytes_needed
    assert forecast.forecast(PLAN, shape, unit, None, "1G").bytes_needed == 1 << 30 < free
    assert forecast.forecast(PLAN, shape, unit, None, "1M").bytes_needed == forecast.BASE_BYTES + 8 * 8_000_000 + 24 * 8_000_000


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({1: (0.5, 1.5, 2.0)}, ["Voxels of 0.50 x 1.50 x 2.00 mm are unlike the training scans (1.00 to 2.00 mm)."]),
        ({1: (0.9, 1.5, 2.2)}, []),
        ({2: (100, 9, 100)}, ["Only 9 voxels in one direction"]),
        ({4: True}, ["sheared"]),
        ({5: True}, ["non-linear"]),
        ({6: [("its name", "T2w")]}, ["Its name says T2w, but the model was trained on T1w."]),
        ({6: [("its name", "T2w"), ("its name", "T1w")]}, []),
        ({6: [("its DICOM modality", "CT"), ("its name", "T1w")]}, ["Its DICOM modality says CT, but the model was trained on T1w."]),
    ],
)
def test_warnings(changed: dict, words: list[str]) -> None:
    given = [changed.get(n, value) for n, value in enumerate(FINE)]
    found = forecast.warnings(HEADER, *given)  # type: ignore[arg-type]
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("factors", "spacing_ijk", "words"),
    [
        ((1, 1, 3), (1.0, 1.0, 3.0), []),
        ((3, 1, 1), (5.0, 1.0, 1.0), []),
        ((1, 1, 3), (1.2, 1.0, 1.1), ["refines S (foot-head) only (1.10 mm), but the voxels are longest along R (left-right) (1.20 mm)"]),
        ((1, 1, 3), (1.0, 1.0, 1.0), ["The new slices along S (foot-head) would be thinner than the voxels are wide"]),
    ],
)
def test_a_wrong_direction_is_said(factors: tuple, spacing_ijk: tuple, words: list[str]) -> None:
    header = CheckpointHeader("slice-x3", GeneratorConfig((3, 1, 1)))
    found = forecast.warnings(header, factors, spacing_ijk, (100, 100, 100))
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found, strict=True))


def test_words() -> None:
    assert (forecast.in_words(3e6), forecast.in_words(2.44e9)) == ("3 MB", "2.4 GB")
    assert [forecast.clock(s) for s in (0.2, 59, 61, 3720)] == ["< 1 s", "59 s", "1 min 01 s", "1 h 02 min"]


def test_card_and_titles() -> None:
    card = model_card.card(HEADER, 2.5)
    assert all(words in card for words in ("T1w", "1.0 to 2.0 mm", "a_T1w", "Apache-2.0", "2.5 s a million voxels"))
    assert "Time here" not in model_card.card(HEADER, None)
    models = model_card.models()
    titles = [model_card.title(key, header) for key, header in models.items()]
    assert titles[0] == "t1-x2: x2 in all directions"
    assert "t1-x2-sharp: x2 in all directions, sharper texture, less exact" in titles and "slice-x4: thins slices x4" in titles
    assert "PSNR over interpolation" in model_card.card(models["t1-x2"], None)
