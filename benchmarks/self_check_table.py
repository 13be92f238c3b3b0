"""How near the check before a run comes to the gain that is measured afterwards: one row a scan, blur and noise.

    python benchmarks/self_check_table.py --model t1-x2 --data DATA/validation/isotropic --out benchmarks/results/self-check.md

Of each scan the central box is truth. It is degraded, `self_check` predicts the gain from the degraded scan alone, and the model is
then scored against the truth by the protocol. Rows are written as they come.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.evaluation.self_check import self_check
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.volumes.scans import find_scans
from SRGAN3DLib.volumes.volume import Volume

HEAD = """# What the check before a run predicts, and what is measured

Made by `python benchmarks/self_check_table.py --model {model} --data DATA/validation/isotropic --box {box}`, seed 0; DATA is never
trained on. Gain over the best interpolation, dB; blur and noise are estimated, as for a user's scan.

| scan | blur | noise, % | predicted | measured | CPU seconds of the check |
|---|---|---|---|---|---|
"""


def central(volume: Volume, box: int, factor: int) -> np.ndarray:
    """The central box of the scan, a multiple of the factor along each axis."""
    sides = [min(box, n) // factor * factor for n in volume.array.shape]
    return volume.array[tuple(slice((n - side) // 2, (n - side) // 2 + side) for n, side in zip(volume.array.shape, sides, strict=True))]


def summary(rows: list[tuple[float, float]]) -> str:
    """What (predicted, measured) pairs come to, as one sentence."""
    told, seen = np.array(rows).T
    rms, bias, right = np.sqrt(np.mean((told - seen) ** 2)), np.mean(told - seen), np.mean((told > 0) == (seen > 0))
    harmed = ", ".join(f"{one:+.2f}" for one, other in rows if other < 0) or "no such case"
    return (
        f"{len(rows)} cases: RMS of the difference {rms:.2f} dB, mean {bias:+.2f} dB; the sign is right in {right:.0%}; "
        f"predicted where less than 0 was measured: {harmed}."
    )


def scatter(rows: list[tuple[float, float]], path: Path) -> None:
    """A picture of the (predicted, measured) pairs, with the line where both are equal and the band of 0.7 dB."""
    figure, axes = pyplot.subplots(figsize=(4, 4), dpi=100, layout="constrained")
    told, seen = np.array(rows).T
    ends = np.array([min(told.min(), seen.min(), 0.0), max(told.max(), seen.max())])
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.fill_between(ends, ends - 0.7, ends + 0.7, color="0.9", label="within 0.7 dB")
    axes.scatter(told, seen, s=14)
    axes.set(xlabel="predicted gain, dB", ylabel="measured gain, dB")
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t1-x2")
    parser.add_argument("--data", required=True)
    parser.add_argument("--box", type=int, default=144, help="truth voxels along each axis")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 2.0, 4.0])
    parser.add_argument("--out", default="self-check.md")
    args = parser.parse_args()
    resolver = SuperResolver.load(args.model, "cpu")
    factors = resolver.header.generator.factors
    out = Path(args.out)
    out.write_text(HEAD.format(model=Path(args.model).stem, box=args.box))
    rows = []
    for scan in find_scans(args.data):
        volume = scan.read()
        truth = central(volume, args.box, max(factors))
        for kind in ("gaussian", "box", "kspace"):
            for noise in args.noise:
                case = Case.make(scan.name, truth, factors, kind, noise, 0)
                coarse = Volume.from_array(case.lr, volume.geometry.coarsen(factors).ijk_to_ras)
                began = time.process_time()
                predicted, seconds = self_check(coarse, resolver).gain_db, time.process_time() - began
                measured = case.gain(resolver(coarse).volume.array)
                rows.append((predicted, measured))
                with out.open("a") as file:
                    file.write(f"| {scan.name} | {kind} | {noise:g} | {predicted:+.2f} | {measured:+.2f} | {seconds:.1f} |\n")
    with out.open("a") as file:
        file.write(f"\n{summary(rows)}\n")
    scatter(rows, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
