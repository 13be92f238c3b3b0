"""What a network is told of the noise, and from where: given, estimated, or nothing; and what the info says of it."""

from __future__ import annotations

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import preset
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.job_values import parse_noise
from SRGAN3DLib.contract.jobs import SuperResolveJob
from SRGAN3DLib.contract.result_info import noise_in_words
from SRGAN3DLib.inference import noise_choice
from SRGAN3DLib.inference.noise_choice import NoiseChoice
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Generator
from SRGAN3DLib.physics.noise_estimator import NoiseEstimate
from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.geometry import Geometry
from SRGAN3DLib.volumes.volume import Volume

ORDER = AxisOrder((0, 1, 2), (False, False, False))
FOUND = NoiseEstimate(0.04, 0.9, (False, False, True), "air")


def choice(monkeypatch: pytest.MonkeyPatch, noise: str, found: NoiseEstimate | None = FOUND) -> NoiseChoice:
    monkeypatch.setattr(noise_choice, "estimate_noise", lambda array, spacing: found)
    return NoiseChoice.make(np.zeros((8, 8, 8), np.float32), ORDER, (1, 1, 1), True, noise)


def test_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = choice(monkeypatch, "auto")
    assert estimated.sigma == 0.04 and estimated.info["source"] == "estimated" and estimated.info["confidence"] == 0.9
    assert estimated.info["correlated_kji"] == [False, False, True] and noise_in_words(estimated.info) == "estimated 4 % of bright tissue"
    given = choice(monkeypatch, "3%")
    assert given.sigma == pytest.approx(0.03) and given.info["source"] == "given" and given.info["percent_estimated"] == 4.0
    assert not given.warnings
    kept = choice(monkeypatch, "0")
    assert kept.sigma == 0 and not kept.warnings  # the user will denoise: no contradiction
    unknown = choice(monkeypatch, "unknown")
    assert unknown.sigma is None and unknown.info["percent_estimated"] is None and noise_in_words(unknown.info) == "unknown"


def test_an_unsure_estimate_contradicts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the most that the noise can be: small in a clean scan, and told."""
    little = NoiseEstimate(0.004, 0.0, (False, False, False), "tissue")
    unsure = choice(monkeypatch, "auto", little)
    assert unsure.sigma == 0.004 and unsure.info["source"] == "estimated" and unsure.info["confidence"] == 0
    assert not choice(monkeypatch, "10", little).warnings
    assert choice(monkeypatch, "auto", None).info["source"] == "unknown"


def test_a_contradiction_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    (warning,) = choice(monkeypatch, "10").warnings
    assert "10 % of bright tissue was given, but the scan itself looks like 4 %" in warning


@pytest.mark.parametrize("text", ["-1", "51", "much", "nan", "4 mm", ""])
def test_what_is_no_noise(text: str) -> None:
    with pytest.raises(JobError, match="must be auto, unknown, or its standard deviation in percent"):
        parse_noise(text)
    with pytest.raises(JobError, match="noise"):
        SuperResolveJob("a.nii", "b.nii", noise=text)


def test_in_a_result(small_head: np.ndarray) -> None:
    """Told more noise, a network that listens answers otherwise; one that does not says so; and less is given back."""
    config = preset("fast")
    network = Generator(config)
    with np.errstate(all="ignore"):
        network.output.weight.data.normal_(0, 0.05)
    volume = Volume.from_array(small_head, OBLIQUE)
    resolver = SuperResolver(Checkpoint(CheckpointHeader("m", config, back_projection=True), network.state_dict()), "cpu", "fp32")
    results = {noise: resolver(volume, "box", noise=noise, allow_negative=True) for noise in ("0", "2", "8", "unknown")}
    damping = {noise: result.info["consistency"]["damping"] for noise, result in results.items()}
    assert damping["0"] == 0 < damping["unknown"] < damping["2"] < damping["8"]
    rms = {noise: result.info["consistency"]["rms_of_range"] for noise, result in results.items()}
    assert rms["0"] < 1e-5 < rms["2"] < rms["8"]
    assert results["8"].info["noise"]["told_to_network"] is True and results["8"].info["asked"]["noise"] == "8"
    raw = [resolver(volume, "box", noise=noise, back_projection=False).volume.array for noise in ("0", "8")]
    assert np.abs(raw[0] - raw[1]).max() > 1e-3 * np.ptp(small_head)
    unaware = preset("paper")
    other = SuperResolver(Checkpoint(CheckpointHeader("unaware", unaware), Generator(unaware).state_dict()), "cpu", "fp32")
    assert other(volume, noise="8").info["noise"]["told_to_network"] is False


def test_axes_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    order = AxisOrder.towards_ras(Geometry((8, 8, 8), OBLIQUE))
    monkeypatch.setattr(noise_choice, "estimate_noise", lambda array, spacing: FOUND)
    info = NoiseChoice.make(np.zeros((8, 8, 8), np.float32), order, (1, 1, 1), True, "auto").info
    assert info["correlated_kji"] == list(order.inverse.per_axis((False, False, True)))
