"""Where a model stands that is split over several GPUs: a Ray placement group per replica.

Tensor parallel workers talk in every layer, so they want one node; pipeline stages talk once per stage, and
may stand on several. vLLM's Ray executor puts one worker on each bundle of the group that its actor is in.

PACK does its best only: on nodes whose free GPUs are no multiple of the tensor parallel size, a stage may
stand on two of them. vLLM says so, and works more slowly.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hypsae_ray.cluster.capacity import bundle_of
from hypsae_ray.config import Llm, Replicas


@dataclass
class Placement:
    """Makes the options of each new actor of a pool; picklable before its first call.

    Args:
        tensor: GPUs that one pipeline stage is split over.
        pipeline: pipeline stages.
        bundle: what the worker of each GPU reserves, by Ray's names.
        labels: label selector of the nodes.
    """

    tensor: int
    pipeline: int
    bundle: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    _groups: dict[str, PlacementGroup] = field(default_factory=dict)  # by the name of the actor

    def __call__(self) -> dict[str, Any]:
        """Return the options that put one more actor into a group that no other one is in."""
        name = uuid.uuid4().hex
        group = self._groups[name] = self._left() or self._reserve()
        where = PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        return {"name": name, "num_cpus": 0, "num_gpus": 0, "scheduling_strategy": where}

    def _left(self) -> PlacementGroup | None:
        """Take back a group without an actor, if there is one.

        Ray Data also asks for options when it starts no actor (its memory detector, every 30 s), and ends
        idle actors. A name tells which live: Ray knows a named actor before `remote` returns.
        """
        living = set(ray.util.list_named_actors())
        free = next((name for name in self._groups if name not in living), None)
        return self._groups.pop(free) if free else None

    def _reserve(self) -> PlacementGroup:
        workers = self.tensor * self.pipeline
        return placement_group(
            [dict(self.bundle)] * workers,
            strategy="STRICT_PACK" if self.pipeline == 1 else "PACK",
            bundle_label_selector=[dict(self.labels)] * workers,
        )

    def remove(self) -> None:
        """Free all groups."""
        while self._groups:
            remove_placement_group(self._groups.popitem()[1])


def placement_of(llm: Llm) -> Placement | None:
    """Return how a model must be placed; None if one actor's own reservation is enough."""
    if not llm.is_split:
        return None
    tensor, pipeline, replicas = llm.tensor_parallel_size, llm.pipeline_parallel_size, llm.replicas
    bundle = bundle_of(replicas.cpus / (tensor * pipeline), 1, replicas.accelerator)
    return Placement(tensor, pipeline, bundle, replicas.labels)


def actor_options(replicas: Replicas, placement: Placement | None) -> dict[str, Any]:
    """Return the arguments of `map_batches` that say what each actor of a pool reserves, and where."""
    if placement is not None:
        return {"ray_remote_args_fn": placement}
    return {
        "num_cpus": replicas.cpus,
        "num_gpus": replicas.gpus,
        **({"accelerator_type": replicas.accelerator} if replicas.accelerator else {}),
        **({"label_selector": dict(replicas.labels)} if replicas.labels else {}),
    }
