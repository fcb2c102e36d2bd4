"""What a config reserves against what nodes have, counted by hand."""

import pytest

from hypsae_ray.cluster.capacity import Kind, Need, lacking, need_of, selects
from hypsae_ray.config import Embed, Llm, Replicas, TrainSae
from hypsae_ray.models.protocols import Options

CPUS = Replicas(cpus=8)
H100 = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H100": 1.0, "memory": 1e11}


@pytest.mark.parametrize(
    ("options", "bundle", "count"),
    [
        (Embed(replicas=Replicas(cpus=2, gpus=0.25, max=9)), {"CPU": 2, "GPU": 0.25}, 1),
        (Embed(replicas=Replicas(accelerator="L4")), {"CPU": 1, "accelerator_type:L4": 0.001}, 1),
        (Embed(engine="vllm", tensor_parallel_size=4, replicas=CPUS), {"CPU": 8, "GPU": 4}, 1),
        (Llm(tensor_parallel_size=4, replicas=CPUS), {"CPU": 8, "GPU": 4}, 1),
        (Llm(tensor_parallel_size=2, pipeline_parallel_size=4, replicas=CPUS), {"CPU": 2, "GPU": 2}, 4),
        (TrainSae(replicas=Replicas(min=4, max=4, gpus=1, cpus=3)), {"CPU": 3, "GPU": 1}, 4),
        (TrainSae(replicas=Replicas(min=2, max=4)), {"CPU": 1}, 2),
    ],
)  # fmt: skip
def test_what_must_find_room(options: Options, bundle: dict[str, float], count: int):
    need = need_of(options)
    assert need is not None
    assert (need.bundle, need.count) == (bundle, count)


@pytest.mark.parametrize("options", [Embed(replicas=Replicas(min=0, max=0)), TrainSae()])
def test_what_works_in_this_process_needs_no_room(options: Options):
    assert need_of(options) is None


@pytest.mark.parametrize(
    ("bundle", "fits"),
    [
        ({"GPU": 8}, 2),  # one on each of two nodes
        ({"GPU": 3}, 4),  # 8 // 3 = 2 on each
        ({"GPU": 0.1}, 160),
        ({"GPU": 1, "CPU": 5}, 6),  # the CPUs allow 3 on each
        ({"GPU": 9}, 0),
        ({"accelerator_type:H100": 0.001, "GPU": 1}, 16),
        ({"accelerator_type:L4": 0.001, "GPU": 1}, 0),
    ],
)
def test_how_many_bundles_nodes_hold(bundle: dict[str, float], fits: int):
    assert Kind(H100, 2, {}).holds(Need("llm", bundle, 1, {})) == fits


def test_what_is_not_known_of_a_node_before_it_is_launched_is_not_held_against_it():
    need = Need("llm", {"GPU": 1, "accelerator_type:L4": 0.001}, 1, {"ray.io/market-type": "spot"})
    assert lacking(need, [Kind({"CPU": 8, "GPU": 1}, 3, None, is_there=False)]) == ""
    assert lacking(need, [Kind(H100, 3, None, is_there=False)]) == (
        "llm: the config reserves 1 GPU + L4 on one node, ray.io/market-type spot, "
        "but the nodes have: 3 x 16 CPU + 8 GPU + H100 (to be launched)"
    )


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [("a", {"a"}), ("!a", {"b", None}), ("in(a, b)", {"a", "b"}), ("!in(a,b)", {None})],
)
def test_label_rules(rule: str, allowed: set[str | None]):
    values = ("a", "b", None)
    found = {v for v in values if selects({"zone": rule}, {} if v is None else {"zone": v})}
    assert found == allowed
