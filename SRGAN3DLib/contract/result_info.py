"""What a result's info says, in words: the command line, the reports and the panel print the same."""

from __future__ import annotations

from typing import Any


def blur_in_words(blur: dict[str, Any]) -> str:
    """The source of the blur and its transfer at Nyquist along K, J, I, as in `estimated 0.41 / 0.41 / 0.41`."""
    mtf = blur["mtf_kji"]
    return str(blur["source"]) + (f" {' / '.join(f'{v:.2f}' for v in mtf)}" if mtf else "")
