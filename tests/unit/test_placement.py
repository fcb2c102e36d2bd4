"""What a config reserves, what of it a node could hold, and what its actors are asked of Ray."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.util.queue import Empty

from hypsae_ray.cluster import trainer
from hypsae_ray.cluster.placement import Reservation, reservation_of
from hypsae_ray.config import Embed, Llm, Replicas, TrainSae
from hypsae_ray.models.protocols import Options
from hypsae_ray.models.vllm.model import executor_arguments
from hypsae_ray.sae.training import Epoch

EIGHT_CPUS = Replicas(cpus=8)
NOWHERE = Replicas(min=0, max=0)
H100 = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H100": 1.0, "memory": 1e11}


@pytest.mark.parametrize(
    ("options", "bundle", "count"),
    [
        (Embed(replicas=Replicas(cpus=2, gpus=0.25, max=9)), {"CPU": 2, "GPU": 0.25}, 1),
        (Embed(replicas=Replicas(accelerator="L4")), {"CPU": 1, "accelerator_type:L4": 0.001}, 1),
        (Embed(engine="vllm", tensor_parallel_size=4, replicas=EIGHT_CPUS), {"CPU": 8, "GPU": 4}, 1),
        (Llm(tensor_parallel_size=4, replicas=EIGHT_CPUS), {"CPU": 8, "GPU": 4}, 1),
        (Llm(tensor_parallel_size=2, pipeline_parallel_size=4, replicas=EIGHT_CPUS), {"CPU": 1, "GPU": 1}, 8),
        (TrainSae(replicas=Replicas(min=4, max=4, gpus=1, cpus=3)), {"CPU": 3, "GPU": 1}, 4),
        (TrainSae(replicas=Replicas(min=2, max=4)), {"CPU": 1}, 2),
    ],
)
def test_what_must_find_room(options: Options, bundle: dict[str, float], count: int):
    reservation = reservation_of(options)
    assert (reservation.bundle, reservation.count) == (bundle, count)


def test_a_model_on_one_node_is_an_actor_that_reserves_all_its_gpus():
    there = Replicas(cpus=8, accelerator="H100", labels={"zone": "a"})
    assert reservation_of(Llm(tensor_parallel_size=4, replicas=there)).actor_options() == {
        "num_cpus": 8,
        "num_gpus": 4,
        "resources": {"accelerator_type:H100": 0.001},
        "label_selector": {"zone": "a"},
    }


@pytest.mark.parametrize(
    ("tensor", "pipeline", "replicas", "expected"),
    [
        (1, 1, EIGHT_CPUS, None),
        (4, 1, EIGHT_CPUS, "mp"),
        (1, 2, EIGHT_CPUS, "ray"),
        (2, 2, EIGHT_CPUS, "ray"),
        (4, 1, NOWHERE, None),
    ],
)
def test_ray_starts_the_workers_of_vllm_only_where_they_may_span_nodes(
    tensor: int, pipeline: int, replicas: Replicas, expected: str | None
):
    llm = Llm(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, replicas=replicas)
    assert executor_arguments(llm).get("distributed_executor_backend") == expected


@pytest.mark.parametrize(
    ("bundle", "count", "fits"),
    [
        ({"GPU": 8}, 1, True),
        ({"GPU": 9}, 1, False),
        ({"GPU": 3}, 2, True),
        ({"GPU": 3}, 3, False),
        ({"GPU": 0.1}, 80, True),
        ({"GPU": 1, "CPU": 17}, 1, False),
        ({"accelerator_type:H100": 0.001, "GPU": 1}, 1, True),
        ({"accelerator_type:L4": 0.001, "GPU": 1}, 1, False),
    ],
)
def test_what_a_node_could_hold(bundle: dict[str, float], count: int, fits: bool):
    assert Reservation(bundle).fits({"Resources": H100, "Labels": {}}, count) is fits


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [("a", {"a"}), ("!a", {"b", None}), ("in(a, b)", {"a", "b"}), ("!in(a,b)", {None})],
)
def test_label_rules(rule: str, allowed: set[str | None]):
    reservation = Reservation({}, labels={"zone": rule})
    labels: dict[str | None, dict[str, str]] = {None: {}, "a": {"zone": "a"}, "b": {"zone": "b"}}
    found = {value for value, own in labels.items() if reservation.fits({"Resources": {}, "Labels": own})}
    assert found == allowed


@pytest.mark.parametrize(("late", "warnings"), [(True, 1), (False, 0)])
def test_training_that_does_not_begin_says_so_once(late: bool, warnings: int):
    epoch, warned, seen = Epoch(1, 0.5, 0.5, 0.0, 0.0), [], []
    items: list[Any] = ["begun", epoch, epoch, None]

    def get(timeout: float | None = None) -> Any:
        if late and timeout is not None:
            raise Empty
        return items.pop(0)

    queue: Any = SimpleNamespace(get=get)
    trainer._forward(queue, seen.append, lambda: warned.append(1))
    assert seen == [epoch, epoch]
    assert len(warned) == warnings
