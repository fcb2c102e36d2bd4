"""Near copies, against the Jaccard similarity of sets of shingles that Python makes."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.sparse as sp

from hypsae_ray.data.near_copies import MIN_SHINGLES, N_HASHES, CopyIndex, Hashes, shingles, similarity

WORDS = np.array([f"word{i}" for i in range(5_000)])


def made_up(rng: np.random.Generator, n: int, length: int) -> list[list[str]]:
    return [list(rng.choice(WORDS, length)) for _ in range(n)]


def edited(rng: np.random.Generator, words: list[str], changes: int) -> list[str]:
    """The words with some of them, far apart, replaced."""
    changed = list(words)
    for place in np.linspace(2, len(words) - 3, changes).astype(int):
        changed[place] = f"new{rng.integers(1_000_000)}"
    return changed


def jaccard(one: str, other: str) -> float:
    first, second = (set(re.findall(r"(?=\b(\w+ \w+ \w+)\b)", text)) for text in (one, other))
    return len(first & second) / len(first | second)


def index_of(texts: list[str], threshold: float = 0.8) -> CopyIndex:
    index = CopyIndex(threshold, np.random.default_rng(0))
    index.add(texts)
    return index


def jaccards(one: list[str], other: list[str]) -> np.ndarray:
    return np.array([jaccard(a, b) for a, b in zip(one, other, strict=True)])


def edited_more_and_more(rng: np.random.Generator, n: int, length: int) -> tuple[list[str], list[str]]:
    originals = made_up(rng, n, length)
    steps = np.arange(n) % 15 * length // 100
    copies = [edited(rng, words, changes) for words, changes in zip(originals, steps, strict=True)]
    return [" ".join(words) for words in originals], [" ".join(words) for words in copies]


def test_entries_of_signatures_agree_with_the_jaccard_similarity_as_probability():
    texts, copies = edited_more_and_more(np.random.default_rng(1), 200, 100)
    hashes, exact = Hashes(np.random.default_rng(0)), jaccards(texts, copies)
    assert exact.min() < 0.45
    agree = (hashes.sign(shingles(texts)) == hashes.sign(shingles(copies))).mean(axis=1)
    error = agree - (exact + (1 - exact) / 256)  # bytes of others agree by chance
    expected = np.sqrt((exact * (1 - exact)).mean() / N_HASHES)  # of independent entries
    assert np.sqrt((error**2).mean()) == pytest.approx(expected, rel=0.15)
    assert abs(error.mean()) < 4 * expected / np.sqrt(200)


@pytest.mark.parametrize(
    ("length", "level", "off"), [(40, 0, 0.012), (100, 0, 0.015), (900, 0, 0.02), (3_000, 2, 0.025)]
)
def test_sketches_estimate_the_jaccard_similarity(length: int, level: int, off: float):
    texts, copies = edited_more_and_more(np.random.default_rng(1), 60, length)
    hashes, levels = Hashes(np.random.default_rng(0)), np.full(60, level)
    one, other = (hashes.sketch(shingles(some), levels) for some in (texts, copies))
    exact = jaccards(texts, copies)
    near = exact > 0.7
    error = (similarity(*one, *other) - exact)[near]
    assert np.sqrt((error**2).mean()) < off
    assert abs(error.mean()) < off / 2
    if length == 40:
        assert (np.abs(error) < 1e-12).mean() > 0.9


@pytest.mark.parametrize(("changes", "flagged"), [(0, True), (1, True), (2, True), (12, False), (20, False)])
def test_known_edits(changes: int, flagged: bool):
    rng = np.random.default_rng(2)
    originals = made_up(rng, 300, 100)
    copies = [" ".join(edited(rng, words, changes)) for words in originals]
    # 98 shingles, of which each change takes 3: Jaccard 1, 0.94, 0.88, 0.46, 0.24
    assert jaccard(" ".join(originals[0]), copies[0]) == pytest.approx(
        (98 - 3 * changes) / (98 + 3 * changes)
    )
    found = index_of([" ".join(words) for words in originals]).find(copies)
    assert found.mean() == pytest.approx(float(flagged), abs=0.02)  # 0.88 is 2.9 standard errors above 0.8


def test_unrelated_texts_are_no_copies_and_case_and_signs_do_not_matter():
    rng = np.random.default_rng(3)
    known = [" ".join(words) for words in made_up(rng, 2_000, 40)]
    index = index_of(known)
    assert not index.find([" ".join(words) for words in made_up(rng, 2_000, 40)]).any()
    assert index.find([text.upper().replace(" ", ", ") + "!" for text in known[:100]]).all()


def test_texts_added_later_and_in_parts_are_found():
    rng = np.random.default_rng(4)
    known = [" ".join(words) for words in made_up(rng, 2_500, 20)]  # more than are hashed at a time
    index = index_of(known[:10])
    assert index.find(known).sum() == 10
    index.add(known[10:])
    assert index.find(known).all()


def test_each_of_many_equal_texts_will_do():
    text = " ".join(made_up(np.random.default_rng(5), 1, 20)[0])
    assert index_of([text] * 3_000).find([text] * 50).all()


def test_short_texts_are_never_near_copies():
    words = [f"w{i}" for i in range(MIN_SHINGLES + 2)]
    long_enough, short = " ".join(words), " ".join(words[:-1])
    assert index_of([long_enough, short]).find([long_enough, short, "", "of"]).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_nothing_to_compare_with():
    index = CopyIndex(0.8, np.random.default_rng(0))
    assert index.find(["one two three four five six seven eight nine"]).tolist() == [False]
    index.add([])
    assert index.find([]).tolist() == []


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95])
def test_copies_just_above_the_threshold_are_found_among_unrelated_texts(threshold: float):
    rng = np.random.default_rng(6)
    originals = made_up(rng, 1_000, 120)
    copies = [edited(rng, words, round(118 * (1 - threshold) / (1 + threshold) / 3)) for words in originals]
    known, queries = ([" ".join(words) for words in some] for some in (originals, copies))
    least = jaccards(known, queries).min() - 0.06  # three standard errors
    assert index_of(known, least).find(queries).mean() > 0.998


def filled_in(rng: np.random.Generator, n: int, words: int, values: int) -> Iterator[str]:
    """Texts of one template with three slots."""
    text = [f"t{i}" for i in range(words)]
    slots = np.linspace(3, words - 4, 3).astype(int)
    fills = rng.integers(0, values, (n, 3))
    for fill in fills:
        for slot, value in zip(slots, fill, strict=True):
            text[slot] = f"s{slot}v{value}"
        yield " ".join(text)


def most_alike(known: list[str], queries: list[str]) -> np.ndarray:
    """The largest Jaccard similarity of each query and a known text, (n,), from all pairs."""
    a, b = shingles(known), shingles(queries)
    both = np.intersect1d(a.indices, b.indices)

    def counted(sets: sp.csr_matrix) -> np.ndarray:
        inside = np.isin(sets.indices, both)
        rows = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))[inside]
        dense = np.zeros((sets.shape[0], len(both)), dtype=np.float32)
        dense[rows, np.searchsorted(both, sets.indices[inside])] = 1
        return dense

    shared = counted(b) @ counted(a).T
    return (shared / (np.diff(a.indptr) + np.diff(b.indptr)[:, None] - shared)).max(axis=1)


@pytest.mark.parametrize(
    ("words", "values", "copies"),
    [
        (40, 5, (0.99, 1.0)),  # nearly all have a copy with two equal slots
        (40, 300, (0.02, 0.2)),  # few have
        (64, 30_000, (0.1, 0.3)),  # the template alone makes 0.75
        (100, 10**6, (1.0, 1.0)),  # the template alone makes a copy
        (30, 10**6, (0.0, 0.0)),  # it does not by far
    ],
)
def test_templated_texts_are_judged_as_by_all_pairs(words: int, values: int, copies: tuple[float, float]):
    rng = np.random.default_rng(8)
    known, queries = (list(filled_in(rng, 1_500, words, values)) for _ in range(2))
    best = most_alike(known, queries)
    found = index_of(known).find(queries)
    assert copies[0] <= (best >= 0.8).mean() <= copies[1]
    assert found[best >= 0.8].sum() >= 0.98 * (best >= 0.8).sum()
    # Two of twelve shingles that are not shared may hide each other: then 0.727 reads 0.767, 0.758 reads 0.8.
    assert found[best < 0.8].sum() <= 0.1 * (best < 0.8).sum()
    assert not found[best < 0.7].any()


def test_a_text_without_spaces_is_compared_by_its_characters():
    rng = np.random.default_rng(9)
    for first, last in ((0x4E00, 0x9FFF), (0x3041, 0x3096), (0x0E01, 0x0E2E)):  # Han, kana, Thai
        letters = [chr(code) for code in range(first, last + 1)]
        known = ["".join(rng.choice(letters, 60)) for _ in range(100)]
        copies = [f"{text[:30]}{letters[0]}{text[31:]}" for text in known]  # 55 of 61 shingles
        assert index_of(known).find(copies).all()
        assert not index_of(known).find(["".join(rng.choice(letters, 60)) for _ in range(100)]).any()


def test_mixed_scripts_and_long_texts_are_compared_too():
    rng = np.random.default_rng(10)
    mixed = "我买了 iPhone 15 Pro 手机, 电池 battery life 很好"
    assert index_of([mixed]).find([mixed.replace(",", "，") + "！"]).all()
    novels = made_up(rng, 3, 20_000)
    copies = [" ".join(edited(rng, words, 300)) for words in novels]
    index = index_of(["one two three four five six seven eight nine", *(" ".join(words) for words in novels)])
    assert index.find([*copies, "One two three four five six seven eight nine."]).all()
    assert not index.find([" ".join(words) for words in made_up(rng, 3, 20_000)]).any()
