"""Scores of a synthesised image beside what intensity alone can give (method.md, section 8; `referee.py synthesis` defines them).

Arrays are (K, J, I) on one grid. Figures are taken inside the mask of the source. HU have a data range of 3000; an image without a
unit has P99.9 - P0.1 of the target inside the mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.synthesis import HU_UNKNOWN, OutputImage
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.volumes.volume import Volume

HU_DATA_RANGE = 3000.0
BINS = 256
BONE_HU, AIR_HU = 300.0, -300.0


def body_mask(source: np.ndarray) -> np.ndarray:
    """Bool: above 10 % of P99, closed by two voxels, filled."""
    from scipy import ndimage

    mask = ndimage.binary_closing(source > 0.1 * np.percentile(source, 99), iterations=2)
    return np.asarray(ndimage.binary_fill_holes(mask))


def check_unit(truth: Volume, output: OutputImage) -> None:
    """Raises `VolumeError` where a target in HU cannot be one: no air below -200, or values far beyond 16 bits of HU."""
    if output.unit != "HU":
        return
    low, high = float(truth.array.min()), float(truth.array.max())
    if low > -200 or high < 100 or low < -10_000 or high > 40_000:
        raise VolumeError(
            f"{truth.path}: values from {low:g} to {high:g} are no Hounsfield units; a CT has air near -1000 and tissue near 0"
        )


def target_scale(truth: Volume, output: OutputImage) -> IntensityScale:
    if output.normalisation == "affine":
        return IntensityScale(output.offset, output.gain)
    return IntensityScale.fit(truth.array)


def scored_mask(mask: np.ndarray, target: np.ndarray, hu: bool) -> np.ndarray:
    """The mask less the voxels outside the CT's field of view, where nothing is known."""
    return mask & (target > HU_UNKNOWN) if hu else mask


def best_mapping(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """For each voxel of `source` the mean target in its quantile bin of 256: the best function of one intensity alone."""
    edges = np.unique(np.quantile(source, np.linspace(0, 1, BINS + 1)[1:-1]))
    index = np.searchsorted(edges, source)
    sums, counts = np.bincount(index, target, len(edges) + 1), np.bincount(index, minlength=len(edges) + 1)
    return np.asarray((sums / np.maximum(counts, 1))[index])


def data_range_of(target: np.ndarray, mask: np.ndarray, hu: bool) -> float:
    if hu:
        return HU_DATA_RANGE
    high, low = np.percentile(target[mask], (99.9, 0.1))
    return float(high - low)


def synthesis_scores(target: np.ndarray, result: np.ndarray, sources: dict[str, np.ndarray], mask: np.ndarray, hu: bool) -> dict[str, Any]:
    """One row of figures. `mae_best_mapping` is that of the input whose mapping is best; `mae_against_mapping` is the bar's ratio."""
    target, result = np.asarray(target, np.float64), np.asarray(result, np.float64)
    truth, data_range = target[mask], data_range_of(target, mask, hu)

    def mae(values: np.ndarray) -> float:
        return float(np.abs(values - truth).mean())

    mapped = {name: mae(best_mapping(np.asarray(source, np.float64)[mask], truth)) for name, source in sources.items()}
    error = float(np.mean((result[mask] - truth) ** 2))
    maps = structure_maps(target, result, data_range)
    row: dict[str, Any] = {
        "voxels": int(mask.sum()),
        "mae": mae(result[mask]),
        "psnr": float(10 * np.log10(data_range**2 / error)) if error else float("inf"),
        "ssim": float(maps[0][0][mask].mean()),
        "ms_ssim": multi_scale(maps, mask),
        "data_range": data_range,
        "mae_best_constant": mae(np.full_like(truth, np.median(truth))),
        "mae_mapping_of": mapped,
        "mae_best_mapping": min(mapped.values()),
    }
    row["mae_against_mapping"] = row["mae"] / row["mae_best_mapping"]
    if hu:
        classes = {"air": target < AIR_HU, "soft": (target >= AIR_HU) & (target <= BONE_HU), "bone": target > BONE_HU}
        row["mae_of"] = {name: mae_inside(target, result, mask & voxels) for name, voxels in classes.items()}
        row["bone_dice"] = dice((target > BONE_HU) & mask, (result > BONE_HU) & mask)
    return row


def mae_inside(target: np.ndarray, result: np.ndarray, mask: np.ndarray) -> float | None:
    return float(np.abs(target - result)[mask].mean()) if mask.any() else None


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two masks, 0 to 1."""
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


# ---------------------------------------------------------------- SSIM on several scales
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al., MS-SSIM, 2003: fine to coarse
SIGMA = 1.5


def structure_maps(target: np.ndarray, result: np.ndarray, data_range: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """(SSIM, its contrast-and-structure factor) as maps, on each of up to five scales; a scale halves every axis of 22 voxels or more."""
    from scipy import ndimage

    maps = []
    for _ in WEIGHTS:
        maps.append(_ssim(target, result, data_range))
        if min(target.shape) < 22:
            break
        target, result = (ndimage.uniform_filter(image, 2)[1::2, 1::2, 1::2] for image in (target, result))
    return maps


def _ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy import ndimage

    def blur(image: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(image, SIGMA, truncate=3.5))

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    structure = (2 * both + c2) / (var_a + var_b + c2)
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure, structure


def multi_scale(maps: list[tuple[np.ndarray, np.ndarray]], mask: np.ndarray) -> float:
    """MS-SSIM: the weighted geometric mean of the structure on the finer scales and the whole SSIM on the coarsest."""
    weights = np.array(WEIGHTS[: len(maps)])
    total = 1.0
    for scale, (weight, (ssim, structure)) in enumerate(zip(weights / weights.sum(), maps, strict=True)):
        if scale:
            mask = mask[1::2, 1::2, 1::2]
        values = (ssim if scale == len(maps) - 1 else structure)[mask]
        total *= max(0.0, float(values.mean()) if values.size else 0.0) ** float(weight)
    return total
