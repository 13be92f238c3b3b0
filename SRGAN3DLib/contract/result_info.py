"""What a result's info says, in words: the command line, the reports and the panel print the same."""

from __future__ import annotations

from typing import Any


def blur_in_words(blur: dict[str, Any]) -> str:
    """The source of the blur and its transfer at Nyquist along K, J, I, as in `estimated 0.41 / 0.41 / 0.41`."""
    mtf = blur["mtf_kji"]
    return str(blur["source"]) + (f" {' / '.join(f'{v:.2f}' for v in mtf)}" if mtf else "")


def noise_in_words(noise: dict[str, Any]) -> str:
    """The source of the noise and its standard deviation, as in `estimated 3.9 % of bright tissue`."""
    percent = noise["percent"]
    return str(noise["source"]) + (f" {percent:.2g} % of bright tissue" if percent is not None else "")


def condition(degradation: str, noise_percent: float) -> str:
    """What a scan went through before it was scored: `box`, or `box + 4 % noise`."""
    return f"{degradation} + {noise_percent:g} % noise" if noise_percent else degradation
