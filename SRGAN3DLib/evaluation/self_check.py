"""Does a model help on this scan? The scan itself is made coarser, super-resolved, and compared with itself.

No truth is needed: a scan made coarser by the model's factors, under a blur and a noise like its own, is to its source what the source
is to the finer scan that nobody has. What the model gains there is what it can be expected to gain on the scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.events import Report
from SRGAN3DLib.evaluation.metrics import sharpness, truth_range
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.volume import Volume

LARGEST_SIDE = 96  # voxels of the block that is looked at
LEAST_SIDE = 24  # voxels that are left of a side after it was made coarser
HELPS_DB = 0.2  # gains below it are not worth the time and the doubt
PROTOCOL_MTF = {"gaussian": 0.41, "box": 0.64, "kspace": 1.0}  # transfer at Nyquist of the three blurs of the protocol


@dataclass(frozen=True)
class SelfCheck:
    """`gain_db`: expected PSNR gain over the best interpolation; `sharper`: gradient of the result over that of interpolation.

    `consistency`: how far the result, made coarse again, was from the coarse scan, as a share of its range. `info` says what was assumed.
    """

    gain_db: float
    sharper: float
    consistency: float | None
    info: dict[str, Any]

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        name = self.info["model"]
        if self.gain_db >= HELPS_DB:
            return f"{name} helps on this scan: about {self.gain_db:+.1f} dB over the best interpolation"
        if self.gain_db > -HELPS_DB:
            return f"{name} is no better than interpolation on this scan ({self.gain_db:+.1f} dB): not advised"
        return f"{name} is worse than interpolation on this scan ({self.gain_db:+.1f} dB): not advised"

    def to_json(self) -> dict[str, Any]:
        """Plain data: the verdict, the figures, and what was assumed."""
        figures = {"gain_db": round(self.gain_db, 2), "sharper": round(self.sharper, 3), "consistency": self.consistency}
        return {"verdict": self.verdict, **figures, **self.info}


def self_check(
    volume: Volume,
    resolver: SuperResolver,
    blur: str = "auto",
    noise: str = "auto",
    report: Report = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
    seed: int = 0,
) -> SelfCheck:
    """Try `resolver` on a central block of at most 96 voxels a side; `blur` and `noise` are those of `SuperResolveJob`.

    Raises `VolumeError` where the scan is too small to be made coarser, `Cancelled`, `ResourceError`.
    """
    seen = resolver.look(volume, blur, noise)
    factors: Factors = seen["factors_kji"]
    kind = nearest_blur(seen["blur"]["mtf_kji"], factors)
    name = volume.path.name if volume.path is not None else "scan"
    block = head_block(volume, factors, name)
    sigma = (seen["noise"]["percent"] or 0.0) / 100 * seen["bright_tissue"]
    added = noise_to_add(block.array.shape, factors, kind, sigma)
    case = Case.make(name, block.array, factors, kind, 100 * added / truth_range(block.array), seed)
    coarse = block.with_array(case.lr, block.geometry.coarsen(factors))
    percent = f"{100 * sigma / IntensityScale.fit(case.lr).gain:.4f}"
    result = resolver(coarse, kind, report, cancelled, factors_ijk=factors[::-1], noise=percent)
    sr = result.volume.array
    best = interpolate(case.lr, factors, case.best_interpolation)
    own = sigma**2  # the noise of the scan itself is no fault of the result
    gain = 10 * math.log10(_error(case, best, own) / _error(case, sr, own))
    info = {
        "model": resolver.header.name,
        "block_kji": list(block.array.shape),
        "blur": kind,
        "mtf_kji": seen["blur"]["mtf_kji"],
        "noise_percent": seen["noise"]["percent"],
        "best_interpolation": case.best_interpolation,
        "seed": seed,
    }
    gradients = [sharpness(image, case.mask, case.data_range)["gradient"] for image in (sr, best)]
    return SelfCheck(gain, gradients[0] / gradients[1], result.info["consistency"]["rms_of_range"], info)


def head_block(volume: Volume, factors_kji: Factors, name: str = "scan") -> Volume:
    """The part of the scan around the middle of its bright voxels, at most 96 voxels a side, a multiple of the factors.

    Raises `VolumeError` where less than 24 voxels a side would be left after it was made coarser.
    """
    scale = IntensityScale.fit(volume.array)
    bright = scale.apply(volume.array) > 0.25
    box = []
    for axis, (n, f) in enumerate(zip(volume.array.shape, factors_kji, strict=True)):
        side = min(n, LARGEST_SIDE) // f * f
        if side // f < LEAST_SIDE:
            raise VolumeError(f"{name}: {n} voxels along {'KJI'[axis]}: a self-check by factor {f} needs {LEAST_SIDE * f}")
        along = bright.sum(axis=tuple(a for a in range(3) if a != axis))
        middle = float(np.average(np.arange(n), weights=along + 1e-9))
        start = int(np.clip(round(middle - side / 2), 0, n - side))
        box.append((start, start + side))
    cut = tuple(slice(start, stop) for start, stop in box)
    return volume.with_array(volume.array[cut], volume.geometry.crop(box))


def nearest_blur(mtf_kji: tuple[float, ...] | None, factors_kji: Factors) -> str:
    """The blur of the protocol whose transfer is nearest to the scan's, along the axes that are enlarged; a box where nobody knows."""
    if mtf_kji is None:
        return "box"
    mean = float(np.mean([mtf for mtf, f in zip(mtf_kji, factors_kji, strict=True) if f > 1]))
    return min(PROTOCOL_MTF, key=lambda kind: abs(PROTOCOL_MTF[kind] - mean))


def noise_to_add(shape_kji: tuple[int, ...], factors_kji: Factors, kind: str, sigma: float) -> float:
    """The standard deviation that brings the noise of a scan, averaged by the degradation, back to `sigma`."""
    rows = Degradation.named(kind, factors_kji).matrices(shape_kji)
    left = sigma**2 * math.prod(float(np.mean((matrix**2).sum(axis=1))) for matrix in rows)
    return math.sqrt(max(0.0, sigma**2 - left))


def _error(case: Case, image: np.ndarray, own: float) -> float:
    """Mean squared error inside the head, without the share of the scan's own noise."""
    whole = float(np.mean(np.square(image - case.hr, dtype=np.float64)[case.mask]))
    return max(whole - own, 0.02 * whole)
