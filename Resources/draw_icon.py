"""Draws our icon: one brain slice, coarse voxels at the left, ever finer ones to the right. Run: python Resources/draw_icon.py"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE, INK, PAPER = 128, (244, 240, 230), (18, 34, 58)


def brain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Brightness, 0 to 1, of a made-up axial slice at points of the unit square's [-1, 1] frame."""
    angle = np.arctan2(y, x)
    radius = np.hypot(x / 0.80, y / 0.94)
    folds = 0.075 * np.cos(17 * angle + 6 * radius) + 0.03 * np.cos(29 * angle + 1)
    skull = np.exp(-(((radius - 0.99) / 0.035) ** 2))
    grey = 0.42 * (radius + 0.4 * folds < 0.86)
    white = 0.55 / (1 + np.exp((radius + folds - 0.66) / 0.02))
    ventricles = np.exp(-((((np.abs(x) - 0.13 - 0.30 * y**2) / 0.07) ** 2 + (y / 0.34) ** 2) ** 2))
    fissure = np.exp(-((x / 0.025) ** 2)) * (np.abs(y) > 0.40) * (radius < 0.86)
    return np.clip(0.85 * skull + grey + white - 0.95 * ventricles - 0.50 * fissure, 0, 1)


def draw() -> Image.Image:
    """The icon, (SIZE, SIZE) RGBA, corners transparent."""
    fine = 4 * SIZE
    grid = (np.arange(fine) + 0.5) / fine * 2 - 1
    picture = brain(*np.meshgrid(grid, grid))
    value = np.empty((SIZE, SIZE))
    for left, right, cell in ((0, 32, 16), (32, 48, 8), (48, 64, 4), (64, 128, 1)):
        step = cell * fine // SIZE
        means = picture.reshape(fine // step, step, fine // step, step).mean(axis=(1, 3))
        value[:, left:right] = means.repeat(cell, 0).repeat(cell, 1)[:, left:right]
    colour = np.array(PAPER) + value[..., None] * (np.array(INK) - np.array(PAPER))
    mask = Image.new("L", (SIZE * 4, SIZE * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, SIZE * 4 - 1, SIZE * 4 - 1), radius=72, fill=255)
    icon = Image.fromarray(colour.round().astype(np.uint8)).convert("RGBA")
    icon.putalpha(mask.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    return icon


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    for path in (root / "Resources/SRGAN3D.png", root / "SRGAN3D/Resources/Icons/SRGAN3D.png"):
        draw().save(path, optimize=True)
