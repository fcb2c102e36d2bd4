"""Pools around a pool: one retries failed tasks, the other stores the result of each task."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from hypsae_ray.errors import HypsaeError, StageError, TransientError
from hypsae_ray.models.pool import Model, Pool, Result, Task
from hypsae_ray.store.artifacts import Folder

TRIES = 3
FAILURES_IN_A_ROW = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Takes the place of the result of a task that failed, for a reason that may pass."""

    task: Any
    reason: str


@dataclass(frozen=True)
class RetryingPool(Generic[Model]):
    """A pool that retries failed tasks when the others are done; `name` returns that of a task for messages.

    After 10 times as many failures in a row as there are `replicas` of the model, the call ends.
    """

    pool: Pool[Model]
    say: Callable[[str], None] = lambda _: None
    name: Callable[[Any], str] = lambda _: "a task"
    replicas: int = 1

    def map(
        self,
        work: Callable[[Model, Task], Result],
        tasks: Iterable[Task],
        on_lost: Callable[[Task, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield work(model, task) for every task, in any order.

        Raises:
            StageError: too many failures in a row, or all tries of a task failed and there is no `on_lost`.
        """
        left, done = list(tasks), 0
        failed: list[Failure] = []
        for attempt in range(1, TRIES + 1):
            failed, in_a_row = [], 0
            for result in self.pool.map(partial(_or_failure, work), left, Failure) if left else ():
                if isinstance(result, Failure):
                    failed.append(result)
                    in_a_row += 1
                else:
                    done, in_a_row = done + 1, 0
                    yield result
                if in_a_row == FAILURES_IN_A_ROW * max(1, self.replicas):
                    raise self._error(failed, done)
            left = [failure.task for failure in failed]
            if failed and attempt < TRIES:
                self.say(f"{len(failed)} failed and are tried again, such as {self._describe(failed[0])}")
        if failed and (on_lost is None or not done):
            raise self._error(failed, done)
        if failed:
            self.say(f"{len(failed)} failed {TRIES} times, such as {self._describe(failed[0])}")
        yield from (on_lost(failure.task, failure.reason) for failure in failed if on_lost)

    def _describe(self, failure: Failure) -> str:
        return f"{self.name(failure.task)}: {failure.reason}"

    def _error(self, failed: list[Failure], done: int) -> StageError:
        first = "\n".join(f"  {self._describe(failure)}" for failure in failed[:5])
        return StageError(
            f"{len(failed)} failed, {done} are done and kept; the same command goes on from there\n{first}"
        )


@dataclass(frozen=True)
class KeepingPool(Generic[Model]):
    """A pool that stores the result of each task, and does only tasks that have none stored.

    The folder has a file per task, named by a hash of the task, with the bytes of `dump`, which `load` reads;
    a result for which `dump` returns None is not stored.
    """

    pool: Pool[Model]
    folder: Folder
    dump: Callable[[Any], bytes | None]
    load: Callable[[bytes], Any]

    def map(
        self,
        work: Callable[[Model, Task], Result],
        tasks: Iterable[Task],
        on_lost: Callable[[Task, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield work(model, task) for every task, stored results first."""
        named = {f"task-{hashlib.sha256(repr(task).encode()).hexdigest()[:16]}": task for task in tasks}
        there = named.keys() & set(self.folder.names("task-"))
        yield from (self.load(self.folder.read_bytes(name)) for name in sorted(there))
        left = [(name, task) for name, task in named.items() if name not in there]
        lost = None if on_lost is None else lambda pair, reason: (pair[0], on_lost(pair[1], reason))
        for name, result in self.pool.map(partial(_with_name, work), left, lost) if left else ():
            if (content := self.dump(result)) is not None:
                self.folder.write_bytes(name, content)
            yield result


def _or_failure(work: Callable[[Any, Any], Any], model: Any, task: Any) -> Any:
    """Return the result of work on a task, or its failure; an error that another try would meet is raised."""
    try:
        return work(model, task)
    except TransientError as error:
        return Failure(task, str(error))
    except HypsaeError:
        raise
    except Exception as error:
        _log.exception("a task fails")
        return Failure(task, f"{type(error).__name__}: {error}")


def _with_name(work: Callable[[Any, Any], Any], model: Any, named: tuple[str, Any]) -> tuple[str, Any]:
    """Return the name of a task, and the result of work on it."""
    name, task = named
    return name, work(model, task)
