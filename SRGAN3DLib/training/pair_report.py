"""What was found of the pairs of a run, for people: RUN/pairs.md, with an overlay picture of each pair in RUN/pairs/."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from SRGAN3DLib.volumes.files import make_folder, whole_file, write_text

from .laid_pair import LaidPair
from .pair_checks import PairCheck

NAME = "pairs.md"
HEIGHT = 240  # pixels of a picture


def overlay(laid: LaidPair) -> np.ndarray:
    """(h, w, 3) uint8: the middle planes across K and I of the mask, the target in red over the first input in cyan.

    Where the two lie right, outlines have no coloured rim. Pixels are square in mm.
    """
    factors = [t // n for t, n in zip(laid.target.shape, laid.inputs.shape[1:], strict=True)]
    coarse = tuple(slice(f // 2, None, f) for f in factors)
    first, target, mask = laid.inputs[0], laid.target[coarse], laid.mask[coarse]
    spacing = laid.geometry.spacing_kji_mm
    centre = [int(np.median(np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))))) for axis in range(3)]
    planes = []
    for axis, (high, wide) in ((0, (1, 2)), (2, (0, 1))):
        red, cyan = (_grey(np.take(image, centre[axis], axis=axis)) for image in (target, first))
        picture = np.stack([red, cyan, cyan], axis=-1)[::-1]
        mm = picture.shape[0] * spacing[high], picture.shape[1] * spacing[wide]
        rows = np.arange(HEIGHT) * picture.shape[0] // HEIGHT
        width = max(1, round(HEIGHT * mm[1] / mm[0]))
        planes.append(picture[rows][:, np.arange(width) * picture.shape[1] // width])
    return np.concatenate(planes, axis=1)


def _grey(plane: np.ndarray) -> np.ndarray:
    low, high = np.percentile(plane, (1, 99))
    return np.asarray(255 * np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1), np.uint8)


def write_pair_report(run: Path, checks: list[PairCheck], pictures: dict[str, np.ndarray], skipped: list[tuple[Path, str]]) -> Path:
    """Write RUN/pairs.md and its pictures; returns its path. Raises `ResourceError` when the disk is full."""
    from PIL import Image

    make_folder(run / "pairs")
    lines = ["# Pairs", "", "Target in red over the first input in cyan: coloured rims show where the two do not lie on each other.", ""]
    lines += ["| subject | target shows of the body | mutual information, nats | verdict | overlay |", "|---|---|---|---|---|"]
    for check in checks:
        name = re.sub(r"[^\w.-]", "_", check.subject) + ".png"
        with whole_file(run / "pairs" / name) as part:
            Image.fromarray(pictures[check.subject]).save(part, format="PNG")
        verdict = f"left out: {check.fault}" if check.fault else "used"
        lines.append(f"| {check.subject} | {100 * check.overlap:.0f} % | {check.information:.3f} | {verdict} | ![overlay](pairs/{name}) |")
    listed = {check.fault for check in checks if check.fault}
    others = [reason for _, reason in skipped if not any(fault in reason for fault in listed)]
    lines += ["", *(f"- left out: {reason}" for reason in others)]
    write_text(run / NAME, "\n".join(lines).rstrip() + "\n")
    return run / NAME
