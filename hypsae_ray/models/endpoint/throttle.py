"""Rates of requests and tokens that a server allows."""

import asyncio


class Throttle:
    """Lets units through at a steady rate, never more than a second's worth at once, in the order asked.

    No rate, None, lets everything through.
    """

    def __init__(self, per_minute: float | None) -> None:
        from aiolimiter import AsyncLimiter

        self.per_minute = per_minute
        rate = (per_minute or 1.0) / 60
        second = max(1.0, rate)
        self._limiter = AsyncLimiter(second, second / rate) if per_minute else None
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Wait until `amount` more may pass; more than a minute's worth counts as a minute's worth."""
        left = min(amount, max(1.0, self.per_minute or 0.0))
        async with self._turn:
            while self._limiter and left > 0:
                part = min(left, self._limiter.max_rate)
                await self._limiter.acquire(part)
                left -= part
