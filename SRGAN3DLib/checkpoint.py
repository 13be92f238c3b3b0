"""Checkpoints: one `.safetensors` file, weights and a header that says everything. Nothing in it can run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .checkpoint_header import METADATA_KEY, CheckpointHeader, file_hash, find_model, parse_header, read_layout
from .errors import CheckpointError
from .files import whole_file
from .networks import Generator

_FLOATS = ("F32", "BF16", "F16", "F64")


@dataclass(frozen=True)
class Checkpoint:
    """A header and the generator's tensors; `path` and `sha256` where it came from a file."""

    header: CheckpointHeader
    tensors: dict[str, Tensor]
    path: str = ""
    sha256: str = ""

    @staticmethod
    def load(name_or_path: str | Path) -> Checkpoint:
        """From a shipped name or a file. Raises `CheckpointError` saying which check failed and on which tensor."""
        from safetensors.torch import load_file

        path = find_model(name_or_path)
        layout, metadata = read_layout(path)
        if METADATA_KEY not in metadata:
            raise CheckpointError(f"{path}: a .safetensors file without a {METADATA_KEY} header: not one of our checkpoints")
        header = parse_header(metadata[METADATA_KEY], path)
        empty = _empty_generator(header).state_dict()
        wanted = {name: list(tensor.shape) for name, tensor in empty.items()}
        for name in wanted:
            if name not in layout:
                raise CheckpointError(f"{path}: tensor {name!r} is missing")
        for name, entry in layout.items():
            if name not in wanted:
                raise CheckpointError(f"{path}: tensor {name!r} does not belong to this generator")
            if entry["shape"] != wanted[name]:
                raise CheckpointError(f"{path}: tensor {name!r} has shape {entry['shape']}; {wanted[name]} is wanted")
            types = _FLOATS if empty[name].is_floating_point() else ("I64",)
            if entry["dtype"] not in types:
                raise CheckpointError(f"{path}: tensor {name!r} has type {entry['dtype']}; {' or '.join(types)} is wanted")
        try:
            tensors = load_file(path)
        except Exception as error:  # the format's library raises its own kinds
            raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from None
        bad = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
        if bad:
            raise CheckpointError(f"{path}: tensor {bad[0]!r} has NaN or infinity")
        return Checkpoint(header, tensors, str(path), file_hash(path))

    def save(self, path: str | Path) -> None:
        """Write `path` whole or not at all."""
        from safetensors.torch import save_file

        with whole_file(path) as part:
            save_file(
                {name: t.detach().contiguous().cpu() for name, t in self.tensors.items()}, part, {METADATA_KEY: self.header.to_text()}
            )

    def generator(self) -> Generator:
        """The network in evaluation mode, float32."""
        network = Generator(self.header.generator)
        network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in self.tensors.items()})
        return network.eval()


def _empty_generator(header: CheckpointHeader) -> Generator:
    import torch

    with torch.device("meta"):
        return Generator(header.generator)
