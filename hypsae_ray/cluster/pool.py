"""Replicas of a model, as many as there is work for, and the tasks that the driver gives them one by one.

The replicas stay loaded from call to call. None holds more tasks than it works on, so a slow one keeps no
task waiting that another could do. One that dies is replaced, and its tasks are tried again (`attempts.py`).
One whose node is being drained finishes what it has begun, while another one starts elsewhere.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic

from ray.exceptions import RayError

from hypsae_ray.cluster.actors import LOAD, NODE, Actor, RayActors
from hypsae_ray.cluster.attempts import CALLS_AT_ONCE, Attempt, Attempts
from hypsae_ray.config import Replicas
from hypsae_ray.errors import EngineDiedError, HypsaeError, ModelError
from hypsae_ray.models.pool import Model, Result, Task

TICK_S = 1.0  # after so long without an event, nodes that are being drained are looked for
IDLE_S = 10.0  # after so long without a task, a replica above `min` ends
WARN_S = 30.0  # after so long without room for any replica, a warning is printed
_log = logging.getLogger(__name__)


class RayPool(Generic[Model]):
    """Copies of a model in Ray actors, started by the first `map`; `close` frees them.

    What the models remark, and why the pool waits, is given to `say`, each line once.
    """

    def __init__(
        self, actors: RayActors, replicas: Replicas, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._actors, self._replicas = actors, replicas
        self._team: list[Actor] = []
        self._say, self._remarks = say, {""}
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
            attempts = Attempts(tasks, CALLS_AT_ONCE * self._replicas.max, on_lost)
            if attempts:
                yield from self._map(self._actors.prepare(work), attempts)
        except BaseException:  # GeneratorExit among them
            self.close()
            raise

    def _map(self, work: Any, attempts: Attempts) -> Iterator[Any]:
        self._waits_since = time.monotonic()
        for actor in self._team:
            actor.idle_since = time.monotonic()
        results: list[Any] = []
        while attempts:
            self._resize(len(attempts))
            self._hand_out(work, attempts)
            yield from results  # while the replicas work on
            results = self._next_results(attempts)
        yield from results
        self._resize(0)

    def _hand_out(self, work: Any, attempts: Attempts) -> None:
        """Let replicas begin all they can, those that hold the least first."""
        for n_held in range(CALLS_AT_ONCE):
            for actor in self._team:
                is_ready = actor.is_loaded and not actor.is_leaving and len(actor.held) == n_held
                if is_ready and (attempt := attempts.next_for(actor.held)):
                    actor.held.append(attempt)
                    self._actors.begin(actor, work, attempt)

    def _next_results(self, attempts: Attempts) -> list[Any]:
        """Wait for something to happen, at most for a tick; return the results that it brings."""
        ended = self._actors.wait(self._team, TICK_S)
        if ended is None:
            return []
        actor, call, value = ended
        if isinstance(value, RayError):
            return self._replace(actor, str(value), attempts)
        if isinstance(call, Attempt):
            return self._finish(actor, call, value, attempts)
        if call == NODE:
            actor.node = value
        elif call == LOAD:
            self._loaded(actor, *value)
        return []

    def _loaded(self, actor: Actor, remark: str, error: HypsaeError | None) -> None:
        if error is not None:
            raise error
        actor.is_loaded, actor.idle_since, self._failed_loads = True, time.monotonic(), 0
        self._tell(remark)

    def _finish(
        self, actor: Actor, attempt: Attempt, value: tuple[Any, HypsaeError | None], attempts: Attempts
    ) -> list[Any]:
        result, error = value
        if isinstance(error, EngineDiedError):
            attempt.reason = str(error)
            return self._replace(actor, str(error), attempts)
        if error is not None:
            raise error
        actor.held.remove(attempt)
        actor.idle_since = time.monotonic()
        attempts.finish()
        return [result]

    def _replace(self, actor: Actor, reason: str, attempts: Attempts) -> list[Any]:
        """Forget a replica that died; return the results of tasks that are given up with it."""
        _log.warning("a replica is gone, and another takes over: %s", reason)
        self._end(actor)
        self._failed_loads += not actor.is_loaded
        allowed = 2 + 2 * self._replicas.max  # of many replicas that load at once, none has ended yet
        if self._failed_loads == allowed:
            raise ModelError(
                f"{allowed} processes in a row died while they loaded the model: most likely memory ran out. "
                "Take a smaller model or context, or reserve more for each replica"
            )
        return attempts.try_again(actor.held)

    def _resize(self, n_tasks: int) -> None:
        """Start and end replicas, by how many tasks are not done."""
        leaving = self._actors.leaving_nodes()
        for actor in list(self._team):
            actor.is_leaving = actor.node in leaving
            if actor.is_leaving and not actor.held:
                self._end(actor)
        staying = [actor for actor in self._team if not actor.is_leaving]
        needed = max(math.ceil(n_tasks / CALLS_AT_ONCE), self._replicas.min)
        self._team += [self._actors.start() for _ in range(needed - len(staying))]
        waiting = [actor for actor in staying if not actor.node]
        idle = [actor for actor in staying if n_tasks and self._is_idle(actor)]
        for actor in [*waiting, *idle][: max(0, len(staying) - needed)]:
            self._end(actor)
        self._warn()

    def _is_idle(self, actor: Actor) -> bool:
        return actor.is_loaded and not actor.held and time.monotonic() - actor.idle_since >= IDLE_S

    def _warn(self) -> None:
        """Tell the user if no replica has found room for some time."""
        if any(actor.node for actor in self._team):
            self._waits_since = time.monotonic()
        elif time.monotonic() - self._waits_since >= WARN_S:
            self._tell(self._actors.describe_wait())

    def _tell(self, line: str) -> None:
        if line not in self._remarks:
            self._remarks.add(line)
            self._say(line)

    def _end(self, actor: Actor) -> None:
        self._team.remove(actor)
        self._actors.end(actor)

    def close(self) -> None:
        """End all replicas at once; what they are working on is dropped."""
        for actor in list(self._team):
            self._end(actor)
