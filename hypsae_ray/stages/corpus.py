"""The training texts as naming and fidelity see them: distinct texts, and how each neuron fires on them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from hypsae_ray.stages.workspace import Workspace, read_activations, read_column, read_texts


@dataclass(frozen=True)
class Corpus:
    """Distinct texts: where one stands in several rows, the first row speaks for all.

    Attributes:
        row_ids: (n,) int64, of the row that stands for each text.
        fired: (n, M) sparse activations.
    """

    row_ids: np.ndarray
    fired: sp.csc_matrix

    @classmethod
    def of(cls, row_ids: np.ndarray, text_ids: Iterable[str], fired: sp.csr_matrix) -> "Corpus":
        """Keep the first row of each text id."""
        first = ~pd.Series(list(text_ids)).duplicated().to_numpy()
        return cls(row_ids[first], sp.csc_matrix(fired[first]))

    def activation(self, neuron: int) -> np.ndarray:
        """Return how strongly one neuron fires on each text, (n,) float64."""
        return self.fired[:, [neuron]].toarray().ravel().astype(np.float64)


def read_corpus(work: Workspace) -> Corpus:
    """Read the training texts' ids and activations of a run."""
    sae = work.inputs["train_sae"]
    row_ids, fired = read_activations(sae.folder, "train", sae.facts["n_neurons"])
    text_ids = read_column(work.inputs["data"].folder, "train", "text_id")
    return Corpus.of(row_ids, text_ids.loc[row_ids], fired)


def read_texts_by_id(work: Workspace, row_ids: Iterable[int]) -> dict[int, str]:
    """Return the training texts of some rows."""
    texts = read_texts(work.inputs["data"].folder, "train", row_ids)
    return dict(zip(texts.index.tolist(), texts, strict=True))
