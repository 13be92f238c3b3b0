"""Steps that would spoil a run: told by hand-made figures."""

from __future__ import annotations

import math

import pytest

from SRGAN3DLib.training.loss_guard import LEAST, SPAN, LossGuard


def filled(**usual: float) -> LossGuard:
    guard = LossGuard()
    for _ in range(LEAST):
        assert guard.fault(usual) == ""
    return guard


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite(bad: float) -> None:
    guard = LossGuard()
    assert guard.fault({"loss": 1.0, "gradient_norm": bad}) == f"gradient norm is {bad}" and guard.bad == 1
    assert guard.recent == {} and guard.fault({"loss": 1.0}) == "" and guard.bad == 0


def test_fifty_times_the_median() -> None:
    guard = filled(loss=0.02)
    assert guard.fault({"loss": 0.99}) == ""
    assert "loss 1.01 is more than 50 times the usual 0.02" in guard.fault({"loss": 1.01})
    assert LossGuard().fault({"loss": 1e9}) == ""  # nothing is known yet


def test_a_discriminator_that_knows_nothing_is_no_fault() -> None:
    """A good one has 0.001; one that was fooled has 0.25 again, which is 250 times that and right."""
    guard = filled(loss=0.02, d_loss=0.001)
    assert guard.fault({"loss": 0.02, "d_loss": 0.25}) == ""
    assert "d loss 13" in guard.fault({"loss": 0.02, "d_loss": 13.0})


def test_it_forgets() -> None:
    guard = filled(loss=1.0)
    for _ in range(SPAN):
        guard.fault({"loss": 20.0})
    assert guard.recent["loss"] == [20.0] * SPAN and guard.fault({"loss": 900.0}) == ""
