"""Are p-values and intervals what they say? Simulations with a known truth, `hypothesaes` on the same draws.

Each scenario draws data in which nothing is associated with the target (how often is that rejected at 5 %?),
or something is by a known amount (how often does the 95 % interval hold it, and how often is it found? A test
that never rejects is no test). One line of JSON at the end: shares in percent; "upstream" is the share that
hypothesaes 2.0.1 rejects of the same draws.
"""

import argparse
import contextlib
import gc
import io
import json
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import designs
import gold_labels
import numpy as np
import pandas as pd
from hypothesaes.evaluation import compute_hypothesis_separation_scores, score_hypotheses
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score

import hypsae_ray
from hypsae_ray.demo import grammar
from hypsae_ray.neurons.fidelity import score_fidelity
from hypsae_ray.stats.evaluate import Task
from hypsae_ray.stats.multiplicity import correct
from hypsae_ray.stats.prediction.cross_fit import deal_folds

Found = dict[str, float]  # what one draw came to, each 0 or 1 (or a value to be averaged)
QUICK: dict[str, Any] = {"folds": 0, "n_bootstrap": 0, "n_permutations": 0}


def evaluate(
    labels: np.ndarray, target: np.ndarray, task: Task = "regression", **options: Any
) -> hypsae_ray.Evaluation:
    """Evaluate without what a scenario is not about."""
    return hypsae_ray.evaluate_hypotheses(labels, target, task=task, **(QUICK | options))


def rejects(pval: float) -> float:
    """Whether a test rejects at 5 %."""
    return float(pval < 0.05)


def finds(row: pd.Series, name: str, truth: float, prefix: str = "") -> Found:
    """Whether the 95 % interval of a row holds the truth, and whether its test rejects that there is none."""
    inside = row[f"{name}_ci_low"] <= truth <= row[f"{name}_ci_high"]
    return {f"{prefix}covers": float(inside), f"{prefix}power": rejects(row[f"{name}_pval"])}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep to itself what hypothesaes and the libraries under it print."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def upstream_separation(labels: np.ndarray, target: np.ndarray) -> float:
    """What hypothesaes says of the first hypothesis alone."""
    with silence():
        return rejects(compute_hypothesis_separation_scores({"h": labels[:, 0]}, target)["h"][1])


def upstream_joint(labels: np.ndarray, target: np.ndarray, *, classes: bool = False) -> float:
    """What hypothesaes says of the first hypothesis in its regression."""
    columns = {str(j): labels[:, j] for j in range(labels.shape[1])}
    with silence():
        table = score_hypotheses(columns, target, classification=classes)[1]
    return rejects(table.loc[table["hypothesis"] == "0", "regression_pval"].item())


def draw_labels(rng: np.random.Generator, n: int, h: int, prevalence: float = 0.3) -> np.ndarray:
    """Independent labels (n, h)."""
    return (rng.random((n, h)) < prevalence).astype(float)


def welch(rng: np.random.Generator) -> Found:
    """A rare concept whose texts spread three times as wide."""
    labels = np.repeat([1.0, 0.0], [20, 480])[:, None]
    noise = rng.normal(0, np.where(labels[:, 0] == 1, 3, 1))
    null = evaluate(labels, noise).table.iloc[0]
    found = evaluate(labels, noise + labels[:, 0]).table.iloc[0]
    return {
        "rejects": rejects(null.separation_pval),
        "joint_rejects": rejects(null.regression_pval),
        "upstream": upstream_separation(labels, noise),
        **finds(found, "separation", 1.0),
        **finds(found, "regression", 1.0, "joint_"),
    }


def documents(rng: np.random.Generator, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, noise and groups of 200 documents of 10 chunks that share labels and a part of the noise."""
    groups = np.repeat(np.arange(200), 10)
    labels = draw_labels(rng, 200, 3)
    labels[:, 0] = rng.permutation(200) < share * 200
    noise = rng.normal(0, 0.8, 200)[groups] + rng.normal(0, 1, 2000)
    return labels[groups], noise, groups


def clustered(rng: np.random.Generator, share: float = 0.3) -> Found:
    """200 documents of 10 chunks; 30 % of the documents hold the concept."""
    labels, noise, groups = documents(rng, share)
    null = evaluate(labels, noise, groups=groups).table.iloc[0]
    found = evaluate(labels, noise + 0.5 * labels[:, 0], groups=groups).table.iloc[0]
    return {
        "rejects": rejects(null.separation_pval),
        "joint_rejects": rejects(null.regression_pval),
        "upstream": upstream_separation(labels, noise),
        "upstream_joint": upstream_joint(labels, noise),
        **finds(found, "separation", 0.5),
        **finds(found, "regression", 0.5, "joint_"),
    }


def clustered_rare(rng: np.random.Generator) -> Found:
    """The same, and 15 of the 200 documents hold the concept."""
    return clustered(rng, 0.075)


def pairwise(rng: np.random.Generator) -> Found:
    """Which of two texts was chosen, the first one a little more often out of habit."""
    labels = rng.choice([-1.0, 0.0, 1.0], size=(600, 2), p=[0.25, 0.5, 0.25])
    coin = (rng.random(600) < 0.55).astype(float)
    chosen = (rng.random(600) < 0.55 + 0.15 * labels[:, 0]).astype(float)
    null = evaluate(labels, coin, "pairwise").table.iloc[0]
    found = evaluate(labels, chosen, "pairwise").table.iloc[0]
    difference = evaluate(labels, 0.3 + 0.4 * labels[:, 0] + rng.normal(size=600), "pairwise").table.iloc[0]
    return {
        "rejects": rejects(null.separation_pval),
        "joint_rejects": rejects(null.regression_pval),
        "upstream": upstream_separation(labels, coin),
        **finds(found, "separation", 0.15),
        **finds(difference, "separation", 0.4, "difference_"),
        **finds(difference, "regression", 0.4, "joint_difference_"),
    }


def logistic(value: np.ndarray | float) -> np.ndarray:
    """Return the inverse of the log odds."""
    return 1 / (1 + np.exp(-np.asarray(value)))


def cells(h: int, prevalence: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """All combinations of h labels, and how likely each is."""
    rows = np.array(np.meshgrid(*[[0.0, 1.0]] * h)).reshape(h, -1).T
    return rows, np.prod(np.where(rows == 1, prevalence, 1 - prevalence), axis=1)


def mean_change(beta: np.ndarray, offset: float, mean: Callable[[np.ndarray], np.ndarray]) -> float:
    """The true average effect of the first of some labels."""
    rows, chance = cells(len(beta))
    rest = offset + rows[:, 1:] @ beta[1:]
    return float(chance @ (mean(rest + beta[0]) - mean(rest)))


def logit(rng: np.random.Generator) -> Found:
    """Four hypotheses on 600 rows."""
    labels, beta = draw_labels(rng, 600, 4), np.array([0.8, -0.5, 0.0, 0.0])
    coin = (rng.random(600) < logistic(-0.3 + labels[:, 1:] @ beta[1:])).astype(float)
    target = (rng.random(600) < logistic(-0.3 + labels @ beta)).astype(float)
    null = evaluate(labels, coin, "classification").table.iloc[0]
    found = evaluate(labels, target, "classification").table.iloc[0]
    return {
        "joint_rejects": rejects(null.regression_pval),
        "upstream_joint": upstream_joint(labels, coin, classes=True),
        **finds(found, "regression", 0.8, "joint_"),
        "effect_rejects": rejects(null.average_effect_pval),
        **finds(found, "average_effect", mean_change(beta, -0.3, logistic), "effect_"),
        **finds(found, "separation", mean_change(beta, -0.3, logistic)),
    }


def logit_clustered(rng: np.random.Generator) -> Found:
    """Documents whose chunks share labels, and often the outcome."""
    groups = np.repeat(np.arange(200), 5)
    labels = draw_labels(rng, 200, 2)[groups]
    kept = rng.random(1000) < 0.5  # the outcome is the document's, or the chunk's own

    def outcome(chance: np.ndarray) -> np.ndarray:
        return np.where(kept, rng.random(200)[groups] < chance, rng.random(1000) < chance).astype(float)

    coin = outcome(np.full(1000, 0.4))
    found = evaluate(labels, outcome(logistic(-0.4 + 0.8 * labels[:, 0])), "classification", groups=groups)
    null = evaluate(labels, coin, "classification", groups=groups).table.iloc[0]
    return {
        "joint_rejects": rejects(null.regression_pval),
        "upstream_joint": upstream_joint(labels, coin, classes=True),
        **finds(found.table.iloc[0], "regression", 0.8, "joint_"),
    }


def firth(rng: np.random.Generator) -> Found:
    """100 rows; one hypothesis separates the outcomes, the other is tested."""
    labels = np.column_stack([rng.permutation(100) < 40, np.arange(100) < 8]).astype(float)

    def outcome(beta: float) -> np.ndarray:
        drawn = rng.random(100) < logistic(-0.3 + beta * labels[:, 0])
        return np.where(labels[:, 1] == 1, True, drawn).astype(float)

    coin = outcome(0.0)
    null = evaluate(labels, coin, "classification")
    found = evaluate(labels, outcome(1.0), "classification").table.iloc[0]
    return {
        "separated": float(null.metrics["model"] == "logit, Firth"),
        "joint_rejects": rejects(null.table.regression_pval[0]),
        "upstream_joint": upstream_joint(labels, coin, classes=True),
        **finds(found, "regression", 1.0, "joint_"),
    }


def uneven(rng: np.random.Generator) -> Found:
    """OLS with HC3, covariates, and errors that grow with a hypothesis."""
    labels, z = draw_labels(rng, 400, 3), rng.normal(size=400)
    noise = rng.normal(size=400) * (1 + 2 * labels[:, 0]) * np.exp(z / 3)
    null = evaluate(labels, z + noise, covariates=pd.DataFrame({"z": z})).table.iloc[0]
    found = evaluate(labels, z + noise + labels[:, 0], covariates=pd.DataFrame({"z": z})).table.iloc[0]
    return {
        "joint_rejects": rejects(null.regression_pval),
        "upstream_joint": upstream_joint(labels, z + noise),
        **finds(found, "regression", 1.0, "joint_"),
    }


def counts(rng: np.random.Generator) -> Found:
    """Counts that vary twice as much as a Poisson model says."""
    labels, beta = draw_labels(rng, 800, 3), np.array([0.4, -0.3, 0.0])

    def draw(signal: np.ndarray) -> np.ndarray:
        return rng.poisson(np.exp(0.5 + signal) * rng.gamma(2, 0.5, 800)).astype(float)

    null = evaluate(labels, draw(labels[:, 1:] @ beta[1:]), "count").table.iloc[0]
    found = evaluate(labels, draw(labels @ beta), "count").table.iloc[0]
    return {
        "joint_rejects": rejects(null.regression_pval),
        **finds(found, "regression", 0.4, "joint_"),
        **finds(found, "average_effect", mean_change(beta, 0.5, np.exp), "effect_"),
    }


def within_levels(rng: np.random.Generator) -> Found:
    """Fixed effects of 60 authors absorbed; authors differ in both label and target."""
    authors = rng.integers(0, 60, 600)
    labels = (rng.random((600, 2)) < rng.random(60)[authors][:, None]).astype(float)
    noise = 3 * np.bincount(authors, labels[:, 0], 60)[authors] / 10 + rng.normal(size=600)
    null = evaluate(labels, noise, fixed_effects=authors).table.iloc[0]
    found = evaluate(labels, noise + labels[:, 0], fixed_effects=authors).table.iloc[0]
    return {
        "joint_rejects": rejects(null.regression_pval),
        "upstream_joint": upstream_joint(labels, noise),
        **finds(found, "regression", 1.0, "joint_"),
    }


def few_texts(rng: np.random.Generator) -> Found:
    """7 of 150 texts hold the concept; a skewed target."""
    labels, noise = (np.arange(150) < 7).astype(float)[:, None], rng.exponential(size=150)
    null = evaluate(labels, noise).table.iloc[0]
    found = evaluate(labels, noise + labels[:, 0]).table.iloc[0]
    return {
        "rejects": rejects(null.separation_pval),
        "upstream": upstream_separation(labels, noise),
        **finds(found, "separation", 1.0),
    }


def few_of_two(rng: np.random.Generator) -> Found:
    """30 of 300 texts hold the concept, and 0 or 1 is the target: Fisher's test, which rejects too rarely."""
    labels = (np.arange(300) < 30).astype(float)[:, None]
    coin = (rng.random(300) < 0.2).astype(float)
    target = (rng.random(300) < 0.2 + 0.2 * labels[:, 0]).astype(float)
    null = evaluate(labels, coin, "classification").table.iloc[0]
    found = evaluate(labels, target, "classification").table.iloc[0]
    return {"conservative_rejects": rejects(null.separation_pval), **finds(found, "separation", 0.2)}


def few_groups(rng: np.random.Generator) -> Found:
    """8 of 60 documents hold the concept: sign flips of groups."""
    groups = np.repeat(np.arange(60), 5)
    labels = (np.arange(60) < 8).astype(float)[groups][:, None]
    noise = rng.normal(0, 0.8, 60)[groups] + rng.normal(size=300)
    null = evaluate(labels, noise, groups=groups).table.iloc[0]
    found = evaluate(labels, noise + labels[:, 0], groups=groups).table.iloc[0]
    return {
        "rejects": rejects(null.separation_pval),
        "joint_rejects": rejects(null.regression_pval),
        "upstream": upstream_separation(labels, noise),
        **finds(found, "separation", 1.0),
        **finds(found, "regression", 1.0, "joint_"),
    }


def families(rng: np.random.Generator) -> Found:
    """20 hypotheses at a level of 10 %, all of them null (family-wise error), or half (false discoveries)."""
    labels, noise = draw_labels(rng, 600, 20), rng.normal(size=600)
    signal = 0.35 * labels[:, :10].sum(axis=1)
    null = evaluate(labels, noise, alpha=0.1).table
    half = evaluate(labels, noise + signal, alpha=0.1)
    found: Found = {}
    for name in ("bonferroni", "holm", "fdr_bh", "fdr_by"):
        wrong = correct(null["regression_pval"].to_numpy(), name, 0.1).pval < 0.1
        found[f"familywise_{name}"] = float(wrong.any())
        selected = correct(half.table["regression_pval"].to_numpy(), name, 0.1).pval < 0.1
        found[f"false_discoveries_{name}"] = selected[10:].sum() / max(selected.sum(), 1)
    truth = np.repeat([0.35, 0.0], 10)
    low, high = (half.table[f"regression_adj_ci_{end}"] for end in ("low", "high"))
    found["simultaneous_covers_90"] = float(((low <= truth) & (truth <= high)).all())
    return found


def any_signal(rng: np.random.Generator) -> Found:
    """The test for any signal at all: 10 hypotheses of which none, or one, has any; rows or documents."""
    labels, noise = draw_labels(rng, 300, 10), rng.exponential(size=300)
    groups = np.repeat(np.arange(60), 5)
    shared = rng.normal(size=60)[groups] + rng.normal(size=300)
    held = labels[::5][groups]

    def signal(labels: np.ndarray, target: np.ndarray, groups: np.ndarray | None) -> float:
        return float(
            evaluate(labels, target, groups=groups, n_permutations=99).metrics["signal_pval"] <= 0.05
        )

    return {
        "rejects": signal(labels, noise, None),
        "grouped_rejects": signal(held, shared, groups),
        "power": signal(labels, noise + 0.5 * labels[:, 0], None),
        "grouped_power": signal(held, shared + held[:, 0], groups),
    }


def noise(rng: np.random.Generator) -> Found:
    """Twenty noise hypotheses on 500 rows, and the AUC that they reach."""
    labels, coin = draw_labels(rng, 500, 20), (rng.random(500) < 0.5).astype(float)
    ours = evaluate(labels, coin, "classification", folds=5).metrics["auc_cross_fitted"]
    columns = {str(j): labels[:, j] for j in range(20)}
    with silence():
        theirs = score_hypotheses(columns, coin, classification=True)[0]["auroc"]
    return {"value_auc": ours, "value_upstream_auc": theirs}


def predictive(rng: np.random.Generator) -> Found:
    """Intervals of cross-fitted R2 and AUC; the truth is how the five fitted models do on the population."""
    labels, beta = draw_labels(rng, 800, 4), np.array([1.0, -0.7, 0.4, 0.0])
    seed = int(rng.integers(1 << 31))
    rows, chance = cells(4)
    target = labels @ beta + rng.normal(size=800)
    folds = deal_folds(target, None, 5, np.random.default_rng([seed, 1]))
    truth = []
    for fold in range(5):
        model = LinearRegression().fit(labels[folds != fold], target[folds != fold])
        error = 1 + chance @ (rows @ beta - model.predict(rows)) ** 2
        truth.append(1 - error / (1 + chance @ (rows @ beta - chance @ (rows @ beta)) ** 2))
    options: dict[str, Any] = {"random_state": seed, "n_bootstrap": 200, "n_permutations": 0}
    metrics = hypsae_ray.evaluate_hypotheses(labels, target, task="regression", **options).metrics
    coin = (rng.random(800) < logistic(-0.3 + labels @ beta)).astype(float)
    folds = deal_folds(coin, None, 5, np.random.default_rng([seed, 1]))
    ones = chance * logistic(-0.3 + rows @ beta)
    areas = []
    for fold in range(5):
        model = LogisticRegression().fit(labels[folds != fold], coin[folds != fold])
        score = np.tile(model.decision_function(rows), 2)
        weights = np.concatenate([ones, chance - ones])
        areas.append(roc_auc_score(np.repeat([1, 0], len(rows)), score, sample_weight=weights))
    ranked = hypsae_ray.evaluate_hypotheses(labels, coin, task="classification", **options).metrics
    return {
        "r2_covers": float(metrics["r2_ci_low"] <= np.mean(truth) <= metrics["r2_ci_high"]),
        "auc_covers": float(ranked["auc_ci_low"] <= np.mean(areas) <= ranked["auc_ci_high"]),
    }


def fidelity(rng: np.random.Generator) -> Found:
    """Intervals of fidelity: 100 firing and 100 silent texts, rates that differ from neuron to neuron."""
    recall, false_alarms, prevalence = rng.uniform(0.5, 0.95), rng.uniform(0.05, 0.4), rng.uniform(0.02, 0.3)
    fires = np.repeat([True, False], 100)
    said = (rng.random(200) < np.where(fires, recall, false_alarms)).astype(float)
    found = score_fidelity(fires, said, 0.5, prevalence=prevalence, rng=rng)
    f1 = 2 * recall / (1 + recall + false_alarms)
    share = prevalence * recall / (prevalence * recall + (1 - prevalence) * false_alarms)
    corpus = 2 * share * recall / (share + recall)
    return {
        "recall_covers": float(found.recall_ci.low <= recall <= found.recall_ci.high),
        "f1_covers": float(found.f1_ci.low <= f1 <= found.f1_ci.high),
        "f1_corpus_covers": float(found.f1_corpus_ci.low <= corpus <= found.f1_corpus_ci.high),
    }


SCENARIOS: tuple[Callable[[np.random.Generator], Found], ...] = (
    welch, clustered, clustered_rare, pairwise, logit, logit_clustered, firth, uneven, counts, within_levels,
    few_texts, few_of_two, few_groups, families, any_signal, noise, predictive, fidelity,
    *designs.CELLS, gold_labels.gold,
)  # fmt: skip


def name_of(scenario: Callable[[np.random.Generator], Found]) -> str:
    """Its name on the command line and in the result."""
    return scenario.name if isinstance(scenario, designs.Cell) else scenario.__name__


def wanted(scenario: Callable[[np.random.Generator], Found], names: Sequence[str] | None) -> bool:
    """Whether a scenario, or the group that its name begins with, is among the names.

    Without names, all but the group `design`, which takes as long as all others.
    """
    name = name_of(scenario)
    if names is None:
        return not isinstance(scenario, designs.Cell)
    return any(name == one or name.startswith(f"{one}/") for one in names)


def summary(found: Mapping[str, list[float]]) -> dict[str, float]:
    """Means over draws: shares in percent, values as they are, effective labels as a ratio.

    Effective labels are how much larger the mean squared error of a plain sample of the same cost is.
    """
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    rates = {
        name: round(value * (1 if name.startswith("value") else 100), 3)
        for name, value in mean.items()
        if not name.startswith(("square_", "plain_"))
    }
    pairs = [name.removeprefix("square_") for name in mean if name.startswith("square_")]
    return rates | {
        f"effective_{name}": round(mean[f"plain_{name}"] / mean[f"square_{name}"], 3) for name in pairs
    }


def run(task: tuple[str, int, int]) -> dict[str, list[float]]:
    """Run some draws of a scenario; each draw has a seed of its own, so that workers do not matter."""
    name, first, draws = task
    scenario = next(one for one in SCENARIOS if name_of(one) == name)
    found: dict[str, list[float]] = defaultdict(list)
    for draw in range(first, first + draws):
        rng = np.random.default_rng([SCENARIOS.index(scenario), draw])
        for measure, value in scenario(rng).items():
            found[measure].append(value)
    return dict(found)


def planted(seeds: int) -> dict[str, float]:
    """How often the 95 % interval of a planted concept of the demo holds its effect, over some seeds.

    Labels are the truth. Stars are whole and end at 1 and 5, which takes a little off each effect: what is to
    be held is the effect on stars, from a million drawn texts.
    """
    rules = grammar.read()
    rng = np.random.default_rng(0)
    present = grammar.draw_concepts(rules, 1_000_000, rng)
    stars = grammar.rate(rules, present, rng)
    effects = LinearRegression().fit(present, stars).coef_
    inside, raw = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(1000 + seed)
        present = grammar.draw_concepts(rules, 600, rng).astype(float)
        table = evaluate(present, grammar.rate(rules, present, rng)).table
        low, high = table["regression_ci_low"], table["regression_ci_high"]
        inside += ((low <= effects) & (effects <= high)).tolist()
        written = np.array([concept.effect for concept in rules.concepts])
        raw += ((low <= written) & (written <= high)).tolist()
    return {
        "intervals": len(inside),
        "covers": 100 * float(np.mean(inside)),
        "covers_before_rounding": 100 * float(np.mean(raw)),
    }


def main() -> None:
    """Run all scenarios and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=50, help="of the demo")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of scenarios")
    options = parser.parse_args()
    result: dict[str, dict[str, float]] = {}
    # Objects of the imports are no garbage: statsmodels collects it in each correction by Holm's method.
    with ProcessPoolExecutor(options.workers, initializer=gc.freeze) as pool:
        for scenario in SCENARIOS:
            if not wanted(scenario, options.only):
                continue
            started, found, draws = time.monotonic(), defaultdict(list), options.draws
            if isinstance(scenario, designs.Cell) and not scenario.is_most_met:
                draws = max(1, draws // 4)
            step = max(1, draws // (8 * options.workers))
            name, parts = name_of(scenario), range(0, draws, step)
            tasks = [(name, first, min(step, draws - first)) for first in parts]
            for part in pool.map(run, tasks):
                for measure, values in part.items():
                    found[measure] += values
            result[name] = rates = summary(found)
            print(f"{name:16} {time.monotonic() - started:6.1f} s  {rates}", file=sys.stderr)
    if not options.only:
        result["planted"] = planted(options.seeds)
    print(json.dumps({"draws": options.draws, **result}))


if __name__ == "__main__":
    main()
