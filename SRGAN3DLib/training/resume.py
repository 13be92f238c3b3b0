"""What may differ when a run goes on: the number of steps may grow, the rest stays as the run was begun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.configs import TrainConfig, read_train_config
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.strict_json import to_json

from .log import read_log
from .run_folder import CONFIG, METRICS, MODEL, STATE
from .state import read_step

FREE = ("data", "out", "validation", "device")  # where things lie and what computes: the files themselves are checked by the split
OPTIONS = {
    "generator.factors": "--factors",
    "degradation.kind": "--degradation",
    "discriminator.features": "--discriminator-features",
    "gan_steps": "--gan-steps",
    "steps": "--steps",
}
FROM_CONFIG = ("discriminator.", "generator.", "content_weight", "r1_every", "validation_box")  # no option but --config sets these


def continued(run: Path, config: TrainConfig) -> TrainConfig:
    """The configuration with which RUN goes on: `config`, and from the run itself what `config` leaves open.

    Raises `JobError` naming the first option that differs, or the file that is damaged; `CheckpointError` on a damaged state.
    """
    path = run / CONFIG
    if not path.exists():
        return config
    try:
        old = read_train_config(path)
    except JobError as error:
        raise JobError(f"{error}; put a copy of it back, or give --out another folder") from None
    step = read_step(run)
    _check_state_is_there(run, step, old)
    config = replace(config, init=config.init or old.init, subject_pattern=config.subject_pattern or old.subject_pattern)
    if (config.steps, config.gan_steps) != (old.steps, old.gan_steps):
        _check_steps(run, config, old, step or 0)
    differing = list(_differences(to_json(old), to_json(config)))
    if differing:
        # a preset, or factors, bring other values with them
        leading = [one for one in differing if one[0] in ("preset", "generator.factors")] or differing
        shown = ", ".join(f"{_option(name)} {_value(was)} (now {_value(now)})" for name, was, now in leading[:3])
        raise JobError(
            f"{run}: this run was begun with {shown}; give that again, or --config {path} to go on as it was begun, "
            f"or --out another folder, where --init {run / MODEL} starts from this run's model"
        )
    return config


def _check_state_is_there(run: Path, step: int | None, old: TrainConfig) -> None:
    """A run without its state would begin anew and write over its models."""
    if step is None:
        rows = read_log(run / METRICS)
        if rows and rows[-1]["step"] >= 2 * old.save_every:
            raise JobError(
                f"{run / STATE}: is gone, though the run had reached step {rows[-1]['step']}; put it back, or give --out another folder"
            )


def _check_steps(run: Path, config: TrainConfig, old: TrainConfig, step: int) -> None:
    """More steps are another length of the same run, as long as the stage that is over stays as it was."""
    was, now = (f"--steps {c.steps + c.gan_steps} --gan-steps {c.gan_steps}" for c in (old, config))
    if config.steps < old.steps or config.gan_steps < old.gan_steps:
        raise JobError(f"{run}: this run was begun with {was} (now {now}): a run may grow longer, not shorter")
    if config.steps > old.steps and step > old.steps:
        gan = config.steps + config.gan_steps - old.steps
        raise JobError(
            f"{run}: this run was begun with {was} (now {now}), and it is in its GAN stage (step {step}), so that its "
            f"{old.steps} content steps stay; for as many steps in all give --gan-steps {gan}, too"
        )


def _differences(old: dict[str, Any], new: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, then, now) of every value that differs and may not."""
    for name, was in old.items():
        now = new[name]
        if isinstance(was, dict):
            yield from _differences(was, now, f"{above}{name}.")
        elif was != now and above + name not in (*FREE, "steps", "gan_steps"):
            yield above + name, was, now


def _option(name: str) -> str:
    if name in OPTIONS:
        return OPTIONS[name]
    return f"{name} of its configuration" if name.startswith(FROM_CONFIG) or "." in name else f"--{name.replace('_', '-')}"


def _value(value: Any) -> str:
    return "not given" if value is None else ",".join(map(str, reversed(value))) if isinstance(value, list | tuple) else str(value)
