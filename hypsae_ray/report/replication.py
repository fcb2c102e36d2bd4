"""What a replication says: for a terminal, as a page, and as the Methods section of a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.config import Config, ReplicateJob
from hypsae_ray.report import forest, templates, words
from hypsae_ray.report.methods import fill
from hypsae_ray.stats.replication import Replication

_LANES = {
    "first run": ("first_coef", "first_ci_low", "first_ci_high"),
    "replication": ("new_coef", "new_ci_low", "new_ci_high"),
    "pooled": ("pooled_coef", "pooled_ci_low", "pooled_ci_high"),
}
_VERDICTS = {True: "yes", False: "no"}
# Columns of the table in a terminal, and what they are called there.
_SHORT = {
    "hypothesis": "hypothesis",
    "first_coef": "first run",
    "new_coef": "new texts",
    "difference": "difference",
    "difference_pval_adj": "p adj (diff)",
    "pooled_coef": "pooled",
    "new_pval_adj": "p adj (new)",
    "replicates": "replicates",
}


@dataclass(frozen=True)
class Results:
    """A replication, and what it rests on.

    Attributes:
        found: both samples compared.
        first, new: metrics of their evaluations.
        job: the new texts, how they were labelled and tested.
        config: of the first run.
        notes: sentences about the replication as a whole.
    """

    found: Replication
    first: Mapping[str, Any]
    new: Mapping[str, Any]
    job: ReplicateJob
    config: Config
    notes: Sequence[str]


def text(results: Results) -> str:
    """Return the main figures, a line for each hypothesis, and notes."""
    table = results.found.table
    order = table["first_coef"].abs().sort_values(ascending=False, na_position="last").index
    short = table.loc[order, [*_SHORT]].rename(columns=_SHORT)
    short["hypothesis"] = short["hypothesis"].fillna("(no usable sentence)").str.slice(0, 50)
    short["replicates"] = [_verdict(row) for row in table.loc[order].to_dict("records")]
    lines = short.to_string(index=False, float_format=lambda value: f"{value:.3g}", na_rep="")
    notes = "\n".join(f"note: {note}" for note in results.notes)
    return "\n\n".join(filter(None, [f"{headline(results.found.metrics)}\n{lines}", notes]))


def headline(metrics: Mapping[str, Any]) -> str:
    """Return how many effects replicate, and how many differ, in one line.

    >>> counts = {"n_significant": 9, "n_replicated": 7, "n_not_measured": 0, "n_new": 412}
    >>> headline({**counts, "n_differing": 1, "n_compared": 12})
    '7 of 9 significant effects replicate on 412 new texts; 1 of 12 differs from the first run'
    """
    n, texts = metrics["n_significant"], f"{words.plural(metrics['n_new'], 'new text')}"
    effects = f"{words.count(metrics['n_replicated'])} of {words.plural(n, 'significant effect')}"
    replicate = "replicates" if n == 1 else "replicate"
    parts = [
        f"{effects} {replicate} on {texts}" if n else f"no effect of the first run is significant; {texts}"
    ]
    if metrics["n_not_measured"]:
        parts.append(f"{words.count(metrics['n_not_measured'])} could not be measured there")
    if metrics["n_compared"]:
        differ = "differs" if metrics["n_differing"] == 1 else "differ"
        of = f"{words.count(metrics['n_differing'])} of {words.count(metrics['n_compared'])}"
        parts.append(f"{of} {differ} from the first run")
    return "; ".join(parts)


def methods(results: Results) -> str:
    """Describe a replication in plain text, as `methods.methods` does a run: the sources last."""
    values = {
        "first": results.first,
        "new": results.new,
        "metrics": results.found.metrics,
        "job": results.job,
    }
    return fill("replication.txt.j2", labelled=words.model_in_use(results.job.llm), **values)


def render(results: Results) -> str:
    """Return the replication as one self-contained HTML document. All texts in it are escaped."""
    table = results.found.table.sort_values("first_coef", ascending=False, kind="stable", na_position="last")
    columns = zip(*_LANES.values(), strict=True)  # all effects, all lower ends, all upper ends
    effect, low, high = (table[[*names]].to_numpy(dtype=np.float64).ravel() for names in columns)
    scale = forest.scale(effect, low, high)
    rows = [
        {**row, "sentence": _text(row["hypothesis"]), "verdict": _verdict(row), "lanes": _lanes(scale, row)}
        for row in table.to_dict("records")
    ]
    return templates.page(
        "replication.html.j2",
        rows=rows,
        scale=scale,
        results=results,
        metrics={**results.new, **results.found.metrics},
        headline=headline(results.found.metrics),
        target=results.job.data.target,
        methods=methods(results),
    )


def _lanes(scale: forest.Scale, row: Mapping[Any, Any]) -> list[forest.Lane]:
    effects = {
        lane: (words.to_float(row[at]), words.to_float(row[low]), words.to_float(row[high]))
        for lane, (at, low, high) in _LANES.items()
    }
    return forest.lanes(scale, effects)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _verdict(row: Mapping[Any, Any]) -> str:
    """Return yes or no; "not measured", or "" where there was nothing to replicate."""
    replicates = row["replicates"]
    if pd.isna(replicates):
        return "not measured" if row["first_significant"] else ""
    return _VERDICTS[bool(replicates)]
