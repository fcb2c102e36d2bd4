"""What a section of the config reserves, and whether a cluster can ever give it.

Ray waits for what it has not got, for ever and in silence; so each need is held against every kind of node
that is there or that the autoscaler may launch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from hypsae_ray.cluster.node_types import node_types
from hypsae_ray.config import Embed, Llm, TrainSae
from hypsae_ray.models.protocols import Options

ACCELERATOR = (
    "accelerator_type:"  # Ray's resource for a kind of GPU; a node has 1 of it, a bundle takes 0.001
)
SHOWN = ("CPU", "GPU")
MANY = 10**6  # nodes, where the autoscaler is given no limit


@dataclass(frozen=True)
class Need:
    """What must find room before a stage can begin.

    Attributes:
        section: of the config.
        bundle: resources that must be on one node, by Ray's names.
        count: bundles that must find room at the same time.
        labels: label selector of their nodes.
    """

    section: str
    bundle: Mapping[str, float]
    count: int
    labels: Mapping[str, str]

    def __str__(self) -> str:
        times = f"{self.count} times " if self.count > 1 else ""
        rules = "".join(f", {key} {rule}" for key, rule in self.labels.items())
        return f"{times}{_amounts(self.bundle)} on one node{rules}"


@dataclass(frozen=True)
class Kind:
    """Nodes that are alike.

    Attributes:
        resources: of each one, by Ray's names.
        count: how many there are, or may be launched.
        labels: of each one; None: not known before it is launched.
        is_there: they are there; else they may be launched.
    """

    resources: Mapping[str, float]
    count: int
    labels: Mapping[str, str] | None
    is_there: bool = True

    def holds(self, need: Need) -> int:
        """Return how many bundles of a need these nodes hold together, as far as is known."""
        if self.labels is not None and not selects(need.labels, self.labels):
            return 0
        wanted = {name: amount for name, amount in need.bundle.items() if self._tells(name)}
        times = [self.resources.get(name, 0.0) / amount for name, amount in wanted.items()]
        return self.count * math.floor(min(times, default=need.count) + 1e-9)

    def _tells(self, resource: str) -> bool:
        """Whether it is known what there is of a resource: a node may find its kind of GPU when it starts."""
        known = self.is_there or any(name.startswith(ACCELERATOR) for name in self.resources)
        return known or not resource.startswith(ACCELERATOR)


def section_of(options: Options) -> str:
    """Return the name of the section of the config that options stand in."""
    return {Embed: "embed", TrainSae: "train_sae", Llm: "llm"}[type(options)]


def need_of(options: Options) -> Need | None:
    """Return what must find room for a model or a training to begin; None if it works in this process."""
    replicas = options.replicas
    if replicas.max == 0:
        return None
    if isinstance(options, TrainSae):
        bundle = bundle_of(replicas.cpus, replicas.gpus, replicas.accelerator)
        return Need("train_sae", bundle, replicas.min, replicas.labels)
    gpus, stages = replicas.gpus, 1
    if options.is_split:
        gpus = options.tensor_parallel_size
        stages = options.pipeline_parallel_size if isinstance(options, Llm) else 1
    bundle = bundle_of(replicas.cpus / stages, gpus, replicas.accelerator)
    return Need(section_of(options), bundle, stages, replicas.labels)


def bundle_of(cpus: float, gpus: float, accelerator: str | None) -> dict[str, float]:
    """Return resources on one node by Ray's names, without those that are 0."""
    kind = {f"{ACCELERATOR}{accelerator}": 0.001} if accelerator else {}
    return {name: amount for name, amount in {"CPU": cpus, "GPU": gpus, **kind}.items() if amount}


def lacking(need: Need, kinds: Sequence[Kind]) -> str:
    """Return why there will never be room for a need; nothing if there is.

    >>> lacking(Need("llm", {"GPU": 4}, 1, {}), [Kind({"CPU": 8, "GPU": 2}, 3, {})])
    'llm: the config reserves 4 GPU on one node, but the nodes have: 3 x 8 CPU + 2 GPU'
    """
    if sum(kind.holds(need) for kind in kinds) >= need.count:
        return ""
    in_order = sorted(kinds, key=lambda kind: (not kind.is_there, _amounts(kind.resources)))
    has = ", ".join(_describe(kind, need) for kind in in_order if kind.count) or "nothing"
    return f"{need.section}: the config reserves {need}, but the nodes have: {has}"


def _describe(kind: Kind, need: Need) -> str:
    labels = {key: (kind.labels or {}).get(key, "not set") for key in need.labels}
    told = "".join(f", {key} {value}" for key, value in labels.items()) if kind.labels is not None else ""
    return f"{kind.count} x {_amounts(kind.resources)}{told}{'' if kind.is_there else ' (to be launched)'}"


def _amounts(resources: Mapping[str, float]) -> str:
    parts = [f"{resources[name]:g} {name}" for name in SHOWN if resources.get(name)]
    parts += [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    return " + ".join(parts) or "no CPU"


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether a node's labels satisfy a label selector, by Ray's rules.

    >>> selects({"zone": "!in(a, b)"}, {"zone": "c"}), selects({"zone": "a"}, {})
    (True, False)
    """
    return all(_allows(rule, labels.get(key)) for key, rule in selector.items())


def _allows(rule: str, value: str | None) -> bool:
    wanted = rule.removeprefix("!")
    values = wanted[len("in(") : -1].split(",") if wanted.startswith("in(") else [wanted]
    return (value in [one.strip() for one in values]) != rule.startswith("!")


def kinds_of_nodes() -> list[Kind] | None:
    """Return the nodes that are there, like ones together, and those that may be launched.

    Returns:
        None if it is not known what may be launched.
    """
    types = node_types()
    return None if types is None else [*_present(), *map(_launchable, types.values())]


def _present() -> list[Kind]:
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for node in ray.nodes():
        if node["Alive"]:
            alike.setdefault(_shape(node), []).append(node)
    return [Kind(nodes[0]["Resources"], len(nodes), nodes[0]["Labels"]) for nodes in alike.values()]


def _shape(node: Mapping[str, Any]) -> str:
    """Return what makes two nodes alike."""
    own = ("node:", "memory", "object_store_memory")
    resources = {name: has for name, has in node["Resources"].items() if not name.startswith(own)}
    labels = {key: value for key, value in node["Labels"].items() if key != "ray.io/node-id"}
    return repr((sorted(resources.items()), sorted(labels.items())))


def _launchable(node_type: Mapping[str, Any]) -> Kind:
    resources = {name: float(amount) for name, amount in node_type.get("resources", {}).items()}
    most, labels = node_type.get("max_workers", MANY), node_type.get("labels") or None
    return Kind(resources, most, labels, is_there=False)
