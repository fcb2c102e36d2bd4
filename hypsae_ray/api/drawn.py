"""Arguments of `evaluate_hypotheses`: rows drawn to be labelled, and what else is known of rows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from hypsae_ray.data import arguments
from hypsae_ray.data.arguments import Rows, index_of
from hypsae_ray.errors import InputError
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.stats.sample import Drawn, LabelArray, Labels, Sample, drawn_sample

NAMES = ("probability", "uniform", "proxies")


def draw(sample: Sample, rows: Rows, given: Mapping[str, Any]) -> Sample:
    """Return the rows of a sample that have a label, as drawn from all of them.

    Args:
        sample: all N rows, their labels in memory.
        rows: the same, for arguments with an index.
        given: those of NAMES that were given.

    Raises:
        InputError: they do not fit one another, or the rows.
    """
    if not given:
        return of_stored(sample)
    if "probability" not in given:
        raise InputError(f"{next(iter(given))}: give `probability` as well, of each row to be drawn")
    if not isinstance(sample.labels, LabelArray):
        raise InputError("probability: stored annotations hold that of their rows; leave it out")
    expected = "a number above 0, and 1 at the most"
    chance = arguments.numbers("probability", given["probability"], expected, lambda p: (p > 0) & (p <= 1))
    chance = rows.take("probability", chance, index_of(given["probability"]))
    labels = sample.labels.values
    at = np.flatnonzero(~np.isnan(labels).all(axis=1))
    if not len(at):
        raise InputError("annotations: no row has a label")
    proxies = None if "proxies" not in given else _proxies(given["proxies"], rows, sample)
    uniform = np.full(len(at), np.ptp(chance) == 0)
    if "uniform" in given:
        values = arguments.numbers("uniform", given["uniform"], "true or false", lambda v: np.isin(v, (0, 1)))
        uniform = rows.take("uniform", values, index_of(given["uniform"]))[at] == 1
    all_rows = None if proxies is None else replace(sample, labels=proxies)
    return drawn_sample(sample, LabelArray(labels[at]), Drawn(sample.n, chance[at], uniform, at, all_rows))


def check_rows(
    extras: Mapping[str, Any], activations: sp.csc_matrix | None, n: int, n_hypotheses: int
) -> None:
    """Raise InputError if anything has other rows than the labels; features may end sooner."""
    if activations is not None and activations.shape != (n, n_hypotheses):
        raise InputError(f"activations: the shape is {activations.shape}, but must be {(n, n_hypotheses)}")
    for name, values in extras.items():
        for key, one in values.items():
            rows = one.shape[0]
            if rows > n or (rows < n and name == "groupings"):
                raise InputError(f"{name}, {key!r}: {rows:,} rows, but annotations has {n:,}")


def with_sources(sample: Sample, sources: Mapping[str, Any], activations: Any) -> Sample:
    """Return a sample with `features`, `groupings` and activations of all rows: of those that it has."""
    at = slice(None) if sample.drawn is None else sample.drawn.positions
    features = {
        name: values[at] if sample.drawn is None else values[at[at < values.shape[0]]]
        for name, values in sources["features"].items()
    }
    groupings = {name: values[at] for name, values in sources["groupings"].items()}
    of_rows = None if activations is None else sp.csc_matrix(activations)[at]
    return replace(sample, features=features, groupings=groupings, activations=of_rows)


def of_stored(sample: Sample) -> Sample:
    """Return stored annotations as drawn, where they are of a sample; rows then are all that were drawn."""
    drawn = sample.labels.drawn() if isinstance(sample.labels, StoredLabels) else None
    if drawn is None:
        return sample
    n_all, rows = round(float((1 / drawn.probability).sum())), np.arange(sample.n)
    return drawn_sample(sample, sample.labels, Drawn(n_all, drawn.probability, drawn.uniform, rows))


def _proxies(given: Any, rows: Rows, sample: Sample) -> Labels:
    frame = arguments.table("proxies", given, "a table (n, H) of numbers from 0 to 1")
    values = rows.take("proxies", arguments.number_table("proxies", frame), index_of(given))
    if values.shape != sample.labels.shape:
        raise InputError(f"proxies: {values.shape[1]} columns, but annotations has {sample.n_hypotheses}")
    unfit = ~((values >= 0) & (values <= 1))
    if unfit.any():
        row, column = (int(i) for i in np.argwhere(unfit)[0])
        where = f"row {row}, column {column}"
        raise InputError(f"proxies, {where}: {values[row, column]:g}, but expected a number from 0 to 1")
    return LabelArray(values)
