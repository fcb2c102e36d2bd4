"""Dose curves: the mean target of silent texts, and of firing ones from the weakest to the strongest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from hypsae_ray.report import forest
from hypsae_ray.report.tables import table_of
from hypsae_ray.report.words import count, is_known, number, p_equals, signed, span

_MEAN = ("n", "mean", "ci_low", "ci_high")
_TREND = ("slope", "slope_ci_low", "slope_ci_high", "slope_pval", "verdict")
_SIGNS = {"rises": "up", "falls": "down"}


@dataclass(frozen=True)
class Point:
    """The mean target of one bin of firing texts: places in percent from the left and from the top."""

    bin: int
    x: float
    y: float
    y_low: float
    y_high: float
    title: str


@dataclass(frozen=True)
class Panel:
    """The curve of one hypothesis.

    Attributes:
        row: its row of the report.
        silent: where the mean of the silent texts lies, in percent from the top; None if not known.
        points: the bins whose mean is known, weakest first.
        verdict: what the test of the trend came to; empty if there was none.
        p: the p-value of the trend in words; empty if there is none.
        slope: change from the weakest to the strongest firing text, with its interval; empty if not known.
    """

    row: Mapping[str, Any]
    silent: float | None
    points: tuple[Point, ...]
    verdict: str
    p: str
    slope: str

    @property
    def sign(self) -> str:
        """Return "up", "down" or "flat"."""
        return _SIGNS.get(self.verdict, "flat")

    @property
    def path(self) -> list[tuple[Point, Point]]:
        """Return the neighbouring points that a line joins: those with no empty bin between them."""
        return [(a, b) for a, b in pairwise(self.points) if b.bin == a.bin + 1]


@dataclass(frozen=True)
class Curves:
    """All panels, in the order of the rows, and the ticks of their scale: value, percent from the top."""

    ticks: tuple[tuple[float, float], ...]
    panels: tuple[Panel, ...]


def curves(rows: Sequence[Mapping[str, Any]], details: Mapping[str, pd.DataFrame]) -> Curves | None:
    """Lay out the tables `dose` and `dose_trend`; None without a mean to show.

    Args:
        rows: of the report, each with a hypothesis_id (and a target_class, if the tables have one).
        details: the tables of an evaluation by name.
    """
    dose = table_of(details, "dose", [*_keys(details, "dose"), "bin"], _MEAN)
    if not dose["mean"].notna().any():
        return None
    trends = table_of(details, "dose_trend", _keys(details, "dose_trend"), _TREND)
    scale, last = _scale(dose), max(int(dose["bin"].max()), 1)
    panels = (_panel(row, _of(dose, row), _of(trends, row), scale, last) for row in rows)
    kept = tuple(panel for panel in panels if panel.points or panel.verdict)
    return Curves(tuple((tick, _from_top(scale, tick)) for tick in scale.ticks), kept)


def _keys(details: Mapping[str, pd.DataFrame], name: str) -> list[str]:
    by_class = "target_class" in details.get(name, pd.DataFrame())
    return ["hypothesis_id", *(["target_class"] if by_class else [])]


def _of(table: pd.DataFrame, row: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of a table that are about a hypothesis, and about its class if they name one."""
    about = table["hypothesis_id"] == row["hypothesis_id"]
    return table[about & (table["target_class"] == row["target_class"]) if "target_class" in table else about]


def _scale(dose: pd.DataFrame) -> forest.Scale:
    """Measure from the mean of silent texts over all hypotheses."""
    silent = dose[(dose["bin"] == 0) & dose["mean"].notna()]
    origin = silent["mean"].mean() if len(silent) else dose["mean"].mean()
    low, high = (dose[name].fillna(dose["mean"]) for name in ("ci_low", "ci_high"))
    ends = (values.to_numpy(dtype=float) for values in (dose["mean"], low, high))
    return forest.scale(*ends, origin=float(origin))


def _from_top(scale: forest.Scale, value: float) -> float:
    return round(100 - scale.percent(value), 2)


def _panel(
    row: Mapping[str, Any], dose: pd.DataFrame, trends: pd.DataFrame, scale: forest.Scale, last: int
) -> Panel:
    known = dose[dose["mean"].notna()].sort_values("bin")
    silent = known.loc[known["bin"] == 0, "mean"]
    trend = trends.iloc[0].to_dict() if len(trends) else {}
    return Panel(
        row=row,
        silent=_from_top(scale, float(silent.iloc[0])) if len(silent) else None,
        points=tuple(_point(one, scale, last) for one in known[known["bin"] > 0].to_dict("records")),
        verdict=trend["verdict"] if isinstance(trend.get("verdict"), str) else "",
        p=p_equals(trend["slope_pval"]) if is_known(trend.get("slope_pval")) else "",
        slope=_slope(trend) if is_known(trend.get("slope")) else "",
    )


def _point(one: Mapping[Any, Any], scale: forest.Scale, last: int) -> Point:
    ends = (one["ci_low"], one["ci_high"]) if is_known(one["ci_low"], one["ci_high"]) else (one["mean"],) * 2
    place, x = int(one["bin"]), round(100 * (one["bin"] - 0.5) / last, 2)
    y, low, high = (_from_top(scale, value) for value in (one["mean"], *ends))
    title = f"bin {place} of {last}: {number(one['mean'])}, n = {count(one['n'])}"
    return Point(place, x, y, low, high, title)


def _slope(trend: Mapping[Any, Any]) -> str:
    ends = span(trend.get("slope_ci_low"), trend.get("slope_ci_high"))
    return f"{signed(trend['slope'])}{f' ({ends})' if ends else ''}"
