"""The shipped models' figures, from their headers: python benchmarks/model_table.py [--write]

`--write` puts the short table into README.md and the full one into docs/results.md; a test holds them together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from SRGAN3DLib.contract.checkpoint_header import catalogue, read_header
from SRGAN3DLib.contract.result_info import condition

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("gaussian", "box", "kspace")
LEVELS = (4.0, 8.0)  # noise, percent of the truth's range
PLACES = {"README.md": ("<!-- models -->\n", "<!-- /models -->"), "docs/results.md": ("<!-- all models -->\n", "<!-- /all models -->")}


def short_table() -> str:
    """Mean gains with blur and noise estimated, dB: one line a model. With noise: gaussian / box / kspace."""
    lines = ["| model | makes of one voxel | gaussian | box | kspace | 4 % noise | 8 % noise |", "|---|---|---|---|---|---|---|"]
    for name, path in catalogue().items():
        header = read_header(path)
        factors = " x ".join(map(str, reversed(header.generator.factors)))
        gains = header.metrics["by_blur_told"]["auto"]
        cells = " | ".join([*(f"{gains[kind]['psnr_gain']:+.1f}" for kind in KINDS), *(noisy(gains, level, 1) for level in LEVELS)])
        lines.append(f"| [{name}](SRGAN3DLib/models/{name}.md) | {factors} | {cells} |")
    return "\n".join(lines) + "\n"


def noisy(gains: dict[str, dict[str, float]], level: float, digits: int) -> str:
    """Mean gains at a noise level, gaussian / box / kspace; empty where none were measured."""
    found = [gains.get(condition(kind, level)) for kind in KINDS]
    return " / ".join(f"{one['psnr_gain']:+.{digits}f}" for one in found if one)


def full_table() -> str:
    """Mean gains over the best interpolation and the worst scan's, dB, by what was told of blur and noise. With noise: the means."""
    lines = [
        "| model | factors (I x J x K) | told | gaussian | box | kspace | 4 % noise | 8 % noise | SSIM gain (gaussian) | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, path in catalogue().items():
        header = read_header(path)
        factors = "x".join(map(str, reversed(header.generator.factors)))
        for told, kinds in header.metrics["by_blur_told"].items():
            words = told.replace("auto", "estimated").replace("known", "given")
            cells = [f"{kinds[kind]['psnr_gain']:+.2f} ({kinds[kind]['worst_psnr_gain']:+.2f})" for kind in KINDS]
            cells += [noisy(kinds, level, 2) for level in LEVELS]
            ssim, size = f"{kinds['gaussian']['ssim_gain']:+.3f}", f"{path.stat().st_size / 1e6:.1f}"
            lines.append(f"| [{name}](../SRGAN3DLib/models/{name}.md) | {factors} | {words} | {' | '.join(cells)} | {ssim} | {size} |")
    return "\n".join(lines) + "\n"


TABLES = {"README.md": short_table, "docs/results.md": full_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    for name, table in TABLES.items():
        if write:
            begin, end = PLACES[name]
            before, rest = (ROOT / name).read_text(encoding="utf-8").split(begin)
            (ROOT / name).write_text(before + begin + table() + end + rest.split(end)[1], encoding="utf-8")
        print(table())


if __name__ == "__main__":
    main()
