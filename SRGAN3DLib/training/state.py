"""What an interrupted run needs to go on: one `.safetensors` file, written whole or not at all (no pickle).

The file comes back after crashes, copies and repairs, so that nothing in it is believed: names, shapes, types and numbers are checked
before the first of them goes into a network.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from SRGAN3DLib.contract.checkpoint_header import read_layout
from SRGAN3DLib.contract.errors import CheckpointError
from SRGAN3DLib.volumes.files import whole_file

from .loss_guard import FLOORS, SPAN
from .run_folder import STATE

NETWORKS, OPTIMISERS = ("generator", "ema", "discriminator"), {"g_optimiser": "generator", "d_optimiser": "discriminator"}
SLOTS = ("step", "exp_avg", "exp_avg_sq")  # Adam's
_ERRORS = (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError, RecursionError)


def save(trainer: Any) -> None:
    """Write RUN/state.safetensors of a `Trainer`, whole or not at all."""
    from safetensors.torch import save as safetensors  # to bytes: its own writer does not say when a disk is full

    tensors: dict[str, torch.Tensor] = {}
    for part in NETWORKS:
        network = getattr(trainer, part)
        if network is not None:
            tensors |= {f"{part}.{name}": t for name, t in network.state_dict().items()}
    for part in OPTIMISERS:
        optimiser = getattr(trainer, part)
        if optimiser is not None:
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{part}.{index}.{slot}": torch.as_tensor(t) for slot, t in slots.items()}
    facts = {"step": trainer.step, "best_gain": trainer.best_gain, "bad_steps": trainer.guard.bad, "recent_losses": trainer.guard.recent}
    facts |= {"scaler": trainer.scaler.state_dict(), "validation_due": trainer.validation_due, "least_unlike": trainer.least_unlike}
    data = safetensors({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, {"state": json.dumps(facts)})
    with whole_file(trainer.run / STATE) as path:
        path.write_bytes(data)


def read_step(run: Path) -> int | None:
    """The step that RUN has reached; None if there is no state yet. Raises `CheckpointError` on a damaged one."""
    return _read_facts(run / STATE)["step"] if (run / STATE).exists() else None


def load(trainer: Any) -> bool:
    """Put a `Trainer` where its RUN was left; False if there is no state yet. Raises `CheckpointError` on a damaged one."""
    from safetensors.torch import load_file

    path = trainer.run / STATE
    if not path.exists():
        return False
    facts = _read_facts(path)
    try:
        tensors = load_file(path)
    except Exception as error:  # the format's library raises its own kinds
        raise _damaged(path, error) from None
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor.float()).all()):
            raise CheckpointError(f"{path}: tensor {name!r} holds NaN or infinity; this state cannot be used")
    parts = [part for part in NETWORKS if getattr(trainer, part) is not None]
    if not _below(tensors, "discriminator") and facts["step"] <= trainer.config.steps:
        parts = [part for part in parts if part != "discriminator"]  # the GAN stage was asked for later: it starts with a new D
    try:
        slots = {name: _slots(path, trainer, name, tensors) for name, owner in OPTIMISERS.items() if owner in parts}
        for part in parts:
            getattr(trainer, part).load_state_dict(_below(tensors, part))
        for name, state in slots.items():
            optimiser = getattr(trainer, name)
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        if facts["scaler"]:
            trainer.scaler.load_state_dict(facts["scaler"])
    except _ERRORS as error:
        raise _damaged(path, error) from None
    trainer.step, trainer.best_gain, trainer.validation_due = facts["step"], facts["best_gain"], facts["validation_due"]
    trainer.least_unlike = facts["least_unlike"]
    trainer.guard.bad, trainer.guard.recent = facts["bad_steps"], facts["recent_losses"]
    return True


def _read_facts(path: Path) -> dict[str, Any]:
    """The checked numbers of a state; older states lack some of them. Raises `CheckpointError`."""
    _, metadata = read_layout(path)
    try:
        facts = json.loads(metadata["state"])
        best, recent = facts["best_gain"], facts.get("recent_losses", {})
        checked = {
            "step": _count(facts["step"]),
            "bad_steps": _count(facts["bad_steps"]),
            "best_gain": -math.inf if best == -math.inf else _finite(best),
            "recent_losses": {name: [_finite(value) for value in recent[name]][-SPAN:] for name in FLOORS if name in recent},
            "scaler": {name: _finite(value) for name, value in facts.get("scaler", {}).items()},
            "validation_due": _truth(facts.get("validation_due", False)),
            "least_unlike": math.inf if facts.get("least_unlike", math.inf) == math.inf else _finite(facts["least_unlike"]),
        }
    except _ERRORS as error:
        raise _damaged(path, error) from None
    return checked


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise ValueError(f"a count of {ascii(value)[:40]}")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"neither true nor false but {ascii(value)[:40]}")
    return value


def _finite(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"a number of {ascii(value)[:40]}")
    return value


def _slots(path: Path, trainer: Any, name: str, tensors: dict[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """An optimiser's memory, checked against the parameters that it belongs to."""
    parameters = [p for group in getattr(trainer, name).param_groups for p in group["params"]]
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in _below(tensors, name).items():
        index, slot = key.split(".", 1)
        shape = parameters[int(index)].shape if slot != "step" else torch.Size([])
        if slot not in SLOTS or int(index) < 0 or tensor.shape != shape or not tensor.is_floating_point():
            raise ValueError(f"{name}.{key} of shape {list(tensor.shape)}")
        slots.setdefault(int(index), {})[slot] = tensor
    missing = [index for index, memory in slots.items() if len(memory) != len(SLOTS)]
    if missing:
        raise ValueError(f"{name}.{missing[0]} is not whole")
    return slots


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return CheckpointError(f"{path}: not a state of this run ({reason}); put a copy of it back, or begin another run with another --out")


def _below(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}
