"""Two runs side by side: what differs in what they were given, and what both found, as a page."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hypsae_ray.config import Config
from hypsae_ray.report import forest, templates, words
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.stats.matching import Match

_LANES = ("first", "second")
_SHOWN = (
    "hypothesis_id",
    "regression_coef",
    "regression_ci_low",
    "regression_ci_high",
    "regression_pval_adj",
    "feature_prevalence",
)
_NO_TEST: dict[str, Any] = {**dict.fromkeys(_SHOWN, math.nan), "significant": False}
# Rows of the table of corpora: fields of section data.
_COLUMNS = {
    "columns of texts": "text_columns",
    "column of the target": "target",
    "column of groups": "group",
    "column of weights": "weight",
    "covariates": "covariates",
}


@dataclass(frozen=True)
class Side:
    """One of two finished runs, and the results of its own chain."""

    run: RunFolder
    config: Config
    chain: Chain

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of each split."""
        return self.run.stages()["data"]["facts"]["rows"]


@dataclass(frozen=True)
class Results:
    """Two runs, and which of their hypotheses say the same.

    Attributes:
        matches: by positions of hypotheses.
        n_common: texts that both runs labelled.
    """

    first: Side
    second: Side
    matches: Sequence[Match]
    n_common: int

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both runs."""
        return self.first, self.second

    @property
    def names(self) -> tuple[str, str]:
        """What the runs are called: their folders, with as much of their paths as tells them apart."""
        return _apart(self.first.run.folder.path, self.second.run.folder.path)


class Difference(NamedTuple):
    """A value that the runs do not share."""

    name: str
    first: str
    second: str


def headline(results: Results) -> str:
    """Return how many hypotheses match, in one line."""
    n = len(results.matches)
    by_sentence = sum(one.same_sentence for one in results.matches)
    counts = [len(side.chain.hypotheses) for side in results.sides]
    of = f"{words.count(counts[0])} and {words.count(counts[1])}"
    matched = f"{words.plural(n, 'hypothesis', 'hypotheses')} of {of}"
    verb = "says" if n == 1 else "say"
    how = f": {words.count(by_sentence)} by sentence, {words.count(n - by_sentence)} by labels" if n else ""
    return f"{matched} {verb} the same{how}; {words.plural(results.n_common, 'text')} labelled by both runs"


def render(results: Results) -> str:
    """Return both runs as one self-contained HTML document without scripts. All texts in it are escaped."""
    rows, scale = _matched(results)
    return templates.page(
        "comparison.html.j2",
        names=results.names,
        headline=headline(results),
        differing=list(_settings(results)),
        facts=list(_facts(results)),
        views=[_tiles(side) for side in results.sides],
        targets=[side.config.data.target for side in results.sides],
        one_unit=_unit(results.first) == _unit(results.second),
        rows=rows,
        scale=scale,
        unmatched=_unmatched(results),
    )


def _tiles(side: Side) -> dict[str, Any]:
    metrics = side.chain.metrics
    return {"findings": {"metrics": metrics}, "quality": words.quality(metrics)}


def _unit(side: Side) -> tuple[str, ...]:
    """Return what effects are measured in."""
    metrics = side.chain.metrics
    return side.config.data.target, words.link(metrics), str(metrics.get("task"))


def _settings(results: Results) -> Iterator[Difference]:
    """Yield the fields of the configs that differ."""
    first, second = (dict(_fields(side.config.model_dump(mode="json"))) for side in results.sides)
    for name in [*first, *(name for name in second if name not in first)]:
        before, now = (fields.get(name, "not given") for fields in (first, second))
        if before != now:
            yield Difference(name, *_apart(before, now))


def _fields(tree: Mapping[str, Any], parents: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the value of each field."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{parents}{name}.")
        else:
            yield f"{parents}{name}", _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "none"
    return "none" if value in (None, {}) else str(value)


def _apart(first: str, second: str) -> tuple[str, str]:
    """Return two values, of paths only as many last parts as tell them apart.

    >>> _apart("/a/runs/one", "/b/runs/two"), _apart("/a/x/run", "/b/y/run"), _apart("0.1", "a/b")
    (('one', 'two'), ('x/run', 'y/run'), ('0.1', 'a/b'))
    """
    parts = [value.rstrip("/").split("/") if value.startswith("/") else [value] for value in (first, second)]
    for n in range(1, max(map(len, parts))):
        if parts[0][-n:] != parts[1][-n:]:
            break
    else:
        n = 1 if first == second else max(map(len, parts))
    return "/".join(parts[0][-n:]), "/".join(parts[1][-n:])


def _facts(results: Results) -> Iterator[Difference]:
    """Yield models and corpora, the same or not."""
    yield _both("embedder", results, lambda side: words.model_name(side.config.embed))
    yield _both("model that names", results, lambda side: words.model_in_use(side.config.interpreter))
    yield _both("model that labels", results, lambda side: words.model_in_use(side.config.llm))
    for split in ("train", "val", "holdout"):
        yield _both(f"{split} rows", results, lambda side, split=split: words.count(side.rows.get(split)))
    yield _both("labelled rows", results, lambda side: words.labelled(side.chain.metrics))
    yield _both("task", results, lambda side: str(side.chain.metrics.get("task")))
    for name, field in _COLUMNS.items():
        yield _both(name, results, lambda side, field=field: _shown(getattr(side.config.data, field)))


def _both(name: str, results: Results, of: Callable[[Side], str]) -> Difference:
    return Difference(name, *_apart(of(results.first), of(results.second)))


def _matched(results: Results) -> tuple[list[dict[str, Any]], forest.Scale]:
    """Return a row for each match, and class if there are several, from the largest first effect down."""
    rows = [row for one in results.matches for row in _rows_of(one, results)]
    rows.sort(key=lambda row: -np.nan_to_num(row["first"]["regression_coef"], nan=-np.inf))
    ends = [_ends(row[side]) for row in rows for side in _LANES]
    effect, low, high = np.array(ends, dtype=np.float64).reshape(-1, 3).T
    scale = forest.scale(effect, low, high)
    for row in rows:
        row["lanes"] = forest.lanes(scale, {side: _ends(row[side]) for side in _LANES})
    return rows, scale


def _ends(test: Mapping[str, Any]) -> tuple[float, float, float]:
    return test["regression_coef"], test["regression_ci_low"], test["regression_ci_high"]


def _rows_of(one: Match, results: Results) -> Iterator[dict[str, Any]]:
    first, second = _tests(results.first, one.first), _tests(results.second, one.second)
    for label in dict.fromkeys([*first, *second]):
        yield {
            "first": first.get(label, _NO_TEST),
            "second": second.get(label, _NO_TEST),
            "class_name": label,
            "sentences": (_sentence(results.first, one.first), _sentence(results.second, one.second)),
            "same_sentence": one.same_sentence,
            "phi": one.phi,
        }


def _tests(side: Side, position: int) -> dict[str, dict[str, Any]]:
    """Return the tests of a hypothesis by class of the target, "" where there is none."""
    table, number = side.chain.evaluation, side.chain.hypotheses["hypothesis_id"].iloc[position]
    records = table[table["hypothesis_id"] == number].to_dict("records")
    return {words.class_name(record.get("target_class")): _test(record) for record in records}


def _test(record: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what the page shows of a test."""
    significant = record.get("significant")
    shown = {name: words.to_float(record.get(name)) for name in _SHOWN}
    return {
        **shown,
        "significant": bool(pd.notna(significant) and significant),
        "sentence": record["hypothesis"] if isinstance(record.get("hypothesis"), str) else "",
        "class_name": words.class_name(record.get("target_class")),
    }


def _sentence(side: Side, position: int) -> str:
    sentence = side.chain.hypotheses["interpretation"].iloc[position]
    return sentence if isinstance(sentence, str) else ""


def _unmatched(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Return the tests of the hypotheses of each run that have no match, from the largest effect down."""
    matched = {"A": [one.first for one in results.matches], "B": [one.second for one in results.matches]}
    return {
        name: _left(side, positions)
        for side, (name, positions) in zip(results.sides, matched.items(), strict=True)
    }


def _left(side: Side, matched: Sequence[int]) -> list[dict[str, Any]]:
    left = np.delete(side.chain.hypotheses["hypothesis_id"].to_numpy(), np.array(matched, dtype=np.int64))
    table = side.chain.evaluation[side.chain.evaluation["hypothesis_id"].isin(left)]
    table = table.sort_values("regression_coef", ascending=False, kind="stable", na_position="last")
    return [_test(record) for record in table.to_dict("records")]
