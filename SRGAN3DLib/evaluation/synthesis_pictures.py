"""Pictures of a synthesised image: the inputs, the result, the target and their difference, in two planes; one window for two images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from SRGAN3DLib.volumes.files import whole_file

CT_WINDOW = (-450.0, 1050.0)  # level 300, width 1500: soft tissue and bone in one picture
CT_DIFFERENCE = 500.0


def synthesis_picture(
    path: str | Path, title: str, inputs: dict[str, np.ndarray], made: np.ndarray, target: np.ndarray, mask: np.ndarray,
    spacing_kji_mm: tuple[float, float, float], hu: bool, caption: str = "",
) -> None:  # fmt: skip
    """Write a PNG with a row for the plane across K and one for that across I, through the middle of the mask.

    All arrays are (K, J, I) on one grid. Each input has its own window (P0.5 to P99.8); result and target share one, and the difference
    is drawn from blue (too dark) to red (too bright).
    """
    from matplotlib.figure import Figure

    low, high = CT_WINDOW if hu else tuple(np.percentile(target[mask], (0.5, 99.8)))
    worst = CT_DIFFERENCE if hu else 0.4 * (high - low)
    centre = [
        int(np.average(np.arange(n), weights=mask.sum(axis=tuple(a for a in range(3) if a != axis)))) for axis, n in enumerate(mask.shape)
    ]
    shown = [(name, image, *np.percentile(image, (0.5, 99.8)), "gray") for name, image in inputs.items()]
    shown += [("synthesised", made, low, high, "gray"), ("target", target, low, high, "gray")]
    shown += [("synthesised - target", np.where(mask, made - target, 0), -worst, worst, "RdBu_r")]
    planes = [(0, spacing_kji_mm[1] / spacing_kji_mm[2]), (2, spacing_kji_mm[0] / spacing_kji_mm[1])]
    figure = Figure(figsize=(2.7 * len(shown), 5.9), dpi=100, facecolor="black", layout="constrained")
    figure.suptitle(title + (f"\n{caption}" if caption else ""), color="white", fontsize=11)
    axes = figure.subplots(2, len(shown), squeeze=False)
    for row, (axis, aspect) in enumerate(planes):
        for column, (name, image, least, most, colours) in enumerate(shown):
            one = axes[row][column]
            plane = np.take(image, centre[axis], axis=axis)
            one.imshow(plane, vmin=least, vmax=most, cmap=colours, aspect=aspect, origin="lower", interpolation="nearest")
            one.set_axis_off()
            if row == 0:
                window = f"{least:.0f} to {most:.0f}" + (" HU" if hu and column >= len(inputs) else "")
                one.set_title(f"{name}\n{window}", color="white", fontsize=8)
    with whole_file(path) as part:
        figure.savefig(part, format="png", facecolor="black")
