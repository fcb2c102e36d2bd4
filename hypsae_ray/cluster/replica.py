"""One copy of a model in a Ray actor.

A replica works on two tasks at once: while the engine computes one, the texts of the next are read and
tokenised, and the answers of the last are written.
"""

import logging
import os
import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import ray
from ray.util.placement_group import get_current_placement_group

from hypsae_ray.errors import HypsaeError, ModelError, StageError


class Replica:
    """Loads a model, and does tasks with it.

    Errors are returned, for the driver to raise them as they are.

    A model that computes in the thread that calls it is loaded and used in one thread of our own: Ray calls
    the actor in several, and OpenMP keeps worker threads for each of them.
    """

    def __init__(self) -> None:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("hypsae_ray").setLevel(logging.INFO)
        _hide_gpus()
        self._model: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._unpickled = lru_cache(maxsize=1)(pickle.loads)

    def node(self) -> str:
        """Return the id of the node that this replica is on."""
        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id

    def load(self, factory: bytes) -> tuple[str, HypsaeError | None]:
        """Load the model; return its remark, and why it does not load.

        Args:
            factory: makes the model; pickled, since to unpickle it imports torch, which may kill the process.
        """
        return self._thread.submit(self._load, factory).result()

    def _load(self, factory: bytes) -> tuple[str, HypsaeError | None]:
        try:
            self._model = pickle.loads(factory)()
        except HypsaeError as error:
            return "", error
        except Exception:
            return "", ModelError(f"a model failed to load:\n{traceback.format_exc()}")
        return getattr(self._model, "remark", ""), None

    def do(self, work: bytes, task: bytes) -> bytes:
        """Return the result of a task and its error, pickled by us: arrays from Ray would be read-only."""
        return pickle.dumps(self._do(work, task))

    def _do(self, work: bytes, task: bytes) -> tuple[Any, HypsaeError | None]:
        try:
            do, own = self._unpickled(work), pickle.loads(task)
            if getattr(self._model, "thread_safe", False):
                return do(self._model, own), None
            return self._thread.submit(do, self._model, own).result(), None
        except HypsaeError as error:
            return None, error
        except Exception:
            return None, StageError(f"a task failed:\n{traceback.format_exc()}")


def _hide_gpus() -> None:
    """Hide the GPUs of the node from an actor that reserves none: Ray 2.60 shows it all of them."""
    if not ray.get_gpu_ids() and not get_current_placement_group():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
