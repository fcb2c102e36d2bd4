"""What a replica or a worker of training reserves, and on which nodes.

A model on one node is one actor that reserves its GPUs; where tensor parallelism splits the model over them,
vLLM starts a process for each. Pipeline stages may stand on several nodes: a placement group has a bundle for
each GPU, and vLLM's Ray executor puts a worker on each. PACK does its best only: on nodes whose free GPUs
are no multiple of the tensor parallel size, a stage may stand on two of them, and works more slowly.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hypsae_ray.config import Llm, Replicas, TrainSae
from hypsae_ray.models.protocols import Options

ACCELERATOR = (
    "accelerator_type:"  # Ray's resource for a kind of GPU; a node has 1 of it, a bundle takes 0.001
)
SHOWN = ("CPU", "GPU")


@dataclass(frozen=True)
class Reservation:
    """What must find room for a replica, or for training, to begin.

    Attributes:
        bundle: resources that must be on one node, by Ray's names.
        count: bundles that must find room at the same time.
        labels: label selector of their nodes.
    """

    bundle: Mapping[str, float]
    count: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        times = f"{self.count} times " if self.count > 1 else ""
        rules = "".join(f", {key} {rule}" for key, rule in self.labels.items())
        return f"{times}{_amounts(self.bundle)} on one node{rules}"

    def actor_options(self) -> dict[str, Any]:
        """Return the options of an actor that reserves one bundle.

        >>> Reservation({"GPU": 2}, labels={"zone": "a"}).actor_options()
        {'num_cpus': 0, 'num_gpus': 2, 'resources': {}, 'label_selector': {'zone': 'a'}}
        """
        others = {name: amount for name, amount in self.bundle.items() if name not in SHOWN}
        cpus, gpus = (self.bundle.get(name, 0) for name in SHOWN)
        labels = dict(self.labels)
        return {"num_cpus": cpus, "num_gpus": gpus, "resources": others, "label_selector": labels}

    def group(self) -> PlacementGroup:
        """Reserve all bundles; the nodes may be several."""
        return placement_group(
            [dict(self.bundle)] * self.count,
            strategy="PACK",
            bundle_label_selector=[dict(self.labels)] * self.count,
        )

    def fits(self, node: Mapping[str, Any], count: int = 1) -> bool:
        """Tell whether a node, as `ray.nodes()` describes it, could ever hold so many bundles.

        >>> Reservation({"GPU": 2}).fits({"Resources": {"GPU": 2.0}, "Labels": {}}, count=2)
        False
        """
        has, labels = node["Resources"], node["Labels"]
        enough = all(has.get(name, 0) >= amount * count for name, amount in self.bundle.items())
        return enough and all(_allows(rule, labels.get(key)) for key, rule in self.labels.items())


def in_group(group: PlacementGroup) -> dict[str, Any]:
    """Return the options of an actor in a group, whose bundles are for workers that the actor starts."""
    strategy = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    return {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": strategy}


def reservation_of(options: Options) -> Reservation:
    """Return what must find room for a model or a training in Ray to begin."""
    replicas = options.replicas
    if isinstance(options, TrainSae):
        return replace(reservation_of_replica(replicas), count=replicas.min)
    stages = options.pipeline_parallel_size if isinstance(options, Llm) else 1
    return reservation_of_replica(replicas, options.tensor_parallel_size, stages)


def reservation_of_replica(replicas: Replicas, tensor: int = 1, pipeline: int = 1) -> Reservation:
    """Return what each replica reserves, whose model is split over `tensor` x `pipeline` GPUs."""
    cpus, gpus, count = replicas.cpus, tensor if tensor > 1 else replicas.gpus, 1
    if pipeline > 1:
        count = tensor * pipeline
        cpus, gpus = cpus / count, 1
    return Reservation(bundle_of(cpus, gpus, replicas.accelerator), count, replicas.labels)


def bundle_of(cpus: float, gpus: float, accelerator: str | None) -> dict[str, float]:
    """Return resources on one node by Ray's names, without those that are 0."""
    kind = {f"{ACCELERATOR}{accelerator}": 0.001} if accelerator else {}
    return {name: amount for name, amount in {"CPU": cpus, "GPU": gpus, **kind}.items() if amount}


def describe_nodes() -> str:
    """Return what the nodes of the cluster have, those that are alike together."""
    kinds = Counter(_amounts(node["Resources"]) for node in ray.nodes() if node["Alive"])
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())) or "nothing"


def _amounts(resources: Mapping[str, float]) -> str:
    parts = [f"{resources[name]:g} {name}" for name in SHOWN if resources.get(name)]
    parts += [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    return " + ".join(parts) or "no CPU"


def _allows(rule: str, value: str | None) -> bool:
    """Tell whether the value of a node's label satisfies a rule of a label selector: a, !a, in(a, b)."""
    bare = rule.removeprefix("!")
    values = bare[len("in(") : -1].split(",") if bare.startswith("in(") else [bare]
    return (value in [one.strip() for one in values]) != rule.startswith("!")
