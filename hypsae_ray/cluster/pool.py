"""Replicas of a model, as many as there is work for, and the tasks that the driver gives them one by one.

The replicas stay loaded from call to call. A replica holds two tasks at most and none waits at one, so a slow
replica keeps no other waiting. One that dies is replaced, and its tasks are tried again (`attempts.py`). One
whose node is told to go finishes what it has begun, while another one starts elsewhere.

Nothing here knows Ray: `actors.py` starts replicas and waits for them.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from hypsae_ray.cluster.attempts import CALLS_AT_ONCE, Attempt, Attempts
from hypsae_ray.config import Replicas
from hypsae_ray.errors import EngineDiedError, HypsaeError, ModelError, StageError
from hypsae_ray.models.pool import Model, Result, Task

TICK_S = 1.0  # after so long without an event, nodes that were told to go are looked for
IDLE_S = 10.0  # after so long without a task, a replica above `min` ends
WARN_S = 30.0  # after so long without room for any replica, the user is told
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Member:
    """A replica of a pool.

    Attributes:
        handle: what `Actors` needs to reach it.
        node: where its process runs; "" until there is one.
        is_loaded: it can do tasks.
        is_leaving: its node is told to go.
        held: attempts that it works on.
        idle_since: when it held any last, or was loaded.
    """

    handle: Any
    node: str = ""
    is_loaded: bool = False
    is_leaving: bool = False
    held: list[Attempt] = field(default_factory=list)
    idle_since: float = 0.0

    def is_idle(self, seconds: float) -> bool:
        """Whether it has been without a task for so long."""
        return self.is_loaded and not self.held and time.monotonic() - self.idle_since >= seconds


@dataclass(frozen=True)
class Placed:
    """The process of a replica runs on a node."""

    node: str


@dataclass(frozen=True)
class Loaded:
    """The model of a replica is loaded, or does not load."""

    remark: str
    error: HypsaeError | None


@dataclass(frozen=True)
class Done:
    """A replica has done a task, or the work raised an error."""

    attempt: Attempt
    result: Any
    error: HypsaeError | None


@dataclass(frozen=True)
class Died:
    """The process of a replica, or its node, is gone."""

    reason: str


Event = Placed | Loaded | Done | Died


class Actors(Protocol):
    """What a pool asks of Ray (`actors.RayActors`)."""

    def prepare(self, work: Callable[[Any, Any], Any]) -> Any:
        """Return the work of a call in the form that `begin` takes."""
        ...

    def start(self) -> Any:
        """Begin to start a replica and to load its model; return its handle."""
        ...

    def begin(self, handle: Any, work: Any, attempt: Attempt) -> None:
        """Let a replica do a task."""
        ...

    def wait(self, members: Sequence[Member], timeout_s: float) -> tuple[Member, Event] | None:
        """Return the next thing that happens to a replica; None: nothing within the timeout."""
        ...

    def end(self, handle: Any) -> None:
        """End a replica at once."""
        ...

    def leaving_nodes(self) -> Collection[str]:
        """Return the nodes that are told to go."""
        ...

    def describe_wait(self) -> str:
        """Return what a replica needs, and what there is."""
        ...


class ReplicaPool(Generic[Model]):
    """A pool whose replicas are started by the first `map`; `close` frees them.

    Args:
        actors: start replicas.
        replicas: how many of them.
        say: is given what the models remark and why the pool waits, each line once.
    """

    def __init__(self, actors: Actors, replicas: Replicas, say: Callable[[str], None]) -> None:
        self._actors, self._replicas = actors, replicas
        self._members: list[Member] = []
        self._say, self._told = say, {""}
        self._failed_loads, self._waits_since = 0, 0.0

    def map(
        self,
        work: Callable[[Model, Task], Result],
        tasks: Iterable[Task],
        on_lost: Callable[[Task, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield work(model, task) for every task as each one ends, in any order.

        A call that does not run to its end closes the pool, so that nothing of it is left to the next one.

        Raises:
            ModelError: the model does not load.
            StageError: `work` raised something else than one of our own errors, which come as they are; or
                a task was lost, and there is no `on_lost`.
        """
        try:
            attempts = Attempts(tasks, CALLS_AT_ONCE * self._replicas.max)
            if attempts:
                yield from self._map(self._actors.prepare(work), attempts, on_lost)
        except BaseException:  # GeneratorExit among them
            self.close()
            raise

    def _map(self, work: Any, attempts: Attempts, on_lost: Any) -> Iterator[Any]:
        self._waits_since = time.monotonic()
        for member in self._members:
            member.idle_since = time.monotonic()
        finished: list[Attempt | Done] = []
        while attempts:
            self._resize(len(attempts))
            self._hand_out(work, attempts)
            yield from self._results(finished, on_lost)  # while the replicas work on
            finished = self._await(attempts)
        yield from self._results(finished, on_lost)
        self._resize(0)

    def _results(self, finished: Sequence[Attempt | Done], on_lost: Any) -> Iterator[Any]:
        for one in finished:
            if isinstance(one, Done):
                yield one.result
            elif on_lost is None:
                raise StageError(f"a task cannot be done: {one.reason}")
            else:
                yield on_lost(one.task, one.reason)

    def _hand_out(self, work: Any, attempts: Attempts) -> None:
        """Let replicas begin all they can, those that hold the least first."""
        for n_held in range(CALLS_AT_ONCE):
            for member in self._members:
                is_ready = member.is_loaded and not member.is_leaving and len(member.held) == n_held
                if is_ready and (attempt := attempts.next_for(member.held)):
                    member.held.append(attempt)
                    self._actors.begin(member.handle, work, attempt)

    def _await(self, attempts: Attempts) -> list[Attempt | Done]:
        """Wait for the next event; return what is finished with it."""
        found = self._actors.wait(self._members, TICK_S)
        if found is None:
            return []
        member, event = found
        if isinstance(event, Placed):
            member.node = event.node
        elif isinstance(event, Loaded):
            self._loaded(member, event)
        elif isinstance(event, Done):
            return self._done(member, event, attempts)
        else:
            return list(self._bury(member, event.reason, attempts))
        return []

    def _loaded(self, member: Member, loaded: Loaded) -> None:
        if loaded.error is not None:
            raise loaded.error
        member.is_loaded, member.idle_since, self._failed_loads = True, time.monotonic(), 0
        self._tell(loaded.remark)

    def _done(self, member: Member, done: Done, attempts: Attempts) -> list[Attempt | Done]:
        if isinstance(done.error, EngineDiedError):
            done.attempt.reason = str(done.error)
            return list(self._bury(member, str(done.error), attempts))
        if done.error is not None:
            raise done.error
        member.held.remove(done.attempt)
        member.idle_since = time.monotonic()
        attempts.finish()
        return [done]

    def _bury(self, member: Member, reason: str, attempts: Attempts) -> list[Attempt]:
        """Forget a replica that died; return the attempts that are given up with it."""
        _log.warning("a replica is gone, and another takes over: %s", reason)
        self._end(member)
        if not member.is_loaded:
            self._failed_loads += 1
            allowed = 2 + 2 * self._replicas.max  # of many replicas that load at once, none has ended yet
            if self._failed_loads == allowed:
                raise ModelError(
                    f"{allowed} processes in a row died while they loaded the model: most likely memory ran "
                    "out. Take a smaller model or context, or reserve more for each replica"
                )
        return attempts.try_again(member.held)

    def _resize(self, n_tasks: int) -> None:
        """Start and end replicas, by how many tasks are not done."""
        leaving = self._actors.leaving_nodes()
        for member in self._members:
            member.is_leaving = member.node in leaving
        for member in [one for one in self._members if one.is_leaving and not one.held]:
            self._end(member)
        staying = [member for member in self._members if not member.is_leaving]
        needed = math.ceil(n_tasks / CALLS_AT_ONCE)
        needed = min(max(needed, self._replicas.min), self._replicas.max)
        self._members += [Member(self._actors.start()) for _ in range(needed - len(staying))]
        unneeded = [member for member in staying if not member.node]
        unneeded += [member for member in staying if n_tasks and member.is_idle(IDLE_S)]
        for member in unneeded[: max(0, len(staying) - needed)]:
            self._end(member)
        self._warn()

    def _warn(self) -> None:
        """Tell the user if no replica has found room for some time."""
        if any(member.node for member in self._members):
            self._waits_since = time.monotonic()
        elif time.monotonic() - self._waits_since >= WARN_S:
            self._tell(self._actors.describe_wait())

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._say(line)

    def _end(self, member: Member) -> None:
        self._members.remove(member)
        self._actors.end(member.handle)

    def close(self) -> None:
        """End all replicas at once; what they are working on is dropped."""
        for member in list(self._members):
            self._end(member)
