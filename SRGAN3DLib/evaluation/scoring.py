"""The evaluation protocol, whole: truth and result in, one row of figures out (method.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.result_info import condition
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.interpolation import KINDS, interpolate

from .metrics import all_metrics, head_mask, psnr, sharpness, truth_range

SMOOTHINGS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)  # of the oracle, in LR voxels
LEAST_VOXELS = 11  # the window of SSIM


def crop_to_multiple(array: np.ndarray, factors: Factors) -> np.ndarray:
    """Drop voxels at the high end until every axis is a multiple of its factor."""
    return array[tuple(slice(0, n // f * f) for n, f in zip(array.shape, factors, strict=True))]


def smooth(array: np.ndarray, sigma: float, factors: Factors) -> np.ndarray:
    """`array` (K, J, I) under a gaussian of `sigma` voxels along the axes that will be enlarged."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(array, [sigma * (f > 1) for f in factors]), array.dtype)


def rician(array: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """`array` (K, J, I) with Rician noise of standard deviation `sigma` per quadrature channel; the referee's very numbers.

    The referee draws in the order of the file, (I, J, K).
    """
    rng = np.random.default_rng(seed)
    real, imaginary = (rng.normal(0, sigma, array.shape[::-1]).transpose() for _ in range(2))
    return np.hypot(array + real, imaginary).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """One scan under one degradation: the truth (cropped), the LR scan, and the best interpolation's score.

    `noise` is in percent of the truth's range, `sigma` its standard deviation in the unit of the scan.
    """

    name: str
    degradation: str
    factors: Factors
    hr: np.ndarray
    lr: np.ndarray
    mask: np.ndarray
    data_range: float
    best_interpolation: str
    best_psnr: float
    noise: float = 0.0
    sigma: float = 0.0

    @staticmethod
    def make(name: str, hr: np.ndarray, factors: Factors, degradation: str, noise: float = 0.0, seed: int = 0) -> Case:
        """Degrade `hr` (K, J, I) and find the best of linear, cubic and Lanczos. Raises `VolumeError` on a scan without a head.

        `noise` is the standard deviation of the Rician noise on the LR grid, in percent of the truth's range, drawn by `seed`.
        """
        whole_range = truth_range(hr)
        hr = crop_to_multiple(np.asarray(hr, np.float32), factors)
        if min(hr.shape) < LEAST_VOXELS:
            raise VolumeError(f"{name}: {hr.shape} (K, J, I) is too thin to score; it must have {LEAST_VOXELS} voxels along each axis")
        lr = np.ascontiguousarray(Degradation.named(degradation, factors).forward(hr))
        mask, data_range = head_mask(hr), truth_range(hr)
        if noise:
            lr = rician(lr, noise / 100 * whole_range, seed)
        if not mask.any() or not data_range > 0:
            raise VolumeError(f"{name}: nothing to score: the head mask is empty")
        scores = {kind: psnr(hr, interpolate(lr, factors, kind), mask, data_range) for kind in KINDS}
        best = max(scores, key=lambda kind: scores[kind])
        return Case(name, degradation, factors, hr, lr, mask, data_range, best, scores[best], noise, noise / 100 * whole_range)

    @property
    def condition(self) -> str:
        """What the scan went through, in words without commas: `box`, or `box + 4 % noise`."""
        return condition(self.degradation, self.noise)

    def gain(self, sr: np.ndarray) -> float:
        """PSNR of `sr` above the best interpolation, dB."""
        return psnr(self.hr, sr, self.mask, self.data_range) - self.best_psnr

    def smoothed(self) -> dict[str, float]:
        """Figures of the best that smoothing does: cubic interpolation of the scan under the gaussian that the truth likes best.

        `sigma` of the gaussian is in LR voxels; an oracle, since the truth chooses it.
        """

        def image(sigma: float) -> np.ndarray:
            return interpolate(smooth(self.lr, sigma, self.factors), self.factors, "cubic")

        best, highest = SMOOTHINGS[0], -np.inf
        for sigma in SMOOTHINGS:  # better and better up to the best, then worse and worse
            found = psnr(self.hr, image(sigma), self.mask, self.data_range)
            if found < highest:
                break
            best, highest = sigma, found
        return {**all_metrics(self.hr, image(best), self.mask, self.data_range), "sigma": best}

    def report(self, sr: np.ndarray) -> dict[str, Any]:
        """Every figure of the protocol for `sr`, beside the three interpolations and the truth's sharpness."""
        table = {kind: all_metrics(self.hr, interpolate(self.lr, self.factors, kind), self.mask, self.data_range) for kind in KINDS}
        table["result"] = all_metrics(self.hr, sr, self.mask, self.data_range)
        table["smoothed"] = self.smoothed()
        best = interpolate(self.lr, self.factors, self.best_interpolation)
        back = Degradation.named(self.degradation, self.factors).forward(np.asarray(sr, np.float32))
        return {
            "scan": self.name,
            "degradation": self.degradation,
            "noise_percent": self.noise,
            "factors_kji": list(self.factors),
            "table": table,
            "best_interpolation": self.best_interpolation,
            "psnr_gain": table["result"]["psnr"] - table[self.best_interpolation]["psnr"],
            "psnr_gain_over_smoothed": table["result"]["psnr"] - table["smoothed"]["psnr"],
            "ssim_gain": table["result"]["ssim"] - max(table[kind]["ssim"] for kind in KINDS),
            "sharpness": {
                "truth": sharpness(self.hr, self.mask, self.data_range),
                "result": sharpness(sr, self.mask, self.data_range),
                self.best_interpolation: sharpness(best, self.mask, self.data_range),
            },
            "consistency_rms": float(np.sqrt(np.mean(np.square(back - self.lr))) / self.data_range),
        }
