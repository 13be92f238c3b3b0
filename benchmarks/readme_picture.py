"""The README's picture, from what the demo left: python benchmarks/readme_picture.py [--demo DIR] [--out FILE]"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("coarse scan", "best interpolation", "SRGAN3D", "true scan")
ZOOM = 44  # voxels of the enlarged part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=ROOT / "demo")
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "comparison.png")
    parser.add_argument("--zoom", default="44,78,85", help="K, J, I of the middle of the enlarged part, in voxels of the true scan")
    args = parser.parse_args()
    lr, sr, hr = (Volume.read(args.demo / f"{name}.nii.gz").array for name in ("LR", "SR", "HR"))
    factors = tuple(fine // coarse for fine, coarse in zip(hr.shape, lr.shape, strict=True))
    repeated = lr.repeat(factors[0], 0).repeat(factors[1], 1).repeat(factors[2], 2)
    images = (repeated, interpolate(lr, factors, "lanczos"), sr, hr)
    k, j, i = map(int, args.zoom.split(","))
    low, high = np.percentile(hr[hr > 0.1 * np.percentile(hr, 99)], (1, 97))
    look = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "nearest", "origin": "lower"}
    figure = Figure(figsize=(10.4, 5.1), dpi=120, facecolor="black", layout="constrained")
    axes = figure.subplots(2, 4, height_ratios=[0.8, 1])
    for column, (name, image) in enumerate(zip(NAMES, images, strict=True)):
        whole, zoom = axes[:, column]
        whole.imshow(image[:, 10:, i], **look, extent=(10, image.shape[1], 0, image.shape[0]))
        half = ZOOM // 2
        whole.plot([j - half, j + half, j + half, j - half, j - half], [k - half, k - half, k + half, k + half, k - half], color="#4fc3f7")
        whole.set_title(name, color="white", fontsize=13)
        zoom.imshow(image[k - half : k + half, j - half : j + half, i], **look)
    for one in axes.flat:
        one.set_axis_off()
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, hspace=0.0, wspace=0.0)
    figure.savefig(args.out, facecolor="black")
    Image.open(args.out).convert("L").save(args.out, optimize=True)


if __name__ == "__main__":
    main()
