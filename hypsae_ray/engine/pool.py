"""A pool of model copies in Ray actors, fed by one Ray Data execution that stays open.

Loading a model takes seconds to minutes, and the stages of a run that share a model follow one another. So
the pool is one streaming Dataset: a `Feed` actor holds the tasks queued so far, one generator task streams
them as blocks of one row, and a `map_batches` actor pool of min to max replicas, which Ray Data scales and
repairs, does the work. The dataset ends when the feed is closed; until then the models stay loaded.
"""

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic

import pyarrow as pa
import ray
import ray.data

from hypsae_ray.boundary import Model, Result, Task
from hypsae_ray.config import Replicas
from hypsae_ray.errors import HypsaeError, ModelError, StageError

# Never give up on a silent execution: an open pool waits for the driver, and a shard may take minutes.
NO_PROGRESS_SECONDS = -1


@ray.remote(num_cpus=0)
class Feed:
    """The list of all tasks queued so far. Reading is by position, so a restarted reader repeats."""

    def __init__(self) -> None:
        self._tasks: list[bytes] = []
        self._open = True
        self._changed = asyncio.Condition()

    async def put(self, tasks: list[bytes]) -> None:
        """Add tasks at the end."""
        async with self._changed:
            self._tasks.extend(tasks)
            self._changed.notify_all()

    async def close(self) -> None:
        """Give out no more tasks, those that are queued included."""
        async with self._changed:
            self._open = False
            self._changed.notify_all()

    async def get(self, position: int) -> bytes | None:
        """Wait for the task at `position`; None when the feed is closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: position < len(self._tasks) or not self._open)
            return self._tasks[position] if self._open else None


class Replica:
    """Ray Data's actor: one copy of the model, made when the actor starts.

    Nothing raised here leaves the actor: Ray Data would hide it in its own error, and would try a model
    that cannot load again and again. Errors travel to the driver as results.

    Ray Data makes the object in one thread and calls it in another. OpenMP keeps worker threads for each
    thread that computes, and lets all of them sleep early once they outnumber the cores; so the model is
    loaded and used in one thread of our own. SmolLM2 on two cores labels 7 % faster that way.
    """

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._model = None
        self._load_error: HypsaeError | None = None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._thread.submit(self._load, factory).result()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Do the one task in `batch`."""
        (packed,) = batch["task"].to_pylist()
        outcome = self._thread.submit(self._outcome, packed).result()
        return pa.table({"result": pa.array([pickle.dumps(outcome)], pa.binary())})

    def _load(self, factory: Callable[[], Any]) -> None:
        try:
            self._model = factory()
        except HypsaeError as error:
            self._load_error = error
        except Exception:
            self._load_error = ModelError(f"a model failed to load:\n{traceback.format_exc()}")

    def _outcome(self, packed: bytes) -> tuple[Any, HypsaeError | None]:
        if self._load_error is not None:
            return None, self._load_error
        work, task = pickle.loads(packed)
        try:
            return work(self._model, task), None
        except HypsaeError as error:
            return None, error
        except Exception:
            return None, StageError(f"a task failed:\n{traceback.format_exc()}")


class RayPool(Generic[Model]):
    """Copies of a model in Ray actors, started by the first `map`; `close` frees them.

    Ray must be initialised.

    Args:
        factory: picklable, makes the model inside an actor.
        replicas: how many actors, and what each one reserves.
    """

    def __init__(self, factory: Callable[[], Model], replicas: Replicas) -> None:
        self._factory, self._replicas = factory, replicas
        self._feed: Any = None
        self._results: Iterator[Any] | None = None

    def map(self, work: Callable[[Model, Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield work(model, task) for every task as each one ends, in any order.

        A call that does not run to its end closes the pool, so that nothing of it is left to the next one.

        Raises:
            ModelError: the model does not load.
            StageError: `work` raised something else than one of our own errors, which come as they are.
        """
        if self._results is None:
            self._start()
        assert self._results is not None
        try:
            ray.get(self._feed.put.remote([pickle.dumps((work, task)) for task in tasks]))
            for _ in tasks:
                (packed,) = next(self._results)["result"].to_pylist()
                result, error = pickle.loads(packed)
                if error is not None:
                    raise error
                yield result
        except BaseException:  # GeneratorExit among them
            self.close()
            raise

    def close(self) -> None:
        """End the execution and free its actors; tasks that have not started are dropped."""
        if self._results is None:
            return
        results, self._results = self._results, None
        ray.get(self._feed.close.remote())
        for _ in results:
            pass
        ray.kill(self._feed)

    def _start(self) -> None:
        self._feed = Feed.remote()
        stream: Any = _stream  # a generator function, which the types of map_batches do not know
        replicas = self._replicas
        with ray.data.DataContext.current(_context()):
            # No part of the source reserves a CPU: the replicas may hold all there are.
            source = ray.data.from_arrow(pa.table({"start": [0]})).map_batches(
                stream, fn_args=(self._feed,), batch_size=None, num_cpus=0, zero_copy_batch=True
            )
            batches = source.map_batches(
                Replica,
                fn_constructor_args=(self._factory,),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=replicas.cpus,
                num_gpus=replicas.gpus,
                compute=ray.data.ActorPoolStrategy(min_size=replicas.min, max_size=replicas.max),
            ).iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
            self._results = iter(batches)


def _stream(_: Any, feed: Any) -> Iterator[pa.Table]:
    position = 0
    while (task := ray.get(feed.get.remote(position))) is not None:
        yield pa.table({"task": pa.array([task], pa.binary())})
        position += 1


def _context() -> ray.data.DataContext:
    """Return the settings of a pool's execution; those of the user's own datasets stay as they are."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is ours to show
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # every task is a block of its own, passed on at once
    context.target_min_block_size = 1
    context.max_consecutive_actor_init_deaths = 0  # no limit: on spot nodes actors die while they load
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    return context
