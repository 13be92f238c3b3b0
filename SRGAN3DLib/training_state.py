"""What a killed run needs to go on: one atomic `.safetensors` file (no pickle), and logs cut back to the step it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import torch

from .checkpoint_header import read_layout
from .errors import CheckpointError
from .files import whole_file, write_text

NAME = "state.safetensors"


def save(trainer: Any) -> None:
    """Write RUN/state.safetensors of a `Trainer`, whole or not at all."""
    from safetensors.torch import save_file

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
    facts = {"step": trainer.step, "best_gain": trainer.best_gain, "bad_steps": trainer.bad_steps}
    with whole_file(trainer.run / NAME) as path:
        save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, path, {"state": json.dumps(facts)})


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
        trainer.step, trainer.best_gain, trainer.bad_steps = facts["step"], facts["best_gain"], facts["bad_steps"]
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a state of this run ({' '.join(str(error).split())[:200]})") from None
    return True


def _below(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}


def open_log(path: Path, step: int) -> IO[str]:
    """Open a JSON-lines log to append after the line of `step`; later lines (of a killed run) and a torn last line go."""
    if path.exists():
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:
                break
        write_text(path, "".join(kept))
    return path.open("a", encoding="utf-8")
