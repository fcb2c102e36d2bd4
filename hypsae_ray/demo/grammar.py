"""Made-up restaurant reviews whose truth is known: which concepts each text holds, and what each is worth.

1. Every concept is present in a text by an independent draw with its prevalence.
2. A present concept writes one sentence, sometimes two; filler sentences on neutral topics are added; the
   order is random.
3. stars = base + sum of the effects of the present concepts + normal noise, rounded and clipped to 1..5.

The noise spreads each text over neighbouring stars, so rounding leaves the effects as they are (within
1 %). Clipping touches 2 % of the texts: a regression on the true concepts finds 0.945 of each effect.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

_SLOT = re.compile(r"\{(\w+)\}")
_A_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")

Slots = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Concept:
    """One planted concept: how often it occurs, what it adds to the stars, and how it is worded."""

    concept: str
    description: str
    prevalence: float
    effect: float
    templates: Sequence[str]
    slots: Slots


@dataclass(frozen=True)
class Grammar:
    """All that a text is made of; `read` fills it from the packaged YAML."""

    base: float
    noise: float
    second_sentence: float
    min_sentences: int
    max_sentences: int
    max_filler: int
    fillers: Sequence[str]
    filler_slots: Slots
    concepts: tuple[Concept, ...]

    @property
    def names(self) -> list[str]:
        """Names of the concepts, in the order of every table."""
        return [concept.concept for concept in self.concepts]


@dataclass(frozen=True)
class Demo:
    """The two splits and their truth."""

    train: pd.DataFrame  # columns id, text, stars (1 to 5)
    holdout: pd.DataFrame  # the same columns
    truth: pd.DataFrame  # one row per text of either split: id, and a column of 0 and 1 for each concept
    concepts: pd.DataFrame  # concept, description, prevalence (share of texts), effect (stars)


def read() -> Grammar:
    """Read the grammar that the package carries."""
    text = resources.files("hypsae_ray.demo").joinpath("grammar.yaml").read_text(encoding="utf-8")
    return parse(yaml.safe_load(text))


def parse(tree: Mapping[str, Any]) -> Grammar:
    """Return the grammar that a YAML document like the packaged one holds."""
    shared: dict[str, list[str]] = tree["slots"]
    concepts = tuple(Concept(**entry | {"slots": shared | entry["slots"]}) for entry in tree["concepts"])
    own = {name: value for name, value in tree.items() if name != "slots"}
    return Grammar(**own | {"concepts": concepts, "filler_slots": shared | tree["filler_slots"]})


def generate(n_train: int = 2000, n_holdout: int = 600, seed: int = 0) -> Demo:
    """Draw the demo data, texts to test on like those to train on; the same seed gives the same data."""
    grammar = read()
    rng = np.random.default_rng(seed)
    ids = [f"train-{i:05d}" for i in range(n_train)] + [f"holdout-{i:05d}" for i in range(n_holdout)]
    present = draw_concepts(grammar, len(ids), rng)
    texts = [write_text(grammar, row, rng) for row in present]
    rows = pd.DataFrame({"id": ids, "text": texts, "stars": rate(grammar, present, rng)})
    truth = pd.DataFrame(present.astype(np.int8), columns=pd.Index(grammar.names))
    truth.insert(0, "id", ids)
    return Demo(
        train=rows.iloc[:n_train].reset_index(drop=True),
        holdout=rows.iloc[n_train:].reset_index(drop=True),
        truth=truth,
        concepts=pd.DataFrame(list(grammar.concepts)).drop(columns=["templates", "slots"]),
    )


def pair_up(reviews: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return pairs of reviews that follow each other: id (of the first), text_a, text_b, chosen.

    chosen is 1 where the first has more stars, 0 where the second has, and drawn where they have the same.
    """
    n = len(reviews) // 2
    first, second = (reviews.iloc[i : 2 * n : 2].reset_index(drop=True) for i in (0, 1))
    lead = np.sign(first["stars"] - second["stars"]) + rng.choice([-0.5, 0.5], n)
    texts = {"text_a": first["text"], "text_b": second["text"]}
    return pd.DataFrame({"id": first["id"], **texts, "chosen": (lead > 0).astype(int)})


def write_pairs(demo: Demo, folder: str | Path, rng: np.random.Generator) -> None:
    """Write train.jsonl and holdout.jsonl of pairs (`pair_up`) into a folder, made if missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, reviews in {"train": demo.train, "holdout": demo.holdout}.items():
        pair_up(reviews, rng).to_json(folder / f"{name}.jsonl", orient="records", lines=True)


def write(demo: Demo, folder: str | Path) -> None:
    """Write train.jsonl, holdout.jsonl, truth.parquet and concepts.parquet into a folder, made if missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    demo.train.to_json(folder / "train.jsonl", orient="records", lines=True)
    demo.holdout.to_json(folder / "holdout.jsonl", orient="records", lines=True)
    demo.truth.to_parquet(folder / "truth.parquet", index=False)
    demo.concepts.to_parquet(folder / "concepts.parquet", index=False)


def draw_concepts(grammar: Grammar, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw which concepts each of n texts holds: (n, C) bool, all entries independent."""
    prevalence = np.array([concept.prevalence for concept in grammar.concepts])
    return rng.random((n, len(prevalence))) < prevalence


def write_text(grammar: Grammar, present: np.ndarray, rng: np.random.Generator) -> str:
    """Write a text with a sentence or two about each present concept, (C,) bool, however many there are."""
    concepts = [concept for concept, here in zip(grammar.concepts, present, strict=True) if here]
    sentences: list[str] = []
    for i, concept in enumerate(concepts):
        room = grammar.max_sentences - 1 - len(sentences) - (len(concepts) - i)
        count = 2 if room > 0 and rng.random() < grammar.second_sentence else 1
        sentences += _sentences(concept.templates, concept.slots, count, rng)
    n_filler = _filler_count(grammar, len(sentences), rng)
    sentences += _sentences(grammar.fillers, grammar.filler_slots, n_filler, rng)
    return " ".join(sentences[i] for i in rng.permutation(len(sentences)))


def rate(grammar: Grammar, present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the concepts of each text, (n, C) bool, into whole stars from 1 to 5, (n,) int64."""
    effects = np.array([concept.effect for concept in grammar.concepts])
    raw = grammar.base + present @ effects + rng.normal(0, grammar.noise, len(present))
    return np.clip(np.rint(raw), 1, 5).astype(np.int64)


def _filler_count(grammar: Grammar, n_written: int, rng: np.random.Generator) -> int:
    least = max(1, grammar.min_sentences - n_written)
    drawn = rng.integers(least, max(least, grammar.max_filler) + 1)
    return int(min(drawn, max(0, grammar.max_sentences - n_written)))


def _sentences(templates: Sequence[str], slots: Slots, count: int, rng: np.random.Generator) -> list[str]:
    chosen = rng.choice(len(templates), size=count, replace=False)
    return [_fill(templates[int(i)], slots, rng) for i in chosen]


def _fill(template: str, slots: Slots, rng: np.random.Generator) -> str:
    def pick(match: re.Match[str]) -> str:
        entries = slots[match[1]]
        return entries[int(rng.integers(len(entries)))]

    filled = _A_BEFORE_VOWEL.sub(r"\1n ", _SLOT.sub(pick, template))
    return filled[0].upper() + filled[1:]
