"""The sections of the report about details of an evaluation; any table, column or value may be missing."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from hypsae_ray.report import forest
from hypsae_ray.report.words import (
    class_name,
    count,
    is_known,
    measure_name,
    number,
    percent,
    plural,
    to_float,
)

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[Any, Any]
Rows = Sequence[Row]

# What a loss between two links of the chain points to.
_REMEDIES = {
    "neurons": "a larger autoencoder, or more training texts for it, may keep more",
    "selected neurons": "more hypotheses (select.n) may keep more",
    "hypotheses": "better sentences, or a model that labels better, may keep more",
}
_NOTHING = {"auc": 0.5, "r2": 0.0}


def _columns(tables: Tables, name: str, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Return columns of a table: without rows if one of `keys` is missing, NaN where one of `values` is."""
    table = tables.get(name)
    if table is None or not set(keys) <= set(table):
        return pd.DataFrame(columns=[*keys, *values])
    return table.reindex(columns=[*keys, *values])


def chain_section(tables: Tables, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Lay out the table `chain`: how well features predict, from the embedding to the hypotheses.

    Returns:
        measure, scale, sentences, and bars: name, n, value, low, high, interval, start and width (percent of
        the scale). None if the table has no value.
    """
    both = _columns(tables, "chain", ["features"], list(_NOTHING))
    key = next((key for key in _NOTHING if both[key].notna().any()), "")
    if not key:
        return None
    values = ["n_features", key, f"{key}_ci_low", f"{key}_ci_high"]
    table = _columns(tables, "chain", ["features"], values).set_axis(
        ["name", "n", "value", "low", "high"], axis=1
    )
    ends = (table[name].fillna(table["value"]).to_numpy(dtype=float) for name in ("value", "low", "high"))
    scale = forest.scale(*ends, origin=_NOTHING[key], cut=False)
    bars = [_bar(link, scale) for link in table.to_dict("records")]
    sentences = [_share(bars, metrics, key), _largest_loss(bars)]
    return {
        "measure": measure_name(key),
        "scale": scale,
        "bars": bars,
        "sentences": list(filter(None, sentences)),
    }


def _bar(link: Row, scale: forest.Scale) -> dict[Any, Any]:
    value, low, high = (to_float(link[name]) for name in ("value", "low", "high"))
    start, end = sorted(
        scale.percent(at) for at in (scale.origin, value if is_known(value) else scale.origin)
    )
    interval = forest.interval(scale, value, low, high)
    return {**link, "start": start, "width": round(end - start, 2), "interval": interval}


def _share(links: Rows, metrics: Mapping[str, Any], key: str) -> str:
    values = {link["name"]: link["value"] for link in links}
    ceiling, reached = values.get("embedding"), values.get("hypotheses")
    if not is_known(metrics.get("share_of_ceiling"), ceiling, reached):
        return ""
    above = " above chance" if key == "auc" else ""
    return (
        f"The hypotheses keep {percent(metrics['share_of_ceiling'], 0)} of what the embedding knows about "
        f"the target{above}: {measure_name(key)} {number(reached, 3)} of {number(ceiling, 3)}."
    )


def _largest_loss(links: Rows) -> str:
    """Say between which two links most is lost; the keyword baseline is no link."""
    known = [link for link in links if is_known(link["value"]) and link["name"] != "keywords"]
    steps = [(before["value"] - after["value"], before, after) for before, after in pairwise(known)]
    lost, before, after = max(steps, key=lambda step: step[0], default=(0.0, {}, {}))
    if lost <= 0:
        return ""
    remedy = f": {_REMEDIES[after['name']]}" if after["name"] in _REMEDIES else ""
    return f"The largest step down, {number(lost, 3)}, is from {before['name']} to {after['name']}{remedy}."


def dose_section(rows: Rows, tables: Tables) -> dict[str, Any] | None:
    """Lay out the tables `dose` and `dose_trend`: the mean target of silent texts, and of firing ones by bin.

    Returns:
        ticks (value, percent from the top), and panels: row, silent (percent from the top, or None), points,
        path (pairs of points that a line joins), and of the trend slope, slope_ci_low, slope_ci_high,
        slope_pval and verdict. None if no mean is known.
    """
    dose = _columns(tables, "dose", _keys(tables, "dose", "bin"), ["n", "mean", "ci_low", "ci_high"])
    if not dose["mean"].notna().any():
        return None
    trend_values = ["slope", "slope_ci_low", "slope_ci_high", "slope_pval", "verdict"]
    trends = _columns(tables, "dose_trend", _keys(tables, "dose_trend"), trend_values)
    scale, n_bins = _dose_scale(dose), max(int(dose["bin"].max()), 1)
    panels = [_panel(row, _of(dose, row), _of(trends, row), scale, n_bins) for row in rows]
    return {
        "ticks": [(tick, _from_top(scale, tick)) for tick in scale.ticks],
        "panels": [panel for panel in panels if panel["points"] or panel["verdict"]],
    }


def _keys(tables: Tables, name: str, *others: str) -> list[str]:
    return ["hypothesis_id", *(["target_class"] if "target_class" in tables.get(name, ()) else []), *others]


def _of(table: pd.DataFrame, row: Row) -> pd.DataFrame:
    """Return the rows of a table about a hypothesis, and about its class if the table has classes."""
    about = table["hypothesis_id"] == row["hypothesis_id"]
    return table[about & (table["target_class"] == row["target_class"]) if "target_class" in table else about]


def _dose_scale(dose: pd.DataFrame) -> forest.Scale:
    """Return a scale whose origin is the mean of silent texts over all hypotheses."""
    silent = dose.loc[dose["bin"] == 0, "mean"].dropna()
    ends = (dose[name].fillna(dose["mean"]).to_numpy(dtype=float) for name in ("mean", "ci_low", "ci_high"))
    origin = float(silent.mean() if len(silent) else dose["mean"].mean())
    return forest.scale(*ends, origin=origin, cut=False)


def _from_top(scale: forest.Scale, value: float) -> float:
    return round(100 - scale.percent(value), 2)


def _panel(
    row: Row, dose: pd.DataFrame, trends: pd.DataFrame, scale: forest.Scale, n_bins: int
) -> dict[str, Any]:
    known = dose[dose["mean"].notna()].sort_values("bin")
    silent = known.loc[known["bin"] == 0, "mean"]
    points = [_point(one, scale, n_bins) for one in known[known["bin"] > 0].to_dict("records")]
    trend = (trends if len(trends) else trends.reindex([0])).to_dict("records")[0]
    return {
        **{str(name): value for name, value in trend.items()},
        "verdict": trend["verdict"] if isinstance(trend["verdict"], str) else "",
        "row": row,
        "silent": _from_top(scale, float(silent.iloc[0])) if len(silent) else None,
        "points": points,
        # Points are joined if no empty bin lies between them.
        "path": [(a, b) for a, b in pairwise(points) if b["bin"] == a["bin"] + 1],
    }


def _point(one: Row, scale: forest.Scale, n_bins: int) -> dict[str, Any]:
    ends = (one["ci_low"], one["ci_high"]) if is_known(one["ci_low"], one["ci_high"]) else (one["mean"],) * 2
    position = int(one["bin"])
    y, y_low, y_high = (_from_top(scale, value) for value in (one["mean"], *ends))
    title = f"bin {position} of {n_bins}: {number(one['mean'])}, n = {count(one['n'])}"
    x = round(100 * (position - 0.5) / n_bins, 2)
    return {"bin": position, "x": x, "y": y, "y_low": y_low, "y_high": y_high, "title": title}


def redundancy_section(rows: Rows, tables: Tables) -> list[tuple[list[Row], list[str]]]:
    """Return groups of hypotheses that say the same: their rows of the report, and how far each pair agrees.

    A hypothesis is in its group once, however many classes there are.
    """
    groups: dict[int, list[Row]] = {}
    for row in {row["hypothesis_id"]: row for row in rows}.values():
        if is_known(row["redundancy_group"]):
            groups.setdefault(int(row["redundancy_group"]), []).append(row)
    pairs = _columns(tables, "redundancy", ["first", "second"], ["phi", "kappa", "n"]).to_dict("records")
    return [(one, _pairs_within(one, pairs)) for _, one in sorted(groups.items()) if len(one) > 1]


def _pairs_within(rows: Rows, pairs: Rows) -> list[str]:
    ids = {row["hypothesis_id"] for row in rows}
    return [
        f"#{count(pair['first'])} and #{count(pair['second'])}: phi {number(pair['phi'])}, "
        f"kappa {number(pair['kappa'])}, {plural(pair['n'], 'text')}"
        for pair in pairs
        if {pair["first"], pair["second"]} <= ids
    ]


def dependence_section(tables: Tables) -> list[str]:
    """Say for each grouping in the table `dependence` what clustering by it would change."""
    table = _columns(tables, "dependence", ["grouping", "se_ratio"], ["n_groups", "n_significant"])
    return [_dependence(row) for row in table.to_dict("records") if is_known(row["se_ratio"])]


def _dependence(row: Row) -> str:
    ratio, left = number(row["se_ratio"], 1), row["n_significant"]
    groups = f" ({plural(row['n_groups'], 'group')})" if is_known(row["n_groups"]) else ""
    errors = "hardly change" if ratio == "1.0" else f"are {ratio} times as large"
    stay = f"{plural(left, 'hypothesis', 'hypotheses')} {'stays' if left == 1 else 'stay'} significant"
    what = str(row["grouping"]).removeprefix("repeated ")  # "repeated text": rows with the same text
    and_left = f", and {stay}" if is_known(left) else ""
    return f"If rows with the same {what} belong together{groups}, standard errors {errors}{and_left}."


def controls_section(tables: Tables) -> Rows:
    """Return the rows of the table `covariates`; none if there is no such table."""
    names = ["target_class", "coef", "ci_low", "ci_high", "pval"]
    rows = _columns(tables, "covariates", ["name"], names).to_dict("records")
    return [{**row, "class_name": class_name(row["target_class"])} for row in rows]


def gold_section(rows: Rows, tables: Tables) -> Rows:
    """Return the rows of the table `gold`, with `row`, what the report says of the hypothesis otherwise."""
    keys = _keys(tables, "gold")
    estimates = ("raw_coef", "corrected_coef", "raw_prevalence", "corrected_prevalence")
    measures = [*estimates, "sensitivity", "specificity", "kappa"]
    ends = [f"{name}_ci_{end}" for name in measures for end in ("low", "high")]
    table = _columns(tables, "gold", keys, ["n_gold", *measures, *ends, "coder_kappa"])
    return [{**found, "row": row} for row in rows for found in _of(table, row).head(1).to_dict("records")]
