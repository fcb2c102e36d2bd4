"""Documents of 3,000 words with what matters after word 1,200, and reviews that are read by the sentence."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import hypsae_ray
from hypsae_ray import cli
from hypsae_ray.commands import runner
from hypsae_ray.config import loading
from hypsae_ray.demo import grammar
from hypsae_ray.stages.workspace import read_documents_by_id
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_activations, read_column
from tests.page_block import check_page

WORDS, BLOCKS = 100, 30
PLACES_OF_CHUNKS = 2**24


def write_block(known: grammar.Grammar, concept: int, rng: np.random.Generator) -> str:
    """Return 100 words about one concept of the demo."""
    words: list[str] = []
    while len(words) < WORDS:
        words += grammar.write_text(known, np.arange(len(known.names)) == concept, rng).split()
    return " ".join(words[:WORDS])


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 documents; half of them have six blocks about the first concept, which adds 2 to the target."""
    known, rng = grammar.read(), np.random.default_rng(0)
    others = [write_block(known, int(rng.integers(1, len(known.names))), rng) for _ in range(60)]
    signal = [write_block(known, 0, rng) for _ in range(20)]
    has = rng.random(150) < 0.5
    rows = []
    for number, one in enumerate(has):
        blocks = [others[i] for i in rng.integers(0, len(others), BLOCKS)]
        if one:
            first = int(rng.integers(12, BLOCKS - 5))
            blocks[first : first + 6] = [signal[i] for i in rng.integers(0, len(signal), 6)]
        rows.append({"id": f"d{number}", "text": " ".join(blocks), "score": 2.0 * one + rng.normal()})
    folder = tmp_path_factory.mktemp("documents")
    pd.DataFrame(rows).to_json(folder / "long.jsonl", orient="records", lines=True)
    return folder / "long.jsonl"


def tree(documents: Path, embedder: str, **data: object) -> dict:
    here = {"min": 0, "max": 0}
    return {
        "data": {
            "train": str(documents), "holdout_fraction": 0.4, "target": "score", "id": "id",
            "near_copy": None, "shard_rows": 250, **data,
        },
        "embed": {"model": embedder, "replicas": here},
        "train_sae": {"n_neurons": 32, "k": 2, "max_epochs": 12, "batch_size": 512},
        "select": {"n": 2},
        "llm": {"engine": "keywords", "replicas": here},
        "evaluate": {"n_bootstrap": 0, "n_permutations": 0, "folds": 3},
    }  # fmt: skip


def run(settings: dict, out: Path) -> runner.Run:
    return runner.run(loading.parse(settings, "documents"), str(out))


def folder_of(found: runner.Run, stage: str) -> Folder:
    return next(record.step.folder for record in found.records if record.step.stage.name == stage)


@pytest.fixture(scope="module")
def chunked(documents: Path, small_embedder: str, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    """A run on chunks that labels 40 documents."""
    settings = tree(documents, small_embedder, chunk={"words": WORDS, "overlap": 0})
    settings |= {"annotate": {"sample": {"rows": 40, "proxies": []}}}
    return run(settings, tmp_path_factory.mktemp("chunked"))


def test_what_stands_late_in_long_documents_is_found_in_their_chunks(chunked: runner.Run):
    metrics = chunked.chains["main"].metrics
    assert metrics["n_significant"] >= 1
    assert metrics["r2_cross_fitted"] > 0.4
    assert b"split into chunks of 100 words" in chunked.out.read_bytes("methods.txt")


def test_nothing_is_found_where_only_the_beginning_is_read(
    documents: Path, small_embedder: str, tmp_path: Path
):
    settings = tree(documents, small_embedder)
    settings["embed"]["max_tokens"] = 32  # less to compute; the model itself ends at 256
    settings["train_sae"]["max_epochs"] = 3
    metrics = run(settings, tmp_path).chains["main"].metrics
    assert metrics["n_significant"] == 0
    assert metrics["r2_cross_fitted"] < 0.1


def test_errors_are_those_of_documents(documents: Path, chunked: runner.Run):
    p_yes = hypsae_ray.load_annotations(folder_of(chunked, "annotate").path)
    documents_of = p_yes.index.to_numpy() // PLACES_OF_CHUNKS
    labels = (p_yes >= 0.5).groupby(documents_of).max().astype(float)
    blocks = pd.Series(documents_of).value_counts()
    assert len(labels) == chunked.chains["main"].metrics["n"] == 40
    assert (blocks == BLOCKS).all()  # each drawn document is labelled whole
    source = read_column(folder_of(chunked, "data"), "holdout", "source_id")
    scores = pd.read_json(documents, lines=True).set_index("id")["score"]
    target = scores.loc[source.loc[labels.index * PLACES_OF_CHUNKS]].to_numpy()
    table = chunked.evaluation
    kept = table["regression_coef"].notna().to_numpy()  # keywords may write two sentences with one meaning
    by_hand = sm.OLS(target, sm.add_constant(labels.to_numpy()[:, kept])).fit(cov_type="HC3", use_t=True)
    assert kept.any()
    assert table["regression_coef"][kept].tolist() == pytest.approx(by_hand.params[1:].tolist())
    assert table["regression_se"][kept].tolist() == pytest.approx(by_hand.bse[1:].tolist())


@pytest.fixture(scope="module")
def by_sentence(small_embedder: str, tmp_path_factory: pytest.TempPathFactory) -> runner.Run:
    """A run that reads reviews of four short ones by the sentence, and labels 60 of them whole."""
    known, rng = grammar.read(), np.random.default_rng(1)
    rows = []
    for number in range(300):
        has = rng.random(len(known.names)) < 0.2
        parts = [grammar.write_text(known, has & (rng.random(len(has)) < 0.7), rng) for _ in range(2)]
        score = 2.0 * has[0] - 1.0 * has[1] + rng.normal()
        rows.append({"id": f"d{number}", "text": " ".join(parts), "score": score})
    folder = tmp_path_factory.mktemp("by_sentence")
    pd.DataFrame(rows).to_json(folder / "reviews.jsonl", orient="records", lines=True)
    settings = tree(folder / "reviews.jsonl", small_embedder, chunk={"sentences": 1, "labels": "whole"})
    return run(settings | {"annotate": {"sample": {"rows": 60, "proxies": []}}}, folder / "out")


def test_sentences_are_embedded_and_whole_reviews_labelled(by_sentence: runner.Run):
    data, embedded = folder_of(by_sentence, "data"), folder_of(by_sentence, "embed_holdout")
    whole, sentences = (data.read_tables(f"{name}-").to_pandas() for name in ("holdout", "holdout_chunks"))
    documents = sentences["row_id"] // PLACES_OF_CHUNKS
    joined = sentences["text"].groupby(documents.to_numpy()).agg(" ".join)
    assert joined.str.split().tolist() == whole["text"].str.split().tolist()
    assert len(sentences) > 2 * len(whole)
    p_yes = hypsae_ray.load_annotations(folder_of(by_sentence, "annotate").path)
    assert len(p_yes) == by_sentence.chains["main"].metrics["n"] == 60
    vectors = embedded.read_tables("holdout_chunks-")["row_id"].to_numpy()
    labelled = p_yes.index.to_numpy() // PLACES_OF_CHUNKS
    assert sorted(vectors) == sorted(sentences["row_id"][documents.isin(labelled)])
    methods = by_sentence.out.read_bytes("methods.txt").decode()
    assert "split into chunks of 1 sentence" in methods
    assert "documents were labelled whole, also those that names were scored on" in methods


def test_the_selected_neurons_predict_whole_reviews(by_sentence: runner.Run):
    found = by_sentence.chains["main"].details["chain"].set_index("features")["r2"]
    assert found["selected neurons"] > 0.2


def test_names_are_scored_on_whole_reviews(by_sentence: runner.Run):
    """By pandas, from the files of the run."""
    data, trained = folder_of(by_sentence, "data"), folder_of(by_sentence, "train_sae")
    row_ids, fired = read_activations(trained, "train", 32)
    fires = pd.DataFrame(fired.toarray() > 0).groupby(row_ids // PLACES_OF_CHUNKS).any()
    table = by_sentence.chains["main"].hypotheses
    assert table["prevalence"].tolist() == pytest.approx(fires.mean()[table["neuron_idx"]].tolist())
    given = pd.read_json(by_sentence.out.path.replace("/out", "/reviews.jsonl"), lines=True).set_index("id")
    ids = read_column(data, "train", "source_id").groupby(lambda row: row // PLACES_OF_CHUNKS).first()
    work = SimpleNamespace(inputs={"data": data})
    texts = read_documents_by_id(work, (ids.index[5:8] * PLACES_OF_CHUNKS).tolist())
    assert list(texts) == (ids.index[5:8] * PLACES_OF_CHUNKS).tolist()
    assert [text.split() for text in texts.values()] == given["text"].loc[ids.iloc[5:8]].str.split().tolist()


def test_the_page_has_what_was_tested(chunked: runner.Run, by_sentence: runner.Run):
    for one, n in ((chunked, 40), (by_sentence, 60)):
        header, columns = check_page(Path(one.out.path))
        assert header["n"] == len(header["texts"]) == n
        assert np.isfinite(columns["x"]).all()


def test_an_export_has_a_row_for_each_document(chunked: runner.Run, tmp_path: Path):
    out = tmp_path / "documents.parquet"
    assert cli.main(["export", chunked.out.path, "--out", str(out)]) == 0
    table = pd.read_parquet(out).set_index("row_id")
    stored = folder_of(chunked, "data").read_tables("holdout-").to_pandas()
    of = (stored["row_id"] // PLACES_OF_CHUNKS).to_numpy()
    assert table["text"].tolist() == stored.groupby(of)["text"].agg(" … ".join).tolist()
    p_yes = hypsae_ray.load_annotations(folder_of(chunked, "annotate").path)[0]
    highest = p_yes.groupby(p_yes.index.to_numpy() // PLACES_OF_CHUNKS).max()
    labelled = table[table["h00_p_yes"].notna()]
    assert len(labelled) == 40 and labelled["x"].notna().all()
    assert labelled["h00_p_yes"].tolist() == pytest.approx(highest.loc[labelled.index].tolist())
    assert table.drop(labelled.index)["h00_label"].isna().all()
