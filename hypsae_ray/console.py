"""What a run shows: one line a stage, and remarks above it."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

FIRST_S, EVERY_S, REDRAW_S = 5.0, 30.0, 0.2
TOGETHER = 1.25  # times the seconds until the first item: what comes until then came with it
_CLEAR = "\r\x1b[2K"


class Console:
    """Lines about progress: on a terminal one line a stage that is rewritten, elsewhere plain lines.

    Args:
        err: where lines about progress go; None: to what sys.stderr is at the time.
        out: where results go; None: to what sys.stdout is at the time.
        clock: seconds, from any point in time.
    """

    def __init__(
        self,
        err: TextIO | None = None,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._err, self._out, self._clock = err, out, clock
        self._lock = threading.RLock()
        self._stage, self._shown, self._due = "", "", 0.0

    def say(self, line: str) -> None:
        """Print one line, which names the stage that is open."""
        with self._lock:
            text = line.removeprefix(f"{self._stage.partition(' ')[0]}: ")
            self._print(f"{self._stage}: {text}" if self._stage else line)

    def show(self, text: str) -> None:
        """Print a result."""
        print(text, file=self._out or sys.stdout, flush=True)

    @contextmanager
    def stage(self, label: str) -> Iterator[Callable[[str], None]]:
        """Open the line of a stage; the function that is given closes it with what came out."""
        began, closing = self._clock(), ""

        def close(result: str) -> None:
            nonlocal closing
            closing = f"{label}: {duration(self._clock() - began)}, {result}"

        self._stage, self._due = label, began + FIRST_S
        self._redraw(f"{label} ...", now=True)
        try:
            yield close
        finally:
            last, self._stage, self._shown = self._shown, "", ""
            if closing or last:
                self._print(closing or last, over=True)

    def track(self, items: Iterable[Any], total: int, unit: str) -> Iterator[Any]:
        """Yield the items of the open stage, and show how many of them came and how long the others take."""
        began, pace = self._clock(), Pace()
        for done, item in enumerate(items, 1):
            each = pace.seconds_each(done, self._clock() - began)
            if done < total:  # after the last one, the line of the whole stage says the rest
                far = f"{self._stage}: {done:,}/{total:,} {unit}s"
                self._redraw(f"{far}, {_left(total - done, each)}" if each else far, soon=not each)
            yield item

    @property
    def _stream(self) -> TextIO:
        return self._err or sys.stderr

    def _redraw(self, line: str, *, now: bool = False, soon: bool = False) -> None:
        """Rewrite the line of the stage; without a terminal, print it, both only so often."""
        with self._lock:
            rewrites = self._stream.isatty()
            if not now and self._clock() < self._due:
                return
            if rewrites:
                self._shown, self._due = line, self._clock() + REDRAW_S
                width = shutil.get_terminal_size().columns - 1
                print(_CLEAR + line[:width], end="", file=self._stream, flush=True)
            else:
                self._due = self._clock() + (FIRST_S if now or soon else EVERY_S)
                print(line, file=self._stream, flush=True)

    def _print(self, line: str, *, over: bool = False) -> None:
        """Print a whole line above the one that is rewritten, or in its place."""
        rewrites = self._stream.isatty()
        print((_CLEAR if rewrites else "") + line, file=self._stream, flush=True)
        if self._shown and not over:
            self._redraw(self._shown, now=True)


class Pace:
    """How far apart items come, once more have come than the first ones.

    The first one has waited for its model, and those of several replicas come together: what they took says
    nothing about the others.
    """

    def __init__(self) -> None:
        self._done, self._seconds, self._until = 0, 0.0, 0.0

    def seconds_each(self, done: int, seconds: float) -> float | None:
        """Return how long each further item takes; None while that is not known.

        Args:
            done: items that have come, one more at each call.
            seconds: since the work began.
        """
        if done == 1:
            self._until = TOGETHER * seconds
        if seconds <= self._until:
            self._done, self._seconds = done, seconds
            return None
        return min(seconds / done, (seconds - self._seconds) / (done - self._done))


def _left(items: int, each: float) -> str:
    rate = f"{1 / each:.2g}" if each > 0.01 else f"{1 / each:,.0f}"
    return f"{rate} a second, {duration(each * items)} left"


def duration(seconds: float) -> str:
    """Return seconds as people say them.

    >>> duration(0.42), duration(75), duration(1000), duration(10000)
    ('0.4 s', '75 s', '16.7 min', '2.8 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
