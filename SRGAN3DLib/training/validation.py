"""Validation during training: figures of `TrainingSet.cases`, the central boxes of the validation scans under every blur."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from SRGAN3DLib.contract.configs import GeneratorConfig, TrainConfig
from SRGAN3DLib.evaluation.metrics import all_metrics, phase_pattern, sharpness
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.networks.generator import Conditions, with_conditions
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.scans import find_scans

from .datasets import cases_of
from .split import NAME as SPLIT
from .split import read_split

# the ratios measure sharpness; the truth's is 1
FIGURES = ("gain", "psnr", "ssim", "mae", "gradient_ratio", "high_band_ratio", "phase_pattern")
PATTERN_SEEN_FROM = 0.0006  # of the range: the phase pattern that a sharp model may have


def validation_cases(config: TrainConfig, run: Path) -> Iterator[Case]:
    """The cases of the validation scans that a run's split.json names (without it: of all). Raises `VolumeError` if they are gone."""
    known = (run / SPLIT).exists()
    wanted = {file for (_, file), row in read_split(run / SPLIT).items() if row["role"] == "validation"} if known else set()
    for scan in find_scans(config.validation or config.data, subject_pattern=config.subject_pattern):
        if not known or scan.name in wanted:
            yield from cases_of(scan, config)[0]


@torch.no_grad()
def super_resolve(network: nn.Module, case: Case, config: GeneratorConfig, device: torch.device | str = "cpu") -> np.ndarray:
    """The generator's answer to a case, (K, J, I) on the grid of its truth; it is told the true blur and noise, as far as it listens."""
    scale = IntensityScale.fit(case.lr)
    lr = torch.from_numpy(np.asarray(scale.apply(case.lr), np.float32))[None, None].to(device)
    mtf = Degradation.named(case.degradation, case.factors).mtf
    lr = with_conditions(lr, config, Conditions(mtf, case.sigma / scale.gain))
    sr = network(lr.contiguous(memory_format=torch.channels_last_3d)).float()
    return scale.undo(sr[0, 0].cpu().numpy())


def score(case: Case, sr: np.ndarray, truth: dict[str, float]) -> dict[str, Any]:
    """One row of figures. `truth` is the sharpness of the case's truth, as `metrics.sharpness` gives it."""
    metrics, sharp = all_metrics(case.hr, sr, case.mask, case.data_range), sharpness(sr, case.mask, case.data_range)
    ratios = {f"{name}_ratio": value / truth[name] if truth[name] else 0.0 for name, value in sharp.items()}
    ratios["phase_pattern"] = phase_pattern(case.hr, sr, case.mask, case.data_range, case.factors)
    gain = metrics["psnr"] - case.best_psnr
    return {"scan": case.name, "degradation": case.condition, "gain": gain, "psnr": metrics["psnr"], "ssim": metrics["ssim"], **ratios}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means by degradation (`gain_box`, `psnr_box`, ...), and under `gains` the gain of every case, dB."""
    kinds = sorted({row["degradation"] for row in rows})
    means = {
        f"{f}_{kind}": float(np.mean([row[f] for row in rows if row["degradation"] == kind]))
        for kind in kinds
        for f in FIGURES
        if f in rows[0]
    }
    return {**means, "gains": {f"{row['scan']} {row['degradation']}": round(row["gain"], 3) for row in rows}}


def unlikeness(means: dict[str, Any]) -> float:
    """How far a sharp model's clean results are from looking like the truth: spectrum, gradient and lattice together; 0 is alike.

    `means` is a row of `summary`. Without validation cases, and for synthesis: 0.
    """
    kinds = [name[5:] for name in means if name.startswith("gain_") and "noise" not in name]
    kinds = [kind for kind in kinds if f"high_band_ratio_{kind}" in means]  # synthesis has no spectrum to compare
    terms = []
    for kind in kinds:
        ratios = [max(means[f"{name}_ratio_{kind}"], 1e-3) for name in ("high_band", "gradient")]
        beyond = max(0.0, means[f"phase_pattern_{kind}"] / PATTERN_SEEN_FROM - 1)
        terms.append(float(np.abs(np.log(ratios)).sum()) + beyond)
    return float(np.mean(terms)) if terms else 0.0
