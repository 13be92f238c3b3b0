"""One page about one result: pictures in three planes, spectra, figures, and what to think of it. One file, no network.

Sources of the numbers are the result's own info; the page invents none.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from SRGAN3DLib.contract.result_info import blur_in_words, noise_in_words
from SRGAN3DLib.inference.super_resolver import Result
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.axis_order import AxisOrder
from SRGAN3DLib.volumes.files import write_text
from SRGAN3DLib.volumes.volume import Volume

TEMPLATE = Path(__file__).with_name("report.html")
PLANES = ("axial", "coronal", "sagittal")  # across the axes K, J, I of an array in RAS order
OVERLAYS = {"error": "bound of the error", "detail": "inferred detail"}  # names of a result's volumes that are shown over it
QUALITY = 88  # of the JPEG pictures: 30 to 60 kB each
LARGEST_SIDE = 640  # pixels


def write_html_report(path: str | Path, scan: Volume, result: Result, check: dict[str, Any] | None = None) -> None:
    """Write the page about `result`, made of `scan`, to `path`; `check` is the self-check's account, where one was made.

    Raises `JobError` or `ResourceError` where the file cannot be written.
    """
    info, sr = result.info, result.volume
    order = AxisOrder.towards_ras(scan.geometry)
    fine, coarse = order.apply(sr.array), order.apply(scan.array)
    pictures = {"scan": _onto(coarse, fine.shape, "nearest"), "interpolation": _onto(coarse, fine.shape, "cubic"), "result": fine}
    layers = {name: order.apply(result.volumes[name].array) for name in OVERLAYS if name in result.volumes}
    spacing = order.per_axis(sr.geometry.spacing_kji_mm)
    name = scan.path.name if scan.path is not None else "scan"
    fields = {
        "title": html.escape(f"{name}: super-resolved by {info['model']['name']}"),
        "subtitle": html.escape(_subtitle(scan, sr)),
        "summary": _summary(info, check),
        "overlays": "\n".join(_slider(layer) for layer in layers),
        "planes": "\n".join(_plane(axis, pictures, layers, spacing) for axis in range(3)),
        "spectra": _spectra(pictures, order.per_axis(scan.geometry.shape_kji)),
        "figures": "\n".join(_row(key, value) for key, value in _figures(info, check).items()),
        "account": html.escape(json.dumps(info, indent=1, default=str)),
    }
    write_text(path, Template(TEMPLATE.read_text(encoding="utf-8")).substitute(fields))


def _subtitle(scan: Volume, sr: Volume) -> str:
    before, after = (" x ".join(f"{mm:.2f}" for mm in volume.geometry.spacing_ijk_mm) for volume in (scan, sr))
    shape = " x ".join(map(str, sr.geometry.shape_kji[::-1]))
    return f"{before} mm before, {after} mm after; {shape} voxels"


def _summary(info: dict[str, Any], check: dict[str, Any] | None) -> str:
    """What to think of it, in sentences."""
    lines = []
    if check is not None:
        lines.append(str(check["verdict"]))
    agreement = info["consistency"]["rms_of_range"]
    if agreement is None:
        lines.append("How well the result agrees with the scan is not known, because the scan's blur is not known.")
    else:
        lines.append(f"Made coarse again, the result agrees with the scan to {100 * agreement:.2f} % of its range.")
    lines += [f"Note: {warning}." for warning in info["warnings"]]
    return "\n".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _figures(info: dict[str, Any], check: dict[str, Any] | None) -> dict[str, str]:
    """Names and values for the table; all from the info."""
    agreement = info["consistency"]["rms_of_range"]
    found = {
        "Model": f"{info['model']['name']}, SHA-256 {info['model']['sha256'][:16]}…",
        "Factors along I, J, K": " x ".join(map(str, reversed(info["factors_kji"]))),
        "Blur told to the network": blur_in_words(info["blur"]),
        "Difference to the scan, when made coarse again": (
            "not known" if agreement is None else f"{100 * agreement:.2f} % of its range (RMS), assuming {info['consistency']['assumes']}"
        ),
        "Device and precision": f"{info['device']}, {info['precision']}",
        "Time": f"{info['seconds']} s",
        "Version": info["version"],
    }
    if info.get("noise"):
        found["Noise"] = noise_in_words(info["noise"])
    if info.get("artefacts"):
        found["Pattern on the coarse grid, overshoot"] = " and ".join(
            f"{info['artefacts'][name]:.3f}" for name in ("checkerboard", "ringing")
        )
    if check is not None:
        found["Self-check"] = json.dumps({key: value for key, value in check.items() if key != "verdict"})
    return found


def _row(key: str, value: str) -> str:
    return f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"


def _slider(layer: str) -> str:
    return f'<label>{OVERLAYS[layer]} <input type="range" min="0" max="1" step="0.05" value="0" data-overlay="{layer}"></label>'


def _plane(axis: int, pictures: dict[str, np.ndarray], layers: dict[str, np.ndarray], spacing_kji_mm: Sequence[float]) -> str:
    """One row of pictures: the plane through the middle of the head."""
    truth = pictures["result"]
    low, high = np.percentile(truth, (0.5, 99.5))
    bright = truth > low + 0.25 * (high - low)
    across = bright.sum(axis=tuple(a for a in range(3) if a != axis))
    index = int(np.average(np.arange(len(across)), weights=across + 1e-9))
    mm = [spacing for a, spacing in enumerate(spacing_kji_mm) if a != axis]
    tall, wide = (n * size for n, size in zip(np.take(truth, index, axis=axis).shape, mm, strict=True))
    figures = []
    for name, array in pictures.items():
        images = [f'<img alt="{name}, {PLANES[axis]}" src="{_jpeg(_shown(array, axis, index), low, high)}">']
        if name == "result":
            for layer, values in layers.items():
                source = _heat(_shown(values, axis, index), float(np.percentile(np.abs(values), 99.5)))
                images.append(f'<img class="over {layer}" style="opacity:0" alt="" src="{source}">')
        view = f'<div class="view" data-plane="{PLANES[axis]}" style="--ratio:{wide:.3f}/{tall:.3f}">{"".join(images)}</div>'
        figures.append(f"<figure>{view}<figcaption>{name}, {PLANES[axis]}</figcaption></figure>")
    return f'<div class="row">{"".join(figures)}</div>'


def _shown(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice as radiologists hang it: head or front up, the patient's right on the left side."""
    picture = np.take(array, index, axis=axis)[::-1]
    return picture[:, ::-1] if axis < 2 else picture


def _onto(array: np.ndarray, shape_kji: Sequence[int], kind: str) -> np.ndarray:
    """The scan on the result's grid: voxels repeated, or interpolated; also where the result was resampled."""
    from scipy import ndimage

    factors = [fine / coarse for fine, coarse in zip(shape_kji, array.shape, strict=True)]
    if kind == "cubic" and all(f == int(f) for f in factors):
        k, j, i = map(int, factors)
        return interpolate(array, (k, j, i), "cubic")
    return np.asarray(ndimage.zoom(array, factors, order=3 if kind == "cubic" else 0, mode="nearest", grid_mode=True))


def _jpeg(picture: np.ndarray, low: float, high: float) -> str:
    from PIL import Image

    grey = np.clip((picture - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
    return _data_url(Image.fromarray(_fitted(grey)), "JPEG", quality=QUALITY)


def _heat(picture: np.ndarray, most: float) -> str:
    """Black, red, yellow: how large, whatever the sign."""
    from PIL import Image

    share = np.clip(np.abs(picture) / max(most, 1e-12), 0, 1)
    colours = np.stack([np.clip(2 * share, 0, 1), np.clip(2 * share - 1, 0, 1), np.zeros_like(share)], axis=-1)
    return _data_url(Image.fromarray(_fitted((255 * colours).astype(np.uint8))), "PNG", optimize=True)


def _fitted(pixels: np.ndarray) -> np.ndarray:
    """Every second or third pixel, where there are very many."""
    step = -(-max(pixels.shape[:2]) // LARGEST_SIDE)
    return np.ascontiguousarray(pixels[::step, ::step])


def _data_url(image: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _spectra(pictures: dict[str, np.ndarray], coarse_kji: Sequence[int]) -> str:
    """Power against frequency as an inline drawing; the result's Nyquist frequency is 1."""
    curves = {name: _radial_power(pictures[name]) for name in ("interpolation", "result")}
    top = max(curve.max() for curve in curves.values())
    bottom = max(min(curve.min() for curve in curves.values()), top - 10)
    limit = min(coarse / fine for coarse, fine in zip(coarse_kji, pictures["result"].shape, strict=True))
    width, height, left = 640, 260, 46
    colours = {"interpolation": "#7a8794", "result": "#0b6e4f"}

    def place(x: float, y: float) -> str:
        return f"{left + x * (width - left - 10):.1f},{10 + (top - max(y, bottom)) / (top - bottom) * (height - 50):.1f}"

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="power spectra">']
    for name, curve in curves.items():
        points = " ".join(place((n + 0.5) / len(curve), value) for n, value in enumerate(curve))
        parts.append(f'<polyline fill="none" stroke="{colours[name]}" stroke-width="2" points="{points}"/>')
    x = left + limit * (width - left - 10)
    parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{height - 40}" stroke="#a03030" stroke-dasharray="5 4"/>')
    parts.append(f'<text x="{left}" y="{height - 8}" font-size="13">0</text>')
    parts.append(f'<text x="{width - 170}" y="{height - 8}" font-size="13">limit of the result\'s grid</text>')
    parts.append(f'<text x="{x - 60:.0f}" y="{height - 8}" font-size="13" fill="#a03030">limit of the scan</text>')
    for row, (name, colour) in enumerate(colours.items()):
        parts.append(f'<text x="{width - 120}" y="{26 + 18 * row}" font-size="13" fill="{colour}">{name}</text>')
    return "".join(parts) + "</svg>"


def _radial_power(array: np.ndarray, bins: int = 40) -> np.ndarray:
    """log10 of the mean power in shells of frequency up to Nyquist, of the central part under a taper."""
    middle = tuple(slice(max(0, n // 2 - 64), n // 2 + 64) for n in array.shape)
    part = np.asarray(array[middle], np.float64)
    for axis, n in enumerate(part.shape):
        window = np.hanning(n + 2)[1:-1]
        part = part * window.reshape([-1 if a == axis else 1 for a in range(3)])
    power = np.abs(np.fft.rfftn(part - part.mean())) ** 2
    axes = [np.fft.fftfreq(n) * 2 for n in part.shape[:2]] + [np.fft.rfftfreq(part.shape[2]) * 2]
    radius = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
    shell = np.minimum((radius * bins).astype(int), bins)
    sums, counts = (np.bincount(shell.ravel(), weights, bins + 1)[:bins] for weights in (power.ravel(), np.ones(power.size)))
    return np.asarray(np.log10(sums / np.maximum(counts, 1) + 1e-12))
