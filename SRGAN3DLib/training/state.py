"""What a killed run needs to go on: one atomic `.safetensors` file (no pickle)."""

from __future__ import annotations

import json
from typing import Any

import torch

from SRGAN3DLib.contract.checkpoint_header import read_layout
from SRGAN3DLib.contract.errors import CheckpointError
from SRGAN3DLib.volumes.files import whole_file

NAME = "state.safetensors"


def save(trainer: Any) -> None:
    """Write RUN/state.safetensors of a `Trainer`, whole or not at all."""
    from safetensors.torch import save as safetensors  # to bytes: its own writer does not say when a disk is full

    tensors: dict[str, torch.Tensor] = {}
    for part in ("generator", "ema", "discriminator"):
        network = getattr(trainer, part)
        if network is not None:
            tensors |= {f"{part}.{name}": t for name, t in network.state_dict().items()}
    for part in ("g_optimiser", "d_optimiser"):
        optimiser = getattr(trainer, part)
        if optimiser is not None:
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{part}.{index}.{slot}": torch.as_tensor(t) for slot, t in slots.items()}
    facts = {"step": trainer.step, "best_gain": trainer.best_gain, "bad_steps": trainer.guard.bad, "recent_losses": trainer.guard.recent}
    facts["scaler"] = trainer.scaler.state_dict()
    data = safetensors({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, {"state": json.dumps(facts)})
    with whole_file(trainer.run / NAME) as path:
        path.write_bytes(data)


def load(trainer: Any) -> bool:
    """Put a `Trainer` where its RUN was left; False if there is no state yet. Raises `CheckpointError` on a damaged one."""
    from safetensors.torch import load_file

    path = trainer.run / NAME
    if not path.exists():
        return False
    _, metadata = read_layout(path)
    tensors = load_file(path)
    try:
        for part in ("generator", "ema", "discriminator"):
            network = getattr(trainer, part)
            if network is not None:
                network.load_state_dict(_below(tensors, part))
        for part in ("g_optimiser", "d_optimiser"):
            optimiser = getattr(trainer, part)
            if optimiser is not None:
                slots: dict[int, dict[str, torch.Tensor]] = {}
                for name, t in _below(tensors, part).items():
                    index, slot = name.split(".", 1)
                    slots.setdefault(int(index), {})[slot] = t
                optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
        facts = json.loads(metadata["state"])
        trainer.step, trainer.best_gain = facts["step"], facts["best_gain"]
        trainer.guard.bad, trainer.guard.recent = facts["bad_steps"], facts.get("recent_losses", {})
        if facts.get("scaler"):
            trainer.scaler.load_state_dict(facts["scaler"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a state of this run ({' '.join(str(error).split())[:200]})") from None
    return True


def _below(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}
