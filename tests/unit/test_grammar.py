import re

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from hypsae_ray.demo import grammar


@pytest.fixture(scope="module")
def demo() -> grammar.Demo:
    return grammar.generate(n_train=1500, n_holdout=500, seed=3)


@pytest.fixture(scope="module")
def all_texts(demo: grammar.Demo) -> pd.DataFrame:
    return pd.concat([demo.train, demo.holdout], ignore_index=True)


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!]) ", text)


def _f1(predicted: np.ndarray, true: np.ndarray) -> float:
    return 2 * (predicted & true).sum() / (predicted.sum() + true.sum())


def _keyword_f1(words: np.ndarray, true: np.ndarray, n_terms: int) -> float:
    """F1 of "holds any of the terms", the terms taken greedily from the first half, scored on the second."""
    half = len(words) // 2
    fires, found = np.zeros(half, bool), []
    for _ in range(n_terms):
        scores = [_f1(fires | words[:half, j], true[:half]) for j in range(words.shape[1])]
        found.append(int(np.argmax(scores)))
        fires |= words[:half, found[-1]]
    return _f1(words[half:, found].any(axis=1), true[half:])


def test_the_same_seed_gives_the_same_data_and_another_seed_does_not():
    first, again, other = (grammar.generate(20, 10, seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.train, again.train)
    pd.testing.assert_frame_equal(first.truth, again.truth)
    assert set(first.train["text"]).isdisjoint(other.train["text"])


def test_the_splits_hold_only_id_text_and_stars(demo):
    for split, size in ((demo.train, 1500), (demo.holdout, 500)):
        assert list(split.columns) == ["id", "text", "stars"]
        assert len(split) == size
    assert set(demo.train["stars"]) == {1, 2, 3, 4, 5}


def test_truth_has_one_row_per_text_of_both_splits_in_their_order(demo, all_texts):
    assert demo.truth["id"].is_unique
    assert list(demo.truth["id"]) == list(all_texts["id"])
    assert list(demo.truth.columns) == ["id", *demo.concepts["concept"]]


def test_a_dozen_concepts_within_the_stated_ranges(demo):
    concepts = demo.concepts
    assert len(concepts) == 12
    assert concepts["prevalence"].between(0.06, 0.25).all()
    assert concepts["effect"].between(-1.2, 1.0).all()
    assert (concepts["effect"].abs() >= 0.25).all()
    assert (concepts["effect"] > 0).sum() >= 4
    assert (concepts["effect"] < 0).sum() >= 4
    assert all(len(concept.templates) >= 8 for concept in grammar.read().concepts)


def test_texts_hardly_repeat_and_have_two_to_seven_sentences(all_texts):
    counts = all_texts["text"].map(lambda text: len(_sentences(text)))
    assert all_texts["text"].duplicated().mean() < 0.005
    assert counts.min() == 2
    assert (counts <= 7).mean() > 0.998


def test_no_slot_is_left_open_and_articles_agree(all_texts):
    assert not all_texts["text"].str.contains(r"[{}]").any()
    assert not all_texts["text"].str.contains(r"\b[Aa] [aeiou]").any()


def test_concepts_occur_as_often_as_planted_and_independently():
    grid = grammar.read()
    present = grammar.draw_concepts(grid, 40_000, np.random.default_rng(0))
    planted = np.array([concept.prevalence for concept in grid.concepts])
    # 40,000 draws: a share of 0.2 has a standard error of 0.002, a correlation one of 0.005.
    assert np.abs(present.mean(axis=0) - planted).max() < 0.01
    correlation = np.corrcoef(present.T) - np.eye(len(planted))
    assert np.abs(correlation).max() < 0.03


def test_a_regression_on_the_truth_finds_about_95_percent_of_each_effect():
    grid = grammar.read()
    rng = np.random.default_rng(1)
    present = grammar.draw_concepts(grid, 60_000, rng)
    stars = grammar.rate(grid, present, rng)
    design = np.column_stack([np.ones(len(stars)), present])
    found = np.linalg.lstsq(design, stars, rcond=None)[0][1:]
    ratio = found / np.array([concept.effect for concept in grid.concepts])
    assert ratio.min() > 0.90
    assert ratio.max() < 0.99
    # Clipping is rare: 1 and 5 stars hold little more than what rounding alone would put there.
    assert np.isin(stars, (1, 5)).mean() < 0.2


def test_six_words_tell_each_concept(demo, all_texts):
    counts = CountVectorizer(binary=True, stop_words="english", min_df=20).fit_transform(all_texts["text"])
    words = counts.toarray().astype(bool)
    for name in demo.concepts["concept"]:
        true = demo.truth[name].to_numpy(dtype=bool)
        assert _keyword_f1(words, true, n_terms=6) >= 0.8, name


def test_every_text_mentions_its_concepts_and_no_other():
    grid = grammar.read()
    marks = {
        "parking trouble": r"park|lot\b",
        "vegan options": r"vegan|plant-based",
        "live music": r"\blive\b",
    }
    rng = np.random.default_rng(2)
    for name, pattern in marks.items():
        one = np.array(grid.names) == name
        held = [grammar.write_text(grid, one, rng) for _ in range(100)]
        others = [grammar.write_text(grid, ~one, rng) for _ in range(100)]
        assert all(re.search(pattern, text, re.IGNORECASE) for text in held)
        assert not any(re.search(pattern, text, re.IGNORECASE) for text in others)


def test_write_leaves_four_files_that_read_back_the_same(demo, tmp_path):
    grammar.write(demo, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    for name, split in (("train", demo.train), ("holdout", demo.holdout)):
        back = pd.read_json(folder / f"{name}.jsonl", lines=True)
        assert back.to_dict("records") == split.to_dict("records")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "truth.parquet"), demo.truth)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "concepts.parquet"), demo.concepts)


def test_of_two_reviews_the_one_with_more_stars_is_chosen():
    stars = [5, 1, 2, 4, *[3, 3] * 200, 5]
    reviews = pd.DataFrame({"id": range(405), "text": [f"text {i}" for i in range(405)], "stars": stars})
    pairs = grammar.pair_up(reviews, np.random.default_rng(0))
    assert pairs.iloc[:2].to_numpy().tolist() == [[0, "text 0", "text 1", 1], [2, "text 2", "text 3", 0]]
    assert len(pairs) == 202  # the last review has no partner
    assert abs(pairs["chosen"][2:].mean() - 0.5) < 4 * np.sqrt(0.25 / 200)
