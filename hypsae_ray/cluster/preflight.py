"""What is asked of a cluster before anything is computed on it.

Each node is asked, where there is more than one: can it read and write the run folder, does it find the
models of the stages that may run there, and does it have the driver's versions of Python, Ray and this
package? All that is missing is said at once.

Room is Ray's to find: a pool or a training that waits for it says so. Only where Ray was started on this
machine alone, what the machine can never hold is refused here.
"""

import hashlib
import platform
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import hypsae_ray
from hypsae_ray.cluster.placement import Reservation, describe_nodes, reservation_of
from hypsae_ray.cluster.ray_private import draining_nodes
from hypsae_ray.config import Embed, Llm, TrainSae
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.locate import lacking_model
from hypsae_ray.models.protocols import Options
from hypsae_ray.store.artifacts import Folder

ANSWER_S = 180  # a node that was just launched unpacks its environment first
CONNECT_S = 10
SECTIONS = {Embed: "embed", TrainSae: "train_sae", Llm: "llm"}
Asked = tuple[Options, Reservation]


def check(sections: Sequence[Options], folder: Folder | None, only_here: bool = False) -> None:
    """Refuse what the cluster cannot do for stages to come; Ray must be running.

    With `only_here`, no node will come to those that are there.

    Raises:
        ConfigError: names what each node lacks, or a section whose reservation is impossible.
    """
    asked = [(options, reservation_of(options)) for options in sections]
    never = [(SECTIONS[type(options)], _never(reservation, only_here)) for options, reservation in asked]
    reasons = [f"{section}: {reason}" for section, reason in never if reason]
    if reasons := reasons + _ask_nodes(asked, folder):
        lines = [f"  {reason}" for reason in dict.fromkeys(reasons)]
        raise ConfigError("\n".join(["this cluster cannot do what the config asks for:", *lines]))


def _never(reservation: Reservation, only_here: bool) -> str:
    """Return why there can never be room for a reservation, where that is certain."""
    try:
        ray.remote(look).options(label_selector=dict(reservation.labels))
    except ValueError as error:
        return f"labels: {error}"
    if only_here and not any(reservation.fits(node, reservation.count) for node in ray.nodes()):
        return f"the config reserves {reservation}, but this machine has {describe_nodes()}"
    return ""


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
        answers = [(node, _ask(node, folder, mark, asked)) for node in nodes]
        ray.wait([answer for _, answer in answers], num_returns=len(answers), timeout=ANSWER_S)
        reasons = [(node, _read(answer)) for node, answer in answers]
    finally:
        if folder is not None:
            folder.remove(mark)
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # one that died lacks nothing any more
    return [
        f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]}) {reason}"
        for node, found in reasons
        if node["NodeID"] in alive
        for reason in found
    ]


def _ask(node: Mapping[str, Any], folder: Folder | None, mark: str, asked: Sequence[Asked]) -> Any:
    """Begin to ask a node, about the models of those stages alone that may run there."""
    fitting = [options for options, reservation in asked if reservation.fits(node)]
    strategy: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(look)
    return task.remote(versions(), folder, mark, fitting)


def _read(answer: Any) -> list[str]:
    try:
        reasons: list[str] = ray.get(answer, timeout=0)
    except TimeoutError:
        return [f"does not answer within {ANSWER_S} s"]
    except RayError as error:
        return [f"cannot do as much as this check: {str(error).strip().splitlines()[-1]}"]
    return reasons


def look(
    driver: Mapping[str, str], folder: Folder | None, mark: str, options: Sequence[Options]
) -> list[str]:
    """Return what the node of this process lacks for stages that may run here.

    `driver` holds the driver's versions, `mark` is the name of a file that it wrote into the run folder.
    """
    here = versions()
    lacks = [
        f"has {name} {here[name]}, the driver {driver[name]}" for name in here if here[name] != driver[name]
    ]
    lacks += [_lacking_folder(folder, mark)] if folder else []
    return [reason for reason in [*lacks, *map(_lacking_model, options)] if reason]


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
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_S).close()
    except OSError as error:
        return f"cannot connect to {parts.scheme}://{parts.hostname}:{port}: {error}"
    return ""
