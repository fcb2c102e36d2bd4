"""A thread with an event loop of its own, in which the calls of one endpoint client run."""

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from hypsae_ray.errors import HypsaeError, ModelError
from hypsae_ray.models.endpoint.client import Client

Item = TypeVar("Item")


class EndpointThread:
    """Runs the calls of one client, from any thread; it ends when it is closed or garbage-collected."""

    def __init__(self, client: Client[Any]) -> None:
        self._workers = client.concurrency
        self._calls, self._accounted = 0, 0.0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True).start()
        self._end = weakref.finalize(self, _end, self._loop, client)

    def close(self) -> None:
        """Close the connections and end the thread; no call is possible any more."""
        self._end()

    def run(
        self,
        items: Iterator[Item],
        work: Callable[[Item], Awaitable[None]],
        ending: asyncio.Event | None = None,
    ) -> float:
        """Work on all items, up to `concurrency` at once, begun in order; `ending` is set when all are begun.

        Returns:
            Seconds, less those that another call counts.

        Raises:
            HypsaeError: the first that `work` raised; no other item was begun, and what was under way ended.
        """
        if not self._end.alive:
            raise ModelError("this endpoint model is closed")
        call = self._run(items, work, ending or asyncio.Event())
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C above all: nobody waits for the rest
            future.cancel()
            raise

    async def _run(
        self, items: Iterator[Item], work: Callable[[Item], Awaitable[None]], ending: asyncio.Event
    ) -> float:
        failures: list[HypsaeError] = []

        async def pull() -> None:
            for item in items:
                if failures:
                    return
                try:
                    await work(item)
                except HypsaeError as error:
                    failures.append(error)
            ending.set()

        if not self._calls:  # else the time since a call last ended is not counted yet
            self._accounted = self._loop.time()
        self._calls += 1
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(pull())
        finally:
            self._calls -= 1
        if failures:
            raise failures[0]
        before, self._accounted = self._accounted, self._loop.time()
        return self._accounted - before


def _end(loop: asyncio.AbstractEventLoop, client: Client[Any]) -> None:
    async def end() -> None:
        await client.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
