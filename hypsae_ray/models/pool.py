"""Where copies of a model work: in this process (`LocalPool`), or in Ray actors (`cluster/pool.py`)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

Model = TypeVar("Model", covariant=True)
Task = TypeVar("Task")
Result = TypeVar("Result")


class Pool(Protocol[Model]):
    """Copies of one model that share out tasks."""

    def map(
        self,
        work: Callable[[Model, Task], Result],
        tasks: Iterable[Task],
        on_lost: Callable[[Task, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield work(model, task) for every task as each one ends, in any order.

        `work`, tasks and results must be picklable. Tasks are drawn as they are needed. A task whose process
        dies is done again elsewhere, so `work` must be safe to repeat; an exception that `work` raises ends
        the iteration.

        Args:
            work: the function; threads may run it side by side on one model.
            tasks: what to do.
            on_lost: makes the result of a task whose process died each time, from the task and a reason;
                None: such a task ends the iteration.

        Raises:
            ModelError: the model does not load.
            StageError: the processes that worked on a task died, and there is no `on_lost`.
        """
        ...


class LocalPool(Generic[Model]):
    """A pool of one copy, in this process."""

    def __init__(self, model: Model) -> None:
        self._model: Any = model

    def map(
        self,
        work: Callable[[Model, Task], Result],
        tasks: Iterable[Task],
        on_lost: Callable[[Task, str], Result] | None = None,
    ) -> Iterator[Result]:
        """Yield work(model, task) for every task, in order; nothing gets lost without this process."""
        del on_lost
        for task in tasks:
            yield work(self._model, task)

    def close(self) -> None:
        """Let go of the model; one that holds more than Python knows of has a method `close` too."""
        close = getattr(self._model, "close", None)
        self._model = None
        if close is not None:
            close()
