"""What the panel says before the click, worked out by hand."""

from __future__ import annotations

import pytest
import slicer_double  # noqa: F401  (texts need slicer.i18n)
from SRGAN3DSlicer import forecast, model_card

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import GeneratorConfig

HEADER = CheckpointHeader(
    "m", GeneratorConfig((1, 2, 3), features=32), contrasts=("T1w",), spacing_range_mm=(1.0, 2.0), training_data=({"file": "a_T1w.nii.gz"},)
)
FINE = ((1.0, 1.5, 2.0), (100, 100, 100), False, False, [])


def test_size_memory_and_time() -> None:
    found = forecast.forecast(HEADER, (10, 20, 30), voxels_per_s=3000.0)
    assert found.shape_kji == (10, 40, 90) and found.output_bytes == 4 * 36_000
    assert found.bytes_needed == forecast.BASE_BYTES + 8 * 6000 + 4 * 36_000 + 8 * 32 * 6000
    assert found.seconds == 2.0 and found.timed
    assert forecast.forecast(HEADER, (10, 20, 30), 3000.0, flips=4).seconds == 4 * found.seconds
    guess = forecast.forecast(HEADER, (10, 20, 30), None)
    assert not guess.timed and guess.seconds > 0


def test_memory_limit_bounds_the_need() -> None:
    shape = (200, 200, 200)
    free = forecast.forecast(HEADER, shape, None).bytes_needed
    assert forecast.forecast(HEADER, shape, None, "1G").bytes_needed == 1 << 30 < free
    assert forecast.forecast(HEADER, shape, None, "1M").bytes_needed == forecast.BASE_BYTES + 8 * 8_000_000 + 24 * 8_000_000


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({0: (0.5, 1.5, 2.0)}, ["Spacing 0.50 x 1.50 x 2.00 mm: the model saw 1.00 to 2.00 mm."]),
        ({0: (0.9, 1.5, 2.2)}, []),
        ({1: (100, 9, 100)}, ["Only 9 voxels along one axis"]),
        ({2: True}, ["sheared"]),
        ({3: True}, ["not linear"]),
        ({4: [("its name", "T2w")]}, ["Its name says T2w: the model was trained on T1w."]),
        ({4: [("its name", "T2w"), ("its name", "T1w")]}, []),
        ({4: [("its DICOM modality", "CT"), ("its name", "T1w")]}, ["Its DICOM modality says CT: the model was trained on T1w."]),
    ],
)
def test_warnings(changed: dict, words: list[str]) -> None:
    given = [changed.get(n, value) for n, value in enumerate(FINE)]
    found = forecast.warnings(HEADER, *given)  # type: ignore[arg-type]
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found, strict=True))


def slices(factor: int) -> CheckpointHeader:
    return CheckpointHeader(f"slice-x{factor}", GeneratorConfig((factor, 1, 1)), contrasts=("T1w",))


MODELS = {"t1-x2": CheckpointHeader("t1-x2", GeneratorConfig((2, 2, 2))), **{f"slice-x{f}": slices(f) for f in (2, 3, 4, 5)}}


@pytest.mark.parametrize(
    ("spacing_ijk", "wanted"),
    [
        ((1.0, 1.0, 1.0), "t1-x2"),
        ((1.0, 1.0, 1.2), "t1-x2"),
        ((1.0, 1.0, 2.0), "slice-x2"),
        ((1.0, 1.0, 3.2), "slice-x3"),
        ((0.8, 1.2, 4.0), "slice-x4"),
        ((0.5, 0.5, 6.0), "slice-x5"),
        ((5.0, 1.0, 1.0), "slice-x5"),  # the slices lie along I: the model is laid there
        ((1.0, 3.0, 1.0), "slice-x3"),
        ((5.0, 1.0, 5.0), "t1-x2"),
    ],
)
def test_suggestion(spacing_ijk: tuple[float, float, float], wanted: str) -> None:
    assert forecast.suggest(MODELS, spacing_ijk, "t1-x2") == wanted


def test_suggestion_without_the_first() -> None:
    assert forecast.suggest({}, (1.0, 1.0, 1.0), "t1-x2") == ""
    assert forecast.suggest({"a": MODELS["slice-x2"], "b": HEADER}, (1.0, 1.0, 1.0), "t1-x2") == "b"
    assert forecast.suggest({"a": MODELS["slice-x2"]}, (1.0, 1.0, 1.0), "t1-x2") == "a"


@pytest.mark.parametrize(
    ("spacing_ijk", "words"),
    [
        ((1.0, 1.0, 3.0), []),
        ((5.0, 1.0, 1.0), ["The slices lie along I of the array"]),
        ((1.2, 1.0, 1.1), ["refines axis K of the array only (1.10 mm), but the coarsest axis is I (1.20 mm)"]),
        ((1.0, 1.0, 1.0), ["finer along K than within the slices"]),
    ],
)
def test_wrong_axis_is_said(spacing_ijk: tuple[float, float, float], words: list[str]) -> None:
    found = forecast.warnings(slices(3), spacing_ijk, (100, 100, 100))
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found, strict=True))


def test_words() -> None:
    assert (forecast.in_words(3e6), forecast.in_words(2.44e9)) == ("3 MB", "2.4 GB")
    assert [forecast.clock(s) for s in (0.2, 59, 61, 3720)] == ["< 1 s", "59 s", "1 min 01 s", "1 h 02 min"]


def test_card_and_statement() -> None:
    rows = dict(model_card.lines(HEADER))
    assert rows["Factors"] == "3 x 2 x 1 along I, J, K" and rows["Data"] == "a_T1w" and rows["Contrast"] == "T1w"
    said = model_card.measured(HEADER, {"blur": {"source": "given", "mtf_kji": [1.0, 0.4, 0.4]}})
    assert "the input's voxels.\nInferred" in said and "Consistency: not available (the worker gave none)" in said
    assert "for each measured value there are 6" in said and "given, MTF at Nyquist 1.00 / 0.40 / 0.40" in said
