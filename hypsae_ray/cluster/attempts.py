"""The tasks of one call of a pool: which one comes next, and which are tried again or given up."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

TRIES = 3
CALLS_AT_ONCE = 2


@dataclass(eq=False)
class Attempt:
    """A task, how often it was begun, and why its last replica died, where the replica said so."""

    task: Any
    tries: int = 0
    reason: str = f"{TRIES} processes died while they worked on it"

    @property
    def is_alone(self) -> bool:
        """Whether its replica does nothing else, since a process that worked on it has died."""
        return self.tries > 1


class Attempts:
    """Tasks that are not done yet; those at work in replicas count.

    A task that was at work when its replica died is done alone the next time: else one that is innocent
    would be given up with the one that kills its replicas.

    Args:
        tasks: are drawn as they are needed.
        limit: of tasks that were drawn and are not done.
    """

    def __init__(self, tasks: Iterable[Any], limit: int) -> None:
        self._source: Iterator[Any] = iter(tasks)
        self._new = deque(Attempt(task) for task in itertools.islice(self._source, limit))
        self._again: deque[Attempt] = deque()
        self._undone = len(self._new)

    def __len__(self) -> int:
        return self._undone

    def next_for(self, held: Sequence[Attempt]) -> Attempt | None:
        """Return what a replica that holds these attempts is to begin now; None: nothing."""
        if len(held) == CALLS_AT_ONCE or any(attempt.is_alone for attempt in held):
            return None
        if self._again and not held:
            attempt = self._again.popleft()
        elif self._new:
            attempt = self._new.popleft()
        else:
            return None
        attempt.tries += 1
        return attempt

    def finish(self) -> None:
        """Note that one task is done, and draw the next."""
        drawn = [Attempt(task) for task in itertools.islice(self._source, 1)]
        self._new.extend(drawn)
        self._undone += len(drawn) - 1

    def try_again(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Put attempts back whose replica died; return those that have no try left, which are finished."""
        given_up = []
        for attempt in attempts:
            if attempt.tries < TRIES:
                self._again.append(attempt)
            else:
                given_up.append(attempt)
                self.finish()
        return given_up
