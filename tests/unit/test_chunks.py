"""Documents in chunks, and back: boundaries and combined labels worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from scipy.stats import binom

from hypsae_ray.config import Chunk, Data
from hypsae_ray.data.chunks import (
    CHUNKS,
    by_document,
    chunk_ids,
    combine_activations,
    combine_labels,
    combine_vectors,
    documents_of,
    rows_of_documents,
    split_document,
    split_text,
    split_texts,
    starts_of,
    to_chunks,
    to_texts,
)
from hypsae_ray.errors import InputError
from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.labels.read import DocumentLabels, StoredLabels
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.stats.regression.design import make_design
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.linear import sum_moments
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import annotations

NO = np.nan


@pytest.mark.parametrize(
    ("text", "words", "overlap", "chunks"),
    [
        ("a b c d e", 2, 0, ["a b", "c d", "e"]),
        ("a b c d e", 3, 1, ["a b c", "c d e"]),
        ("a b c d e f", 3, 1, ["a b c", "c d e", "e f"]),
        ("a b c d e f", 4, 3, ["a b c d", "b c d e", "c d e f"]),
        (" a  b ", 2, 1, [" a  b "]),
        ("a  b\nc. d", 2, 0, ["a  b", "c. d"]),
        ("菜很好吃", 3, 1, ["菜很好", "好吃"]),
        ("กำลัง", 2, 0, ["กำ", "ลั", "ง"]),
    ],
)
def test_boundaries(text, words, overlap, chunks):
    if text == "กำลัง":  # a mark above is no word: it stays with its letter
        assert "".join(split_text(text, words, overlap)) == text
    else:
        assert split_text(text, words, overlap) == chunks


def test_no_word_is_lost_and_each_chunk_adds_some():
    for n in range(1, 60):
        said = [f"w{i}" for i in range(n)]
        chunks = [chunk.split() for chunk in split_text(" ".join(said), 7, 3)]
        assert chunks[0] + [word for chunk in chunks[1:] for word in chunk[3:]] == said
        assert all(len(chunk) == 7 for chunk in chunks[:-1])
        assert len(chunks) == 1 or 3 < len(chunks[-1]) <= 7


def test_texts_know_their_chunks():
    chunks, position = split_texts(["a b c", "d", "e f"], Chunk(words=2, overlap=0))
    assert (chunks, position.tolist()) == (["a b", "c", "d", "e f"], [0, 0, 1, 2])


@pytest.mark.parametrize(
    ("text", "chunk", "chunks"),
    [
        ("It rained. We left!\n\nOK", Chunk(sentences=1), ["It rained.", "We left!", "OK"]),
        ("It rained. We left!\n\nOK", Chunk(sentences=2), ["It rained. We left!", "OK"]),
        ("We paid 3.5 to Mr. Hill. Fine.", Chunk(sentences=1), ["We paid 3.5 to Mr. Hill.", "Fine."]),
        ("a b c d eat. We go.", Chunk(sentences=1, words=3, overlap=1), ["a b c", "c d eat.", "We go."]),
        ("今日は。元気ですか？はい", Chunk(sentences=1), ["今日は。", "元気ですか？", "はい"]),
        ("Das ist z.B. gut. Ja.", Chunk(sentences=1, language="de"), ["Das ist z.B. gut.", "Ja."]),
        ("no end", Chunk(sentences=3, language="xx"), ["no end"]),
    ],
)  # fmt: skip
def test_sentences(text, chunk, chunks):
    assert split_document(text, chunk) == chunks


def test_documents_that_are_labelled_whole_are_there_twice():
    documents = pd.DataFrame(
        {"row_id": [3, 8], "text": ["We ate. They left.", "Good."], "target": [0.5, 2.0]}
    )
    options = Data(train="t", holdout="h", target="y", chunk=Chunk(sentences=1, labels="whole"))
    trained = to_texts(documents, options, "train")
    assert list(trained) == ["train"]
    assert trained["train"]["text"].tolist() == ["We ate.", "They left.", "Good."]
    held_out = to_texts(documents, options, "holdout")
    whole, chunks = held_out["holdout"], held_out["holdout_chunks"]
    assert whole["text"].tolist() == ["We ate. They left.", "Good."]
    assert whole["row_id"].tolist() == [3 * CHUNKS, 8 * CHUNKS]
    assert chunks["row_id"].tolist() == [3 * CHUNKS, 3 * CHUNKS + 1, 8 * CHUNKS]
    assert chunks["target"].tolist() == [0.5, 0.5, 2.0]
    assert rows_of_documents(chunks["row_id"].to_numpy(), whole["row_id"].to_numpy()[:1]).tolist() == [0, 1]


def test_a_chunk_has_all_that_its_document_has():
    documents = pd.DataFrame(
        {
            "row_id": [3, 8],
            "text": ["a b c", "d"],
            "target": [0.5, 2.0],
            "weight": [1.0, 4.0],
            "group": ["x", "y"],
        },
        index=[10, 20],
    )
    chunks = to_chunks(documents, Chunk(words=2, overlap=0))
    assert chunks["text"].tolist() == ["a b", "c", "d"]
    assert chunks["target"].tolist() == [0.5, 0.5, 2.0]
    assert chunks["weight"].tolist() == [1.0, 1.0, 4.0]
    assert chunks["group"].tolist() == ["x", "x", "y"]
    assert documents_of(chunks["row_id"].to_numpy()).tolist() == [3, 3, 8]
    assert chunks["row_id"].is_unique and chunks["text_id"].is_unique


def test_more_chunks_than_places_are_refused():
    with pytest.raises(InputError, match="more than"):
        chunk_ids(np.array([0]), np.array([1 << 24]))


def test_starts():
    assert starts_of(np.array([4, 4, 5, 9, 9])).tolist() == [0, 2, 3]
    assert starts_of(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("rule", "labels", "doses"),
    [
        # Of three documents: two chunks no and yes; no and unknown; yes and two unknown. The fourth: all no.
        ("any", [1, NO, 1, 0], [1, NO, 1, 0]),
        ("max", [1, NO, 1, 0], [0.9, NO, 0.8, 0.3]),
        ("mean", [1, 0, NO, 0], [0.5, 0, NO, 0]),
    ],
)
def test_labels_of_documents(rule, labels, doses):
    p_yes = np.array([[0.2, 0.9, 0.1, NO, 0.8, NO, NO, 0.3, 0.1, 0.2]]).T
    chunks = np.where(np.isnan(p_yes), NO, p_yes >= 0.5)
    found = combine_labels(chunks, p_yes, np.array([0, 2, 4, 7]), rule)
    np.testing.assert_allclose(found[0][:, 0], labels)
    np.testing.assert_allclose(found[1][:, 0], doses)


def test_labels_of_pairs():
    p_yes = np.array([[0.9, 0.1, 0.1, 0.8, 0.7, 0.6, NO, 0.9]]).T
    texts = np.where(np.isnan(p_yes), NO, p_yes >= 0.5)
    for found in combine_labels(texts, p_yes, np.array([0, 2, 4, 6]), "difference"):
        np.testing.assert_array_equal(found[:, 0], [1, -1, 0, NO])


def test_a_pair_becomes_its_two_texts():
    pairs = pd.DataFrame(
        {
            "row_id": [3, 8],
            "text": ["a", "c"],
            "text_b": ["b", "a"],
            "target": [1.0, 0.0],
            "group": ["x", "y"],
        },
        index=[10, 20],
    )
    options = Data(train="t", holdout="h", text_a="a", text_b="b", target="y")
    texts = to_texts(pairs, options, "holdout")["holdout"]
    assert texts["text"].tolist() == ["a", "b", "c", "a"]
    assert texts["target"].tolist() == [1, 1, 0, 0]
    assert texts["group"].tolist() == ["x", "x", "y", "y"]
    assert texts["text_id"].nunique() == 3
    assert texts["row_id"].tolist() == [3 * CHUNKS, 3 * CHUNKS + 1, 8 * CHUNKS, 8 * CHUNKS + 1]
    assert texts.index.tolist() == [10, 10, 20, 20]


def test_activations_and_vectors_of_documents():
    fired = sp.csr_matrix(np.array([[1.0, 0, 0], [3, 2, 0], [0, 0, 0], [0, 4, 0]]))
    starts = np.array([0, 2, 3])
    assert combine_activations(fired, starts, "any").toarray().tolist() == [[3, 2, 0], [0, 0, 0], [0, 4, 0]]
    assert combine_activations(fired, starts, "mean").toarray().tolist() == [[2, 1, 0], [0, 0, 0], [0, 4, 0]]
    rows, by_row = by_document(np.array([5, 5, 7, 9]) * CHUNKS + [0, 1, 0, 0], fired, "max")
    assert rows.tolist() == [5 * CHUNKS, 7 * CHUNKS, 9 * CHUNKS]
    assert by_row.toarray().tolist() == [[3, 2, 0], [0, 0, 0], [0, 4, 0]]
    vectors = np.array([[1, 3], [3, 5], [0, 1], [2, 2]], dtype=np.float32)
    assert combine_vectors(vectors, starts, "mean").tolist() == [[2, 4], [0, 1], [2, 2]]


def test_activations_and_vectors_of_pairs():
    fired, starts = sp.csr_matrix(np.array([[1.0, 0, 5], [3, 2, 5], [0, 0, 0], [0, 4, 0]])), np.array([0, 2])
    assert combine_activations(fired, starts, "difference").toarray().tolist() == [[-2, -2, 0], [0, -4, 0]]
    vectors = np.array([[1, 3], [3, 5], [0, 1], [2, 2]], dtype=np.float32)
    assert combine_vectors(vectors, starts, "difference").tolist() == [[-2, -2], [-2, -1]]


def store(folder: Path, row_ids: np.ndarray, p_yes: np.ndarray, sizes: list[int]) -> StoredLabels:
    """Write annotations (n, H) as files of the given sizes, all of them usable."""
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        one = p_yes[start:end].astype(np.float32)
        columns = to_columns(Annotations(one, np.zeros_like(one), np.zeros(one.shape, dtype=np.int8)))
        table = {"row_id": pa.array(row_ids[start:end]), **columns}
        Folder.at(folder).write_table(
            f"annotations-{start:05d}.parquet", pa.table(table, schema=annotations(p_yes.shape[1]))
        )
    return StoredLabels(Folder.at(folder), 0.5)


def test_a_document_may_stand_in_several_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    documents = np.repeat([2, 3, 7, 8], [1, 6, 2, 3])
    ids = chunk_ids(documents, np.concatenate([np.arange(n) for n in (1, 6, 2, 3)]))
    p_yes = rng.random((12, 3))
    (found,) = DocumentLabels(store(tmp_path, ids, p_yes, [3, 1, 2, 4, 2]), "any").blocks()
    by_hand = pd.DataFrame(p_yes >= 0.5).groupby(documents).max().astype(float)
    np.testing.assert_array_equal(found, by_hand)


@pytest.mark.parametrize("rule", ["any", "mean"])
def test_a_true_null_is_rejected_at_its_level(tmp_path: Path, rule):
    """Chunks of a document share its target and its liking for a property."""
    rng, n_tests = np.random.default_rng(1), 200
    documents, places = np.repeat(np.arange(100), 8), np.tile(np.arange(8), 100)
    liking = rng.beta(0.3, 1.2, (100, n_tests))[documents]
    p_yes = np.where(rng.random((800, n_tests)) < liking, 0.9, 0.1)
    stored = store(tmp_path, chunk_ids(documents, places), p_yes, [800])
    (doses,) = DocumentLabels(stored, rule, doses=True).blocks()
    rejected = 0
    (labels,) = DocumentLabels(stored, rule).blocks()
    for j in range(n_tests):
        one = Sample(LabelArray(labels[:, [j]]), rng.normal(size=100), doses=LabelArray(doses[:, [j]]))
        design = make_design(one, np.array([0]), centred=True)
        (moments,) = sum_moments(design)
        assert design.n == 100
        rejected += int(fit_joint(design, moments, "HC3").estimates.pval[1] < 0.05)
    low, high = binom.interval(0.999, n_tests, 0.05)
    assert low <= rejected <= high
