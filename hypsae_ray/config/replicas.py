"""How many copies of a model there are, and where they run."""

from typing import Self

from pydantic import model_validator

from hypsae_ray.config.types import Amount, Count, NodeLabels, Section


class Replicas(Section):
    """Copies of a model, each in an actor of its own, and the nodes that they run on."""

    min: Count = 1
    """Actors that are enough to begin. min and max 0: no actor and no Ray, the model runs in this process."""
    max: Count = 1
    """Most actors; Ray adds them while tasks are queued and nodes have room or can be launched."""
    cpus: Amount = 1
    """CPU cores that each actor reserves."""
    gpus: Amount = 0
    """GPUs that each actor reserves; a fraction lets actors share one."""
    accelerator: str | None = None
    """Type of GPU by Ray's name, such as A100 or L4; null: any."""
    labels: NodeLabels = {}
    """Labels of the nodes that may hold an actor, as in Ray's label selectors: {ray.io/market-type: spot};
    "!spot" and "in(a, b)" are values too."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        if self.max > 0 and self.min == 0:
            raise ValueError("min is 0 but max is not: use min 1, or 0 for both to stay in this process")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is {self.gpus:g}: Ray gives a part of one GPU, or whole ones")
        return self
