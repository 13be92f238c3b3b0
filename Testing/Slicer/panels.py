"""A panel with the doubles, on a made-up process or a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import Bench
from fake_process import FakeProcess


def make(model: Path | str, process: Any = FakeProcess) -> Bench:
    from SRGAN3DSlicer import preferences

    import SRGAN3D

    key = preferences.add_model(str(model)) if isinstance(model, Path) else model
    widget = SRGAN3D.SRGAN3DWidget()
    widget.setup()
    return Bench(widget, key, process)
