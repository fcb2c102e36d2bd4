"""Calls that share an engine, on an engine of a few lines: one step ends up to two requests, in order."""

import queue
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from hypsae_ray.errors import EngineDiedError
from hypsae_ray.models.vllm.thread import EngineThread, _Call

LABEL, NAME = SimpleNamespace(logprob_token_ids=[1]), SimpleNamespace(logprob_token_ids=None)


class Engine:
    """Answers a prompt with its first token; refuses an empty one, and dies of token 13."""

    def __init__(self) -> None:
        self.engine_core = object()
        self.steps: list[list[tuple[str, int]]] = []
        self.gate = threading.Event()
        self._requests: list[tuple[str, int, Any]] = []

    def add_request(self, name: str, prompt: dict[str, Any], params: Any) -> None:
        if not prompt["prompt_token_ids"]:
            raise ValueError("empty")
        self._requests.append((name, prompt["prompt_token_ids"][0], params))

    def step(self) -> list[Any]:
        self.gate.wait(30)
        now, self._requests = self._requests[:2], self._requests[2:]
        self.steps.append([("label" if params is LABEL else "name", token) for _, token, params in now])
        if any(token == 13 for _, token, _ in now):
            raise RuntimeError("unlucky")
        return [SimpleNamespace(request_id=name, finished=True, token=token) for name, token, _ in now]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def thread(engine: Engine) -> EngineThread:
    return EngineThread(lambda: SimpleNamespace(llm_engine=engine))


def start(thread: EngineThread, *calls: tuple[list[int], Any]) -> list[Future]:
    """Hand over calls, in order, before the first step ends."""
    started = [_Call([[token] for token in tokens], [params] * len(tokens)) for tokens, params in calls]
    for call in started:
        thread._inbox.put(call)
    return [call.done for call in started]


def tokens(call: Future) -> list[int]:
    return [output.token for output in call.result(30)[0]]


def test_calls_fill_the_engine_together_and_have_their_own_outputs(engine: Engine, thread: EngineThread):
    calls = start(thread, ([1, 2, 3], LABEL), ([4, 5], LABEL))
    engine.gate.set()
    assert [tokens(call) for call in calls] == [[1, 2, 3], [4, 5]]
    assert [[token for _, token in step] for step in engine.steps] == [[1, 2], [3, 4], [5]]


def test_labels_share_no_step_with_names(engine: Engine, thread: EngineThread):
    calls = start(thread, ([1], LABEL), ([2, 3], NAME), ([4], LABEL))
    engine.gate.set()
    assert [tokens(call) for call in calls] == [[1], [2, 3], [4]]
    assert [{what for what, _ in step} for step in engine.steps] == [{"label"}, {"name"}, {"label"}]


def test_a_refused_prompt_has_no_output_and_costs_no_other(engine: Engine, thread: EngineThread):
    engine.gate.set()
    outputs, seconds = thread.run([[1], [], [2]], [LABEL] * 3)
    assert [output and output.token for output in outputs] == [1, None, 2]
    assert seconds > 0
    assert thread.run([[]], [LABEL]) == ([None], 0.0)
    assert thread.run([], []) == ([], 0.0)


def test_when_the_engine_dies_every_call_ends_and_so_does_the_next(engine: Engine, thread: EngineThread):
    calls = start(thread, ([1, 13], LABEL), ([2], LABEL), ([3], NAME))
    engine.gate.set()
    for call in calls:
        with pytest.raises(EngineDiedError, match="RuntimeError: unlucky"):
            call.result(30)
    with pytest.raises(EngineDiedError, match="unlucky"):
        thread.run([[4]], [LABEL])


def test_a_step_that_waits_for_a_killed_process_ends(engine: Engine):
    outputs: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    engine.engine_core = SimpleNamespace(resources=SimpleNamespace(engine_dead=True), outputs_queue=outputs)

    def step() -> list[Any]:
        raise outputs.get(timeout=30)

    engine.step = step
    with pytest.raises(EngineDiedError, match="its process ended"):
        EngineThread(lambda: SimpleNamespace(llm_engine=engine)).run([[1]], [LABEL])


def test_what_loading_raises_is_raised():
    def load() -> Any:
        raise OSError("no such model")

    with pytest.raises(OSError, match="no such model"):
        EngineThread(load)
