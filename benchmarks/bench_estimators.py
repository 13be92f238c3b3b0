"""How well noise and blur are estimated: python benchmarks/bench_estimators.py --data FOLDER [--model t1-x2]

Noise: Rician noise of 1, 2, 4 and 8 % of bright tissue is added to each isotropic scan made coarser by two; the table gives estimate over
truth, with the background as it is and masked. The scan's own noise comes on top of the added one and is not taken off.
Blur: the gain in dB of the model on the central half of each scan, told the blur and with the blur estimated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from SRGAN3DLib import SuperResolver, Volume
from SRGAN3DLib.contract.job_values import DEGRADATIONS
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.physics.noise_estimator import estimate_noise
from SRGAN3DLib.volumes.scans import find_scans

PERCENTS = (1, 2, 4, 8)
MASKED_BELOW = 0.04  # of bright tissue
FACTORS = (2, 2, 2)
WITHIN = 0.15


def noise_ratios(array: np.ndarray, spacing_kji_mm: tuple[float, float, float]) -> dict[tuple[bool, int], float]:
    """(masked, percent) -> estimate over truth for one coarse scan (K, J, I)."""
    gain = IntensityScale.fit(array).gain
    rng = np.random.default_rng(0)
    ratios = {}
    for percent in PERCENTS:
        sigma = percent / 100 * gain
        real, imaginary = (rng.normal(0, sigma, array.shape) for _ in range(2))
        noisy = np.hypot(array + real, imaginary).astype(np.float32)
        for masked in (False, True):
            seen = np.where(array < MASKED_BELOW * gain, np.float32(0), noisy) if masked else noisy
            scale = IntensityScale.fit(seen)
            found = estimate_noise(seen, spacing_kji_mm, scale)
            ratios[masked, percent] = found.sigma * scale.gain / sigma if found else float("nan")
    return ratios


def blur_gains(resolver: SuperResolver, name: str, array: np.ndarray, kind: str) -> tuple[float, float, list[float] | None]:
    """Gain (dB) told and estimated on the central half of a scan, and the estimated transfers."""
    half = tuple(slice(n // 4, n // 4 + n // 2) for n in array.shape)
    case = Case.make(name, array[half], FACTORS, kind)
    volume = Volume.from_array(case.lr, np.diag([2.0, 2.0, 2.0, 1.0]))
    told, own = (resolver(volume, blur=blur) for blur in (kind, "auto"))
    return case.gain(told.volume.array), case.gain(own.volume.array), own.info["blur"]["mtf_kji"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", help="measure the gain of this model too, told the blur and with the blur estimated")
    args = parser.parse_args()
    resolver = SuperResolver.load(args.model, device="cpu") if args.model else None
    ratios: list[dict[tuple[bool, int], float]] = []
    for scan in find_scans(args.data):
        volume = scan.read()
        k, j, i = volume.geometry.spacing_kji_mm
        if max(k, j, i) > 1.6 * min(k, j, i):  # a stack of slices
            continue
        for kind in DEGRADATIONS:
            ratios.append(noise_ratios(Degradation.named(kind, FACTORS).forward(volume.array), (2 * k, 2 * j, 2 * i)))
            shown = "  ".join(f"{'masked' if masked else 'whole'} {p} %: {r:.2f}" for (masked, p), r in ratios[-1].items())
            print(f"{scan.path.name:32} {kind:9} noise {shown}", flush=True)
            if resolver is not None:
                told, own, mtf = blur_gains(resolver, scan.path.name, volume.array, kind)
                print(f"{scan.path.name:32} {kind:9} gain told {told:+.2f}, estimated {own:+.2f} dB, transfers {mtf}", flush=True)
    for key in ratios[0] if ratios else ():
        values = np.array([row[key] for row in ratios])
        good = 100 * np.mean(np.abs(values - 1) < WITHIN)
        print(
            f"{'masked' if key[0] else 'whole'} {key[1]} %: median {np.nanmedian(values):.2f}, within 15 %: {good:.0f} % of {len(values)}"
        )


if __name__ == "__main__":
    main()
