"""Which replica gets which task, how many replicas there are, and what a death costs: without Ray.

`Machines` is a small cluster in this process: things happen in it one after the other, on a clock of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError

from hypsae_ray.cluster import pool as pools
from hypsae_ray.cluster.actors import LOAD, NODE, Actor, Call
from hypsae_ray.cluster.attempts import CALLS_AT_ONCE, TRIES, Attempt
from hypsae_ray.cluster.pool import IDLE_S, WARN_S, RayPool
from hypsae_ray.config import Replicas
from hypsae_ray.errors import EngineDiedError, HypsaeError, InputError, ModelError, StageError

Event = tuple[Actor, Call, Callable[[], Any]]


@dataclass
class Machines:
    """Starts replicas while there is room, and lets things happen in the order in which they began.

    Attributes:
        room: replicas that find a place.
        fails: loads that end in a death.
        load_error: why the model does not load.
        slow: numbers of replicas that finish nothing while another one can.
        leaving: nodes that are being drained.
        now: seconds.
        stall_s: seconds in which nothing happens from now on.
        ahead: what is done after them.
    """

    room: int = 99
    fails: int = 0
    load_error: HypsaeError | None = None
    slow: set[int] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    now: float = 0.0
    stall_s: float = 0.0
    ahead: list[Callable[[], None]] = field(default_factory=list)
    started: list[Actor] = field(default_factory=list)
    living: list[Actor] = field(default_factory=list)
    begun: Counter[Any] = field(default_factory=Counter)
    most_at_work: int = 0
    events: list[Event] = field(default_factory=list)

    def prepare(self, work: Callable[[Any, Any], Any]) -> Any:
        return work

    def start(self) -> Actor:
        actor = Actor(len(self.started))
        if len(self.living) < self.room:
            self.place(actor)
        self.started.append(actor)
        self.living.append(actor)
        return actor

    def place(self, actor: Actor) -> None:
        """Give a replica room, so that it loads its model."""
        self.events += [(actor, NODE, lambda: f"node{actor.handle}"), (actor, LOAD, self._load)]

    def _load(self) -> Any:
        self.fails -= 1
        return RayError("out of memory") if self.fails >= 0 else ("a remark", self.load_error)

    def begin(self, actor: Actor, work: Any, attempt: Attempt) -> None:
        self.begun[attempt.task] += 1
        self.most_at_work = max(self.most_at_work, len(actor.held))
        self.events.append((actor, attempt, lambda: self._do(actor, work, attempt.task)))

    def _do(self, actor: Actor, work: Any, task: Any) -> Any:
        try:
            return work(actor.handle, task), None
        except HypsaeError as error:
            return None, error
        except SystemExit:
            return RayError("its process ended")

    def wait(self, actors: Sequence[Actor], timeout_s: float) -> tuple[Actor, Call, Any] | None:
        while self.ahead and self.stall_s <= 0:
            self.ahead.pop()()
        able = [event for event in self.events if event[0] in actors]
        if self.stall_s > 0 or not able:
            self.stall_s -= timeout_s
            self.now += timeout_s
            return None
        event = min(able, key=lambda one: one[0].handle in self.slow and bool(one[0].held))
        self.events.remove(event)
        return event[0], event[1], event[2]()

    def end(self, actor: Actor) -> None:
        self.living.remove(actor)

    def leaving_nodes(self) -> set[str]:
        return self.leaving

    def describe_wait(self) -> str:
        return "waits for room"


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """A cluster whose clock is the pool's."""
    machines = Machines()
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: machines.now))
    return machines


@pytest.fixture
def said() -> list[str]:
    """What pools tell the user."""
    return []


def pool_on(machines: Any, least: int = 1, most: int = 1, said: list[str] | None = None) -> RayPool[int]:
    return RayPool(machines, Replicas(min=least, max=most), (said if said is not None else []).append)


def square(_: int, task: int) -> int:
    return task**2


def test_each_task_is_done_once_and_drawn_when_it_is_needed(machines: Machines, said: list[str]):
    drawn = 0

    def tasks() -> Iterator[int]:
        nonlocal drawn
        for number in range(1, 51):
            drawn = number
            yield number

    pool = pool_on(machines, 3, 3, said)
    results = []
    for result in pool.map(square, tasks()):
        results.append(result)
        assert drawn <= len(results) + CALLS_AT_ONCE * 3
    assert sorted(results) == [task**2 for task in range(1, 51)]
    assert set(machines.begun.values()) == {1}
    assert machines.most_at_work == CALLS_AT_ONCE
    assert len(machines.started) == 3
    assert said == ["a remark"]


def test_nothing_to_do_starts_nothing(machines: Machines):
    assert list(pool_on(machines).map(square, [])) == []
    assert machines.started == []


def test_a_slow_replica_keeps_no_task_but_its_own_waiting(machines: Machines):
    machines.slow = {0}
    done_by = list(pool_on(machines, 2, 2).map(lambda number, task: number, range(20)))
    assert done_by == [1] * (20 - CALLS_AT_ONCE) + [0] * CALLS_AT_ONCE


def test_a_task_that_kills_its_replicas_is_given_up_and_its_neighbour_is_not(machines: Machines):
    def work(_: int, task: int) -> int:
        if task == 1:
            raise SystemExit
        return task

    pool = pool_on(machines)
    results = list(pool.map(work, range(6), on_lost=lambda task, reason: f"{task}: {reason}"))
    assert sorted(results, key=str) == [0, f"1: {TRIES} processes died while they worked on it", 2, 3, 4, 5]
    assert machines.begun[1] == TRIES
    assert sum(machines.begun.values()) == 6 + TRIES - 1 + 1, "the neighbour was begun twice"
    assert len(machines.started) == 1 + TRIES


def test_a_task_whose_replica_died_is_alone_the_next_time(machines: Machines):
    seen: list[tuple[int, int]] = []

    def work(number: int, task: int) -> None:
        seen.append((task, len(machines.started[number].held)))
        if task == 0 and machines.begun[0] == 1:
            raise SystemExit

    list(pool_on(machines).map(work, range(4)))
    assert [neighbours for task, neighbours in seen if machines.begun[task] == 2][1:] == [1, 1]


def test_a_lost_task_ends_the_call_with_the_reason_of_its_engine(machines: Machines):
    def work(_: int, task: int) -> None:
        raise EngineDiedError("CUDA error")

    with pytest.raises(StageError, match="a task cannot be done: CUDA error"):
        list(pool_on(machines).map(work, [1]))
    assert len(machines.started) == TRIES
    assert machines.living == []


@pytest.mark.parametrize(
    ("n_tasks", "least", "replicas"), [(1, 1, 1), (3, 1, 2), (5, 1, 3), (99, 1, 8), (1, 4, 4)]
)
def test_as_many_replicas_as_there_is_work_for(machines: Machines, n_tasks: int, least: int, replicas: int):
    list(pool_on(machines, least, 8).map(square, range(n_tasks)))
    assert len(machines.started) == replicas


def test_replicas_without_room_join_late_or_end_with_the_queue(machines: Machines):
    machines.room = 2
    pool, late = pool_on(machines, 1, 4), []
    for n_done, number in enumerate(pool.map(lambda number, task: number, range(40)), 1):
        late.append(number)
        if n_done == 20:
            machines.place(machines.started[2])
    assert len(machines.started) == 4
    assert 2 in late[20:] and 2 not in late[:20]
    assert [actor.handle for actor in machines.living] == [0, 1, 2], "the fourth would ask for a node"


def test_replicas_above_the_least_end_when_they_are_idle_and_stay_loaded_between_calls(machines: Machines):
    pool = pool_on(machines, 1, 3)
    list(pool.map(square, range(20)))
    assert len(machines.living) == 3
    machines.now += 1000
    list(pool.map(square, range(20)))
    assert len(machines.started) == 3
    tasks = pool.map(square, range(1))
    machines.stall_s = 2 * IDLE_S
    assert list(tasks) == [0]
    assert len(machines.living) == 1
    pool.close()
    assert machines.living == []


def test_a_replica_whose_node_is_told_to_go_finishes_what_it_has_begun(machines: Machines):
    pool, done_by = pool_on(machines), []
    for number in pool.map(lambda number, task: number, range(20)):
        done_by.append(number)
        machines.leaving = {"node0"}
    assert done_by == [0] * (1 + CALLS_AT_ONCE) + [1] * (19 - CALLS_AT_ONCE)
    assert set(machines.begun.values()) == {1}
    assert [actor.handle for actor in machines.living] == [1]


@pytest.mark.parametrize("most", [1, 3])
def test_processes_that_die_while_they_load_end_the_call(machines: Machines, most: int):
    deaths = 2 + 2 * most
    machines.fails = deaths - 1
    assert list(pool_on(machines, most, most).map(square, [3])) == [9]
    machines.fails = deaths
    with pytest.raises(ModelError, match=f"{deaths} processes in a row died while they loaded"):
        list(pool_on(machines, most, most).map(square, [3]))
    assert len(machines.living) == most, "those of the first pool"


def test_a_model_that_does_not_load_is_tried_once(machines: Machines):
    machines.load_error = ModelError("no such weights")
    with pytest.raises(ModelError, match="no such weights"):
        list(pool_on(machines).map(square, [3]))
    assert len(machines.started) == 1


def test_a_pool_that_waits_for_room_says_so_once(machines: Machines, said: list[str]):
    machines.room = 0
    pool = pool_on(machines, said=said)
    tasks = pool.map(square, [3])
    machines.stall_s = 3 * WARN_S
    machines.ahead.append(lambda: machines.place(machines.started[0]))
    assert list(tasks) == [9]
    assert said == ["waits for room", "a remark"]


def test_a_pool_with_one_replica_does_not_complain_about_the_others(machines: Machines, said: list[str]):
    machines.room = 1
    pool = pool_on(machines, 2, 2, said)
    tasks = pool.map(square, range(8))
    assert next(tasks) == 0
    machines.stall_s = 3 * WARN_S
    assert len(list(tasks)) == 7
    assert said == ["a remark"]


def fail(_: int, task: int) -> int:
    if task == 3:
        raise InputError("bad row 3")
    return task


def _first(tasks: Iterator[int]) -> None:
    next(tasks)
    tasks.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("end", "error"), [(list, InputError), (_first, None)])
def test_a_call_that_fails_or_is_left_ends_all_replicas(
    machines: Machines, end: Callable[[Iterable[int]], Any], error: type[Exception] | None
):
    pool = pool_on(machines, 2, 2)
    if error is None:
        end(pool.map(fail, range(99)))
    else:
        with pytest.raises(error, match="bad row 3"):
            end(pool.map(fail, range(99)))
    assert machines.living == []
    assert list(pool.map(square, [3])) == [9]
