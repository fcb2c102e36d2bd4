"""A thread with an event loop of its own, in which the calls of one endpoint client run."""

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from hypsae_ray.errors import HypsaeError, ModelError
from hypsae_ray.models.endpoint.requests import EndpointClient

Job = TypeVar("Job")


class EndpointThread:
    """Runs the calls of one client, from whatever threads; it ends when it is closed or let go of.

    Args:
        client: that is closed with it.
        workers: jobs of a call that are under way at once.
    """

    def __init__(self, client: EndpointClient[Any, Any], workers: int) -> None:
        self._workers = workers
        self._calls, self._accounted = 0, 0.0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_serve, args=(self._loop,), name="endpoint", daemon=True).start()
        self._end = weakref.finalize(self, _end, self._loop, client)

    def close(self) -> None:
        """Close the connections and end the thread; no call is possible any more."""
        self._end()

    def run(
        self, jobs: Iterator[Job], work: Callable[[Job], Awaitable[None]], ending: asyncio.Event | None = None
    ) -> float:
        """Do all jobs; return the seconds, less those that another call counts.

        Args:
            jobs: drawn in order, as workers get free.
            work: does one job.
            ending: set when all are begun.

        Raises:
            HypsaeError: the first that `work` raised; what was under way has ended.
        """
        if not self._end.alive:
            raise ModelError("this endpoint model is closed")
        every = _each(jobs, work, self._workers, ending or asyncio.Event())
        future = asyncio.run_coroutine_threadsafe(self._timed(every), self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C above all: nobody waits for the rest
            future.cancel()
            raise

    async def _timed(self, work: Coroutine[Any, Any, None]) -> float:
        """Return the seconds since a call last ended or, if none was under way, since this one began."""
        if not self._calls:
            self._accounted = self._loop.time()
        self._calls += 1
        try:
            await work
        finally:
            self._calls -= 1
        before, self._accounted = self._accounted, self._loop.time()
        return self._accounted - before


async def _each(
    jobs: Iterator[Job], work: Callable[[Job], Awaitable[None]], workers: int, ending: asyncio.Event
) -> None:
    """Do all jobs, up to `workers` at once, begun in order; when one cannot be done, no other is begun.

    `ending` is set when all are begun.
    """
    failures: list[HypsaeError] = []

    async def pull() -> None:
        for job in jobs:
            if failures:
                return
            try:
                await work(job)
            except HypsaeError as error:
                failures.append(error)
        ending.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(pull())
    if failures:
        raise failures[0]


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, client: EndpointClient[Any, Any]) -> None:
    async def end() -> None:
        await client.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
