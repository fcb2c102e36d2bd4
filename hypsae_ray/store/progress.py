"""The heartbeat of a labelling job, next to its annotations, which `hypsae status` reads."""

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import uuid4

from hypsae_ray.errors import StageError
from hypsae_ray.store.artifacts import Folder

FILE = "progress.json"
EVERY_S = 10.0
DEAD_AFTER_S = 45.0


@dataclass(frozen=True)
class Heartbeat:
    """A job and how far it is; times are in seconds since 1970."""

    job: str  # names the process that wrote this
    host: str  # its machine and process number
    started: float  # when it began to ask
    time: float  # when this was written
    labeller: str  # name of its folder of annotations
    shards: int  # to compute
    done: int = 0  # shards that it has computed or found done
    pairs: int = 0  # (text, question) pairs in those that are done
    all_pairs: int = 0  # pairs in all its shards
    workers: int = 0  # processes that have computed shards
    ended: str = ""  # "" while it runs; then "done", "partial" if shards failed, or why it stopped

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


class Progress:
    """Writes a heartbeat into a folder of annotations every ten seconds while it is open, a context manager.

    `labeller` is the name of a folder in it; `shards` are to compute, with so many `pairs` in all.
    """

    def __init__(self, answers: Folder, labeller: str, shards: int, pairs: int) -> None:
        now = time.time()
        host = f"{socket.gethostname()} process {os.getpid()}"
        self._answers = answers
        self._heartbeat = Heartbeat(uuid4().hex[:8], host, now, now, labeller, shards, all_pairs=pairs)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)

    @property
    def other(self) -> Heartbeat | None:
        """The last heartbeat of another job that runs here now."""
        last = read_heartbeat(self._answers)
        return last if last and last.state == "running" and last.job != self._heartbeat.job else None

    def __enter__(self) -> "Progress":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        self._stop.set()
        self._thread.join()
        done = "done" if self._heartbeat.done == self._heartbeat.shards else "partial"
        self._write(ended=done if kind is None else f"stopped: {kind.__name__}")

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

    def _write(self, ended: str = "") -> None:
        with self._lock:
            self._heartbeat = replace(self._heartbeat, time=time.time(), ended=ended)
        with suppress(OSError, StageError):  # a job must not end because its heartbeat cannot be written
            self._answers.write_json(FILE, asdict(self._heartbeat))
