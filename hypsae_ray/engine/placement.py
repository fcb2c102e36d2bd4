"""Where a model stands that is split over several GPUs: a Ray placement group per replica.

Tensor parallel workers talk in every layer, so they want one node; pipeline stages talk once per stage, and
may stand on several. vLLM's Ray executor puts one worker on each bundle of the group that its actor is in.

PACK does its best only: on nodes whose free GPUs are no multiple of the tensor parallel size, a stage may
stand on two of them. vLLM says so, and works more slowly.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hypsae_ray.config import Llm
from hypsae_ray.errors import ConfigError


@dataclass
class Placement:
    """Makes the options of each new actor of a pool; picklable before its first call.

    Args:
        tensor: GPUs that one pipeline stage is split over.
        pipeline: pipeline stages.
        cpus: CPU cores of each replica.
    """

    tensor: int
    pipeline: int
    cpus: float
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
            [{"GPU": 1.0, "CPU": self.cpus / workers}] * workers,
            strategy="STRICT_PACK" if self.pipeline == 1 else "PACK",
        )

    def remove(self) -> None:
        """Free all groups."""
        while self._groups:
            remove_placement_group(self._groups.popitem()[1])


def placement_of(llm: Llm) -> Placement | None:
    """Return how a model must be placed; None if one actor's own reservation is enough."""
    if llm.tensor_parallel_size * llm.pipeline_parallel_size == 1:
        return None
    return Placement(llm.tensor_parallel_size, llm.pipeline_parallel_size, llm.replicas.cpus)


def require_room(llm: Llm) -> None:
    """Refuse a split that no node of the cluster, present or still to be launched, can hold.

    Raises:
        ConfigError: the tensor parallel part does not fit on a node, or all parts not into the cluster.
    """
    per_node = gpus_per_node()
    wanted, stages = llm.tensor_parallel_size, llm.pipeline_parallel_size
    fitting = sum(int(gpus // wanted) for gpus in per_node)
    if fitting < stages:
        has = ", ".join(f"{gpus:g}" for gpus in sorted(per_node, reverse=True)) or "none"
        stage = f"{stages} times " if stages > 1 else ""
        raise ConfigError(
            f"llm: tensor_parallel_size {wanted} and pipeline_parallel_size {stages} want "
            f"{stage}{wanted} GPUs on one node; the nodes of this cluster have GPUs: {has}"
        )


def gpus_per_node() -> list[float]:
    """Return the GPUs of each node that is there or that the autoscaler may add."""
    alive = [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return alive + [gpus for gpus, count in _launchable() for _ in range(count)]


def _launchable() -> Sequence[tuple[float, int]]:
    """Return GPUs and the number of nodes of each kind that the autoscaler may launch."""
    config: Any = ray._private.state.state.get_cluster_config()  # type: ignore  # nothing public tells it
    groups = config.node_group_configs if config is not None else ()
    kinds: list[tuple[Mapping[str, float], int]] = [(group.resources, group.max_count) for group in groups]
    return [(float(resources.get("GPU", 0)), count if count >= 0 else 1) for resources, count in kinds]
