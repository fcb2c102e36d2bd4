"""How workers that each hold some rows agree on sums over all rows.

The training loop and the loss know this protocol only. `Alone` is one process; `Group` is a
torch.distributed process group that somebody else has set up.
"""

# torch leaves many of its own signatures without types

from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Collective(Protocol):
    """One worker's place among `world` workers, and the two things they do together."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        ...

    @property
    def world(self) -> int:
        """Number of workers."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this worker keeps its rows and weights."""
        ...

    def sum(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all workers, in place; all of one dtype."""
        ...

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all workers, (sum of n, ...); only n may differ from worker to worker."""
        ...


@dataclass(frozen=True)
class Alone:
    """The only worker: every sum is already complete."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world: int = 1

    def sum(self, *tensors: Tensor) -> None:
        """Leave the tensors as they are."""

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows as they are."""
        return rows


@dataclass(frozen=True)
class Group:
    """A process's place in the default torch.distributed process group."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        return dist.get_rank()

    @property
    def world(self) -> int:
        """Number of workers."""
        return dist.get_world_size()

    def sum(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all workers, in one message."""
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).to(self._wire)
        dist.all_reduce(flat)
        with torch.no_grad():
            for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all workers, in the order of their ranks."""
        lengths = torch.zeros(self.world, dtype=torch.int64, device=self._wire)
        lengths[self.rank] = rows.shape[0]
        dist.all_reduce(lengths)
        counts: list[int] = lengths.tolist()
        # all_gather wants equal shapes: pad to the longest worker, then cut.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]), device=self._wire)
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        kept = [part[:count] for part, count in zip(parts, counts, strict=True)]
        return torch.cat(kept).to(self.device)

    @property
    def _wire(self) -> torch.device:
        # Gloo gathers tensors in main memory only; NCCL those on the GPU only.
        return torch.device("cpu") if dist.get_backend() == "gloo" else self.device
