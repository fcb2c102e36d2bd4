"""Near copies, against the Jaccard similarity of sets of shingles that Python makes."""

import re

import numpy as np
import pytest

from hypsae_ray.core.near_copies import MIN_SHINGLES, N_HASHES, CopyIndex, MinHash, band_width

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


def test_signatures_estimate_the_jaccard_similarity():
    rng = np.random.default_rng(1)
    originals = made_up(rng, 200, 100)
    copies = [
        edited(rng, words, changes) for words, changes in zip(originals, np.arange(200) % 15, strict=True)
    ]
    hashes = MinHash.draw(np.random.default_rng(0))
    texts, others = [" ".join(w) for w in originals], [" ".join(w) for w in copies]
    (enough, one), (_, other) = hashes.sign(texts), hashes.sign(others)
    assert enough.all()
    exact = np.array([jaccard(a, b) for a, b in zip(texts, others, strict=True)])
    assert exact.min() < 0.45
    error = (one == other).mean(axis=1) - exact
    expected = np.sqrt((exact * (1 - exact)).mean() / N_HASHES)  # of independent entries
    assert np.sqrt((error**2).mean()) == pytest.approx(expected, rel=0.15)
    assert abs(error.mean()) < 4 * expected / np.sqrt(200)


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


def test_many_copies_of_one_text_are_compared_in_parts():
    text = " ".join(made_up(np.random.default_rng(5), 1, 20)[0])
    assert index_of([text] * 3_000).find([text] * 50).all()  # 150,000 pairs in one band


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


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 0.95, 0.99])
def test_bands_miss_few_copies_at_the_threshold(threshold: float):
    width = band_width(threshold)
    rng = np.random.default_rng(6)
    agree = rng.random((20_000, N_HASHES // width, width)) < threshold
    missed = ~agree.all(axis=2).any(axis=1)
    assert missed.mean() < 0.002
