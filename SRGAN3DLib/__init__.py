"""SRGAN3DLib: super-resolution of 3-D head MRI. `from SRGAN3DLib import SuperResolver, Volume`; no torch until one is used."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "SuperResolver": "inference.super_resolver",
    "Synthesizer": "inference.synthesizer",
    "Volume": "volumes.volume",
    "Geometry": "volumes.geometry",
    "Checkpoint": "networks.checkpoint",
    "Degradation": "physics.degradations",
    "Trainer": "training.trainer",
}
__all__ = ["Checkpoint", "Degradation", "Geometry", "SuperResolver", "Synthesizer", "Trainer", "Volume", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
