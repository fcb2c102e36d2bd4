"""A pool of model copies in Ray actors, fed by one Ray Data execution that stays open.

Loading a model takes seconds to minutes, and the stages of a run that share a model follow one another. So
the pool is one streaming Dataset: a feed actor holds the tasks at hand, one generator task streams them as
blocks of one row, and a `map_batches` actor pool of min to max replicas, which Ray Data scales and repairs,
does the work. The dataset ends when the pool is closed; until then the models stay loaded.

An actor that dies is started again and goes on with its tasks; those that it cannot go on with are the matter
of the feed (`feed.py`).
"""

import itertools
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic

import pyarrow as pa
import ray
import ray.data
from ray import cloudpickle

from hypsae_ray.cluster.feed import Feed
from hypsae_ray.cluster.placement import Placement, actor_options
from hypsae_ray.cluster.replica import CALLS_AT_ONCE, Lost, Replica, Skipped
from hypsae_ray.config import Replicas
from hypsae_ray.errors import HypsaeError, StageError
from hypsae_ray.models.pool import Model, Result, Task

# Never give up on a silent execution: an open pool waits for the driver, and a shard may take minutes.
NO_PROGRESS_SECONDS = -1


class RayPool(Generic[Model]):
    """Copies of a model in Ray actors, started by the first `map`; `close` frees them.

    Ray must be initialised.

    Args:
        factory: picklable, makes the model inside an actor.
        replicas: how many actors, and what each one reserves.
        placement: where an actor stands whose model is split over several GPUs; None: anywhere.
        say: is given what the models remark, each line once.
    """

    def __init__(
        self,
        factory: Callable[[], Model],
        replicas: Replicas,
        placement: Placement | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._factory, self._replicas, self._placement = factory, replicas, placement
        self._window = 4 * CALLS_AT_ONCE * replicas.max
        self._feed: Any = None
        self._results: Any = None
        self._positions = itertools.count()
        self._works = itertools.count()
        self._say, self._said = say, {""}

    def map(
        self,
        work: Callable[[Model, Task], Result],
        tasks: Iterable[Task],
        on_lost: Callable[[Task, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield work(model, task) for every task as each one ends, in any order.

        A call that does not run to its end closes the pool, so that nothing of it is left to the next one.

        Raises:
            ModelError: the model does not load.
            StageError: `work` raised something else than one of our own errors, which come as they are; or
                a task was lost, and there is no `on_lost`.
        """
        queue = iter(tasks)
        try:
            yield from self._map(work, queue, on_lost)
        except BaseException:  # GeneratorExit among them
            self.close()
            raise

    def _map(
        self, work: Callable[[Model, Task], Result], queue: Iterator[Task], on_lost: Any
    ) -> Iterator[Result]:
        at_hand = list(itertools.islice(queue, self._window))
        if not at_hand:
            return
        if self._results is None:
            self._start()
        number = next(self._works)
        ray.get(self._feed.work.remote(number, pickle.dumps(work)))
        given = self._give(number, at_hand, [])
        while given:
            position, result, error = self._next()
            if position not in given or isinstance(result, Skipped):
                continue
            task = given.pop(position)
            if error is not None:
                raise error
            given |= self._give(number, list(itertools.islice(queue, 1)), [position])
            if isinstance(result, Lost):
                if on_lost is None:
                    raise StageError(f"a task cannot be done: {result.reason}")
                result = on_lost(task, result.reason)
            yield result

    def _give(self, number: int, tasks: list[Task], finished: list[int]) -> dict[int, Task]:
        """Hand tasks to the feed; return them by position."""
        positions = [next(self._positions) for _ in tasks]
        packed = [pickle.dumps((number, task)) for task in tasks]
        self._feed.put.remote(positions[0] if positions else 0, packed, finished)
        return dict(zip(positions, tasks, strict=True))

    def _next(self) -> tuple[int, Any, HypsaeError | None]:
        row = next(self._results)
        if (remark := row["remark"][0].as_py()) not in self._said:
            self._said.add(remark)
            self._say(remark)
        result, error = pickle.loads(row["result"][0].as_py())
        return row["position"][0].as_py(), result, error

    def close(self) -> None:
        """End the execution at once and free its actors; what they are working on is dropped."""
        if self._results is None:
            return
        results, self._results = self._results, None
        results.close()
        ray.kill(self._feed)
        if self._placement is not None:
            self._placement.remove()

    def _start(self) -> None:
        replicas = self._replicas
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        loads = 2 + 2 * replicas.max  # the first of many replicas that load at once has not ended yet
        feed: Any = Feed  # `ray.remote` gives it options
        self._feed = feed.options(label_selector=here).remote(loads)
        factory = cloudpickle.dumps(self._factory)  # type: ignore[reportPrivateImportUsage]  # one may be a script's
        stream: Any = _stream  # a generator function, which the types of map_batches do not know
        with ray.data.DataContext.current(_context(self._window)):
            # No part of the source reserves a CPU: the replicas may hold all there are.
            source = ray.data.from_arrow(pa.table({"start": [0]})).map_batches(
                stream,
                fn_args=(self._feed,),
                batch_size=None,
                num_cpus=0,
                zero_copy_batch=True,
                label_selector=here,
            )
            batches = source.map_batches(
                Replica,
                fn_constructor_args=(factory, self._feed),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=replicas.min,
                    max_size=replicas.max,
                    max_concurrent_calls_per_actor=CALLS_AT_ONCE,
                    enable_true_multi_threading=True,
                ),
                **actor_options(replicas, self._placement),
            ).iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
            self._results = iter(batches)


def _stream(start: Any, feed: Any) -> Iterator[pa.Table]:
    for slot in itertools.count(int(start["start"][0])):
        position, task = ray.get(feed.get.remote(slot))
        yield pa.table({"position": pa.array([position]), "task": pa.array([task], pa.binary())})


def _context(buffered: int) -> ray.data.DataContext:
    """Return the settings of a pool's execution; those of the user's own datasets stay as they are.

    Args:
        buffered: tasks on their way to the replicas.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is ours to show
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # every task is a block of its own, passed on at once
    context.target_min_block_size = 1
    # An actor that cannot even be unpickled ends the pool. Those that die while they load are started again
    # by Ray itself, and counted by the feed.
    context.max_consecutive_actor_init_deaths = 0
    context.op_resource_reservation_enabled = False  # else no actor is wanted for which there is no room yet
    context.issue_detectors_config.detectors = []  # one asks for the options of actors that it never starts
    # Ray's default, 2, passes on some 10 tasks per second: 8 replicas with tasks of 0.5 s waited 28 % of the
    # time.
    context._max_num_blocks_in_streaming_gen_buffer = buffered
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    return context
