"""The evaluation protocol, whole: truth and result in, one row of figures out (method.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.interpolation import KINDS, interpolate

from .metrics import all_metrics, head_mask, psnr, sharpness, truth_range

LEAST_VOXELS = 11  # the window of SSIM


def crop_to_multiple(array: np.ndarray, factors: Factors) -> np.ndarray:
    """Drop voxels at the high end until every axis is a multiple of its factor."""
    return array[tuple(slice(0, n // f * f) for n, f in zip(array.shape, factors, strict=True))]


@dataclass(frozen=True)
class Case:
    """One scan under one degradation: the truth (cropped), the LR scan, and the best interpolation's score."""

    name: str
    degradation: str
    factors: Factors
    hr: np.ndarray
    lr: np.ndarray
    mask: np.ndarray
    data_range: float
    best_interpolation: str
    best_psnr: float

    @staticmethod
    def make(name: str, hr: np.ndarray, factors: Factors, degradation: str) -> Case:
        """Degrade `hr` (K, J, I) and find the best of linear, cubic and Lanczos. Raises `VolumeError` on a scan without a head."""
        hr = crop_to_multiple(np.asarray(hr, np.float32), factors)
        if min(hr.shape) < LEAST_VOXELS:
            raise VolumeError(f"{name}: {hr.shape} (K, J, I) is too thin to score; {LEAST_VOXELS} voxels along each axis are wanted")
        lr = np.ascontiguousarray(Degradation.named(degradation, factors).forward(hr))
        mask, data_range = head_mask(hr), truth_range(hr)
        if not mask.any() or not data_range > 0:
            raise VolumeError(f"{name}: nothing to score: the head mask is empty")
        scores = {kind: psnr(hr, interpolate(lr, factors, kind), mask, data_range) for kind in KINDS}
        best = max(scores, key=lambda kind: scores[kind])
        return Case(name, degradation, factors, hr, lr, mask, data_range, best, scores[best])

    def gain(self, sr: np.ndarray) -> float:
        """PSNR of `sr` above the best interpolation, dB."""
        return psnr(self.hr, sr, self.mask, self.data_range) - self.best_psnr

    def report(self, sr: np.ndarray) -> dict[str, Any]:
        """Every figure of the protocol for `sr`, beside the three interpolations and the truth's sharpness."""
        table = {kind: all_metrics(self.hr, interpolate(self.lr, self.factors, kind), self.mask, self.data_range) for kind in KINDS}
        table["result"] = all_metrics(self.hr, sr, self.mask, self.data_range)
        best = interpolate(self.lr, self.factors, self.best_interpolation)
        back = Degradation.named(self.degradation, self.factors).forward(np.asarray(sr, np.float32))
        return {
            "scan": self.name,
            "degradation": self.degradation,
            "factors_kji": list(self.factors),
            "table": table,
            "best_interpolation": self.best_interpolation,
            "psnr_gain": table["result"]["psnr"] - table[self.best_interpolation]["psnr"],
            "ssim_gain": table["result"]["ssim"] - max(table[kind]["ssim"] for kind in KINDS),
            "sharpness": {
                "truth": sharpness(self.hr, self.mask, self.data_range),
                "result": sharpness(sr, self.mask, self.data_range),
                self.best_interpolation: sharpness(best, self.mask, self.data_range),
            },
            "consistency_rms": float(np.sqrt(np.mean(np.square(back - self.lr))) / self.data_range),
        }
