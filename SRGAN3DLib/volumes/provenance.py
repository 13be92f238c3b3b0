"""The provenance text that goes into a written file and comes out of it again: JSON, cut into pieces that a header can hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from SRGAN3DLib.contract.errors import JobError

NAME = "SRGAN3D_provenance"
TEXT_LIMIT = 200_000  # bytes; a header of text has at most 1 MB
_PIECE = 400  # letters; NRRD may double each, and a line has at most 900 bytes
_KEY = re.compile(NAME + r"_(\d{1,4})")


def one_line(text: str) -> str:
    """The JSON text in one line of ASCII. Raises `JobError` for what is no JSON, and for more than 200 kB."""
    try:
        line = json.dumps(json.loads(text), separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise JobError(f"provenance {text[:40]!r}: JSON text must be given ({error})") from None
    if len(line) > TEXT_LIMIT:
        raise JobError(f"provenance of {len(line)} bytes: at most {TEXT_LIMIT} fit into a header")
    return line


def pieces(text: str) -> list[tuple[str, str]]:
    """(key, piece) for the header of text, in order."""
    line = one_line(text)
    return [(f"{NAME}_{n}", line[start : start + _PIECE]) for n, start in enumerate(range(0, len(line), _PIECE))]


def from_pieces(entries: Iterable[tuple[str, str]]) -> str | None:
    """What `pieces` made of a text, from all entries of a header; None where there is none."""
    found = {int(match[1]): value for key, value in entries if (match := _KEY.fullmatch(key))}
    return "".join(found[n] for n in sorted(found)) or None
