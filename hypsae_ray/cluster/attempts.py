"""The tasks of one call of a pool: which one comes next, which are tried again and which are given up."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hypsae_ray.errors import StageError

TRIES = 3
CALLS_AT_ONCE = 2


@dataclass(eq=False)
class Attempt:
    """A task, how often it was begun, and why its last replica died."""

    task: Any
    tries: int = 0
    reason: str = f"{TRIES} processes died while they worked on it"

    @property
    def is_alone(self) -> bool:
        """Whether its replica does nothing else, since a process that worked on it has died."""
        return self.tries > 1


class Attempts:
    """Tasks that were drawn and are not done, `limit` at most, those at work in replicas among them.

    A task that was at work when its replica died is done alone the next time: else one that is innocent
    would be given up with the one that kills its replicas. `on_lost` makes the result of a task that is given
    up, from it and the reason; None: it is an error.
    """

    def __init__(
        self, tasks: Iterable[Any], limit: int, on_lost: Callable[[Any, str], Any] | None = None
    ) -> None:
        self._source, self._on_lost = iter(tasks), on_lost
        self._new = deque(Attempt(task) for task in itertools.islice(self._source, limit))
        self._again: deque[Attempt] = deque()
        self._undone = len(self._new)

    def __len__(self) -> int:
        return self._undone

    def next_for(self, held: Sequence[Attempt]) -> Attempt | None:
        """Return what a replica that holds these attempts is to begin now; None: nothing."""
        if len(held) == CALLS_AT_ONCE or any(attempt.is_alone for attempt in held):
            return None
        queue = self._again if self._again and not held else self._new
        if not queue:
            return None
        attempt = queue.popleft()
        attempt.tries += 1
        return attempt

    def finish(self) -> None:
        """Note that one task is done, and draw the next."""
        drawn = [Attempt(task) for task in itertools.islice(self._source, 1)]
        self._new.extend(drawn)
        self._undone += len(drawn) - 1

    def try_again(self, attempts: Iterable[Attempt]) -> list[Any]:
        """Put attempts back whose replica died; return the results of those that are given up.

        Raises:
            StageError: one is given up, and there is no `on_lost`.
        """
        given_up = []
        for attempt in attempts:
            if attempt.tries < TRIES:
                self._again.append(attempt)
            elif self._on_lost is None:
                raise StageError(f"a task cannot be done: {attempt.reason}")
            else:
                given_up.append(self._on_lost(attempt.task, attempt.reason))
                self.finish()
        return given_up
