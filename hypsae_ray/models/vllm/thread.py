"""One vLLM engine in a thread of its own, which several callers keep full.

`vllm.LLM.generate` runs dry at the end of each call: the last prompts are computed in a batch that empties,
and the next ones are made ready only then. Here a caller puts its prompts into an inbox; the thread steps
the engine as long as there is anything to do, and takes calls as they come. vLLM computes in the order of
arrival, so calls end in the order in which they came. Only labels (`logprob_token_ids`) never share the
engine with other requests: vLLM 0.29 answers such a mixture wrongly.

The engine is also loaded in this thread: OpenMP keeps worker threads for each thread that computes, and lets
all of them sleep early once they outnumber the cores (SmolLM2 on two cores labels 7 % faster from one).
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any

from hypsae_ray.errors import EngineDiedError

WATCH_S = 1.0  # between two looks at the engine's process


class _Call:
    """Prompts that came together, and the output of each, None for one that vLLM refuses."""

    def __init__(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> None:
        self.prompts, self.params = prompts, params
        self.labels = bool(params[0].logprob_token_ids)
        self.outputs: list[Any] = [None] * len(prompts)
        self.left, self.started = 0, 0.0
        self.done: Future[tuple[list[Any], float]] = Future()


class EngineThread:
    """The engine that `load` returns, a `vllm.LLM`; what it raises is raised here."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._inbox: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._waiting: deque[_Call] = deque()
        self._running: dict[str, tuple[_Call, int]] = {}
        self._n_requests, self._free_since = 0, 0.0
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
                while self._waiting and (not self._running or self._labels == self._waiting[0].labels):
                    self._admit(llm.llm_engine, self._waiting[0])
                    self._waiting.popleft()
                for output in llm.llm_engine.step() if self._running else ():
                    if output.finished:
                        self._finish(output)
        except BaseException as error:
            self._die(error)

    def _take_calls(self) -> bool:
        """Take calls out of the inbox, waiting for one if idle; return whether there is work."""
        while not self._closing and (self._idle or not self._inbox.empty()):
            call = self._inbox.get()
            self._closing = call is None
            if call is not None:
                self._waiting.append(call)
        return not self._idle

    @property
    def _idle(self) -> bool:
        return not self._running and not self._waiting

    def _admit(self, engine: Any, call: _Call) -> None:
        """Hand the prompts of a call to the engine, in order."""
        self._labels, call.started = call.labels, time.monotonic()
        for i, (ids, params) in enumerate(zip(call.prompts, call.params, strict=True)):
            name, self._n_requests = str(self._n_requests), self._n_requests + 1
            try:
                engine.add_request(name, {"type": "token", "prompt_token_ids": ids}, params)
            except ValueError:  # this one prompt is refused
                continue
            self._running[name] = (call, i)
            call.left += 1
        if not call.left:
            call.done.set_result((call.outputs, 0.0))

    def _finish(self, output: Any) -> None:
        call, i = self._running.pop(output.request_id)
        call.outputs[i] = output
        call.left -= 1
        if not call.left:
            now = time.monotonic()
            worked = now - max(call.started, self._free_since)
            self._free_since = now
            call.done.set_result((call.outputs, worked))

    def _die(self, error: BaseException) -> None:
        self._dead = EngineDiedError(f"vLLM broke down: {type(error).__name__}: {error}")
        open_calls = {*self._waiting, *(call for call, _ in self._running.values())}
        while not self._inbox.empty():
            if (call := self._inbox.get()) is not None:
                open_calls.add(call)
        for call in open_calls:
            call.done.set_exception(self._dead)


def _wake_when_dead(core: Any) -> None:
    """End a step that waits for an engine process that was killed: vLLM 0.29 would let it wait for ever."""
    while not core.resources.engine_dead:
        time.sleep(WATCH_S)
    core.outputs_queue.put(EngineDiedError("its process ended"))
