"""Rates of requests and tokens, on a clock of our own."""

import asyncio
from collections.abc import Callable

from hypsae_ray.models.endpoint.throttle import Throttle


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to a timer instead of waiting for it; for one timer at a time."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback, *args, **options):
        return self.call_soon(self._jump, when, callback, args)

    def _jump(self, when: float, callback: Callable, args: tuple) -> None:
        self.now = max(self.now + 1e-9, when)
        callback(*args)


def passed_at(per_minute: float | None, amounts: list[float]) -> list[float]:
    """Seconds at which amounts pass that all ask at time 0."""

    async def ask() -> list[float]:
        throttle, loop = Throttle(per_minute), asyncio.get_running_loop()

        async def one(amount: float) -> float:
            await throttle.take(amount)
            return round(loop.time(), 3)

        return await asyncio.gather(*map(one, amounts))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(ask())


def test_no_rate_lets_all_through():
    assert passed_at(None, [1, 10**9, 0]) == [0, 0, 0]


def test_a_rate_is_steady_after_a_second_of_grace():
    assert passed_at(60, [1] * 4) == [0, 1, 2, 3]
    assert passed_at(600, [1] * 12) == [0] * 10 + [0.1, 0.2]
    assert passed_at(6, [1, 1]) == [0, 10]


def test_amounts_above_a_second_take_their_time_and_keep_their_order():
    # 100 tokens a second: 100 at 0 s, 100 at 1 s, the last 50 at 1.5 s; then 50 more at 2 s.
    assert passed_at(6000, [250, 50]) == [1.5, 2.0]


def test_amounts_above_a_minute_count_as_a_minute():
    assert passed_at(6000, [10**9]) == [59]
    assert passed_at(30, [10**9]) == [58]
