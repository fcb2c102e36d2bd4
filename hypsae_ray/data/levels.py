"""Columns of names as numbers: categories among the covariates, and the classes of a target.

Levels are those of all files of a dataset, so that training rows and holdout have the same columns and codes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.data.arguments import refuse_near_n
from hypsae_ray.data.columns import Typed, names, numbers
from hypsae_ray.data.controls import DATES
from hypsae_ray.data.values import COMMA, Decimals, shown
from hypsae_ray.errors import InputError

MOST = 1_000  # levels of a column: each is a column of the joint model, or a model of its own
_DATE_ADVICE = "give numbers (days since the first one) or categories (months, say)"


@dataclass(frozen=True)
class Levels:
    """The levels of columns of names.

    Attributes:
        categories: of covariates, by column, the most frequent level first: the others are compared with it.
        classes: of the target, in the order of their codes; empty for a target of numbers.
    """

    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    classes: tuple[str, ...] = ()

    def covariates(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the numbers that columns of covariates become.

        >>> Levels({"city": ("Paris", "Rome", "Oslo")}).covariates(("age", "city"))
        ('age', 'city=Rome', 'city=Oslo')
        """
        return tuple(name for column in columns for name in self._names(column))

    def _names(self, column: str) -> list[str]:
        if column not in self.categories:
            return [column]
        return [f"{column}={level}" for level in self.categories[column][1:]]

    def indicators(self, name: str, column: "pd.Series[Any]") -> Iterator[tuple[str, Typed]]:
        """Yield for each level of a category but the first its name, and 1 where a row has it, else 0."""
        typed = names(column)
        for one, level in zip(self._names(name), self.categories[name][1:], strict=True):
            yield one, replace(typed, values=(typed.values == level).astype(np.float64))

    def codes(self, column: "pd.Series[Any]") -> Typed:
        """Return the code of the class of each row, NaN where it has none."""
        typed, code = names(column), {name: float(i) for i, name in enumerate(self.classes)}
        return replace(typed, values=np.array([code.get(name, np.nan) for name in typed.values.tolist()]))

    def notes(self) -> list[str]:
        """Say with which level the others of each category are compared."""
        return [
            f"covariate {column}: its levels are compared with {first!r}, the most frequent one"
            if others
            else f"covariate {column}: {first!r} in every row, so that it is left out"
            for column, (first, *others) in self.categories.items()
        ]


@dataclass
class SeenNames:
    """How often each name stands in a column, and how many of its values are no numbers."""

    column: str
    rows: int = 0
    no_numbers: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    date: str = ""  # the first one

    def add(self, values: "pd.Series[Any]", decimal: Decimals) -> None:
        """Take in more rows; names are no longer counted once there are more than MOST."""
        typed = numbers(values, decimal)
        self.rows += int((~typed.missing).sum())
        # A number in doubt is no name.
        self.no_numbers += int((typed.bad & ~typed.reasons.str.contains(COMMA, regex=False)).sum())
        if len(self.counts) <= MOST:
            found = names(values)
            self.counts.update(found.values[found.usable].tolist())
        if not self.date and values.dtype.kind not in "biuf":
            dates = values[values.map(lambda value: isinstance(value, DATES)).to_numpy(bool)]
            self.date = shown(dates.iloc[0]) if len(dates) else ""

    @property
    def are_names(self) -> bool:
        """Whether most values are no numbers."""
        return 2 * self.no_numbers > self.rows

    def category(self) -> tuple[str, ...]:
        """Return the levels, the most frequent first.

        Raises:
            InputError: they are dates, or too many.
        """
        where = f"column {self.column!r}, a covariate"
        if self.date:
            raise InputError(f"{where}: {self.date} is a date: {_DATE_ADVICE}")
        self._refuse_many(where, "join levels, or leave it out")
        return tuple(sorted(self.counts, key=lambda name: (-self.counts[name], name)))

    def classes(self) -> tuple[str, ...]:
        """Return the classes in the order of their numbers, if all are numbers, else of their names.

        Raises:
            InputError: there are too many.
        """
        self._refuse_many(
            f"column {self.column!r}",
            "join classes, or take numbers as what they are: data.task: regression",
        )
        found = sorted(self.counts)
        as_numbers = numbers(pd.Series(found, dtype=object))
        if as_numbers.usable.all():
            found = [found[i] for i in np.argsort(as_numbers.values, kind="stable")]
        return tuple(found)

    def _refuse_many(self, where: str, advice: str) -> None:
        if len(self.counts) > MOST:
            raise InputError(f"{where}: more than {MOST:,} categories; {advice}")
        refuse_near_n(where, len(self.counts), self.rows, advice)
