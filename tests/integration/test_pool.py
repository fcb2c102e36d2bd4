"""The Ray pool with small models of our own, so that every count is exact."""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import ray

from hypsae_ray.cluster import preflight
from hypsae_ray.cluster.actors import RayActors
from hypsae_ray.cluster.address import silent
from hypsae_ray.cluster.placement import reservation_of_replica
from hypsae_ray.cluster.pool import RayPool
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Embed, Llm, Replicas
from hypsae_ray.errors import ConfigError, EngineDiedError, InputError, ModelError, StageError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_session")]


class Process(int):
    """The number of a process, as a model that remarks something."""

    remark = "llm: float32, since this CPU has no bfloat16 instructions"


@dataclass(frozen=True)
class Counter:
    """Makes a model that knows its process, and leaves a file each time it is made."""

    folder: str

    def __call__(self) -> Process:
        Path(self.folder, uuid.uuid4().hex).touch()
        return Process(os.getpid())


def test_the_address_of_a_living_cluster_answers():
    assert silent(ray.get_runtime_context().gcs_address) == ""


def ray_pool(
    factory: Callable[[], Any], replicas: Replicas, say: Callable[[str], None] = lambda _: None
) -> RayPool[Any]:
    return RayPool(RayActors(factory, reservation_of_replica(replicas)), replicas, say)


def square(pid: int, task: int) -> tuple[int, int]:
    return pid, task**2


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def pool(tmp_path: Path, said: list[str]) -> Iterator[RayPool[int]]:
    pool = ray_pool(Counter(str(tmp_path)), Replicas(min=1, max=1, cpus=2), said.append)
    yield pool
    pool.close()


def test_one_model_serves_call_after_call(pool: RayPool[int], said: list[str], tmp_path: Path):
    first = list(pool.map(square, range(20)))
    second = list(pool.map(square, [30]))
    assert sorted(result for _, result in first) == [i**2 for i in range(20)]
    assert second[0][1] == 900
    assert {pid for pid, _ in first} == {second[0][0]}
    assert len(list(tmp_path.iterdir())) == 1
    assert said == [Process.remark]


def fail(_: int, task: str) -> None:
    raise InputError(task) if task else ValueError("unforeseen")


def test_errors_come_as_they_are(pool: RayPool[int]):
    with pytest.raises(InputError, match="bad row 7"):
        list(pool.map(fail, ["bad row 7"]))
    with pytest.raises(StageError, match="unforeseen"):
        list(pool.map(fail, [""]))


def fail_first(_: int, task: tuple[str, int]) -> int:
    folder, number = task
    if number == 0:
        raise InputError("the first")
    Path(folder, str(number)).touch()
    return number


def test_nothing_of_a_call_that_failed_is_left_to_the_next(pool: RayPool[int], tmp_path: Path):
    (tmp_path / "done").mkdir()
    with pytest.raises(InputError, match="the first"):
        list(pool.map(fail_first, [(str(tmp_path / "done"), i) for i in range(2000)]))
    assert len(list((tmp_path / "done").iterdir())) < 1000
    assert [result for _, result in pool.map(square, [3])] == [9]


def die_once(pid: int, task: tuple[str, int]) -> int:
    flag, number = Path(task[0]), task[1]
    if number == 3 and not flag.exists():
        flag.touch()
        os._exit(1)
    return number


@pytest.mark.slow
def test_a_task_whose_actor_dies_is_done_again(tmp_path: Path):
    (tmp_path / "made").mkdir()
    pool = ray_pool(Counter(str(tmp_path / "made")), Replicas(min=1, max=1))
    numbers = list(pool.map(die_once, [(str(tmp_path / "flag"), i) for i in range(6)]))
    pool.close()
    assert sorted(numbers) == list(range(6))
    assert len(list((tmp_path / "made").iterdir())) == 2


def break_down_once(pid: int, flag: str) -> int:
    if not Path(flag).exists():
        Path(flag).touch()
        raise EngineDiedError("the engine broke down")
    return pid


def always_die(_: int, number: int) -> int:
    if number == 2:
        os._exit(1)
    return number


def test_an_engine_that_breaks_down_is_replaced_and_a_deadly_task_is_given_up(tmp_path: Path):
    (tmp_path / "made").mkdir()
    pool = ray_pool(Counter(str(tmp_path / "made")), Replicas(min=1, max=1))
    (pid,) = pool.map(break_down_once, [str(tmp_path / "flag")])
    assert pid > 0
    assert len(list((tmp_path / "made").iterdir())) == 2
    results = list(pool.map(always_die, range(5), on_lost=lambda task, reason: f"{task}: {reason}"))
    pool.close()
    assert {r for r in results if isinstance(r, int)} == {0, 1, 3, 4}
    assert [r for r in results if isinstance(r, str)] == ["2: 3 processes died while they worked on it"]


class Parallel:
    """A model that works on two tasks at once."""

    thread_safe = True

    def __init__(self) -> None:
        self.both_at_work = Event()


def die_beside_others(model: Parallel, task: tuple[str, int]) -> int:
    """Task 0 kills its process each time; task 1 is at work the first time, and ends when tried again."""
    tried_before, number = Path(task[0], "tried"), task[1]
    if number == 0:
        if not tried_before.exists():
            model.both_at_work.wait()
        os._exit(1)
    if number == 1 and not tried_before.exists():
        tried_before.touch()
        model.both_at_work.set()
        Event().wait()
    return number


@pytest.mark.slow
def test_a_task_that_stood_beside_a_deadly_one_is_not_given_up_with_it(tmp_path: Path):
    pool = ray_pool(Parallel, Replicas(min=1, max=1))
    tasks = [(str(tmp_path), number) for number in range(4)]
    results = list(pool.map(die_beside_others, tasks, on_lost=lambda task, reason: -1 - task[1]))
    pool.close()
    assert sorted(results) == [-1, 1, 2, 3]


def test_processes_that_die_before_they_can_load_are_counted_too():
    pool = ray_pool(DeadlyPickle(), Replicas(min=1, max=1))
    with pytest.raises(ModelError, match="4 processes in a row died while they loaded the model"):
        list(pool.map(square, [1]))


class DeadlyPickle:
    """Stands for a factory whose import kills the process."""

    def __call__(self) -> None:
        raise AssertionError("it cannot be unpickled")

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def die_while_loading() -> None:
    os._exit(1)


@pytest.mark.slow
def test_processes_that_die_while_they_load_end_the_call():
    pool = ray_pool(die_while_loading, Replicas(min=1, max=1))
    with pytest.raises(ModelError, match="4 processes in a row died while they loaded the model"):
        list(pool.map(square, [1]))


def no_model() -> None:
    raise ModelError("no such weights")


def test_a_model_that_does_not_load_is_told_once():
    pool = ray_pool(no_model, Replicas(min=1, max=1))
    with pytest.raises(ModelError, match="no such weights"):
        list(pool.map(square, [1]))
    pool.close()


def test_a_session_keeps_the_pool_of_the_model_in_use():
    keywords = Llm(engine="keywords")
    with Session() as session:
        pool = session.language_model(keywords)
        assert session.language_model(keywords.model_copy()) is pool
        assert session.embedder(Embed()) is not pool
        assert session.language_model(keywords) is not pool


@pytest.mark.parametrize(
    ("replicas", "reason"),
    [
        ({"cpus": 4}, "llm: the config reserves 4 CPU on one node, but this machine has 1 x 3 CPU"),
        ({"gpus": 2}, r"1 CPU \+ 2 GPU on"),
        ({"labels": {"zone": "a"}}, "1 CPU on one node, zone a"),
    ],
)
def test_what_this_machine_alone_cannot_give_is_refused(replicas: dict, reason: str):
    asked = [Llm(engine="keywords", replicas=Replicas(**replicas))]
    with pytest.raises(ConfigError, match=reason):
        preflight.check(asked, None, only_here=True)
    preflight.check(asked, None)  # nodes may come


def test_a_label_selector_that_ray_does_not_understand_is_refused():
    with pytest.raises(ConfigError, match="embed: labels: Invalid label selector"):
        preflight.check([Embed(replicas=Replicas(labels={"zone": "!in(a"}))], None)


def test_embeddings_from_actors_equal_those_of_this_process():
    texts = [f"a text about {word}" for word in ("rain", "bread", "trains", "rain")]
    here = Embed(replicas=Replicas(min=0, max=0))
    with Session() as session:
        (local,) = session.embedder(here).map(embed, [texts])
        (remote,) = session.embedder(Embed()).map(embed, [texts])
    np.testing.assert_allclose(local, remote, atol=1e-5)


def embed(model, texts: list[str]) -> np.ndarray:
    return model.embed(texts).vectors
