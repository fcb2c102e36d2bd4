"""Where the replicas of a pool get their tasks, and what becomes of tasks whose replica died.

Ray starts an actor that died again, and its tasks wait for it. Where there is no room for it any more, since
its node is gone, they would wait for ever: when all else is done, the feed gives them out once more.

The feed counts how often a task was begun, so that one which kills its actor each time is given up, and how
often a model was loaded in vain. A task that was at work when its actor died is begun alone the next time:
else one that is innocent would be given up beside the deadly one.

A replica whose node is told to go finishes what it has begun, begins nothing more, and ends, for Ray to start
it elsewhere. The feed stands on the driver's node: while the driver lives, no task is lost.
"""

import asyncio
from collections.abc import Collection
from enum import Enum
from typing import Any

import ray

TRIES = 3
# A replica that has begun a task is asked after; one that has not may just be busy. The end of a job waits so
# long for what went down with a node; a task that is given out in vain costs a row that is skipped.
STALLED_S = 10


class Turn(Enum):
    """What a replica is to do with a task that it was given."""

    NOW = "begin it"
    ALONE = "begin it when nothing else is at work in the replica"
    SKIP = "drop it: it is done, or another replica is at it"
    LEAVE = "end the process when nothing is at work in it: its node is told to go"


@ray.remote(num_cpus=0)
class Feed:
    """The tasks at hand, by position, and the order in which they are given out.

    Reading does not take a task, so a restarted reader may repeat; what it repeats is skipped.
    """

    def __init__(self, loads: int) -> None:
        self._tasks: dict[int, bytes] = {}
        self._slots: list[int] = []
        self._holders: dict[int, str] = {}
        self._works: dict[int, bytes] = {}
        self._begun: dict[int, int] = {}
        self._reasons: dict[int, str] = {}
        self._loads, self._loads_in_vain = loads, 0
        self._changed = asyncio.Condition()

    async def work(self, number: int, work: bytes) -> None:
        """Take the function of a call of `map`."""
        self._works[number] = work

    async def get_work(self, number: int) -> bytes:
        """Return the function of a call of `map`."""
        return self._works[number]

    async def put(self, first: int, tasks: list[bytes], finished: list[int]) -> None:
        """Add tasks at positions from `first` on, and forget those that are finished."""
        async with self._changed:
            self._tasks |= dict(enumerate(tasks, first))
            self._slots.extend(range(first, first + len(tasks)))
            for position in finished:
                for held in (self._tasks, self._begun, self._reasons, self._holders):
                    held.pop(position, None)
            self._changed.notify_all()

    async def get(self, slot: int) -> tuple[int, bytes]:
        """Wait for the task that is the `slot`-th to be given out; empty when it is finished."""
        async with self._changed:
            while slot >= len(self._slots):
                try:
                    await asyncio.wait_for(self._changed.wait(), STALLED_S)
                except TimeoutError:
                    self._slots.extend(p for p in self._tasks if not self._at_work(p))
            position = self._slots[slot]
            return position, self._tasks.get(position, b"")

    def _at_work(self, position: int) -> bool:
        """Whether a living replica has begun a task."""
        return position in self._holders and _is_alive(self._holders[position])

    async def wants(self, position: int, replica: str) -> bool:
        """Whether a task is not done yet, and no other living replica than this one has begun it."""
        elsewhere = self._holders.get(position) != replica and self._at_work(position)
        return position in self._tasks and not elsewhere

    async def begin(self, position: int, replica: str, node: str, alone: bool) -> Turn | str:
        """Say whether a replica is to begin a task; if it is, count one more try.

        Args:
            position: which task.
            replica: who asks.
            node: where it is; "" if it cannot start again elsewhere.
            alone: nothing else is at work in the replica, and nothing begins.

        Returns:
            What to do, or why the task must not be tried any more.
        """
        if not await self.wants(position, replica):
            return Turn.SKIP
        if node in _leaving_nodes():
            return Turn.LEAVE
        begun = self._begun.get(position, 0)
        if begun == TRIES:
            return self._reasons.get(position, f"{TRIES} processes died while they worked on it")
        if begun and not alone:
            return Turn.ALONE
        self._holders[position], self._begun[position] = replica, begun + 1
        return Turn.NOW

    async def fails(self, position: int, reason: str) -> None:
        """Remember why a process ends that works on a task."""
        self._reasons[position] = reason

    async def load_begins(self) -> str:
        """Count one more process that loads a model; return why it must not, or nothing."""
        self._loads_in_vain += 1
        if self._loads_in_vain <= self._loads:
            return ""
        return (
            f"{self._loads} processes in a row died while they loaded the model: most likely memory ran out. "
            "Take a smaller model or context, or reserve more for each replica"
        )

    async def load_ended(self) -> None:
        """Note that a model is loaded."""
        self._loads_in_vain = 0


def _is_alive(actor: str) -> bool:
    found: Any = ray._private.state.actors(actor_id=actor)  # type: ignore  # the public API needs a dashboard
    return bool(found) and found.get("State") == "ALIVE"


def _leaving_nodes() -> Collection[str]:
    return ray._private.state.state.get_draining_nodes()  # type: ignore  # nothing public tells it
