"""The heartbeat of a labelling job, next to its annotations, which `hypsae status` reads."""

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import uuid4

from hypsae_ray.errors import StageError
from hypsae_ray.store.artifacts import Folder

FILE = "progress.json"
EVERY_S = 10.0
DEAD_AFTER_S = 45.0


@dataclass(frozen=True)
class Heartbeat:
    """A job and how far it is.

    Attributes:
        job: names the process that wrote it.
        host: its machine and process number.
        started: when it began to ask, in seconds since 1970.
        time: when this was written.
        labeller: name of its folder of annotations.
        shards: shards that this job has to compute.
        done: those that it has computed or found done.
        pairs: (text, question) pairs in those that are done.
        all_pairs: pairs in all its shards.
        workers: processes that have computed shards.
        ended: "" while it runs; then "done", "partial" if shards failed, or why it stopped.
    """

    job: str
    host: str
    started: float
    time: float
    labeller: str
    shards: int
    done: int = 0
    pairs: int = 0
    all_pairs: int = 0
    workers: int = 0
    ended: str = ""

    @property
    def state(self) -> str:
        """Whether the job runs, has ended, or is dead: without a heartbeat for a while."""
        if self.ended:
            return self.ended
        return "running" if time.time() - self.time < DEAD_AFTER_S and not _is_gone(self.host) else "dead"

    @property
    def rate(self) -> float:
        """Pairs per second since it began, of all workers together."""
        return self.pairs / max(self.time - self.started, 1e-9)

    @property
    def left_s(self) -> float:
        """Seconds left at this rate; infinite while nothing is done."""
        return (self.all_pairs - self.pairs) / self.rate if self.pairs else float("inf")


def read_heartbeat(answers: Folder) -> Heartbeat | None:
    """Return the last heartbeat in a folder of annotations; None if no job was ever there."""
    return Heartbeat(**answers.read_json(FILE)) if answers.has(FILE) else None


def _is_gone(host: str) -> bool:
    """Whether a process was on this machine and is no more; of other machines nothing is known."""
    machine, _, process = host.rpartition(" process ")
    if machine != socket.gethostname():
        return False
    try:
        with suppress(PermissionError):  # another user's
            os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    return False


@dataclass
class Progress:
    """Writes a heartbeat into a folder of annotations every ten seconds while it is open, a context manager.

    `labeller` is the name of a folder in it; `shards` are to compute, with so many `pairs` in all.
    """

    answers: Folder
    labeller: str
    shards: int
    pairs: int
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        now = time.time()
        host = f"{socket.gethostname()} process {os.getpid()}"
        job = (uuid4().hex[:8], host, now, now, self.labeller, self.shards)
        self._heartbeat = Heartbeat(*job, all_pairs=self.pairs)
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)

    @property
    def other(self) -> Heartbeat | None:
        """The last heartbeat of another job that runs here now."""
        last = read_heartbeat(self.answers)
        return last if last and last.state == "running" and last.job != self._heartbeat.job else None

    def __enter__(self) -> "Progress":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        self._stop.set()
        self._thread.join()
        done = "done" if self._heartbeat.done == self._heartbeat.shards else "partial"
        self._heartbeat = replace(
            self._heartbeat, ended=done if kind is None else f"stopped: {kind.__name__}"
        )
        self._write()

    def count(self, pairs: int, begun: float, workers: int, shards: int = 1) -> None:
        """Note shards with so many pairs; the first one says when work began, its model loaded."""
        with self._lock:
            started = self._heartbeat.started if self._heartbeat.done else begun or self._heartbeat.started
            done, pairs = self._heartbeat.done + shards, self._heartbeat.pairs + pairs
            self._heartbeat = replace(
                self._heartbeat, started=started, done=done, pairs=pairs, workers=workers
            )

    def _keep_writing(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._write()

    def _write(self) -> None:
        with self._lock:
            self._heartbeat = replace(self._heartbeat, time=time.time())
        with suppress(OSError, StageError):  # a job must not end because its heartbeat cannot be written
            self.answers.write_json(FILE, asdict(self._heartbeat))
