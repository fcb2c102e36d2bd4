"""The distinct training texts, and how each neuron fires on them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp


@dataclass(frozen=True)
class Corpus:
    """Distinct texts: of equal ones the first row is kept.

    Attributes:
        row_ids: (n,) int64, of the first row with each text.
        fired: (n, M) sparse activations.
    """

    row_ids: np.ndarray
    fired: sp.csc_matrix

    @classmethod
    def of(cls, row_ids: np.ndarray, text_ids: Iterable[str | int], fired: sp.csr_matrix) -> "Corpus":
        """Keep the first row of each text id."""
        first = ~pd.Series(list(text_ids)).duplicated().to_numpy()
        return cls(row_ids[first], sp.csc_matrix(fired[first]))

    def activation(self, neuron: int) -> np.ndarray:
        """Return how strongly one neuron fires on each text, (n,) float64."""
        return self.fired[:, [neuron]].toarray().ravel().astype(np.float64)
