"""Models split over GPUs, on a cluster of two nodes with two GPUs each, which only Ray's counts know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
from ray._common.test_utils import wait_for_condition
from ray.cluster_utils import Cluster
from ray.util.placement_group import get_current_placement_group, placement_group_table

from hypsae_ray.config import Llm, Replicas
from hypsae_ray.engine.placement import Placement, gpus_per_node, placement_of, require_room
from hypsae_ray.engine.pool import RayPool
from hypsae_ray.engine.session import Session
from hypsae_ray.errors import ConfigError

pytestmark = pytest.mark.cluster

DEADLINE_S = 90


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    node: dict[str, Any] = {"num_cpus": 2, "num_gpus": 2}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def split(tensor: int, pipeline: int, replicas: int = 1) -> Llm:
    copies = Replicas(min=1, max=replicas, cpus=0.5)
    return Llm(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, replicas=copies)


def all_is_free() -> bool:
    states = {group["state"] for group in placement_group_table().values()}
    return states <= {"REMOVED"} and ray.available_resources().get("GPU") == 4


class Place(NamedTuple):
    """A model that knows where it was loaded."""

    node: str
    group: str


def load() -> Place:
    """Look for the group as vLLM does: in the actor, in a thread of its own."""
    group = get_current_placement_group()
    assert group is not None
    return Place(ray.get_runtime_context().get_node_id(), group.id.hex())


def meet(place: Place, task: tuple[str, int]) -> Place:
    """Return only when as many groups as given have got here."""
    folder, groups = Path(task[0]), task[1]
    (folder / place.group).touch()
    wait_for_condition(lambda: len(list(folder.iterdir())) == groups, timeout=DEADLINE_S)
    return place


def places(llm: Llm, folder: Path) -> dict[Place, list[str]]:
    """Run a pool until all replicas are at work; return where each is, and the nodes of its GPUs."""
    pool = RayPool(load, llm.replicas, placement_of(llm))
    seen = set(pool.map(meet, [(str(folder), llm.replicas.max)] * 8 * llm.replicas.max))
    table: Any = placement_group_table()
    found = {place: list(table[place.group]["bundles_to_node_id"].values()) for place in seen}
    pool.close()
    return found


@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (2, 2), (1, 4)])
def test_a_split_that_the_nodes_hold_is_let_through(tensor: int, pipeline: int):
    assert gpus_per_node() == [2, 2]
    require_room(split(tensor, pipeline))


@pytest.mark.parametrize(("tensor", "pipeline"), [(4, 1), (3, 1), (2, 3), (1, 5)])
def test_a_split_that_no_node_or_not_all_together_hold_is_refused(tensor: int, pipeline: int):
    with pytest.raises(ConfigError, match=f"{tensor} GPUs on one node.* have GPUs: 2, 2$"):
        require_room(split(tensor, pipeline))


def test_a_session_refuses_before_anything_is_reserved():
    with Session() as session, pytest.raises(ConfigError, match="tensor_parallel_size 4"):
        session.language_model(split(4, 1))
    assert all_is_free()


def test_tensor_parallel_replicas_have_a_node_each_and_leave_nothing(tmp_path: Path):
    found = places(split(2, 1, replicas=2), tmp_path)
    assert len({place.node for place in found}) == 2
    for place, nodes in found.items():
        assert nodes == [place.node] * 2
    wait_for_condition(all_is_free, timeout=DEADLINE_S)


def test_pipeline_stages_span_the_nodes_and_leave_nothing(tmp_path: Path):
    [(place, nodes)] = places(split(2, 2), tmp_path).items()
    assert place.node == nodes[0]
    assert sorted(nodes.count(node) for node in set(nodes)) == [2, 2]
    wait_for_condition(all_is_free, timeout=DEADLINE_S)


@ray.remote
class Idle:
    """An actor that only lives."""


def test_a_group_is_reserved_only_where_every_other_one_has_an_actor():
    actor_class: Any = Idle
    placement = Placement(tensor=1, pipeline=2, cpus=0)

    def group() -> Any:
        return placement()["scheduling_strategy"].placement_group

    first = group()
    assert group() == first  # asked for, and no actor started
    actor = actor_class.options(**placement()).remote()
    assert group() != first
    del actor
    wait_for_condition(lambda: group() == first, timeout=DEADLINE_S)
    placement.remove()
    wait_for_condition(all_is_free, timeout=DEADLINE_S)
