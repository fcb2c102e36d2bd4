"""Tables that stages wrote, read back: columns, texts and activations of a split."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import COVARIATE


def read_column(data: Folder, split: str, column: str) -> pd.Series:
    """Return one column of the texts table of a split, indexed by row_id."""
    return data.read_tables(f"{split}-", ["row_id", column]).to_pandas().set_index("row_id")[column]


def covariate_columns(data: Folder, split: str) -> list[str]:
    """Return the columns of covariates in the texts tables of a split: of a category one for each level."""
    with data.open(data.names(f"{split}-", ".parquet")[0]) as file:
        return [name for name in pq.read_schema(file).names if name.startswith(COVARIATE)]


def read_texts(data: Folder, split: str, row_ids: Iterable[int], column: str = "text") -> pd.Series:
    """Return the texts of some rows of a split, or another column, indexed by row_id, ascending."""
    return read_some(data, split, [column], row_ids)[column]


def read_some(data: Folder, split: str, columns: Sequence[str], row_ids: Iterable[int]) -> pd.DataFrame:
    """Return columns of the texts table of some rows of a split, indexed by row_id, ascending."""
    ids = np.array(sorted(set(row_ids)), dtype=np.int64)
    parts = (
        part.filter(np.isin(part["row_id"].to_numpy(), ids))
        for part in data.tables(f"{split}-", ["row_id", *columns])
    )
    return pa.concat_tables(parts).to_pandas().set_index("row_id").sort_index()


def read_activations(
    sae: Folder,
    split: str,
    n_neurons: int,
    some: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
) -> tuple[np.ndarray, sp.csr_matrix]:
    """Return row ids (n,), ascending, and the activations of these rows, (n, n_neurons) sparse.

    Those of some neurons (H,) alone, (n, H), where these are given, and of the rows alone whose ids are
    wanted, (m,), ascending.
    """
    row_ids, parts = [], []
    for table in sae.tables(f"activations-{split}-"):
        neurons, values = table["neurons"].combine_chunks(), table["values"].combine_chunks()
        fired = (values.flatten().to_numpy(), neurons.flatten().to_numpy(), neurons.offsets.to_numpy())
        matrix = sp.csr_matrix(fired, shape=(len(table), n_neurons))
        matrix, ids = matrix if some is None else matrix[:, some], table["row_id"].to_numpy()
        if wanted is not None:
            there = np.flatnonzero(np.append(wanted, -1)[np.searchsorted(wanted, ids)] == ids)
            matrix, ids = in_order(matrix, there), ids[there]
        parts.append(matrix)
        row_ids.append(ids)
    ids, matrix = np.concatenate(row_ids), sp.vstack(parts, format="csr")
    order = np.argsort(ids, kind="stable")
    return ids[order], in_order(matrix, order)


def in_order(matrix: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
    """Return some rows (m,) of a matrix; the matrix itself, without a copy, where they are all of its own."""
    return matrix if np.array_equal(rows, np.arange(matrix.shape[0])) else matrix[rows]


def top_rows(fired: sp.csc_matrix, neuron: int) -> np.ndarray:
    """Return the positions of the rows on which a neuron fires, the strongest first."""
    column = fired[:, [neuron]].tocoo()
    return column.row[np.argsort(-column.data, kind="stable")]
