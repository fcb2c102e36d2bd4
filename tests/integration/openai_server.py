"""A small chat server on loopback that speaks /v1/chat/completions as OpenAI does, for tests.

What it answers follows from the prompt alone. A label prompt is answered with the probabilities `YES` if a
word of its property (of more than three letters) stands in its text, with `NO` if none does, and with `HAZY`
or `BLANK` if the property is "hazy" or "blank". Any other prompt is answered with `NAME`; a label of more
than 8 tokens is thought about, in the words of `THOUGHT`. A script of `Fault`s says what goes wrong with the
next requests, one each. The harmless question of a client is kept apart: only what is wrong with all requests
is wrong with it. With `Server.embed` it speaks /v1/embeddings as well.
"""

import base64
import json
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from typing import Any

import numpy as np

from hypsae_ray.models.endpoint.chat import HARMLESS
from hypsae_ray.models.endpoint.embeddings import HARMLESS_TEXT
from tests.deadline import DEADLINE_S

YES = {" Yes": 0.5, "yes": 0.25, "▁YES": 0.05, "No": 0.1, "Maybe": 0.1}  # P(yes) 0.8 / 0.9, neither 0.1
NO = {"ĠNo": 0.4, "no": 0.2, "Yes": 0.2, "Perhaps": 0.2}  # P(yes) 0.2 / 0.8, neither 0.2
HAZY = {"Well": 0.97, "Yes": 0.02, "No": 0.01}  # P(yes) 2 / 3, neither 0.97
BLANK = {"Well": 1.0}
NAME = "mentions a long wait"
THOUGHT = "The text speaks of food."
PROMPT_TOKENS, CACHED_TOKENS = 10, 4
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Fault:
    """What becomes of one request: a status and a body, or silence until the server closes."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False

    @classmethod
    def error(cls, status: int, message: str, headers: dict[str, str] | None = None, **more: str) -> "Fault":
        """An error as OpenAI words it."""
        return cls(status, json.dumps({"error": {"message": message, **more}}), headers or {})

    @classmethod
    def says(cls, text: str | None, finish: str = "stop") -> "Fault":
        """Another text, without probabilities."""
        return cls(body=json.dumps(_completion({"role": "assistant", "content": text}, None, finish)))


@dataclass
class Server:
    """What a test sets and reads.

    Attributes:
        url: base URL of the API.
        most_logprobs: more are refused; 0 refuses any.
        mute: leave logprobs out of answers without a word.
        word: what labels say, cut at max_tokens; None: the likeliest token.
        refuses: parameters that are refused, in OpenAI's words.
        thinks: nothing is said within 1,000 tokens, but thought.
        silent_after_begun: an answer that is begun for it is its whole answer.
        thinks_unless_told: answers begin with <think> unless `enable_thinking` is false.
        broken: what becomes of every request.
        bad: what becomes of requests whose prompt has a word in it.
        ends_at: a word of a prompt from which on every request is broken, and how.
        longest: prompts of more characters are refused as too long.
        thought_in: field of the message in which thought stands.
        together: each request waits until so many are in flight,
        patience_s: but no longer than this.
        models: names that /v1/models lists; None: there is no such page.
        embed: texts to vectors.
        writes_out: write numbers out, whatever format is asked for.
        faults: for the next requests; used up.
        gate: requests beyond so many wait until it is raised.
        held: requests whose prompt has this in it wait as well, until it is changed and the gate is raised.
        bodies: JSON of all requests so far but the harmless ones, in order of arrival.
        trials: JSON of the harmless ones.
        headers: their headers.
        peak: most requests in flight at once.
    """

    url: str = ""
    most_logprobs: int = 20
    mute: bool = False
    word: str | None = None
    refuses: Collection[str] = ()
    thinks: bool = False
    silent_after_begun: bool = False
    thinks_unless_told: bool = False
    broken: Fault | None = None
    bad: dict[str, Fault] = field(default_factory=dict)
    ends_at: tuple[str, Fault] | None = None
    longest: int = 10**9
    thought_in: str = "reasoning_content"
    together: int = 1
    patience_s: float = PATIENCE_S
    models: Collection[str] | None = ("served",)
    embed: Callable[[list[str]], np.ndarray] | None = None
    writes_out: bool = False
    faults: deque[Fault] = field(default_factory=deque)
    gate: int = 10**9
    held: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    peak: int = 0

    def __post_init__(self) -> None:
        self._flight, self._state = 0, threading.Condition()
        self.closing = threading.Event()

    @property
    def embedded(self) -> list[str]:
        """All texts that embeddings were asked for, the harmless ones left out."""
        return [text for body in self.bodies for text in body["input"]]

    @property
    def prompts(self) -> list[str]:
        """First message of each request."""
        return [_prompt(body) for body in self.bodies]

    def take(self, headers: dict[str, str], body: dict[str, Any]) -> Fault:
        """Record a request, and return what to send."""
        if _prompt(body) in (HARMLESS, HARMLESS_TEXT):
            with self._state:
                self.trials.append(body)
                self.headers.append(headers)
                self._flight += 1
            return self._heard(self.broken) or self._answer(body)
        with self._state:
            self.bodies.append(body)
            self.headers.append(headers)
            self._flight += 1
            self.peak = max(self.peak, self._flight)
            self._state.notify_all()
            if self.ends_at and self.ends_at[0] in _prompt(body).split():
                self.broken = self.ends_at[1]
            fault = self.broken or (self.faults.popleft() if self.faults else self._bad(body))
            # Requests in flight never become fewer while each waits for the rest, so none is missed.
            self._state.wait_for(lambda: self.peak >= self.together, self.patience_s)
            number = len(self.bodies)
            self._state.wait_for(lambda: number <= self.gate and not self._holds(body))
        return self._heard(fault) or self._answer(body)

    def _heard(self, fault: Fault | None) -> Fault | None:
        if fault is not None and fault.silent:
            self.closing.wait(PATIENCE_S)
        return fault

    def _bad(self, body: dict[str, Any]) -> Fault | None:
        words = _prompt(body).split()
        return next((fault for word, fault in self.bad.items() if word in words), None)

    def _holds(self, body: dict[str, Any]) -> bool:
        return self.held is not None and self.held in _prompt(body)

    def wait_at_gate(self, waiting: int = 1) -> None:
        """Wait until so many requests stand before the gate."""
        with self._state:
            assert self._state.wait_for(lambda: len(self.bodies) >= self.gate + waiting, DEADLINE_S)

    def raise_gate(self, more: int) -> None:
        """Let so many more requests in, counted from all that have come."""
        with self._state:
            self.gate = len(self.bodies) + more
            self._state.notify_all()

    def leave(self) -> None:
        """Record that a request is answered; called before the answer goes out."""
        with self._state:
            self._flight -= 1

    def _answer(self, body: dict[str, Any]) -> Fault:
        prompt = _prompt(body)
        if max(map(len, body.get("input", [prompt]))) > self.longest:
            words = "This model's maximum context length is 4096 tokens, your request has more."
            return Fault.error(400, words, code="context_length_exceeded")
        if refused := next((name for name in body if name in self.refuses), None):
            instead = " Use 'max_completion_tokens' instead." * (refused == "max_tokens")
            words = f"Unsupported parameter: {refused!r} is not supported with this model.{instead}"
            return Fault.error(400, words, param=refused, code="unsupported_parameter")
        if "input" in body:
            return self._embeddings(body)
        if body.get("top_logprobs", 0) > self.most_logprobs:
            return Fault.error(400, f"top_logprobs must be at most {self.most_logprobs}")
        if self.silent_after_begun and body["messages"][-1]["role"] == "assistant":
            return Fault.says("")
        if self.thinks and _limit(body) < 1000:
            return Fault.says("", finish="length")
        if self.thinks_unless_told and body.get("chat_template_kwargs") != {"enable_thinking": False}:
            return self._label(body, {"<think>": 1.0})
        if prompt == HARMLESS:
            return self._label(body, YES)
        label = re.search(r"^Property: (.+)$", prompt, re.MULTILINE)
        if label is None:
            return Fault.says(NAME)
        if len(body["messages"]) == 1 and _limit(body) > 8 and not self.thinks:
            message = {"role": "assistant", "content": None, self.thought_in: THOUGHT}
            return Fault(body=json.dumps(_completion(message, None, "length")))
        return self._label(body, _odds(prompt, label[1]))

    def _embeddings(self, body: dict[str, Any]) -> Fault:
        """The vectors of texts, the last one first."""
        assert self.embed is not None
        if "base64" in self.refuses and body.get("encoding_format") == "base64":
            return Fault.error(400, "encoding_format must be float")
        vectors = self.embed(body["input"])[:, : body.get("dimensions")].astype("<f4")
        packed = body.get("encoding_format") == "base64" and not self.writes_out
        told = [base64.b64encode(v.tobytes()).decode() if packed else v.tolist() for v in vectors]
        items = [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(told)]
        return Fault(body=json.dumps({"object": "list", "model": body["model"], "data": items[::-1]}))

    def _label(self, body: dict[str, Any], odds: dict[str, float]) -> Fault:
        token = max(odds, key=lambda word: odds[word])
        text = token if self.word is None else self.word
        told = None if self.mute or not body.get("logprobs") else _logprobs(odds, body["top_logprobs"])
        tokens = re.findall(r"\w+|\W", text)[: _limit(body)]
        message = {"role": "assistant", "content": "".join(tokens)}
        return Fault(body=json.dumps(_completion(message, told, "length")))


def _prompt(body: dict[str, Any]) -> str:
    """First message, or all texts to embed."""
    return body["messages"][0]["content"] if "messages" in body else "\n".join(body["input"])


def _limit(body: dict[str, Any]) -> int:
    return body.get("max_tokens") or body.get("max_completion_tokens") or 10**6


def _odds(prompt: str, question: str) -> dict[str, float]:
    """Probabilities of the first token of a label."""
    if question in ("hazy", "blank"):
        return HAZY if question == "hazy" else BLANK
    text = re.search(r"^Text:(.*?)(?=^Property: |\nDoes the text)", prompt + "\n", re.MULTILINE | re.DOTALL)
    words = [word for word in question.split() if len(word) > 3]
    return YES if text and any(word in text[1] for word in words) else NO


def _logprobs(odds: dict[str, float], most: int) -> dict[str, Any]:
    ranked = sorted(odds.items(), key=lambda item: -item[1])[:most]
    tokens = [{"token": token, "logprob": log(odd)} for token, odd in ranked]
    return {"content": [{**tokens[0], "top_logprobs": tokens}]}


def _completion(message: dict[str, Any], logprobs: Any, finish: str) -> dict[str, Any]:
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chat: Server

    def do_GET(self) -> None:
        listed = self.chat.models if self.path.endswith("/v1/models") else None
        models = [{"id": name, "object": "model"} for name in listed or ()]
        content = json.dumps({"object": "list", "data": models}).encode()
        self.send_response(404 if listed is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if not sent:  # the client died
            return
        body = json.loads(sent)
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.chat.take({**headers, ":path": self.path}, body)
        self.chat.leave()
        content = answer.body.encode()
        try:
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client gave up waiting
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client died
            super().handle_error(request, client_address)


@contextmanager
def serve(host: str = "127.0.0.1") -> Iterator[Server]:
    """Serve on a free port until the context ends; silent requests are let go then."""
    chat = Server()
    handler = type("Handler", (_Handler,), {"chat": chat})
    server = _Listener((host, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    chat.url = f"http://{host}:{server.server_address[1]}/v1"
    thread.start()
    try:
        yield chat
    finally:
        chat.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
