"""The chooser: what a person would take, and what it says when nothing fits."""

from __future__ import annotations

import math

import pytest

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, catalogue, read_header
from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.model_choice import choose_model, resampled_shape, wanted_spacing

FACTORS = {"x2": (2, 2, 2), "x4": (4, 4, 4), "x2-sharp": (2, 2, 2)} | {f"slice-x{f}": (f, 1, 1) for f in (2, 3, 4, 5)}
MODELS = {name: CheckpointHeader(name, GeneratorConfig(factors)) for name, factors in FACTORS.items()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spacing", "name", "factors"),
    [
        ((0.9, 0.9, 0.9), "x2", (2, 2, 2)),
        ((1.0, 0.9, 1.2), "x2", (2, 2, 2)),
        ((3.0, 3.0, 3.0), "x4", (4, 4, 4)),
        ((0.75, 0.75, 5.5), "slice-x5", (1, 1, 5)),
        ((0.9, 0.9, 2.0), "slice-x2", (1, 1, 2)),
        ((3.0, 0.7, 0.7), "slice-x4", (4, 1, 1)),
        ((0.8, 2.4, 0.8), "slice-x3", (1, 3, 1)),
    ],
)
def test_what_a_person_would_take(spacing: tuple[float, float, float], name: str, factors: tuple[int, int, int]) -> None:
    choice = choose_model(MODELS, spacing)
    assert (choice.name, choice.factors_ijk, choice.spacing_ijk_mm) == (name, factors, None)
    assert name in choice.reason and f"{spacing[0]:.3g} x" in choice.reason


@pytest.mark.parametrize(
    ("spacing", "wanted", "name", "factors"),
    [
        ((0.75, 0.75, 3.0), (0.75, 0.75, 0.75), "slice-x4", (1, 1, 4)),
        ((0.75, 0.75, 5.5), (0.75, 0.75, 0.75), "slice-x5", (1, 1, 5)),  # none reaches it: the nearest
        ((0.75, 0.75, 5.5), (1.0, 1.0, 1.0), "slice-x5", (1, 1, 5)),
        ((0.75, 0.75, 2.0), (1.0, 1.0, 1.0), "slice-x2", (1, 1, 2)),
        ((2.0, 2.0, 2.0), (1.0, 1.0, 1.0), "x2", (2, 2, 2)),
        ((2.0, 2.0, 2.0), (0.6, 0.6, 0.6), "x4", (4, 4, 4)),
        ((0.9, 0.86, 0.86), (0.86, 0.86, 0.86), "x2", (2, 2, 2)),
        ((0.9, 0.9, 0.9), (1.0, 1.0, 1.0), "x2", (2, 2, 2)),
    ],
)
def test_the_smallest_factors_that_reach_a_spacing(spacing, wanted, name, factors) -> None:  # type: ignore[no-untyped-def]
    choice = choose_model(MODELS, spacing, wanted)
    assert (choice.name, choice.factors_ijk, choice.spacing_ijk_mm) == (name, factors, wanted)
    too_coarse = any(mm / f > 1.02 * to for mm, f, to in zip(spacing, factors, wanted, strict=True))
    assert ("interpolated" in choice.reason) == too_coarse


def test_factors_that_are_asked_for() -> None:
    assert choose_model(MODELS, (1, 1, 1), factors_ijk=(1, 4, 1)).name == "slice-x4"
    with pytest.raises(JobError, match=r"factors 1 x 1 x 6: no model has them; there are .*slice-x5 \(5 x 1 x 1\)"):
        choose_model(MODELS, (1, 1, 1), factors_ijk=(1, 1, 6))
    with pytest.raises(JobError, match="no model is shipped"):
        choose_model({}, (1, 1, 1))


def test_a_sharp_model_is_never_chosen() -> None:
    assert choose_model({name: MODELS[name] for name in ("x2-sharp", "x4")}, (1, 1, 1)).name == "x4"


def test_the_shipped_models_serve_every_kind_of_scan() -> None:
    headers = {name: read_header(path) for name, path in catalogue().items()}
    for spacing in ((1, 1, 1), (0.9, 0.9, 3), (5, 0.8, 0.8), (3, 3, 3)):
        choice = choose_model(headers, spacing)  # type: ignore[arg-type]
        assert math.prod(choice.factors_ijk) == math.prod(headers[choice.name].generator.factors)


def test_wanted_spacings_in_words() -> None:
    spacing = (0.9, 0.8, 3.0)
    assert wanted_spacing("isotropic", spacing) == (0.8, 0.8, 0.8)
    assert wanted_spacing("1", spacing) == (1, 1, 1)
    assert wanted_spacing("1,1,2.5", spacing) == (1, 1, 2.5)
    for text in ("", "0", "-1", "nan", "inf", "1,1", "1,1,1,1", "a", "1e9", "0.001"):
        with pytest.raises(JobError, match=r"isotropic, or 0\.05 to 50 mm"):
            wanted_spacing(text, spacing)
    assert resampled_shape((256, 256, 24), (0.75, 0.75, 5.5), (0.75, 0.75, 0.75)) == (256, 256, 176)
