"""Covariates as columns of the joint model: numbers, and a column for each level of a category but one.

A column whose values are all numbers is one number, whatever its dtype: numbers as text or Decimals too, True
and yes are 1. Any other is a category. So is a pandas Categorical of numbers, which is how to say that codes
(of regions, say) are names.
"""

import datetime
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.data import arguments, columns
from hypsae_ray.data.arrays import Floats
from hypsae_ray.errors import InputError

DATES = (datetime.date, datetime.time, datetime.timedelta, pd.Period, np.datetime64, np.timedelta64)


@dataclass(frozen=True)
class Controls:
    """Columns (n, C) with their names, and with which level the others of each category are compared."""

    values: Floats
    names: tuple[str, ...]
    notes: list[str] = field(default_factory=list[str])


def encode(frame: pd.DataFrame) -> Controls:
    """Return the columns of a table of covariates.

    Of a category, the reference level is the most frequent one.

    Raises:
        InputError: a value is missing or a date, a name stands twice, or a category has nearly as many levels
            as rows.
    """
    names = [str(name) for name in frame.columns]
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InputError(f"covariates: two columns are called {repeated[0]!r}: rename one")
    parts = [_encode_one(name, frame.iloc[:, i]) for i, name in enumerate(names)]
    return Controls(
        np.column_stack([part.values for part in parts]) if parts else np.zeros((len(frame), 0)),
        tuple(name for part in parts for name in part.names),
        [note for part in parts for note in part.notes],
    )


def _encode_one(name: str, column: "pd.Series[Any]") -> Controls:
    where = f"covariate {name!r}"
    typed = columns.numbers(column)
    stored = column.dtype.kind in "biuf"
    unusable = typed.reasons if stored else typed.reasons.where(typed.missing, "")
    arguments.refuse(where, column, unusable, "leave such rows out, or fill them in")
    dates = column.map(lambda value: isinstance(value, DATES)).to_numpy(bool)
    advice = "give numbers (days since the first one) or categories (months, say)"
    arguments.refuse(where, column, np.where(dates, "it is a date", ""), advice)
    if not typed.bad.any() and not isinstance(column.dtype, pd.CategoricalDtype):
        return Controls(typed.values[:, None], (name,))
    return _encode_levels(name, column, typed)


def _encode_levels(name: str, column: "pd.Series[Any]", typed: columns.Typed) -> Controls:
    """Return the columns of a category; where it has numbers in it too, say which value is none."""
    levels = columns.names(column)
    arguments.refuse(f"covariate {name!r}", column, levels.reasons, "give one number or name a row")
    reference, *others = pd.Series(levels.values).value_counts().index.tolist()
    why = ""
    if typed.bad.any() and not typed.bad.all():
        first = int(np.argmax(typed.bad))
        why = f" ({typed.reasons.iloc[first]}, at {arguments.where(column.index, first)})"
    advice = f"join levels, give numbers{why}, or leave it out"
    arguments.refuse_near_n(f"covariate {name!r}", len(others) + 1, len(column), advice)
    note = f"covariate {name}: its levels are compared with {reference!r}, the most frequent one"
    values = [levels.values == level for level in others]
    return Controls(
        np.column_stack(values).astype(np.float64) if values else np.zeros((len(column), 0)),
        tuple(f"{name}={level}" for level in others),
        [note + (f"; it is a category{why}" if why else "")],
    )
