"""Several processes that train as one, started by torchrun. Alone, every function here does nothing.

Gradients are averaged by one all-reduce after the backward pass: the loop stays plain, and the networks
are small against the pictures. (torch's DDP would hide the transfer behind the backward pass, at the
price of routing the whole loss through the `forward` of a wrapper.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

# The others wait this long while the first process fits the linear codec or validates.
PATIENCE = timedelta(hours=2)
T = TypeVar("T")


class UnevenBatch(ValueError):
    """A batch that the number of processes does not divide."""


@dataclass(frozen=True)
class World:
    """This process among all of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    """Place among, and number of, the processes on this machine."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """The process that logs and saves."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """This process's rows of a batch. Raises UnevenBatch if it cannot be dealt out evenly."""
        if batch_size % self.size:
            raise UnevenBatch(f"batch_size {batch_size} must be a multiple of the {self.size} processes")
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in every process."""
        if self.size == 1:
            return make()
        box = [make() if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total


@contextmanager
def join_world() -> Iterator[World]:
    """The world that torchrun's environment describes, or a lone process; leaves it at the end."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "WORLD_SIZE" not in os.environ:
        yield World(device=device)
        return
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cuda":
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), local_rank, local_size, device)
    finally:
        dist.destroy_process_group()
