"""Pictures of a result beside its truth: LR, best interpolation, SR, HR, their errors, and one corner enlarged."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.volumes.files import whole_file
from SRGAN3DLib.volumes.volume import READABLE

LONGEST_NAME = 150  # bytes of a picture's name without its ending; file systems take 255
INSET = 0.28  # of the picture's shorter side


def picture_names(scans: Sequence[str]) -> list[str]:
    """A file name without its ending for every scan, each different, also where upper and lower case are one.

    `scans` are the names of scans: paths below the folder of the data. A long one keeps its end, where names differ.
    """
    found: list[str] = []
    taken: set[str] = set()
    for scan in scans:
        path = scan.strip("/")
        ending = next((ending for ending in READABLE if path.lower().endswith(ending)), "")
        stem = re.sub(r'[\\/:*?"<>|\x00-\x1f\x7f]', "_", path[: len(path) - len(ending)]) or "scan"
        stem = stem.encode("utf-8", "replace")[-LONGEST_NAME:].decode("utf-8", "ignore")
        choices = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
        name = next(name for name in choices if name.lower() not in taken)
        taken.add(name.lower())
        found.append(name)
    return found


def comparison(
    path: str | Path, title: str, images: dict[str, np.ndarray], lr: np.ndarray, factors: Factors, captions: dict[str, str]
) -> None:
    """Write a PNG with one row a plane for two planes: LR, then each of `images` (the last is the truth), then errors.

    `images` are (K, J, I) arrays on the HR grid by name; `captions` is a second line under some names. One window (P0.5 to P99.8
    of the truth) and one error scale serve the whole picture.
    """
    from matplotlib.figure import Figure

    truth_name, truth = list(images.items())[-1]
    low, high = np.percentile(truth, (0.5, 99.8))
    errors = {name: np.abs(image - truth) for name, image in images.items() if name != truth_name}
    worst = 0.15 * (high - low)
    columns = 1 + len(images) + len(errors)
    planes = _planes(truth)
    heights = [_slice(truth, axis, index).shape[0] / _slice(truth, axis, index).shape[1] for axis, index in planes]
    figure = Figure(figsize=(2.6 * columns, 2.6 * (sum(heights) + len(heights)) + 0.8), dpi=110, facecolor="black", layout="constrained")
    figure.suptitle(title, color="white", fontsize=13, parse_math=False)  # a name may hold dollar signs
    axes = figure.subplots(2 * len(planes), columns, squeeze=False, height_ratios=[r for h in heights for r in (h, 1.0)])
    for row, (axis, index) in enumerate(planes):
        box = _busiest(_slice(truth, axis, index))
        shown: list[tuple[str, np.ndarray, dict[str, Any]]] = [
            ("LR", _nearest(lr, axis, index, factors), {"vmin": low, "vmax": high, "cmap": "gray"})
        ]
        shown += [(name, _slice(image, axis, index), {"vmin": low, "vmax": high, "cmap": "gray"}) for name, image in images.items()]
        shown += [
            (f"|{name} - {truth_name}|", _slice(e, axis, index), {"vmin": 0, "vmax": worst, "cmap": "inferno"})
            for name, e in errors.items()
        ]
        for column, (name, picture, look) in enumerate(shown):
            whole, inset = axes[2 * row][column], axes[2 * row + 1][column]
            whole.imshow(picture, interpolation="nearest", **look)
            j, i, side = box
            whole.plot([i, i + side, i + side, i, i], [j, j, j + side, j + side, j], color="#4fc3f7", linewidth=0.8)
            inset.imshow(picture[j : j + side, i : i + side], interpolation="nearest", **look)
            if row == 0:
                whole.set_title(name + "\n" + captions.get(name, ""), color="white", fontsize=9)
    for one in axes.flat:
        one.set_axis_off()
    with whole_file(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in letters that the font lacks
        figure.savefig(part, format="png", facecolor="black")


def _planes(truth: np.ndarray) -> list[tuple[int, int]]:
    """Two planes through the middle of the head: across the first axis and across the last."""
    bright = truth > 0.25 * np.percentile(truth, 99)
    where = [
        int(np.average(np.arange(n), weights=bright.sum(axis=tuple(a for a in range(3) if a != axis)) + 1e-9))
        for axis, n in enumerate(truth.shape)
    ]
    return [(0, where[0]), (2, where[2])]


def _slice(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    return np.take(array, index, axis=axis)[::-1]


def _nearest(lr: np.ndarray, axis: int, index: int, factors: Factors) -> np.ndarray:
    picture = np.take(lr, min(index // factors[axis], lr.shape[axis] - 1), axis=axis)
    f = [f for a, f in enumerate(factors) if a != axis]
    return np.repeat(np.repeat(picture, f[0], axis=0), f[1], axis=1)[::-1]


def _busiest(picture: np.ndarray) -> tuple[int, int, int]:
    """Corner and side of the square with the most fine structure away from the picture's rim."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    side = max(16, int(INSET * min(picture.shape)))
    tissue = np.clip(picture, *np.percentile(picture, (2, 92)))  # fat and vessels outshine the brain
    fine = uniform_filter(np.abs(tissue - gaussian_filter(tissue, 2.0)), side)
    inside = gaussian_filter(np.asarray(picture > 0.15 * np.percentile(picture, 99), np.float32), side / 2) > 0.9
    fine = fine * inside if inside.any() else fine
    half = side // 2
    fine[:half], fine[-half:], fine[:, :half], fine[:, -half:] = 0, 0, 0, 0
    j, i = np.unravel_index(int(fine.argmax()), fine.shape)
    return int(j) - half, int(i) - half, side
