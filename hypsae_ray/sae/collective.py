"""How workers that each hold some rows agree on sums over all rows."""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Collective:
    """One of several workers, or by default the only one, and what they do together.

    Attributes:
        device: where this worker keeps its rows and weights.
        rank: number of this worker, from 0.
        world: number of workers; above 1 they are the default torch.distributed process group.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world: int = 1

    @classmethod
    def of_group(cls, device: torch.device) -> "Collective":
        """Return this process in the default process group, which somebody else has set up."""
        return cls(device, dist.get_rank(), dist.get_world_size())

    def sum(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all workers, in place and in one message; all of one dtype."""
        if self.world == 1:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).to(self._wire)
        dist.all_reduce(flat)
        with torch.no_grad():
            for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all workers, (sum of n, ...), by rank; only n may differ between workers."""
        if self.world == 1:
            return rows
        lengths = torch.zeros(self.world, dtype=torch.int64, device=self._wire)
        lengths[self.rank] = rows.shape[0]
        dist.all_reduce(lengths)
        counts: list[int] = lengths.tolist()
        # all_gather needs equal shapes: pad to the longest worker, then cut.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]), device=self._wire)
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(self.device)

    @property
    def _wire(self) -> torch.device:
        # Gloo gathers tensors in main memory only; NCCL those on the GPU only.
        return torch.device("cpu") if dist.get_backend() == "gloo" else self.device
