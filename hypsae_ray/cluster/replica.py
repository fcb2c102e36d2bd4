"""One copy of a model in an actor of Ray Data, and what it does with the tasks of its pool.

A replica may work on two tasks at once: while the engine computes one, the texts of the next are read and
tokenised, and the answers of the last are written.
"""

import logging
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock, Semaphore
from typing import Any, NoReturn

import pyarrow as pa
import ray
from ray.util.placement_group import get_current_placement_group

from hypsae_ray.cluster.feed import Turn
from hypsae_ray.errors import EngineDiedError, HypsaeError, ModelError, StageError

CALLS_AT_ONCE = 2
ASK_AGAIN_S = 1.0  # a task that waits to be alone, and is not needed any more, keeps others waiting so long
ANSWER_S = 1.0  # an answer that was just given is on its way to the driver; else it would be asked for again


@dataclass(frozen=True)
class Skipped:
    """Stands for the result of a task that is done, or is at work elsewhere."""


@dataclass(frozen=True)
class Lost:
    """Stands for the result of a task whose processes died."""

    reason: str


class Replica:
    """Ray Data's actor: makes its model when it starts.

    Nothing raised here leaves the actor: Ray Data would hide it in its own error, and would try a model
    that cannot load again and again. Errors travel to the driver as results.

    A model that computes in the thread that calls it is loaded and used in one thread of our own: Ray Data
    makes the object in one thread and calls it in others, and OpenMP keeps worker threads for each of them.

    Args:
        factory: makes the model; pickled, since to unpickle it imports torch, and that may kill the process.
        feed: the `Feed` of the pool.
    """

    def __init__(self, factory: bytes, feed: Any) -> None:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("hypsae_ray").setLevel(logging.INFO)
        _hide_gpus()
        self._model, self._feed = None, feed
        self._name = ray.get_runtime_context().get_actor_id()
        self._node = _node()
        self._load_error: HypsaeError | None = None
        self._at_hand: set[int] = set()
        self._room = _Room(CALLS_AT_ONCE)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._work = cache(lambda number: pickle.loads(ray.get(feed.get_work.remote(number))))
        self._thread.submit(self._load, factory).result()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do the one task in `batch`."""
        position, packed = batch["position"][0].as_py(), batch["task"][0].as_py()
        answer = pa.array([pickle.dumps(self._outcome(position, packed))], pa.binary())
        remark = getattr(self._model, "remark", "")
        return pa.table({"position": pa.array([position]), "result": answer, "remark": [remark]})

    def _load(self, factory: bytes) -> None:
        if reason := ray.get(self._feed.load_begins.remote()):
            self._load_error = ModelError(reason)
            return
        try:
            self._model = pickle.loads(factory)()
        except HypsaeError as error:
            self._load_error = error
        except Exception:
            self._load_error = ModelError(f"a model failed to load:\n{traceback.format_exc()}")
        ray.get(self._feed.load_ended.remote())

    def _outcome(self, position: int, packed: bytes) -> tuple[Any, HypsaeError | None]:
        if self._load_error is not None:
            return None, self._load_error
        # The feed gives a task out once more that waited here too long; it is empty when it is done.
        if not packed or position in self._at_hand:
            return Skipped(), None
        self._at_hand.add(position)
        try:
            with self._room.taken(1):
                turn = self._begin(position, alone=False)
                if turn not in (Turn.ALONE, Turn.LEAVE):
                    return self._take(turn, position, packed)
            with self._room.taken(CALLS_AT_ONCE, lambda: self._is_wanted(position)) as alone:
                turn = self._begin(position, alone=True) if alone else Turn.SKIP
                return self._take(turn, position, packed)
        finally:
            self._at_hand.discard(position)

    def _is_wanted(self, position: int) -> bool:
        """Whether a task that waits to be alone is still to be done here.

        One that this replica has just done may be given out once more before the driver has the result: it
        must not wait for the replica's other task to end, and keep all others waiting.
        """
        wanted: Any = ray.get(self._feed.wants.remote(position, self._name))
        return wanted

    def _begin(self, position: int, alone: bool) -> Turn | str:
        turn: Any = ray.get(self._feed.begin.remote(position, self._name, self._node, alone))
        return turn

    def _take(self, turn: Turn | str, position: int, packed: bytes) -> tuple[Any, HypsaeError | None]:
        if isinstance(turn, str):
            return Lost(turn), None
        if turn is Turn.SKIP:
            return Skipped(), None
        if turn is Turn.LEAVE:
            time.sleep(ANSWER_S)
            _end_process("its node is told to go")
        number, task = pickle.loads(packed)
        try:
            return self._call(self._work(number), task), None
        except EngineDiedError as error:
            ray.get(self._feed.fails.remote(position, str(error)))
            _end_process(str(error))
        except HypsaeError as error:
            return None, error
        except Exception:
            return None, StageError(f"a task failed:\n{traceback.format_exc()}")

    def _call(self, work: Callable[[Any, Any], Any], task: Any) -> Any:
        if getattr(self._model, "thread_safe", False):
            return work(self._model, task)
        return self._thread.submit(work, self._model, task).result()


def _node() -> str:
    """Return the node of this actor; "" if it is in a placement group, which stays where it is."""
    return "" if get_current_placement_group() else ray.get_runtime_context().get_node_id()


def _hide_gpus() -> None:
    """Hide the GPUs of the node from an actor that reserves none: Ray 2.60 shows it all of them."""
    if not ray.get_gpu_ids() and not get_current_placement_group():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _end_process(reason: str) -> NoReturn:
    """End this process at once; Ray starts another one, which loads the model anew."""
    logging.getLogger(__name__).error("ends, for a new one to take over: %s", reason)
    os._exit(1)


class _Room:
    """Room for so many tasks at once; one that takes all of it is alone."""

    def __init__(self, size: int) -> None:
        self._free, self._door = Semaphore(size), Lock()

    @contextmanager
    def taken(self, size: int, wanted: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Hold room of a size, and say so; False, and none of it, once it is not wanted any more.

        Calls wait in line: two that want all of it would else lock each other.
        """
        got = 0
        try:
            with self._door:
                while got < size:
                    if self._free.acquire(timeout=ASK_AGAIN_S):
                        got += 1
                    elif not wanted():
                        break
            yield got == size
        finally:
            for _ in range(got):
                self._free.release()
