"""AutoResolver: chooses the shipped model for each scan, and says why. One model is ready at a time."""

from __future__ import annotations

from typing import Any

from SRGAN3DLib.contract.checkpoint_header import catalogue, read_header
from SRGAN3DLib.contract.events import Log
from SRGAN3DLib.contract.model_choice import AUTO, ModelChoice, choose_model
from SRGAN3DLib.inference.super_resolver import Result, SuperResolver
from SRGAN3DLib.volumes.volume import Volume


class AutoResolver:
    """Called as a `SuperResolver` is; `AutoResolver()(volume, spacing_ijk_mm=(1, 1, 1)).volume` needs no model to be named."""

    def __init__(self, device: str = "auto", precision: str = "auto", memory_limit: int | str | None = None):
        self.terms = (device, precision, memory_limit)
        headers = {name: read_header(path) for name, path in catalogue().items()}
        self.headers = {name: header for name, header in headers.items() if header.task == "super-resolution"}
        self.ready: tuple[str, SuperResolver] | None = None

    def choose(self, volume: Volume, spacing_ijk_mm: tuple[float, float, float] | None, factors_ijk: Any = None) -> ModelChoice:
        """The model for a scan. Raises `JobError`."""
        return choose_model(self.headers, volume.geometry.spacing_ijk_mm, spacing_ijk_mm, factors_ijk)

    def resolver(self, choice: ModelChoice) -> SuperResolver:
        """The chosen model, made ready."""
        if self.ready is None or self.ready[0] != choice.name:
            self.ready = None  # two at once could be too much
            self.ready = (choice.name, SuperResolver.load(choice.name, *self.terms))
        return self.ready[1]

    def __call__(
        self, volume: Volume, *, spacing_ijk_mm: tuple[float, float, float] | None = None, factors_ijk: Any = None, **options: Any
    ) -> Result:
        """Super-resolve one scan with the model chosen for it; the other `options` are those of `SuperResolver.__call__`."""
        choice = self.choose(volume, spacing_ijk_mm, factors_ijk)
        if "on_progress" in options:
            options["on_progress"](Log(f"model: {choice.reason}"))
        result = self.resolver(choice)(volume, spacing_ijk_mm=spacing_ijk_mm, factors_ijk=choice.factors_ijk, **options)
        asked = {**result.info["asked"], "model": AUTO}
        return Result(result.volumes, {**result.info, "asked": asked, "choice": {"model": choice.name, "reason": choice.reason}})
