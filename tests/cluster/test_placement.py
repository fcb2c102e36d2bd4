"""Where models stand, on a cluster of two nodes with two GPUs each, which only Ray's counts know.

One of the nodes has a label and says what kind of GPUs it has.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
from ray._common.test_utils import wait_for_condition
from ray.cluster_utils import Cluster
from ray.util.placement_group import get_current_placement_group, placement_group_table

from hypsae_ray.cluster.actors import RayActors
from hypsae_ray.cluster.attempts import CALLS_AT_ONCE
from hypsae_ray.cluster.placement import reservation_of
from hypsae_ray.cluster.pool import RayPool
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Embed, Llm, Replicas, TrainSae
from hypsae_ray.errors import ConfigError, StageError
from hypsae_ray.models.protocols import Options
from hypsae_ray.store.artifacts import Folder
from tests.deadline import DEADLINE_S

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


NODE: dict[str, Any] = {"num_cpus": 2, "num_gpus": 2}
SPOT = {"ray.io/market-type": "spot"}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Cluster]:
    ray.shutdown()  # the one that other tests of this process share
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE, labels=SPOT, resources={"accelerator_type:L4": 1})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def split(tensor: int, pipeline: int, replicas: int = 1) -> Llm:
    copies = Replicas(min=1, max=replicas, cpus=0.5)
    return Llm(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, replicas=copies)


def all_is_free() -> bool:
    states = {group["state"] for group in placement_group_table().values()}
    return states <= {"REMOVED"} and ray.available_resources().get("GPU") == 4


class Position(NamedTuple):
    """A model that knows where it was loaded: its node, actor, GPUs, and placement group if it has one."""

    node: str
    actor: str
    gpus: int
    group: str | None


def load() -> Position:
    """Look for the group as vLLM does: in the actor, in a thread of its own."""
    group, context = get_current_placement_group(), ray.get_runtime_context()
    gpus = len(ray.get_gpu_ids())
    return Position(
        context.get_node_id(), context.get_actor_id() or "", gpus, group.id.hex() if group else None
    )


def meet(position: Position, task: tuple[str, int]) -> Position:
    """Return only when as many replicas as given have got here."""
    folder, replicas = Path(task[0]), task[1]
    (folder / position.actor).touch()
    wait_for_condition(lambda: len(list(folder.iterdir())) == replicas, timeout=DEADLINE_S)
    return position


def pool_of(
    factory: Callable[[], Any], options: Options, say: Callable[[str], None] = lambda _: None
) -> RayPool[Any]:
    return RayPool(RayActors(factory, reservation_of(options)), options.replicas, say)


def positions(llm: Llm, folder: Path) -> dict[Position, list[str]]:
    """Run a pool until all replicas are at work; return where each is, and the nodes of its group."""
    pool = pool_of(load, llm)
    seen = set(pool.map(meet, [(str(folder), llm.replicas.max)] * 8 * llm.replicas.max))
    table: Any = placement_group_table()
    found = {one: list(table[one.group]["bundles_to_node_id"].values()) if one.group else [] for one in seen}
    pool.close()
    return found


def refusal(*wanted: Options, folder: Path | None = None) -> str:
    """What a session says of options that it must refuse."""
    with Session(Folder.at(folder) if folder else None) as session, pytest.raises(ConfigError) as refused:
        session.check(wanted)
    return str(refused.value)


def test_a_session_lets_through_what_the_nodes_hold_and_leaves_nothing_in_the_run_folder(tmp_path: Path):
    on_spot = Replicas(max=3, gpus=0.5, accelerator="L4", labels=SPOT)
    with Session(Folder.at(tmp_path)) as session:
        splits = [split(2, 1), split(2, 2), split(1, 4)]
        session.check([Embed(replicas=on_spot), TrainSae(replicas=Replicas(min=2, max=2, gpus=2)), *splits])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "need"),
    [
        (split(4, 1), "0.5 CPU + 4 GPU on one node"),
        (split(1, 5), "5 times 0.1 CPU + 1 GPU on one node"),
        (Embed(replicas=Replicas(gpus=1, accelerator="H100")), "1 CPU + 1 GPU + H100 on one node"),
        (Llm(engine="keywords", replicas=Replicas(labels={"disk": "ssd"})), "1 CPU on one node, disk ssd"),
    ],
)
def test_a_pool_that_finds_no_room_says_what_it_needs_and_what_there_is(
    options: Options, need: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hypsae_ray.cluster.pool.WARN_S", 0.5)

    def say(line: str) -> None:
        raise StageError(line)

    with Session() as session:
        session.check([options])
    with pytest.raises(StageError) as told:
        list(pool_of(nothing, options, say).map(sees, [0]))
    assert str(told.value) == (
        f"waits for room for a replica, which reserves {need}; the nodes have 1 x 2 CPU + 2 GPU, "
        "1 x 2 CPU + 2 GPU + L4; `ray status` tells what can be launched"
    )
    wait_for_condition(all_is_free, timeout=DEADLINE_S)


def test_nodes_that_lack_the_model_are_named(tmp_path: Path):
    said = refusal(Embed(model="no-such-package", replicas=Replicas(labels=SPOT)), folder=tmp_path)
    (spot,) = (node for node in ray.nodes() if SPOT.items() <= node["Labels"].items())
    assert said.splitlines()[1:] == [
        f"  node {spot['NodeManagerAddress']} ({spot['NodeID'][:8]}) has no model 'no-such-package': "
        "no such folder, and no installed package that carries it"
    ]
    assert not list(tmp_path.iterdir())


def sees(_: None, __: int) -> tuple[str, str | None]:
    return ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES")


def nothing() -> None:
    """Make no model."""


def test_replicas_stand_where_the_config_says_and_see_their_own_gpus_only():
    there = Replicas(cpus=0, gpus=1, accelerator="L4", labels=SPOT)
    pool = pool_of(nothing, Embed(replicas=there))
    [(node, visible)] = pool.map(sees, [0])
    pool.close()
    assert SPOT.items() <= next(n["Labels"] for n in ray.nodes() if n["NodeID"] == node).items()
    assert visible in ("0", "1")
    pool = pool_of(nothing, Embed(replicas=Replicas(cpus=0)))
    [(_, visible)] = pool.map(sees, [0])
    pool.close()
    assert visible == ""


def test_tensor_parallel_replicas_have_a_node_each_and_leave_nothing(tmp_path: Path):
    found = positions(split(2, 1, replicas=2), tmp_path)
    assert len({position.node for position in found}) == 2
    assert {(position.gpus, position.group) for position in found} == {(2, None)}
    wait_for_condition(all_is_free, timeout=DEADLINE_S)


def test_pipeline_stages_span_the_nodes_and_leave_nothing(tmp_path: Path):
    [(position, nodes)] = positions(split(2, 2), tmp_path).items()
    assert position.node == nodes[0]
    assert sorted(nodes.count(node) for node in set(nodes)) == [2, 2]
    wait_for_condition(all_is_free, timeout=DEADLINE_S)


class Parallel:
    """A model that works on two tasks at once."""

    thread_safe = True


def begin_and_wait(_: Parallel, task: tuple[str, int]) -> str:
    """Leave a file for each time that a task is begun, and end when the file `go` is there."""
    folder, number = Path(task[0]), task[1]
    node = ray.get_runtime_context().get_node_id()
    (folder / f"{number} {node} {os.getpid()} {time.monotonic_ns()}").touch()
    wait_for_condition(lambda: (folder / "go").exists(), timeout=DEADLINE_S)
    return node


def begun(folder: Path) -> list[list[str]]:
    """Number, node, process and time of each task that was begun."""
    return [file.name.split() for file in folder.iterdir() if file.name != "go"]


def test_a_node_that_is_told_to_go_finishes_what_it_has_begun_and_begins_nothing_more(
    cluster: Cluster, tmp_path: Path
):
    """Last of this module: the node does not come back."""
    added = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    (leaving,) = (n["NodeID"] for n in ray.nodes() if SPOT.items() <= n["Labels"].items())
    elsewhere = Replicas(min=2, max=2, cpus=2, labels={"ray.io/node-id": f"!{driver_node()}"})
    pool = pool_of(Parallel, Embed(replicas=elsewhere))
    drainer = threading.Thread(target=drain_when_busy, args=(leaving, tmp_path))
    drainer.start()
    nodes = list(pool.map(begin_and_wait, [(str(tmp_path), number) for number in range(30)]))
    drainer.join()
    pool.close()
    assert Counter(number for number, *_ in begun(tmp_path)) == Counter(map(str, range(30)))
    assert Counter(nodes) == {leaving: CALLS_AT_ONCE, added.node_id: 30 - CALLS_AT_ONCE}


def driver_node() -> str:
    return ray.get_runtime_context().get_node_id()


def drain_when_busy(node: str, folder: Path) -> None:
    """Wait until both replicas have begun all they can, drain a node, and let the tasks go on."""
    wait_for_condition(lambda: len(begun(folder)) == 2 * CALLS_AT_ONCE, timeout=DEADLINE_S)
    gcs = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    preemption, in_an_hour = 2, int(time.time() + 3600) * 1000
    accepted, reason = gcs.drain_node(node, preemption, "spot", in_an_hour)
    assert accepted, reason
    (folder / "go").touch()
