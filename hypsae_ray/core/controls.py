"""Covariates as columns of the joint model: numbers, and a column for each level of a category but one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hypsae_ray.core.sample import Floats


@dataclass(frozen=True)
class Controls:
    """Columns (n, C) with their names, and the level that the others of each category are compared with."""

    values: Floats
    names: tuple[str, ...]
    references: dict[str, str]


def encode(frame: pd.DataFrame) -> Controls:
    """Return the columns of a table of covariates.

    Text, categories and truth values become columns of 0 and 1; the reference level is the most frequent one.

    Raises:
        ValueError: a value is missing.
    """
    columns: list[Floats] = []
    names: list[str] = []
    references: dict[str, str] = {}
    for name in map(str, frame.columns):
        values = frame[name]
        if bool(values.isna().any()):
            raise ValueError(
                f"covariate {name!r} has missing values, the first at row {values.isna().argmax()}"
            )
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            columns.append(values.to_numpy(np.float64))
            names.append(name)
            continue
        levels = values.astype(str)
        reference, *others = levels.value_counts().index.tolist()
        references[name] = str(reference)
        columns += [(levels == level).to_numpy(np.float64) for level in others]
        names += [f"{name}={level}" for level in others]
    stacked = np.column_stack(columns) if columns else np.zeros((len(frame), 0))
    return Controls(stacked, tuple(names), references)
