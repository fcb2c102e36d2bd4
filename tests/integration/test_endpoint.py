"""The endpoint engine against a real HTTP server on loopback."""

import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hypsae_ray.config import Endpoint, Label, Llm, Replicas
from hypsae_ray.errors import ConfigError, ModelError, TransientError
from hypsae_ray.models.endpoint.chat import ChatApi
from hypsae_ray.models.endpoint.faults import retry_after
from hypsae_ray.models.endpoint.model import EndpointModel
from hypsae_ray.models.identity import content_of, pin
from hypsae_ray.models.prompts.wording import label_prompt, render_naming
from hypsae_ray.models.protocols import NamingPrompt, Sampling
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage
from tests.integration.openai_server import NAME, THOUGHT, Fault, Server, serve

KEY = "sk-very-secret-0123456789"
TEXTS = ["The wait was long and the soup cold.", "A lovely evening."]
QUESTIONS = ["mentions a wait", "speaks of an evening"]
WAIT, SOUP = "mentions a wait", "mentions soup"
NAMING = NamingPrompt(("a wait",), ("no queue",))
BUSY = Fault.error(503, "busy")

Connect = Callable[..., EndpointModel]


class Waits(list[float]):
    """Records the waits between tries, and does not wait."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as chat:
        yield chat


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def connect(server: Server, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Make models of the server, by fields of `Endpoint`; `llm` holds fields of `Llm`."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    models: list[EndpointModel] = []

    def make(llm: dict | None = None, **endpoint) -> EndpointModel:
        options = Endpoint(**{"url": server.url, **endpoint})
        settings = Llm(engine="endpoint", endpoint=options, **{"model": "tiny", **(llm or {})})
        models.append(EndpointModel(settings, wait=waits))
        return models[-1]

    yield make
    for model in models:
        model.close()


def statuses(scores) -> list[list[Status]]:
    return [[Status(value) for value in row] for row in scores.status]


# Labels


def of(server: Server, model: str) -> Llm:
    return Llm(engine="endpoint", model=model, endpoint=Endpoint(url=server.url))


def test_auto_is_the_only_model_of_a_server(server: Server):
    pinned = pin(of(server, "auto"), {})
    assert pinned == of(server, "served")
    assert content_of(pinned)["model"] == "served"
    assert pin(of(server, "named"), {}) == of(server, "named")  # and is not looked up


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (("one", "two"), r"has 2 models \(one, two\): name one"),
        ((), "lists no model"),
        (None, "does not list"),
    ],
)
def test_a_server_without_just_one_model_is_refused_in_one_line(server: Server, models, reason: str):
    server.models = models
    with pytest.raises(ConfigError, match=f"llm.model auto: {server.url} .*{reason}") as refused:
        pin(of(server, "auto"), {})
    assert "\n" not in str(refused.value)


def test_p_yes_is_the_share_of_yes_among_yes_and_no(server: Server, connect: Connect):
    scores = connect().score(TEXTS, QUESTIONS)
    np.testing.assert_allclose(scores.p_yes, [[8 / 9, 0.25], [0.25, 8 / 9]], rtol=1e-6)
    np.testing.assert_allclose(scores.p_neither, [[0.1, 0.2], [0.2, 0.1]], rtol=1e-5)
    assert statuses(scores) == [[Status.OK] * 2] * 2
    assert (scores.p_yes.dtype, scores.status.dtype) == (np.float32, np.int8)
    assert (scores.usage.prompt, scores.usage.cached, scores.usage.generated) == (40, 16, 4)
    assert {name: server.bodies[0][name] for name in ("max_tokens", "temperature", "top_logprobs")} == {
        "max_tokens": 1,
        "temperature": 0,
        "top_logprobs": 20,
    }


@pytest.mark.parametrize("layout", ["auto", "text_first"])
def test_the_questions_of_a_text_are_adjacent(server: Server, connect: Connect, layout: str):
    connect(concurrency=1).score(TEXTS, QUESTIONS, Label(layout=layout))
    assert server.prompts == [label_prompt(text, question) for text in TEXTS for question in QUESTIONS]


def test_the_texts_of_a_question_are_adjacent_with_question_first(server: Server, connect: Connect):
    scores = connect(concurrency=1).score(TEXTS, QUESTIONS, Label(layout="question_first"))
    assert server.prompts == [
        label_prompt(text, question, text_first=False) for question in QUESTIONS for text in TEXTS
    ]
    np.testing.assert_allclose(scores.p_yes, [[8 / 9, 0.25], [0.25, 8 / 9]], rtol=1e-6)


def test_pairs_that_are_not_asked_cost_no_request(server: Server, connect: Connect):
    asked = np.array([[True, False], [False, False]])
    scores = connect().score(TEXTS, QUESTIONS, asked=asked)
    assert statuses(scores) == [[Status.OK, Status.UNASKED], [Status.UNASKED] * 2]
    assert np.isnan(scores.p_yes).tolist() == np.isnan(scores.p_neither).tolist() == (~asked).tolist()
    assert len(server.bodies) == 1


@pytest.mark.parametrize(("texts", "questions"), [([], QUESTIONS), (TEXTS, [])])
def test_nothing_to_ask_is_no_error(server: Server, connect: Connect, texts: list, questions: list):
    scores = connect().score(texts, questions)
    assert scores.p_yes.shape == scores.status.shape == (len(texts), len(questions))
    assert server.bodies == []


def test_answers_with_too_little_yes_and_no_are_unsure(connect: Connect):
    scores = connect().score(TEXTS[:1], ["hazy", "blank"])
    assert statuses(scores) == [[Status.UNSURE] * 2]
    assert np.isnan(scores.p_yes).all()
    np.testing.assert_allclose(scores.p_neither, [[0.97, 1.0]], rtol=1e-6)


def test_the_floor_of_yes_and_no_can_be_lowered_but_nothing_stays_unsure(connect: Connect):
    scores = connect().score(TEXTS[:1], ["hazy", "blank"], Label(min_mass=0))
    assert statuses(scores) == [[Status.OK, Status.UNSURE]]
    assert scores.p_yes[0, 0] == pytest.approx(2 / 3)


# Servers that tell no probabilities


@pytest.mark.parametrize(
    ("said", "p_yes"),
    [
        ("Yes", 1.0),
        ("no.", 0.0),
        (' "YES", it does', 1.0),
        ("**No**", 0.0),
        ("__yes__", 1.0),
        ("Not at all", None),
        ("The text says yes", None),
        ("", None),
        (None, None),
    ],
)
def test_without_probabilities_the_first_word_counts(
    server: Server, connect: Connect, said: str | None, p_yes: float | None
):
    server.faults.append(Fault.says(said))
    scores = connect().score(TEXTS[:1], [WAIT])
    assert statuses(scores) == [[Status.UNPARSABLE if p_yes is None else Status.OK]]
    np.testing.assert_array_equal(scores.p_yes, np.float32([[np.nan if p_yes is None else p_yes]]))
    assert np.isnan(scores.p_neither).all()


def test_a_server_that_tells_no_probabilities_is_asked_for_a_few_words(server: Server, connect: Connect):
    server.mute, server.word = True, '"No"'
    scores = connect().score(TEXTS[:1], [WAIT])
    assert (scores.p_yes[0, 0], scores.usage.prompt) == (0.0, 10)
    assert [body["max_tokens"] for body in server.trials] == [1, 8]
    assert [(body["max_tokens"], "logprobs" in body) for body in server.bodies] == [(8, False)]


# What a server takes, found by asking once


def settings(body: dict) -> dict:
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


OFF = {"enable_thinking": False}


def test_a_server_that_refuses_logprobs_is_asked_without_from_then_on(server: Server, connect: Connect):
    server.most_logprobs, server.word = 0, "- yes"
    model = connect()
    assert model.score(TEXTS, [WAIT]).p_yes.tolist() == [[1.0], [1.0]]
    tried = [(body.get("top_logprobs"), body["max_tokens"]) for body in server.trials]
    assert tried == [(20, 1), (5, 1), (None, 8)]
    server.word = "well"
    assert statuses(model.score(TEXTS[:1], [WAIT])) == [[Status.UNPARSABLE]]
    assert [settings(body) for body in server.bodies] == [
        {"max_tokens": 8, "temperature": 0, "chat_template_kwargs": OFF}
    ] * 3
    assert len(server.trials) == 3


def test_a_server_that_refuses_20_logprobs_is_asked_for_5(server: Server, connect: Connect):
    server.most_logprobs = 5
    scores = connect().score(TEXTS, [WAIT])
    np.testing.assert_allclose(scores.p_yes, [[8 / 9], [0.25]], rtol=1e-6)
    assert [body["top_logprobs"] for body in server.trials] == [20, 5]
    assert [body["top_logprobs"] for body in server.bodies] == [5, 5]


@pytest.mark.parametrize(
    ("refuses", "left"),
    [
        (["chat_template_kwargs"], {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}),
        (["top_logprobs"], {"max_tokens": 8, "temperature": 0, "chat_template_kwargs": OFF}),
        (
            ["max_tokens", "seed", "temperature", "logprobs", "chat_template_kwargs"],
            {"max_completion_tokens": 8},
        ),
    ],
)
def test_parameters_that_a_server_refuses_are_found_by_asking_once(
    server: Server, connect: Connect, refuses: list[str], left: dict
):
    server.refuses, server.word = refuses, "yes"
    scores = connect(concurrency=16).score(TEXTS * 10, QUESTIONS)
    assert (scores.status == Status.OK).all()
    assert [settings(body) for body in server.bodies] == [left] * 40
    assert len(server.trials) <= 8


def test_a_reasoning_api_gets_room_to_think(server: Server, connect: Connect):
    server.refuses = ["max_tokens", "temperature", "seed", "logprobs", "chat_template_kwargs"]
    server.thinks, server.word = True, "Yes"
    model = connect()
    assert model.score(TEXTS, [WAIT]).p_yes.tolist() == [[1.0], [1.0]]
    assert [settings(body) for body in server.bodies] == [{"max_completion_tokens": 8 + 2048}] * 2
    (answer,) = model.generate([NamingPrompt(("a",), ("b",), sampling=Sampling(max_tokens=64))])
    assert (answer.text, settings(server.bodies[-1])) == (NAME, {"max_completion_tokens": 64 + 2048})


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("Argument not supported on this model: maxTokens", "max_completion_tokens"),
        ("{'loc': ['body', 'temperature'], 'type': 'extra_forbidden'}", "max_tokens"),
    ],
)
def test_refusals_name_parameters_in_many_ways(words: str, left: str):
    better = ChatApi().after_refusal(words)
    assert better is not None
    changed = ChatApi().harmless.keys() ^ better.harmless.keys()
    assert changed == {"temperature"} if left == "max_tokens" else {"max_tokens", left}


def test_a_refusal_that_names_nothing_costs_the_least_important_parameter(server: Server, connect: Connect):
    better = ChatApi().after_refusal("Invalid request")
    assert better is not None
    assert ChatApi().harmless.keys() - better.harmless.keys() == {"chat_template_kwargs"}


def test_what_is_asked_without_is_told(server: Server, connect: Connect, caplog: pytest.LogCaptureFixture):
    server.refuses = ["temperature", "logprobs"]
    connect().score(TEXTS, [WAIT])
    assert [record.getMessage() for record in caplog.records] == [
        f"{server.url}: model 'tiny' is asked without logprobs, temperature"
    ]


def test_a_refusal_of_everything_says_what_was_sent_and_what_to_change(server: Server, connect: Connect):
    server.broken = Fault.error(400, "this model takes no chat")
    with pytest.raises(ModelError) as caught:
        connect().score(TEXTS * 50, QUESTIONS)
    assert str(caught.value) == (
        f"{server.url}: model 'tiny': the server refuses every request, a harmless one too: 400 this model "
        "takes no chat. Sent were model, messages, max_tokens, then fewer. No answer is stored, so the same "
        "command works once the server, llm.endpoint.url or llm.model is changed"
    )
    assert server.bodies == []
    assert len(server.trials) <= 8


def test_a_refusal_that_only_quotes_the_request_changes_no_parameter(server: Server, connect: Connect):
    server.faults.append(Fault.error(400, "bad input: {'logprobs': True}"))
    scores = connect(concurrency=1).score(TEXTS, [WAIT])
    assert statuses(scores) == [[Status.FAILED], [Status.OK]]
    assert [body["top_logprobs"] for body in server.bodies] == [20, 20]


# Thinking


@pytest.mark.parametrize("place", ["reasoning_content", "reasoning", "content"])
def test_thought_is_handed_back_before_the_answer(server: Server, connect: Connect, place: str):
    server.thought_in = place
    scores = connect().score(TEXTS[:1], [WAIT], Label(thinking=True, thinking_tokens=77))
    assert scores.p_yes[0, 0] == pytest.approx(8 / 9)
    assert (scores.usage.prompt, scores.usage.generated) == (20, 2)
    thinking, answering = server.bodies
    question = {"role": "user", "content": label_prompt(TEXTS[0], WAIT)}
    assert (thinking["max_tokens"], thinking["messages"]) == (77, [question])
    assert (answering["max_tokens"], answering["logprobs"]) == (1, True)
    switched = [body["chat_template_kwargs"]["enable_thinking"] for body in (thinking, answering)]
    assert switched == [True, False]
    assert answering["messages"] == [
        question,
        {"role": "assistant", "content": THOUGHT},
        {"role": "user", "content": "Now answer with one word, Yes or No."},
    ]


def test_without_a_thought_the_question_is_asked_as_it_is(server: Server, connect: Connect):
    server.faults.append(Fault.says(None))
    scores = connect().score(TEXTS[:1], [WAIT], Label(thinking=True))
    assert statuses(scores) == [[Status.OK]]
    assert len(server.bodies[1]["messages"]) == 1


# Texts that do not fit, or cannot be sent


def room(question: str, for_text: int) -> int:
    """Characters of the longest prompt if a text may have so many."""
    return len(label_prompt("", question)) + for_text


def test_a_text_is_halved_until_it_fits(server: Server, connect: Connect):
    server.longest = room(WAIT, for_text=300)
    texts = ["wait " * 200, "x" * 996 + "wait", "no wait"]
    scores = connect().score(texts, [WAIT])
    assert statuses(scores) == [[Status.CUT], [Status.CUT], [Status.OK]]
    np.testing.assert_allclose(scores.p_yes[:, 0], [8 / 9, 0.25, 8 / 9], rtol=1e-6)
    assert len(server.bodies) == 3 + 3 + 1  # 1,000 (999), 500 and 250 characters


@pytest.mark.parametrize(("length", "requests"), [(100, 7), (30_000, 13)])
def test_a_text_that_never_fits_is_too_long(server: Server, connect: Connect, length: int, requests: int):
    server.longest = room(WAIT, for_text=0)
    scores = connect().score(["x" * length, ""], [WAIT])
    assert statuses(scores) == [[Status.TOO_LONG], [Status.OK]]
    assert np.isnan(scores.p_yes[0, 0])
    assert len(server.bodies) == requests + 1


@pytest.mark.parametrize(
    "refusal",
    [
        Fault.error(400, "Please reduce the length", code="context_length_exceeded"),
        Fault.error(400, "prompt is too long: 210000 tokens > 200000 maximum"),
        Fault.error(400, "the request exceeds the available context size"),
        Fault(422, '{"error": "`inputs` tokens + `max_new_tokens` must be <= 4096"}'),
        Fault(413, "<html>Request Entity Too Large</html>"),
    ],
)
def test_servers_say_too_long_in_many_ways(server: Server, connect: Connect, refusal: Fault):
    server.faults.append(refusal)
    assert statuses(connect().score(TEXTS[:1], [WAIT])) == [[Status.CUT]]


def test_a_text_of_more_than_8_characters_per_token_is_cut_before_it_is_sent(
    server: Server, connect: Connect
):
    scores = connect(llm={"max_model_len": 10}).score(["wait" + "x" * 100, " " * 100 + "x" * 80], [WAIT])
    assert statuses(scores) == [[Status.CUT], [Status.OK]]
    assert sorted(server.prompts) == [label_prompt("wait" + "x" * 76, WAIT), label_prompt("x" * 80, WAIT)]


def test_odd_characters_cost_their_own_pair_at_the_most(server: Server, connect: Connect):
    scores = connect().score(["\ud800 wait", "a\0wait", "wait \U0001f600"], [WAIT])
    assert statuses(scores) == [[Status.FAILED], [Status.OK], [Status.OK]]
    assert sorted(server.prompts) == sorted(
        label_prompt(text, WAIT) for text in ("a\0wait", "wait \U0001f600")
    )


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_request_costs_its_own_pair_and_is_told_once(
    server: Server, connect: Connect, caplog: pytest.LogCaptureFixture, status: int
):
    server.faults.extend([Fault.error(status, "bad words")] * 2)
    scores = connect(concurrency=1).score(TEXTS[:1], [WAIT, SOUP, WAIT])
    assert statuses(scores) == [[Status.FAILED, Status.FAILED, Status.OK]]
    assert np.isnan(scores.p_yes[0, :2]).all()
    assert [record.getMessage() for record in caplog.records] == [
        f"{server.url} refuses a request (further refusals are not logged): {status} bad words"
    ]


# Names


def test_generate_asks_for_a_name_with_its_sampling(server: Server, connect: Connect):
    sampling = Sampling(temperature=0.7, max_tokens=33, seed=5)
    (answer,) = connect().generate([NamingPrompt(("a wait",), ("none",), sampling=sampling)])
    assert (answer.text, answer.status) == (NAME, Status.OK)
    assert (answer.usage.prompt, answer.usage.cached, answer.usage.generated) == (10, 4, 1)
    assert answer.usage.seconds > 0
    asked = render_naming(NamingPrompt(("a wait",), ("none",)))
    assert server.bodies == [
        {
            "model": "tiny",
            "messages": [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": "Each text of group A"},
            ],
            "temperature": 0.7,
            "max_tokens": 33,
            "seed": 5,
            "continue_final_message": True,
            "add_generation_prompt": False,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]


@pytest.mark.parametrize("refused", ["continue_final_message", "add_generation_prompt", "seed"])
def test_an_answer_is_begun_only_where_the_server_goes_on_with_it(
    server: Server, connect: Connect, refused: str
):
    server.refuses = (refused,)
    model = connect()
    assert [answer.text for answer in model.generate([NAMING] * 3)] == [NAME] * 3
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    begun = refused == "seed"
    assert roles == [["user", "assistant"] if begun else ["user"]] * 3
    assert ["continue_final_message" in body for body in server.bodies] == [begun] * 3
    tried = [body for body in server.trials if len(body["messages"]) == 2]
    assert len(tried) == 1, "found out once"


def test_an_answer_is_not_begun_for_a_model_that_thinks_or_says_nothing_then(
    server: Server, connect: Connect
):
    thinking = NamingPrompt(("a wait",), ("none",), sampling=Sampling(thinking=True))
    connect().generate([thinking])
    server.silent_after_begun = True
    connect().generate([NAMING])
    assert [len(body["messages"]) for body in server.bodies] == [1, 1]


def test_each_prompt_has_a_status_of_its_own(server: Server, connect: Connect):
    server.faults.extend(
        [
            Fault.says("mentions a", finish="length"),
            Fault.error(400, "maximum context length", code="context_length_exceeded"),
            Fault.error(422, "no"),
            Fault.says(" "),
            Fault.says(None),
            Fault.says(None, finish="length"),
        ]
    )
    answers = connect(concurrency=1).generate([NAMING] * 7)
    assert [answer.status for answer in answers] == [
        Status.TRUNCATED,
        Status.TOO_LONG,
        Status.FAILED,
        Status.FAILED,
        Status.FAILED,
        Status.TRUNCATED,
        Status.OK,
    ]
    assert [answer.text for answer in answers] == ["mentions a", "", "", " ", "", "", NAME]
    assert connect().generate([]) == []


# Concurrency


def test_as_many_requests_are_in_flight_as_allowed(server: Server, connect: Connect):
    server.together = 4
    scores = connect(concurrency=4).score(TEXTS * 5, QUESTIONS)
    assert server.peak == 4
    assert (scores.status == Status.OK).all()


def test_threads_share_the_concurrency_of_an_object(server: Server, connect: Connect):
    server.together, server.patience_s = 4, 0.2  # a fourth request would be counted within that time
    model = connect(concurrency=3)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda text: model.score([text], QUESTIONS).p_yes[0, 0], TEXTS))
    assert server.peak <= 3
    assert found == pytest.approx([8 / 9, 0.25])


def test_seconds_that_two_calls_share_count_once(server: Server, connect: Connect):
    server.together = 2  # each call waits for the other, so their times overlap almost wholly
    model = connect(concurrency=2)
    model.generate([])
    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        seconds = list(threads.map(lambda text: model.score([text], [WAIT]).usage.seconds, TEXTS))
    assert 0 < sum(seconds) <= time.monotonic() - started


# Tries


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.error(status, "wait") for status in (408, 409, 425, 429, 500, 502, 503, 529)),
        Fault(body="<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
        Fault(body="not JSON"),
        Fault(body="null"),
        Fault(body="[]"),
        Fault(body='{"error": {"message": "overloaded"}}'),
        Fault(body='{"choices": []}'),
        Fault(body='{"choices": [{"message": null}]}'),
        Fault(body='{"choices": [{"message": {"content": 3}}]}'),
    ],
)
def test_what_may_pass_is_tried_again(server: Server, connect: Connect, waits: Waits, fault: Fault):
    server.faults.append(fault)
    assert connect().score(TEXTS[:1], [WAIT]).p_yes[0, 0] == pytest.approx(8 / 9)
    assert server.bodies[0] == server.bodies[1]
    assert len(waits) == 1
    assert 0 <= waits[0] <= 2


def test_silence_is_ended_and_tried_again(server: Server, connect: Connect):
    server.faults.append(Fault(silent=True))
    assert connect(timeout_s=2).score(TEXTS[:1], [WAIT]).p_yes[0, 0] == pytest.approx(8 / 9)


def test_a_text_that_meets_silence_is_asked_twice_and_costs_its_own_pair(server: Server, connect: Connect):
    server.bad["cold."] = Fault(silent=True)
    scores = connect(timeout_s=2).score(TEXTS * 3, [WAIT])
    assert statuses(scores) == [[Status.PENDING], [Status.OK]] * 3
    assert scores.reason.endswith("no answer of model 'tiny' in 2 tries; the last: no answer within 2 s")
    assert len(server.bodies) == 3 + 2 * 3


def test_waits_double_up_to_a_minute_with_jitter(server: Server, connect: Connect, waits: Waits):
    server.broken = BUSY
    with pytest.raises(TransientError, match="in 9 tries"):
        connect(tries=9).score(TEXTS[:1], [WAIT])
    longest = np.array([2, 4, 8, 16, 32, 60, 60, 60])
    assert len(waits) == 8
    assert (waits <= longest).all()
    assert len(set(waits / longest)) == 8


@pytest.mark.parametrize("broken", [None, BUSY])
def test_nothing_waits_long_for_the_last_pair_unless_the_server_is_gone(
    server: Server, connect: Connect, waits: Waits, broken: Fault | None
):
    model = connect(tries=30)
    model.score(TEXTS[:1], [WAIT])
    server.bad, server.broken = {"cold.": BUSY}, broken
    if broken:
        with pytest.raises(TransientError, match="503 busy"):
            model.score(TEXTS[:1], [WAIT])
    else:
        assert statuses(model.score(TEXTS[:1], [WAIT])) == [[Status.PENDING]]
    assert len(waits) == 29
    assert (max(waits) <= 2) == (broken is None)
    assert len(server.trials) == 3  # at first, for the waits, and for whose trouble it is


def test_retry_after_is_obeyed(server: Server, connect: Connect, waits: Waits):
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    for header in ("7", "0.5", past, "soon"):
        server.faults.append(Fault.error(429, "slow down", {"Retry-After": header}))
    connect().score(TEXTS[:1], [WAIT])
    assert waits[:3] == [7.0, 0.5, 0.0]
    assert 0 <= waits[3] <= 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 17.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("86400", 3600.0),
        ("1e999", 3600.0),
        ("-3", None),
        ("nan", None),
        (None, None),
    ],
)
def test_retry_after_is_read(header: str | None, seconds: float | None):
    assert retry_after(header, now=784111760.0) == seconds  # 08:49:20


def test_the_last_failure_is_told(server: Server, connect: Connect):
    server.faults.extend([Fault.error(429, "first"), Fault.error(500, "out of\n memory " + "x" * 300)])
    assert connect(tries=2).score(TEXTS[:1], [WAIT]).reason == (
        f"{server.url}: no answer of model 'tiny' in 2 tries; the last: 500 out of memory {'x' * 186}"
    )


def test_garbage_is_quoted(server: Server, connect: Connect):
    server.broken = Fault(body="<html>\n Bad gateway")
    with pytest.raises(TransientError, match=r"no chat completion: '<html> Bad gateway'"):
        connect(tries=1).generate([NAMING])


def test_a_server_that_is_not_there_is_told(connect: Connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(TransientError, match=f"{url}: no answer of model 'tiny' in 2 tries.*no connection: "):
        connect(url=url, tries=2).score(TEXTS, [WAIT])


# Whose trouble it is


BAD = {
    "error-body": Fault(body='{"error": {"message": "overloaded"}}'),
    "no-choices": Fault(body='{"choices": []}'),
    "refused": Fault.error(400, "bad words"),
    "busy": BUSY,
    "html": Fault(body="<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
    "silent": Fault(silent=True),
    "moderated": Fault.error(403, "your input was flagged"),
    "vanished": Fault.error(404, "no upstream"),
}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("kind", BAD)
def test_one_requests_trouble_is_one_pairs(server: Server, connect: Connect, kind: str, concurrency: int):
    server.bad = {kind: BAD[kind]}
    texts = [f"{kind} wait", f"a {kind}", *["a wait"] * 20]
    scores = connect(timeout_s=1, tries=3, concurrency=concurrency).score(texts, [WAIT])
    lacks = Status.FAILED if kind in ("refused", "moderated") else Status.PENDING
    assert statuses(scores) == [[lacks]] * 2 + [[Status.OK]] * 20
    np.testing.assert_allclose(scores.p_yes[2:, 0], 8 / 9, rtol=1e-6)
    assert scores.reason
    assert len(server.bodies) <= 20 + 2 * 3
    assert len(server.trials) <= 1 + 2 * 2


@pytest.mark.parametrize(
    ("broken", "kind"),
    [(BUSY, TransientError), (Fault.error(402, "no credit left"), ModelError)],
)
def test_when_the_server_ends_what_it_answered_is_kept(
    server: Server, connect: Connect, broken: Fault, kind: type[ModelError]
):
    model = connect(tries=2, concurrency=4)
    ended = threading.Thread(target=end, args=(server, broken, 4))
    server.raise_gate(10)
    ended.start()
    with pytest.raises(kind) as caught:
        model.score(TEXTS * 50, QUESTIONS)
    ended.join()
    answered = caught.value.answered
    assert type(caught.value) is kind
    assert answered is not None
    assert (answered.status == Status.OK).sum() == 14
    assert (answered.status == Status.UNASKED).sum() == 200 - 14
    assert answered.usage.prompt == 140
    assert len(server.bodies) < 30
    server.broken = None
    assert (model.score(TEXTS, QUESTIONS).status == Status.OK).all()


def end(server: Server, broken: Fault, at_once: int) -> None:
    """Break a server that so many requests wait for, after it has answered them."""
    server.wait_at_gate(at_once)
    server.broken = broken
    server.raise_gate(0)
    server.wait_at_gate(at_once)  # the client has the answers: it has sent the next ones
    server.raise_gate(10**6)


def test_a_rate_limit_is_never_one_pairs(server: Server, connect: Connect):
    server.bad["cold."] = Fault.error(429, "slow down")
    with pytest.raises(TransientError, match="429 slow down") as caught:
        connect(tries=2, concurrency=1).score(TEXTS[::-1], [WAIT])
    assert caught.value.answered is not None
    assert statuses(caught.value.answered) == [[Status.OK], [Status.UNASKED]]


def test_what_unsure_answers_begin_with_is_counted(server: Server, connect: Connect):
    scores = connect().score(TEXTS * 2, [*QUESTIONS, "blank"])
    assert scores.words == {"Well": 4}
    server.mute, server.word = True, "<think> well"
    assert connect().score(TEXTS, [WAIT]).words == {"<think>": 2}


# Refusals of everything, and the key


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch, status: int
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.broken = Fault.error(status, f"Incorrect API key: {KEY}, {KEY}")
    with pytest.raises(ModelError) as caught:
        connect(concurrency=1).score(TEXTS, [WAIT])
    assert not isinstance(caught.value, TransientError)
    assert str(caught.value) == (
        f"{server.url}: model 'tiny': the server refuses the key in $OPENAI_API_KEY: "
        "Incorrect API key: ***, ***"
    )
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert len(server.headers) == 1


@pytest.mark.parametrize("status", [404, 402, 405])
def test_what_no_try_can_mend_names_url_and_model(server: Server, connect: Connect, status: int):
    server.broken = Fault.error(status, "no such thing")
    with pytest.raises(ModelError, match=rf"{server.url}: model 'tiny': .*no such thing") as caught:
        connect(concurrency=1).generate([NAMING] * 3)
    assert not isinstance(caught.value, TransientError)
    assert len(server.headers) == 1


def test_the_key_is_in_no_message_log_or_repr(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    model = connect(key_env="MY_KEY", tries=1, concurrency=1)
    told = [repr(model), repr(vars(model)), repr(vars(model._client))]
    echo = "x" * 190 + KEY  # cut at 200 characters, half of the key would be left
    for fault in (Fault.error(500, echo), Fault(body=echo), Fault.error(401, echo), Fault.error(400, echo)):
        server.faults.append(fault)
        told.append(model.score(TEXTS[:1], [WAIT]).reason)
        server.broken = fault
        try:
            connect(key_env="MY_KEY", tries=1).score(TEXTS[:1], [WAIT])
        except ModelError as error:
            told.append("".join(traceback.format_exception(error)))
        server.broken = None
    assert len(told) == 3 + 2 * 4
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "sk-very" not in " ".join([*told, caplog.text])
    assert "HTTP Request" not in caplog.text
    assert "***" in caplog.text


def test_only_the_named_variable_holds_the_key(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.broken = Fault.error(401, "a key is needed")
    with pytest.raises(
        ModelError, match=r"refuses the key in \$MY_KEY \(which is not set\): a key is needed"
    ):
        connect(key_env="MY_KEY").score(TEXTS[:1], [WAIT])
    assert server.headers[0]["authorization"] == "Bearer none"


def test_the_query_of_the_url_is_sent_but_not_told(server: Server, connect: Connect):
    server.broken = Fault.error(500, "busy")
    with pytest.raises(TransientError) as caught:
        connect(url=f"{server.url}?api-version=7", tries=1).score(TEXTS[:1], [WAIT])
    assert str(caught.value).startswith(f"{server.url}: no answer")
    assert "api-version" not in str(caught.value)
    assert server.headers[0][":path"] == "/v1/chat/completions?api-version=7"


def test_a_key_that_no_header_can_hold_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(ModelError, match=r"^the key in \$OPENAI_API_KEY holds characters"):
        connect()


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_a_url_that_is_none_is_refused(connect: Connect, url: str):
    with pytest.raises(ConfigError, match=r"llm\.endpoint\.url is no http or https URL"):
        connect(url=url)


def test_without_its_section_the_engine_is_refused():
    with pytest.raises(ConfigError, match="needs a section"):
        EndpointModel(Llm())


@pytest.mark.parametrize("library", ["openai", "aiolimiter", "tenacity"])
def test_a_missing_library_is_named_with_the_extra(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, library: str
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=rf"needs {library}: pip install 'hypsae-ray\[endpoint\]'"):
        connect()


def test_a_closed_model_says_so(connect: Connect):
    model = connect()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.score(TEXTS, QUESTIONS)


# Rates


def test_replicas_share_the_rates(connect: Connect):
    rates = {"requests_per_minute": 120.0, "tokens_per_minute": 9000.0}
    several = connect(llm={"replicas": Replicas(min=1, max=3)}, **rates)._client
    here = connect(llm={"replicas": Replicas(min=0, max=0)}, **rates)._client
    assert (several._requests.per_minute, several._tokens.per_minute) == (40, 3000)
    assert (here._requests.per_minute, here._tokens.per_minute) == (120, 9000)


def test_limited_requests_pass(connect: Connect):
    model = connect(requests_per_minute=60_000, tokens_per_minute=60e6)
    assert (model.score(TEXTS, QUESTIONS).status == Status.OK).all()
    assert model.generate([NAMING])[0].usage + Usage() != Usage()
