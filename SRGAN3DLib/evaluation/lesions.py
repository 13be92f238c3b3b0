"""Does a faint lesion survive? Small blobs are put into a true scan, and looked for in what comes out.

The scan is degraded, interpolated and super-resolved twice, with and without the blobs, under the same noise. What differs between the
two is the trace of the blobs: its amplitude, fitted with the blob's own shape, is the share of the contrast that is left. At sites where no
blob was put, the same fit to the error of the result says what a reader could take for a blob.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.evaluation.metrics import head_mask
from SRGAN3DLib.physics.degradations import FWHM_PER_SIGMA

SIZES_MM = (1.0, 2.0, 3.0, 4.0, 6.0)
CONTRASTS = (0.05, 0.1, 0.2, 0.4)
SITES = 24  # blobs of one size in one scan, every second one dark
RIM_MM = 6.0  # no blob is nearer to the rim of the head
TISSUE = (0.35, 1.6)  # of the median inside the head: no blob lies in fluid, bone or fat

Restore = Callable[[np.ndarray], np.ndarray]
"""A degraded scan (K, J, I) -> the result on the true scan's grid."""


@dataclass(frozen=True)
class Blob:
    """A Gaussian of full width `size_mm` at half its height, at a voxel of the true scan; `contrast` is a share of the tissue around."""

    centre_kji: tuple[int, int, int]
    size_mm: float
    contrast: float

    def window(self, shape_kji: Sequence[int], spacing_kji_mm: Sequence[float]) -> tuple[tuple[slice, ...], np.ndarray]:
        """Where the blob is above 1 % of its height, and its shape there (height 1)."""
        sigma = self.size_mm / FWHM_PER_SIGMA
        parts, distances = [], []
        for at, n, mm in zip(self.centre_kji, shape_kji, spacing_kji_mm, strict=True):
            reach = int(np.ceil(3.1 * sigma / mm))
            first, last = max(0, at - reach), min(n, at + reach + 1)
            parts.append(slice(first, last))
            distances.append((np.arange(first, last) - at) * mm / sigma)
        k, j, i = distances
        square = k[:, None, None] ** 2 + j[None, :, None] ** 2 + i[None, None, :] ** 2
        return tuple(parts), np.exp(-0.5 * square)


def sites(truth: np.ndarray, spacing_kji_mm: Sequence[float], apart_mm: float, count: int, seed: int) -> list[tuple[int, int, int]]:
    """`count` voxels in even tissue of the head of `truth` (K, J, I), at least `apart_mm` from each other, drawn by `seed`.

    Raises `VolumeError` where the head has no room for them.
    """
    from scipy import ndimage

    mask = head_mask(truth)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_kji_mm)[1:-1, 1:-1, 1:-1]
    local = ndimage.uniform_filter(np.asarray(truth, np.float32), 3)
    middle = np.median(truth[mask]) if mask.any() else 0.0
    fit = (depth > RIM_MM) & (local > TISSUE[0] * middle) & (local < TISSUE[1] * middle)
    candidates = np.argwhere(fit)
    np.random.default_rng(seed).shuffle(candidates)
    chosen: list[np.ndarray] = []
    for one in candidates:
        if all(np.linalg.norm((one - other) * spacing_kji_mm) >= apart_mm for other in chosen):
            chosen.append(one)
            if len(chosen) == count:
                return [(int(k), int(j), int(i)) for k, j, i in chosen]
    raise VolumeError(f"only {len(chosen)} of {count} sites for blobs {apart_mm:g} mm apart: a larger part of the head is needed")


def put(truth: np.ndarray, blobs: Sequence[Blob], spacing_kji_mm: Sequence[float]) -> np.ndarray:
    """The scan with the blobs in it."""
    with_blobs = np.array(truth, np.float32)
    for blob in blobs:
        where, shape = blob.window(truth.shape, spacing_kji_mm)
        with_blobs[where] += blob.contrast * _tissue(truth, where, shape) * shape.astype(np.float32)
    return with_blobs


def amplitude(image: np.ndarray, truth: np.ndarray, blob: Blob, spacing_kji_mm: Sequence[float]) -> float:
    """How much of the blob's shape is in `image`, as a share of the tissue around: a least-squares fit of its height and a constant."""
    where, shape = blob.window(image.shape, spacing_kji_mm)
    inner = shape - shape.mean()
    height = float((image[where] * inner).sum() / (inner * inner).sum())
    return height / _tissue(truth, where, shape)


def _tissue(truth: np.ndarray, where: tuple[slice, ...], shape: np.ndarray) -> float:
    return float(np.average(truth[where], weights=shape))


def lesion_rows(
    truth: np.ndarray,
    spacing_kji_mm: Sequence[float],
    degrade: Callable[[np.ndarray], np.ndarray],
    restorers: dict[str, Restore],
    sizes_mm: Sequence[float] = SIZES_MM,
    contrasts: Sequence[float] = CONTRASTS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row a size and a contrast. `degrade` adds the same noise at each call; `restorers` are methods by name.

    A row has, under `kept`, the mean share of the contrast that each method leaves (1: all of it), and under `invented` the 95th
    percentile of the contrast that it shows at as many sites without a blob, as a share of the tissue.
    """
    rows = []
    plain = {name: restore(degrade(truth)) for name, restore in restorers.items()}
    for size in sizes_mm:
        places = sites(truth, spacing_kji_mm, max(3 * size, 6.0), 2 * SITES, seed)
        for contrast in contrasts:
            signs = [contrast * (-1) ** number for number in range(SITES)]
            blobs = [Blob(place, size, sign) for place, sign in zip(places[::2], signs, strict=True)]
            empty = [Blob(place, size, contrast) for place in places[1::2]]
            changed = degrade(put(truth, blobs, spacing_kji_mm))
            row: dict[str, Any] = {"size_mm": size, "contrast": contrast, "kept": {}, "invented": {}}
            for name, restore in restorers.items():
                result = restore(changed)
                trace, error = result - plain[name], result - truth
                left = [amplitude(trace, truth, blob, spacing_kji_mm) / blob.contrast for blob in blobs]
                row["kept"][name] = float(np.mean(left))
                row["invented"][name] = float(np.percentile([abs(amplitude(error, truth, blob, spacing_kji_mm)) for blob in empty], 95))
            rows.append(row)
    return rows


def lesion_markdown(rows: list[dict[str, Any]], factors_kji: Factors) -> str:
    """The rows as a table for people."""
    names = list(rows[0]["kept"])
    head = ["size, mm", "contrast", *(f"kept by {name}" for name in names), *(f"invented by {name}" for name in names)]
    lines = [f"Blobs in the true scan, factors {'x'.join(map(str, factors_kji))} along K, J, I", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"{row['size_mm']:g}", f"{100 * row['contrast']:.0f} %"]
        cells += [f"{row['kept'][name]:.2f}" for name in names] + [f"{100 * row['invented'][name]:.1f} %" for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
