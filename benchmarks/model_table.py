"""The shipped models' figures as the README shows them, from their headers: python benchmarks/model_table.py [--write]

`--write` puts the table between README.md's `<!-- models -->` marks; a test holds the two together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from SRGAN3DLib.contract.checkpoint_header import catalogue, read_header

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = ("<!-- models -->\n", "<!-- /models -->")


def table() -> str:
    """Mean gains over the best interpolation and the worst scan's, dB: gaussian, box, kspace."""
    lines = [
        "| model | factors (IxJxK) | blur | gaussian | box | kspace | SSIM gain (gaussian) | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, path in catalogue().items():
        header = read_header(path)
        factors = "x".join(map(str, reversed(header.generator.factors)))
        for told, kinds in header.metrics["by_blur_told"].items():
            words = told.replace("auto", "estimated").replace("known", "given")
            cells = [f"{kinds[kind]['psnr_gain']:+.2f} ({kinds[kind]['worst_psnr_gain']:+.2f})" for kind in ("gaussian", "box", "kspace")]
            ssim, size = f"{kinds['gaussian']['ssim_gain']:+.3f}", f"{path.stat().st_size / 1e6:.1f}"
            lines.append(f"| [{name}](SRGAN3DLib/models/{name}.md) | {factors} | {words} | {' | '.join(cells)} | {ssim} | {size} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        text = README.read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0])
        README.write_text(before + MARKS[0] + table() + MARKS[1] + rest.split(MARKS[1])[1], encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
