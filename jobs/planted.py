"""Made-up hotel reviews whose truth is known, harder to find out than that of the demo: `planted.yaml`.

1. Concepts are drawn as in `hypsae_ray.demo.grammar`, but for two that occur mostly with a partner.
2. Texts are written as there.
3. score = base + effects of the concepts present + effects of pairs of concepts present + effects that turn
   with a covariate (`business`: 1 on half of the trips, else 0) + normal noise. It is not rounded or clipped.

An effect that turns is +e where the covariate is 1 and -e where it is 0: a model without the product of both
finds nothing of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hypsae_ray.demo import grammar
from hypsae_ray.demo.grammar import Grammar

COVARIATE, TARGET = "business", "score"
PLAIN, CONFOUNDED, INTERACTION, TURNING, DECOY = "plain", "confounded", "interaction", "turning", "decoy"
MATTERS = (PLAIN, INTERACTION, TURNING)
"""Roles of concepts with an effect of their own."""


@dataclass(frozen=True)
class Structure:
    """What concepts have to do with each other and with the covariate, by their positions.

    Attributes:
        confounded: position of a concept to that of its partner and the rate at which it occurs with it.
        interactions: two positions to points where both are present.
        turning: (C,) points where the covariate is 1, minus as many where it is 0.
    """

    confounded: Mapping[int, tuple[int, float]]
    interactions: Mapping[tuple[int, int], float]
    turning: np.ndarray


@dataclass(frozen=True)
class Planted:
    """Two splits and their truth.

    Attributes:
        train: id, text, score, business (0 or 1).
        test: the same columns.
        truth: indexed by id, a column of 0 and 1 for each concept.
        concepts: concept, description, prevalence, role; in the order of the columns of `truth`.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    truth: pd.DataFrame
    concepts: pd.DataFrame


def read() -> tuple[Grammar, Structure]:
    """Read `planted.yaml`."""
    tree = yaml.safe_load(Path(__file__).with_name("planted.yaml").read_text(encoding="utf-8"))
    structure: dict[str, Any] = tree.pop("structure")
    made = grammar.parse(tree)
    at = {name: i for i, name in enumerate(made.names)}
    turning = np.zeros(len(at))
    for entry in structure["turning"]:
        turning[at[entry["concept"]]] = entry["effect"]
    pairs = structure["interactions"]
    return made, Structure(
        {at[one["concept"]]: (at[one["partner"]], one["rate"]) for one in structure["confounded"]},
        {(at[one["concepts"][0]], at[one["concepts"][1]]): one["effect"] for one in pairs},
        turning,
    )


def generate(n_train: int, n_test: int, seed: int) -> Planted:
    """Draw texts, scores and truth; the same seed gives the same data."""
    made, structure = read()
    rng, n = np.random.default_rng(seed), n_train + n_test
    present, covariate = draw(made, structure, n, rng)
    ids = [f"train-{i:05d}" for i in range(n_train)] + [f"test-{i:05d}" for i in range(n_test)]
    texts = [grammar.write_text(made, row, rng) for row in present]
    scores = score(made, structure, present, covariate, rng)
    rows = pd.DataFrame({"id": ids, "text": texts, TARGET: scores, COVARIATE: covariate})
    columns = pd.Index(made.names)
    return Planted(
        train=rows.iloc[:n_train].reset_index(drop=True),
        test=rows.iloc[n_train:].reset_index(drop=True),
        truth=pd.DataFrame(present.astype(np.int8), columns=columns, index=pd.Index(ids, name="id")),
        concepts=pd.DataFrame(
            {
                "concept": made.names,
                "description": [concept.description for concept in made.concepts],
                "prevalence": [concept.prevalence for concept in made.concepts],
                "role": roles(made, structure),
            }
        ),
    )


def draw(
    made: Grammar, structure: Structure, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw which concepts each of n texts holds, (n, C) bool, and the covariate, (n,) of 0 and 1."""
    present = grammar.draw_concepts(made, n, rng)
    prevalence = np.array([concept.prevalence for concept in made.concepts])
    for i, (partner, rate) in structure.confounded.items():
        alone = (prevalence[i] - rate * prevalence[partner]) / (1 - prevalence[partner])
        present[:, i] = rng.random(n) < np.where(present[:, partner], rate, alone)
    return present, rng.integers(0, 2, n)


def score(
    made: Grammar,
    structure: Structure,
    present: np.ndarray,
    covariate: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the score of each text, (n,), from its concepts (n, C) and covariate (n,)."""
    effects = np.array([concept.effect for concept in made.concepts])
    both = sum(effect * (present[:, i] & present[:, j]) for (i, j), effect in structure.interactions.items())
    turned = (2 * covariate - 1) * (present @ structure.turning)
    return made.base + present @ effects + both + turned + rng.normal(0, made.noise, len(present))


def roles(made: Grammar, structure: Structure) -> Sequence[str]:
    """Return the role of each concept."""
    pairs = {i for pair in structure.interactions for i in pair}
    found = []
    for i, concept in enumerate(made.concepts):
        if i in structure.confounded:
            found.append(CONFOUNDED)
        elif i in pairs:
            found.append(INTERACTION)
        elif structure.turning[i]:
            found.append(TURNING)
        else:
            found.append(PLAIN if concept.effect else DECOY)
    return found
