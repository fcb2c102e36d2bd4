"""One vLLM engine in a thread of its own, which several callers keep full.

`vllm.LLM.generate` runs dry at the end of each call: the last prompts are computed in a batch that empties,
and the next ones are made ready only then. Here a caller puts its prompts into an inbox; the thread steps
the engine as long as there is anything to do, and takes prompts of the next call as those of the last one
leave. vLLM computes in the order of arrival, so calls end in the order in which they came. Only labels
(`logprob_token_ids`) never share the engine with other requests: vLLM 0.29 answers such a mixture wrongly.

The engine is also loaded in this thread: OpenMP keeps worker threads for each thread that computes, and lets
all of them sleep early once they outnumber the cores (SmolLM2 on two cores labels 7 % faster from one).
"""

import itertools
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from hypsae_ray.errors import EngineDiedError

WATCH_S = 1.0  # between two looks at the engine's process


@dataclass
class _Call:
    """Prompts that came together, and what became of each: an output, or None for one that vLLM refuses."""

    prompts: Sequence[list[int]]
    params: Sequence[Any]
    done: "Future[tuple[list[Any], float]]" = field(default_factory=Future)
    outputs: list[Any] = field(default_factory=list)
    left: int = 0
    started: float = 0.0

    def __post_init__(self) -> None:
        self.outputs, self.left = [None] * len(self.prompts), len(self.prompts)

    @property
    def labels(self) -> bool:
        """Whether this call asks for the logits of given tokens."""
        return bool(self.params[0].logprob_token_ids)


class EngineThread:
    """The engine that `load` returns.

    Args:
        load: returns a `vllm.LLM`; what it raises is raised here.
        window: prompts that the engine holds at once, running and waiting.
    """

    def __init__(self, load: Callable[[], Any], window: int) -> None:
        self._inbox: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[_Call, int]] = deque()
        self._running: dict[str, tuple[_Call, int]] = {}
        self._window, self._ids = window, itertools.count()
        self._free_since = 0.0
        self._labels = self._closing = False
        self._dead: EngineDiedError | None = None
        loaded: Future[Any] = Future()
        self._thread = Thread(target=self._serve, args=(load, loaded), name="vllm", daemon=True)
        self._thread.start()
        self.llm: Any = loaded.result()

    def run(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> tuple[list[Any], float]:
        """Compute prompts of token ids, each with its own sampling parameters.

        Returns:
            A RequestOutput per prompt, in order, None for one that vLLM refuses; and the seconds in which the
            engine worked for this call and for no earlier one.

        Raises:
            EngineDiedError: the engine broke down, now or before.
        """
        if not prompts:
            return [], 0.0
        call = _Call(prompts, params)
        self._inbox.put(call)
        if self._dead:  # it died between the calls, and nobody reads the inbox
            raise self._dead
        return call.done.result()

    def close(self) -> None:
        """Finish the calls that came, end the engine, and free its memory."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._inbox.put(None)
        self._thread.join()
        llm, self.llm = self.llm, None
        llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()

    def _serve(self, load: Callable[[], Any], loaded: "Future[Any]") -> None:
        try:
            llm = load()
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(llm)
        core = llm.llm_engine.engine_core
        if hasattr(core, "resources"):  # the engine has a process of its own
            Thread(target=_wake_when_dead, args=(core,), name="vllm-watch", daemon=True).start()
        try:
            while self._take_calls():
                self._admit(llm.llm_engine)
                for output in llm.llm_engine.step() if self._running else ():
                    self._deliver(output)
        except BaseException as error:
            self._die(error)

    def _take_calls(self) -> bool:
        """Move calls from the inbox to the line, waiting for one if idle; return whether there is work."""
        while not self._closing and (self._idle or not self._inbox.empty()):
            call = self._inbox.get()
            self._closing = call is None
            if call is not None:
                self._waiting.extend((call, i) for i in range(len(call.prompts)))
        return not self._idle

    @property
    def _idle(self) -> bool:
        return not self._running and not self._waiting

    def _admit(self, engine: Any) -> None:
        """Hand prompts to the engine, in order, as far as its window has room."""
        while self._waiting and len(self._running) < self._window:
            call, i = self._waiting[0]
            if self._running and self._labels != call.labels:
                return
            self._waiting.popleft()
            self._labels = call.labels
            call.started = call.started or time.monotonic()
            name = str(next(self._ids))
            try:
                prompt = {"type": "token", "prompt_token_ids": call.prompts[i]}
                engine.add_request(name, prompt, call.params[i])
                self._running[name] = (call, i)
            except ValueError:  # this one prompt is refused
                self._finish(call, i, None)

    def _deliver(self, output: Any) -> None:
        if output.finished:
            call, i = self._running.pop(output.request_id)
            self._finish(call, i, output)

    def _finish(self, call: _Call, i: int, output: Any) -> None:
        call.outputs[i] = output
        call.left -= 1
        if call.left == 0:
            now = time.monotonic()
            worked = now - max(call.started, self._free_since)
            self._free_since = now
            call.done.set_result((call.outputs, worked))

    def _die(self, error: BaseException) -> None:
        self._dead = EngineDiedError(f"vLLM broke down: {type(error).__name__}: {error}")
        open_calls = {id(call): call for call, _ in [*self._waiting, *self._running.values()]}
        while not self._inbox.empty():
            if (call := self._inbox.get()) is not None:
                open_calls[id(call)] = call
        for call in open_calls.values():
            call.done.set_exception(self._dead)


def _wake_when_dead(core: Any) -> None:
    """End a step that waits for an engine process that was killed: vLLM 0.29 would let it wait for ever."""
    while not core.resources.engine_dead:
        time.sleep(WATCH_S)
    core.outputs_queue.put(EngineDiedError("its process ended"))
