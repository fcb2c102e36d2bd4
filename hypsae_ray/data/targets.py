"""The target as a task reads it: numbers, or codes of classes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.data import arguments, columns
from hypsae_ray.data.arrays import Floats
from hypsae_ray.data.rows import TARGETS
from hypsae_ray.errors import InputError

_EXPECTED = {
    "classification": "0 or 1 in classification",
    "pairwise": "1 where the first text of a pair was chosen, else 0; or a difference",
}


@dataclass(frozen=True)
class Target:
    """The target of n rows.

    Attributes:
        values: (n,) numbers, or in multiclass codes from 0.
        classes: in multiclass the class of each code, as a number if the column has a numeric dtype, else by
            name; else empty.
        notes: on how it was read.
    """

    values: Floats
    classes: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    notes: tuple[str, ...] = ()


def read_target(values: Any, task: str) -> Target:
    """Read the target of a task.

    Raises:
        InputError: a value is missing or does not fit the task, or nearly every row is a class of its own.
    """
    given = arguments.column("target", values)
    if task == "multiclass":
        return _read_classes(given)
    fits, expected = TARGETS.get(task, (None, "a finite number"))
    try:
        numbers = arguments.numbers("target", given, _EXPECTED.get(task, expected), fits)
    except InputError as error:
        raise InputError(f"{error}{_recoding(given, task)}") from None
    return Target(numbers, notes=pair_notes(numbers) if task == "pairwise" else ())


def _recoding(given: "pd.Series[Any]", task: str) -> str:
    """Say how two values that are no 0 and 1 become so."""
    if task not in ("classification", "pairwise"):
        return ""
    distinct = pd.Series(columns.names(given).values).dropna().unique()
    if len(distinct) != 2:
        return ""
    return f": of {' and '.join(sorted(map(repr, distinct)))}, give True for the one that is 1"


def _read_classes(given: "pd.Series[Any]") -> Target:
    typed = columns.names(given)
    arguments.refuse("target", given, typed.reasons, "expected on each row: a class")
    named = typed.values if given.dtype.kind not in "iuf" else np.asarray(pd.to_numeric(typed.values))
    classes, codes = np.unique(named, return_inverse=True)
    advice = "join classes, or take numbers as what they are, with task='regression'"
    arguments.refuse_near_n("target", len(classes), len(codes), advice)
    return Target(codes.astype(np.float64), classes)


def pair_notes(values: Floats) -> tuple[str, ...]:
    """Tell a difference that looks like a choice; refuse codes such as 1 and 2.

    Args:
        values: of the target; the lowest, the highest and one between them are enough.

    Raises:
        InputError: there are two values of one sign.
    """
    distinct = np.unique(values)
    if len(distinct) < 2 or np.isin(distinct, (0, 1)).all():
        return ()
    low, high = f"{distinct[0]:g}", f"{distinct[-1]:g}"
    one_sided = bool(distinct[0] > 0 or distinct[-1] < 0)
    if one_sided and len(distinct) == 2:
        raise InputError(
            f"target: its values are {low} and {high}, a code and no difference of two texts: in pairwise "
            f"give 1 where the first text was chosen, else 0 (target == {low}, if that means the first)"
        )
    if len(distinct) == 2:
        note = f"the target of pairs is {low} and {high}: taken as a difference, by least squares"
        return (f"{note}; a choice is 1 and 0",)
    if one_sided:
        return (f"all differences of pairs have one sign, from {low} to {high}: is it no rank or code?",)
    return ()
