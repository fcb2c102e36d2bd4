"""`hypsae inspect`: what a run's neurons stand for, seen through the texts that make them fire."""

import textwrap

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hypsae_ray.data.words import truncate_words
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages.train_sae import count_neurons
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_activations, read_texts, top_rows

WORDS_SHOWN = 60


def describe_neurons(path: str, neurons: str = "selected", examples: int = 3, seed: int = 0) -> str:
    """Return a text that shows neurons with their sentence, how often they fire, and their top texts.

    `neurons` is "selected", "random:N" (with `seed`), or numbers such as "3,17".

    Raises:
        InputError: there is no run with a trained SAE in this folder.
        ConfigError: `neurons` does not name neurons of this run.
    """
    stages = RunFolder.at(path).folders()
    if "train_sae" not in stages:
        raise InputError(f"{path}: this run has not trained its SAE yet")
    n_neurons = count_neurons(stages["train_sae"])
    row_ids, fired = read_activations(stages["train_sae"], "train", n_neurons)
    sentences = _sentences(stages)
    chosen = choose_neurons(neurons, n_neurons, list(sentences), seed)
    by_neuron = sp.csc_matrix(fired)
    top = {neuron: top_rows(by_neuron, neuron) for neuron in chosen}
    texts = read_texts(stages["data"], "train", {int(row_ids[i]) for rows in top.values() for i in rows})
    prevalence = np.ravel((fired > 0).mean(axis=0))
    parts = []
    for neuron in chosen:
        shown = texts.loc[row_ids[top[neuron]]].drop_duplicates().head(examples)
        share = float(prevalence[neuron])
        parts.append(_paragraph(neuron, sentences.get(neuron), share, shown.tolist()))
    return "\n\n".join(parts)


def choose_neurons(neurons: str, n_neurons: int, selected: list[int], seed: int) -> list[int]:
    """Return the numbers of the neurons that `--neurons` names.

    >>> choose_neurons("3,1", 8, [], 0)
    [3, 1]

    Raises:
        ConfigError: it is not understood, or names a neuron that does not exist.
    """
    if neurons == "selected":
        if not selected:
            raise ConfigError("--neurons selected: this run has selected none yet; try random:5")
        return selected
    kind, _, count = neurons.partition(":")
    try:
        if kind == "random":
            rng = np.random.default_rng(seed)
            return rng.choice(n_neurons, size=min(int(count), n_neurons), replace=False).tolist()
        numbers = [int(part) for part in neurons.split(",")]
    except ValueError:
        raise ConfigError(
            f"--neurons {neurons}: expected selected, random:N, or numbers such as 3,17"
        ) from None
    if bad := [number for number in numbers if not 0 <= number < n_neurons]:
        raise ConfigError(f"--neurons {neurons}: no neuron {bad[0]}; they run from 0 to {n_neurons - 1}")
    return numbers


def _sentences(stages: dict[str, Folder]) -> dict[int, str | None]:
    """Return the sentence of each selected neuron, best neuron first; None where it has none."""
    if "score_fidelity" in stages:
        table = stages["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
        return dict(zip(table["neuron_idx"].tolist(), table["interpretation"], strict=True))
    if "select" not in stages:
        return {}
    ranked = stages["select"].read_table("selection.parquet").to_pandas().dropna(subset="rank")
    return dict.fromkeys(ranked.sort_values("rank")["neuron_idx"].tolist())


def _paragraph(neuron: int, sentence: str | None, share: float, texts: list[str]) -> str:
    title = f"neuron {neuron}: {sentence if pd.notna(sentence) else '(no sentence)'}"
    lines = [title, f"  fires on {share:.1%} of the training texts"]
    for number, text in enumerate(texts, 1):
        short = " ".join(truncate_words(text, WORDS_SHOWN).split())
        lines.append(textwrap.fill(short, 100, initial_indent=f"  {number}. ", subsequent_indent="     "))
    return "\n".join(lines)
