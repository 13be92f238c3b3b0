"""What to do with a scan and what follows from it: the same model as the command line's, along the right axis, with a reason."""

from __future__ import annotations

import pytest
import slicer_double  # noqa: F401  (texts need slicer.i18n)
from SRGAN3DSlicer import placement, tasks

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, catalogue, read_header
from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.model_choice import choose_model

SHIPPED = {name: read_header(path) for name, path in catalogue().items()}
MINE = {**SHIPPED, "mine.safetensors sha256:00": CheckpointHeader("mine", GeneratorConfig((2, 2, 2)))}


@pytest.mark.parametrize(
    ("spacing_ijk", "wanted"),
    [
        ((1.4, 1.4, 1.4), ("t1-x2", (2, 2, 2))),
        ((1.0, 1.0, 3.2), ("slice-x3", (1, 1, 3))),
        ((5.0, 1.0, 1.0), ("slice-x5", (5, 1, 1))),
    ],
)
def test_automatic_is_the_command_lines_choice(spacing_ijk: tuple, wanted: tuple) -> None:
    plan = tasks.plan(tasks.AUTO, "", MINE, spacing_ijk)
    choice = choose_model(SHIPPED, spacing_ijk)
    assert plan is not None and (plan.key, plan.factors) == (choice.name, choice.factors_ijk) == wanted


def test_the_tasks_that_the_models_allow() -> None:
    assert list(tasks.choices(SHIPPED)) == ["auto", "x2", "x4", "thin", "isotropic", "other"]
    assert list(tasks.choices({})) == ["auto", "other"]
    assert tasks.plan(tasks.AUTO, "", {}, (1.0, 1.0, 1.0)) is None


@pytest.mark.parametrize(
    ("task", "spacing_ijk", "wanted"),
    [
        ("x2", (1.0, 1.0, 3.2), ("t1-x2", (2, 2, 2), None)),
        ("x4", (2.0, 2.0, 2.0), ("t1-x4", (4, 4, 4), None)),
        ("thin", (0.9, 0.9, 3.6), ("slice-x4", (1, 1, 4), None)),
        ("thin", (1.0, 1.0, 1.0), ("slice-x2", (1, 1, 2), None)),
        ("isotropic", (1.0, 1.0, 3.0), ("slice-x3", (1, 1, 3), "isotropic")),
        ("other", (1.0, 1.0, 1.0), ("mine.safetensors sha256:00", (2, 2, 2), None)),
    ],
)
def test_plans(task: str, spacing_ijk: tuple, wanted: tuple) -> None:
    plan = tasks.plan(task, "mine.safetensors sha256:00", MINE, spacing_ijk)
    assert plan is not None and (plan.key, plan.factors, plan.spacing) == wanted


def test_a_resampled_result_fills_the_same_box() -> None:
    plan = tasks.plan("isotropic", "", SHIPPED, (1.0, 1.1, 3.0))
    assert plan is not None
    shape, spacing = (20, 40, 50), (1.0, 1.1, 3.0)
    assert plan.shape_kji(shape, spacing) == (60, 44, 50)
    new = plan.result_spacing(shape, spacing)
    assert new == pytest.approx((1.0, 1.0, 1.0))


def test_reasons_name_directions_and_no_array_axes() -> None:
    plan = tasks.plan(tasks.AUTO, "", SHIPPED, (4.0, 1.0, 1.0), ("S", "R", "A"))
    assert plan is not None and plan.reason == "slice-x4: slices along S (foot-head), 4 mm apart, become 1 mm."
    plan = tasks.plan("x2", "", SHIPPED, (1.0, 1.0, 1.0))
    assert plan is not None and plan.reason == "t1-x2: 2 times as many voxels in every direction."


def test_factors_of_another_model_are_refused() -> None:
    with pytest.raises(JobError, match=r"factors \(3, 3, 3\): must be those of model t1-x2"):
        placement.placed_factors(SHIPPED["t1-x2"], (1.0, 1.0, 1.0), 3)


def test_the_list_begins_with_the_default() -> None:
    names = list(tasks.in_order(dict(reversed(MINE.items()))))
    assert names[:3] == ["t1-x2", "t1-x2-sharp", "t1-x4"] and names[-1].startswith("mine")
