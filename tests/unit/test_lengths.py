"""The token counts of `prompts.lengths` against a prefix cache that is played through, token by token."""

import itertools

import numpy as np
import pytest

from hypsae_ray.models.prompts.lengths import LAYOUTS, Estimate, Lengths, estimate


def play(lengths, layout):
    """Send every prompt through a cache of whole blocks; return all tokens and those found in the cache."""
    fresh = itertools.count()
    head = tuple(next(fresh) for _ in range(lengths.head))
    tail = tuple(next(fresh) for _ in range(lengths.tail))
    texts = [tuple(next(fresh) for _ in range(n)) for n in lengths.texts]
    questions = [tuple(next(fresh) for _ in range(n)) for n in lengths.questions]
    if layout == "text_first":
        prompts = [head + text + question + tail for text in texts for question in questions]
    else:
        prompts = [head + question + text + tail for question in questions for text in texts]
    seen, read = set(), 0
    for prompt in prompts:
        ends = range(lengths.block, len(prompt) + 1, lengths.block) if lengths.block else ()
        read += max((end for end in ends if prompt[:end] in seen), default=0)
        seen.update(prompt[:end] for end in ends)
    return sum(map(len, prompts)), read


def draw(rng, *, n, h, block):
    return Lengths(
        head=int(rng.integers(0, 40)),
        tail=int(rng.integers(1, 12)),
        texts=rng.integers(1, 60, size=n),
        questions=rng.integers(1, 25, size=h),
        block=block,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [0, 1, 3, 16, 32, 500])
def test_cached_tokens_are_those_that_a_cache_finds(block, layout):
    rng = np.random.default_rng(block)
    for n, h in [(1, 1), (1, 5), (5, 1), (7, 4), (3, 9)]:
        lengths = draw(rng, n=n, h=h, block=block)
        assert (lengths.prompts, lengths.cached(layout)) == play(lengths, layout)
        assert lengths.pairs == n * h


def test_without_texts_or_questions_nothing_is_asked():
    for n, h in [(0, 4), (4, 0), (0, 0)]:
        lengths = draw(np.random.default_rng(0), n=n, h=h, block=16)
        assert (lengths.pairs, lengths.prompts) == (0, 0)


@pytest.mark.parametrize(
    ("text", "question", "block", "cheaper"),
    [
        (300, 15, 16, "text_first"),  # reviews
        (6, 24, 16, "question_first"),  # headlines, shorter than the questions
        (6, 24, 0, "text_first"),  # without a cache both take the same
    ],
)
def test_the_longer_part_comes_first(text, question, block, cheaper):
    texts, questions = np.full(20, text), np.full(20, question)
    lengths = Lengths(head=40, tail=15, texts=texts, questions=questions, block=block)
    assert lengths.cheaper == cheaper
    other = next(layout for layout in LAYOUTS if layout != cheaper)
    assert play(lengths, cheaper)[1] >= play(lengths, other)[1]


def test_with_few_questions_long_ones_still_come_second():
    # Each of 50 headlines is asked once: only question_first repeats anything but the head.
    lengths = Lengths(head=0, tail=5, texts=np.full(50, 40), questions=np.array([32]), block=16)
    assert lengths.cheaper == "question_first"
    assert lengths.cached("question_first") == 49 * 32


def test_an_estimate_scales_with_the_pairs():
    # Three prompts of 10 + 25 + 4 + 5 tokens; the second and the third read two blocks of 16.
    sample = Lengths(head=10, tail=5, texts=np.array([25]), questions=np.array([4, 4, 4]), block=16)
    assert estimate(sample, 3, "text_first") == Estimate(3, 132, 132 - 64)
    assert estimate(sample, 3000, "text_first") == Estimate(3000, 132_000, 68_000)
    assert estimate(sample, 0, "text_first") == Estimate(0, 0, 0)


def test_what_is_asked_beside_the_pairs_is_counted_in_tokens_but_not_in_pairs():
    # The same three prompts, of which the third labels nothing.
    questions = np.array([4, 4, 4])
    sample = Lengths(head=10, tail=5, texts=np.array([25]), questions=questions, block=16, n_guards=1)
    assert sample.pairs == 2
    assert estimate(sample, 2000, "text_first") == Estimate(2000, 132_000, 68_000)


def test_an_estimate_of_one_sample_for_all_is_what_all_take():
    rng = np.random.default_rng(5)
    small = Lengths(head=30, tail=6, texts=rng.integers(5, 60, 4), questions=rng.integers(4, 20, 6), block=16)
    whole = Lengths(30, 6, np.tile(small.texts, 50), small.questions, 16)
    tokens, read = play(whole, "text_first")
    guess = estimate(small, whole.pairs, "text_first")
    assert guess.prompt_tokens == tokens
    assert guess.computed_tokens == pytest.approx(tokens - read, rel=0.02)  # only the texts' beginnings


def test_an_empty_sample_says_nothing():
    nothing = Lengths(head=3, tail=3, texts=np.array([], int), questions=np.array([4]), block=16)
    assert estimate(nothing, 7, "question_first") == Estimate(7, 0, 0)
