"""Ranks: the processes that `torchrun` starts to do one job together, each on its own device. Without torchrun there is one rank,
and nothing in this file has an effect. Torch is loaded only where there are several ranks.

DistributedDataParallel is not used: the GAN stage takes gradients with respect to the image (adversarial share, R1), which it does not
support, and the networks are so small (2 to 40 MB) that averaging their gradients after the backward pass costs almost no time.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from SRGAN3DLib.contract.errors import JobError, ResourceError
from SRGAN3DLib.contract.events import Event, Log, Report

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = datetime.timedelta(minutes=10)  # a rank that does not answer for that long has ended
WORDS = ("gloo", "nccl", "connection", "timed out", "timeout")  # in PyTorch's messages when another rank has ended
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """`rank` of `world` processes, `local` of `local_world` on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1

    @staticmethod
    def here() -> Ranks:
        """From the environment variables that torchrun sets. Raises `JobError`."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not {*names, "MASTER_ADDR"} <= set(os.environ):
            return Ranks()
        try:
            return Ranks(*(int(os.environ[name]) for name in names))
        except ValueError:
            raise JobError(f"{', '.join(f'{name}={os.environ[name]}' for name in names)}: they must be whole numbers") from None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files, reports and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        return items[self.rank :: self.world]

    def device(self, asked: str) -> str:
        """The device of this rank. Several ranks take one GPU each, or all the CPU. Raises `JobError`."""
        if self.world == 1 or asked == "cpu":
            return asked
        import torch

        if asked not in ("auto", "cuda"):
            raise JobError(f"device {asked!r} with {self.world} ranks: auto, cuda or cpu; every rank takes the GPU of its own number")
        return f"cuda:{self.local}" if asked == "cuda" or torch.cuda.is_available() else "cpu"

    def telling(self, report: Report) -> Report:
        """A report for this rank: the first rank reports everything, the others only log lines, with their number in front."""

        def tell(event: Event) -> None:
            if isinstance(event, Log):
                report(replace(event, message=f"rank {self.rank}: {event.message}"))
            elif self.first:
                report(event)

        return tell

    # ------------------------------------------------------------ connecting
    def join(self, device: Any) -> None:
        """Connect to the other ranks: by NCCL between GPUs, by Gloo between CPUs."""
        if self.world == 1:
            return
        import torch
        from torch import distributed

        cuda = torch.device(device).type == "cuda"
        if cuda:
            torch.cuda.set_device(device)
        if not distributed.is_initialized():
            with self.watched():
                distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)

    def leave(self) -> None:
        """Disconnect, once all ranks have come to this point."""
        if self.world > 1:
            from torch import distributed

            with self.watched():
                distributed.barrier()
                distributed.destroy_process_group()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns the end of another rank into a `ResourceError` of one line."""
        try:
            yield
        except RuntimeError as error:
            text = " ".join(str(error).split())
            if self.world == 1 or not any(word in text.lower() for word in WORDS):
                raise
            who = f"rank {self.rank} of {self.world}"
            raise ResourceError(f"{who}: another rank has ended or does not answer; its own line says why ({text[:100]})") from None

    # ------------------------------------------------------------ exchanging
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, all in one message."""
        if self.world == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.world
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool, device: Any) -> bool:
        """Whether `flag` is true on any rank. All ranks get the same answer, so that they stop at the same step."""
        if self.world == 1:
            return flag
        import torch

        share = torch.tensor([float(flag)], device=device)
        self.average([share])
        return bool(share.item() > 0)

    def gather(self, items: Sequence[T]) -> list[T]:
        """The parts that `share` made of a list, put together in the order of that list, on every rank."""
        if self.world == 1:
            return list(items)
        from torch import distributed

        hands: list[Any] = [None] * self.world
        distributed.all_gather_object(hands, list(items))
        return [hands[n % self.world][n // self.world] for n in range(sum(map(len, hands)))]

    def agree(self, fact: Any, message: str) -> None:
        """Raises `JobError` on every rank unless all ranks have the same `fact`."""
        facts = self.gather([fact])
        if any(other != facts[0] for other in facts):
            raise JobError(f"{message}: {', '.join(f'rank {rank} has {other}' for rank, other in enumerate(facts))}")
