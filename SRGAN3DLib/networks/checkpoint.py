"""Checkpoints: one `.safetensors` file, weights and a header that says everything. Nothing in it can run."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from SRGAN3DLib.contract.checkpoint_header import (
    METADATA_KEY,
    CheckpointHeader,
    data_hash,
    find_model,
    layout_of,
    parse_header,
    read_layout,
    reading,
)
from SRGAN3DLib.contract.configs import GeneratorConfig, to_json
from SRGAN3DLib.contract.errors import CheckpointError
from SRGAN3DLib.contract.job_values import check_alpha
from SRGAN3DLib.volumes.files import whole_file

from .generator import Generator

ARCHITECTURES = {"residual-generator": Generator}  # a header's `architecture` -> the network it names
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
        from safetensors.torch import load as tensors_of

        path = find_model(name_or_path)
        read_layout(path)  # from the file's start: no other file, however large, is read as a whole
        with reading(path):
            data = path.read_bytes()  # once: what is checked, hashed and used is the same, even if the file changes meanwhile
        layout, metadata = layout_of(data, path)
        header = parse_header(metadata, path)
        if header.architecture not in ARCHITECTURES:
            raise CheckpointError(f"{path}: architecture {header.architecture!r}; this program knows {', '.join(ARCHITECTURES)}")
        empty = _empty_generator(header).state_dict()
        wanted = {name: list(tensor.shape) for name, tensor in empty.items()}
        for name in wanted:
            if name not in layout:
                raise CheckpointError(f"{path}: tensor {name!r} is missing")
        for name, entry in layout.items():
            if name not in wanted:
                raise CheckpointError(f"{path}: tensor {name!r} does not belong to this generator")
            if entry["shape"] != wanted[name]:
                raise CheckpointError(f"{path}: tensor {name!r} has shape {entry['shape']}; it must be {wanted[name]}")
            types = _FLOATS if empty[name].is_floating_point() else ("I64",)
            if entry["dtype"] not in types:
                raise CheckpointError(f"{path}: tensor {name!r} has type {entry['dtype']}; it must be {' or '.join(types)}")
        try:
            tensors = tensors_of(data)
        except Exception as error:  # the format's library raises its own kinds
            raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from None
        bad = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
        if bad:
            raise CheckpointError(f"{path}: tensor {bad[0]!r} has NaN or infinity")
        return Checkpoint(header, tensors, str(path), data_hash(data))

    def save(self, path: str | Path) -> None:
        """Write `path` whole or not at all."""
        from safetensors.torch import save as safetensors  # to bytes: its own writer does not say when a disk is full

        data = safetensors({name: t.detach().contiguous().cpu() for name, t in self.tensors.items()}, {METADATA_KEY: self.header.to_text()})
        with whole_file(path) as part:
            part.write_bytes(data)

    def generator(self) -> Generator:
        """The network in evaluation mode, float32."""
        network = ARCHITECTURES[self.header.architecture](self.header.generator)
        network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in self.tensors.items()})
        return network.eval()

    def start(self, network: Generator) -> list[str]:
        """Copy into `network` every tensor whose layer does the same work there; returns the names of those left as they were.

        The trunk is the same whatever the factors; an upsampling stage only where it and all before it enlarge alike;
        the output convolution only where all do. Raises `CheckpointError` if not even the trunk fits.
        """
        mine, theirs = self.header.generator.stages, network.config.stages
        alike = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
        taken = ("first", "blocks", "last", *(f"stages.{i}." for i in range(alike)), *(("output",) if mine == theirs else ()))
        target, fresh = network.state_dict(), []
        for name, tensor in target.items():
            source = self.tensors.get(name)
            if name == "first.weight" and source is not None:
                source = self._first_weight_for(network.config, source)
            if not name.startswith(taken):
                fresh.append(name)
            elif source is None or source.shape != tensor.shape:
                shape = None if source is None else list(source.shape)
                raise CheckpointError(f"{self.path}: cannot start this network: {name} is {shape}; it must be {list(tensor.shape)}")
            else:
                target[name] = source.to(tensor.dtype)
        network.load_state_dict(target)
        return fresh

    def _first_weight_for(self, config: GeneratorConfig, weight: Tensor) -> Tensor:
        """The first convolution's weights with the channels of `config`: what this network was not told starts at weight 0."""
        mine = self.header.generator
        if mine.input_channels != config.input_channels:
            return weight
        images, blur, noise = weight.split([mine.input_channels, 3 * mine.blur_aware, 1 * mine.noise_aware], dim=1)
        parts = [images]
        for part, width, told in ((blur, 3, config.blur_aware), (noise, 1, config.noise_aware)):
            if told:
                parts.append(part if part.shape[1] else weight.new_zeros(weight.shape[0], width, *weight.shape[2:]))
            elif part.shape[1]:
                return weight  # it would lose what it is told
        return torch.cat(parts, dim=1)

    def blend(self, other: Checkpoint, alpha: float) -> Checkpoint:
        """(1 - alpha) of this and alpha of `other`, tensor by tensor: network interpolation (Wang et al., ESRGAN, 2018).

        The header is this one's, without its metrics: they were measured on another network. Raises `CheckpointError` where the
        architectures differ, `JobError` for an alpha outside 0 to 1.
        """
        check_alpha(alpha)
        mine, theirs = (to_json(c.header.generator) | {"normalisation": c.header.normalisation} for c in (self, other))
        for key, value in mine.items():
            if value != theirs[key]:
                raise CheckpointError(
                    f"{self.path}: {key} is {value}, but {theirs[key]} in {other.path}; only one architecture can be blended"
                )
        tensors = {}
        for name, one in self.tensors.items():
            two = other.tensors[name]
            common = torch.promote_types(one.dtype, two.dtype)
            tensors[name] = torch.lerp(one.to(common), two.to(common), alpha) if common.is_floating_point else (two if alpha > 0.5 else one)
        parts = {
            key: {"name": c.header.name, "file": Path(c.path).name, "sha256": c.sha256} for key, c in (("faithful", self), ("sharp", other))
        }
        more = tuple(entry for entry in other.header.training_data if entry not in self.header.training_data)
        header = replace(
            self.header,
            name=f"{self.header.name}+{other.header.name}@{alpha:g}",
            training_data=self.header.training_data + more,
            training={"blend": {"alpha": alpha, **parts}},
            metrics={},
            created=datetime.date.today().isoformat(),
        )
        files, hashes = (",".join(pair) for pair in ((Path(self.path).name, Path(other.path).name), (self.sha256, other.sha256)))
        return Checkpoint(header, tensors, files, hashes)

    def transposed(self, order: Sequence[int]) -> Checkpoint:
        """The same network for arrays laid out in another order: it does to `x.transpose(order)` what this one does to x.

        `order` over (K, J, I), as in numpy's transpose. Path and hash are this one's no more.
        """
        config = self.header.generator
        tensors = {}
        for name, tensor in self.tensors.items():
            if name.endswith("weight") and tensor.dim() == 5:
                tensor = tensor.permute(0, 1, *(2 + a for a in order))
            if name == "first.weight" and config.blur_aware:  # behind the images come the blur along K, J, I, then the noise
                images = config.input_channels
                tensor = tensor[:, [*range(images), *(images + a for a in order), *range(images + 3, config.channels)]]
            if name.startswith("stages.") and config.upsampling == "subpixel":  # the shuffle's phases lie in the outputs
                old = config.stages[int(name.split(".")[1])]
                phases = tensor.reshape(-1, *old, *tensor.shape[1:])
                tensor = phases.permute(0, *(1 + a for a in order), *range(4, phases.dim())).reshape(tensor.shape)
            tensors[name] = tensor.contiguous()
        factors = tuple(config.factors[a] for a in order)
        return Checkpoint(replace(self.header, generator=replace(config, factors=factors)), tensors)  # type: ignore[arg-type]


def _empty_generator(header: CheckpointHeader) -> Generator:
    with torch.device("meta"):
        return ARCHITECTURES[header.architecture](header.generator)
