"""Wordings of the naming prompt compared: which finds what makes a neuron fire.

    hypsae run --config demo.yaml --out runs/demo --until select
    python jobs/bench_naming.py --run demo=runs/demo --labeller MODEL [--namer MODEL ...] --keep FOLDER

Every wording of `wordings.yaml`, and the two in use, name the first neurons of each run once, greedily, from
the same texts. All sentences about a neuron are then scored by one labeller on the same other texts of it.

- usable: share of answers in which a sentence is found that is no failed candidate (`neurons.names`);
- f1: fidelity at P(yes) of 0.5, mean over neurons; a neuron without a usable sentence counts as 0;
- auc: the same without a threshold; a neuron without a usable sentence counts as 0.5;
- truth: in a run of the demo (`--truth`), F1 of the labels against the planted concept that the neuron stands
  for, over the neurons that stand for one (F1 of their firing 0.6 or more).

What was answered is kept in FOLDER. With `--minutes`, it stops after so many; the same command goes on.
Prints every sentence, and one JSON line.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import yaml
from kept import Kept
from sklearn.metrics import roc_auc_score

from hypsae_ray.config import Interpret, Llm, Replicas, ScoreFidelity
from hypsae_ray.data.words import truncate_words
from hypsae_ray.demo.recovery import RECOVERED_F1, f1_table
from hypsae_ray.models.prompts import wording
from hypsae_ray.models.prompts.label_prompts import chat
from hypsae_ray.models.protocols import Answer, NamingPrompt
from hypsae_ray.models.vllm.model import VllmModel, sampling_params
from hypsae_ray.neurons.corpus import Corpus
from hypsae_ray.neurons.sampling import fidelity_examples, naming_examples
from hypsae_ray.stages.interpret import read_answer
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status
from hypsae_ray.store.stage_tables import read_activations, read_column

NAMING = Interpret(n_candidates=1, n_examples=12, max_words=60)
SCORING = ScoreFidelity(n_examples=12, max_words=60)
MAX_TOKENS = 48
Key = tuple[str, str, str, int]  # namer, wording, run, neuron


@dataclass(frozen=True)
class Case:
    """One neuron.

    Attributes:
        run: its name.
        neuron: its number.
        prompt: the texts it is named from.
        texts: those its names are scored on.
        fires: (n,) whether it fires on each.
        concept: the planted concept that it stands for; "" for none.
        truth: (n,) whether each text has it.
    """

    run: str
    neuron: int
    prompt: NamingPrompt
    texts: list[str]
    fires: np.ndarray
    concept: str
    truth: np.ndarray


@dataclass(frozen=True)
class Wording:
    """How a name is asked for: a template, and the beginning of the answer."""

    ask: str
    begun: str = ""

    def of(self, prompt: NamingPrompt) -> str:
        """Return the prompt of one neuron."""
        said = f"{prompt.instructions}\n\n" if prompt.instructions else ""
        lists = {"positives": prompt.positives, "negatives": prompt.negatives}
        shown = {name: "\n".join(f"{i}. {t}" for i, t in enumerate(x, 1)) for name, x in lists.items()}
        return Template(self.ask).substitute(instructions=said, **shown)


def main() -> None:
    """Name, score, and print the comparison."""
    options = _options()
    options.keep.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * options.minutes
    runs = [run.partition("=") for run in options.run]
    cases = [
        case for name, _, place in runs for case in read_cases(name, place, options.neurons, options.truth)
    ]
    said = {case.run: case.prompt.instructions for case in cases}
    try:
        named = {(who, *key): raw for who in options.namer for key, raw in _names(who, cases, options, ends)}
        found = {key: read_name(raw, key[1], said[key[2]]) for key, raw in named.items()}
        labels = _labels(options, cases, found, ends)
    except TimeoutError:
        sys.exit(f"time is up; the same command goes on from {options.keep}")
    show(cases, named, found)
    print(json.dumps(summary(cases, found, labels)))


def read_cases(name: str, place: str, n: int, planted: str) -> list[Case]:
    """Return the first n neurons of a run, with texts to name and to score them."""
    run = Folder.at(place)
    saved = run.read_json("run.json")
    config = saved["config"]
    folders = {stage["stage"]: run.sub("stages").sub(stage["folder"]) for stage in saved["stages"]}
    selection = folders["select"].read_table("selection.parquet").to_pandas()
    data = {
        column: read_column(folders["data"], "train", column) for column in ("text_id", "text", "source_id")
    }
    row_ids, fired = read_activations(folders["train_sae"], "train", len(selection))
    corpus = Corpus.of(row_ids, data["text_id"].loc[row_ids], fired)
    texts = data["text"].loc[corpus.row_ids].tolist()
    truth = _truth(planted, data["source_id"].loc[corpus.row_ids])
    neurons = selection.dropna(subset="rank").sort_values("rank")["neuron_idx"][:n]
    said = config["interpret"]["instructions"]
    return [_case(name, int(neuron), corpus, texts, truth, said) for neuron in neurons]


def _truth(planted: str, ids: pd.Series) -> pd.DataFrame:
    """Return the concepts of texts of the demo; no column for other texts."""
    file = Path(planted) / "truth.parquet"
    truth = pd.read_parquet(file).set_index("id") if file.exists() else pd.DataFrame()
    return truth.loc[ids].astype(int) if ids.isin(truth.index).all() else pd.DataFrame(index=range(len(ids)))


def _case(run: str, neuron: int, corpus: Corpus, texts: list[str], truth: pd.DataFrame, said: str) -> Case:
    rng = np.random.default_rng(neuron)
    activation = corpus.activation(neuron)
    shown = naming_examples(activation, NAMING, rng)[0]
    others = fidelity_examples(activation, [*shown.positives, *shown.negatives], SCORING, rng)
    rows = np.concatenate([others.positives, others.negatives])
    fires = activation > 0
    match = f1_table(truth.to_numpy(), fires[:, None].astype(float)).ravel() if len(truth.columns) else []
    concept = str(truth.columns[int(np.argmax(match))]) if max(match, default=0) >= RECOVERED_F1 else ""
    prompt = NamingPrompt(
        *(
            tuple(" ".join(truncate_words(texts[i], NAMING.max_words).split()) for i in part)
            for part in (shown.positives, shown.negatives)
        ),
        instructions=said,
    )
    cut = [truncate_words(texts[i], SCORING.max_words) for i in rows]
    true = truth[concept].to_numpy()[rows] if concept else np.zeros(len(rows), int)
    return Case(run, neuron, prompt, cut, fires[rows], concept, true)


def wordings() -> dict[str, Wording]:
    """Return all wordings by name, those with the same beginning next to each other."""
    found = yaml.safe_load(Path(__file__).with_name("wordings.yaml").read_text())
    ours = {
        f"in use, {name}": Wording(_rendered(broad), wording.NAMING_BEGUN)
        for name, broad in (("broad", True), ("topic", False))
    }
    return {name: Wording(**one) for name, one in found.items()} | ours


def _rendered(broad: bool) -> str:
    prompt = NamingPrompt(("$positives",), ("$negatives",), broad=broad)
    return "${instructions}" + wording.render_naming(prompt).replace("1. $", "$")


def _names(
    who: str, cases: list[Case], options: argparse.Namespace, ends: float
) -> Iterator[tuple[tuple[str, str, int], str]]:
    """Yield what one model wrote, by (wording, run, neuron)."""
    kept = Kept(options.keep / f"names-{who.strip('/').replace('/', '-')}.json", ends)
    asked = {
        hashlib.sha256(f"{one.ask}{one.begun}".encode()).hexdigest()[:12]: (name, one)
        for name, one in wordings().items()
    }
    with Lazy(who, options) as lazy:
        for case in cases:
            said = kept.get(
                f"{case.run} {case.neuron}",
                list(asked),
                lambda missing, case=case: write(lazy.model, case, [asked[item][1] for item in missing]),
            )
            yield from (((asked[item][0], case.run, case.neuron), raw) for item, raw in said.items())


def read_name(raw: str, wording: str, instructions: str) -> str | None:
    """Return the sentence in an answer, if it is no failed candidate of this very wording."""
    asked = wordings()[wording]
    return read_answer(Answer(f"{asked.begun} {raw}", Status.OK), f"{asked.ask} {instructions}")[0]


def write(model: VllmModel, case: Case, asked: list[Wording]) -> list[str]:
    """Return what a model writes for each wording, greedily."""
    tokenizer = model.engine.llm.get_tokenizer()
    texts = [chat(tokenizer, one.of(case.prompt), begun=one.begun) for one in asked]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    params = [
        sampling_params(max_tokens=MAX_TOKENS, temperature=0, stop=["\n"] if one.begun else None)
        for one in asked
    ]
    return [output.outputs[0].text for output in model.engine.run(ids, params)[0]]


def _labels(
    options: argparse.Namespace, cases: list[Case], found: dict[Key, str | None], ends: float
) -> dict[tuple[str, int, str], np.ndarray]:
    """Return P(yes) of the texts of each neuron for each sentence about it."""
    kept = Kept(options.keep / "labels.json", ends)
    labels: dict[tuple[str, int, str], np.ndarray] = {}
    with Lazy(options.labeller, options) as lazy:
        for case in cases:
            mine = {name for key, name in found.items() if key[2:] == (case.run, case.neuron)}
            sentences = sorted(name for name in mine if name is not None)
            p_yes = kept.get(
                f"{case.run} {case.neuron}",
                sentences,
                lambda missing, case=case: lazy.model.score(case.texts, missing).p_yes.T.tolist(),
            )
            labels |= {(case.run, case.neuron, name): np.array(p) for name, p in p_yes.items()}
    return labels


class Lazy:
    """A model that is loaded when it is first asked."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._name, self._options = name, options

    def __enter__(self) -> "Lazy":
        return self

    def __exit__(self, *_: object) -> None:
        if "model" in vars(self):
            self.model.close()

    @cached_property
    def model(self) -> VllmModel:
        """The model, with room for a prompt of 20 reviews."""
        options, cpus = self._options, Replicas(cpus=self._options.cpus)
        settings = {"dtype": options.dtype, "max_model_len": 4096, "kv_cache_gib": 2}
        return VllmModel(Llm(model=self._name, replicas=cpus, **settings))


def summary(
    cases: list[Case], found: dict[Key, str | None], labels: dict[tuple[str, int, str], np.ndarray]
) -> list[dict[str, Any]]:
    """Return one row per namer, run and wording."""
    by_case = {(case.run, case.neuron): case for case in cases}
    rows = [
        {"namer": who, "run": run, "wording": wording, **_measure(by_case[run, neuron], name, labels)}
        for (who, wording, run, neuron), name in found.items()
    ]
    table = pd.DataFrame(rows).groupby(["namer", "run", "wording"], sort=False).mean().round(3)
    return json.loads(table.reset_index().to_json(orient="records"))


def _measure(
    case: Case, name: str | None, labels: dict[tuple[str, int, str], np.ndarray]
) -> dict[str, float]:
    truth = 0.0 if case.concept else np.nan
    if name is None:
        return {"usable": 0.0, "f1": 0.0, "auc": 0.5, "truth": truth}
    p_yes = labels[case.run, case.neuron, name]
    said = np.where(np.isnan(p_yes), np.nan, p_yes >= 0.5)[:, None]
    both = f1_table(np.column_stack([case.fires, case.truth]), said).ravel()
    auc = roc_auc_score(case.fires, np.nan_to_num(p_yes))
    return {"usable": 1.0, "f1": both[0], "auc": float(auc), "truth": both[1] if case.concept else truth}


def show(cases: list[Case], named: dict[Key, str], found: dict[Key, str | None]) -> None:
    """Print every sentence, to be read."""
    for case in cases:
        print(f"{case.run}, neuron {case.neuron}: {case.concept or '-'}")
        for key, name in found.items():
            if key[2:] == (case.run, case.neuron):
                print(f"  {key[0][-12:]:>12} | {key[1]:<22} | {name or f'FAILED: {named[key][:120]!r}'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", action="append", required=True, help="NAME=FOLDER, up to select")
    parser.add_argument("--truth", default="demo-data", help="folder that hypsae demo-data wrote")
    parser.add_argument("--labeller", required=True)
    parser.add_argument("--namer", action="append", required=True)
    parser.add_argument("--neurons", type=int, default=8)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--cpus", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
