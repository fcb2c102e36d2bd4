"""What is asked of a cluster before anything is computed on it.

Each node is asked, where there is more than one: can it read and write the run folder, does it find the
models of the stages that may run there, and does it have the driver's versions of Python, Ray and this
package? All that is missing is said at once.

Room is Ray's to find: a pool or a training that waits for it says so. Where Ray was started on this machine
alone, what it can never hold is refused here.
"""

import hashlib
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import hypsae_ray
from hypsae_ray.cluster.placement import Reservation, describe_nodes, reservation_of, section_of
from hypsae_ray.cluster.ray_private import draining_nodes
from hypsae_ray.config import TrainSae
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.locate import lacking_model
from hypsae_ray.models.protocols import Options
from hypsae_ray.store.artifacts import Folder

ANSWER_S = 180  # a node that was just launched unpacks its environment first
CONNECT_S = 10
Asked = tuple[Options, Reservation]


@dataclass(frozen=True)
class Look:
    """What a node is asked; picklable.

    Attributes:
        folder: the run folder; None: there is none.
        mark: name of a file in it that the driver wrote.
        options: of the stages that may run on the node.
    """

    folder: Folder | None
    mark: str
    options: tuple[Options, ...]

    def __call__(self) -> tuple[dict[str, str], list[str]]:
        """Return the versions of a node, and what it cannot do."""
        lacks = [_lacking_folder(self.folder, self.mark)] if self.folder else []
        return versions(), [reason for reason in [*lacks, *map(_lacking_model, self.options)] if reason]


def check(sections: Sequence[Options], folder: Folder | None, only_here: bool = False) -> None:
    """Refuse what the cluster cannot do; Ray must be running.

    Args:
        sections: options of the stages to come.
        folder: of the run; None: there is none.
        only_here: no node will come to those that are there.

    Raises:
        ConfigError: names what each node lacks, or a section whose reservation is impossible.
    """
    asked = [(options, found) for options in sections if (found := reservation_of(options))]
    never = [(section_of(options), _never(reservation, only_here)) for options, reservation in asked]
    reasons = [f"{section}: {reason}" for section, reason in never if reason]
    if reasons := reasons + _ask_nodes(asked, folder):
        lines = [f"  {reason}" for reason in dict.fromkeys(reasons)]
        raise ConfigError("\n".join(["this cluster cannot do what the config asks for:", *lines]))


def _never(reservation: Reservation, only_here: bool) -> str:
    """Return why there can never be room for a reservation, where that is certain."""
    try:
        ray.remote(_do).options(label_selector=dict(reservation.labels))
    except ValueError as error:
        return f"labels: {error}"
    if only_here and not any(reservation.fits(node, reservation.count) for node in ray.nodes()):
        return f"the config reserves {reservation}, but this machine has {describe_nodes()}"
    return ""


def versions() -> dict[str, str]:
    """Return the versions that all nodes must share."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "Ray": ray.__version__, "hypsae_ray": _digest()}


def _digest() -> str:
    """Return a short hash of this package's code: what is installed may differ from what was sent along."""
    digest = hashlib.sha256()
    for file in sorted(Path(hypsae_ray.__path__[0]).rglob("*.py")):
        digest.update(file.read_bytes())
    return f"code {digest.hexdigest()[:8]}"


def _ask_nodes(asked: Sequence[Asked], folder: Folder | None) -> list[str]:
    """Return what the nodes lack; where the driver's node is the only one, it is not asked."""
    leaving = draining_nodes()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    if len(nodes) < 2:
        return []
    mark = f".reach-{uuid4().hex}"
    if folder is not None:
        folder.write_bytes(mark, b"")
    try:
        return _gather([(node, _ask(node, Look(folder, mark, _fitting(node, asked)))) for node in nodes])
    finally:
        if folder is not None:
            folder.remove(mark)


def _fitting(node: Mapping[str, Any], asked: Sequence[Asked]) -> tuple[Options, ...]:
    """Return the options of the stages that may run on a node, whose models it must have."""
    return tuple(options for options, reservation in asked if reservation.fits(node))


def _ask(node: Mapping[str, Any], look: Look) -> Any:
    """Begin to ask one node."""
    strategy: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_do)
    return task.remote(look)


def _do(look: Look) -> tuple[dict[str, str], list[str]]:
    return look()


def _gather(answers: Sequence[tuple[Mapping[str, Any], Any]]) -> list[str]:
    """Wait for the answers; a node that died meanwhile lacks nothing any more."""
    all_of_them = [answer for _, answer in answers]
    ready, _ = ray.wait(all_of_them, num_returns=len(answers), timeout=ANSWER_S)
    reasons = [(node, _reasons(answer, answer in ready)) for node, answer in answers]
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return [
        f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]}) {reason}"
        for node, found in reasons
        if node["NodeID"] in alive
        for reason in found
    ]


def _reasons(answer: Any, is_ready: bool) -> list[str]:
    if not is_ready:
        return [f"does not answer within {ANSWER_S} s"]
    try:
        theirs, reasons = ray.get(answer)
    except RayError as error:
        return [f"cannot do as much as this check: {str(error).strip().splitlines()[-1]}"]
    return [*differing(versions(), theirs), *reasons]


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return where versions differ.

    >>> differing({"Ray": "2.60.0"}, {"Ray": "2.59.0"})
    ['has Ray 2.59.0, the driver 2.60.0']
    """
    return [
        f"has {name} {theirs.get(name)}, the driver {version}"
        for name, version in ours.items()
        if theirs.get(name) != version
    ]


def _lacking_folder(folder: Folder, mark: str) -> str:
    """Return why this process cannot use a run folder that the driver wrote a file into."""
    own = f"{mark}-{uuid4().hex}"
    try:
        if not folder.has(mark):
            return f"does not see the files of {folder.path}: a run folder must be reachable from all nodes"
        folder.write_bytes(own, b"")
        folder.remove(own)
    except Exception as error:  # each file system has errors of its own
        return f"cannot write to {folder.path}: {error}"
    return ""


def _lacking_model(options: Options) -> str:
    """Return why this process cannot reach the model of a stage."""
    if isinstance(options, TrainSae):
        return ""
    if options.endpoint is not None:
        return _silent(options.endpoint.url)
    if options.engine in ("keywords", "column"):
        return ""
    return lacking_model(options.model, options.revision)


def _silent(url: str) -> str:
    """Return why no connection to a server can be made."""
    place = urlsplit(url)
    port = place.port or {"http": 80, "https": 443}[place.scheme]
    try:
        socket.create_connection((place.hostname or "", port), CONNECT_S).close()
    except OSError as error:
        return f"cannot connect to {place.scheme}://{place.hostname}:{port}: {error}"
    return ""
