"""The chain, redundancy, dependence and controls of an evaluation, as the report shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from hypsae_ray.report import forest
from hypsae_ray.report.tables import table_of
from hypsae_ray.report.words import count, is_known, measure_name, number, percent, plural, span, to_float

Rows = Sequence[Mapping[Any, Any]]

# What a loss between two links of the chain points to.
_REMEDIES = {
    "neurons": "a larger autoencoder, or more training texts for it, may keep more",
    "selected neurons": "more hypotheses (select.n) may keep more",
    "hypotheses": "better sentences, or a model that labels better, may keep more",
}
_NOTHING = {"auc": 0.5, "r2": 0.0}


@dataclass(frozen=True)
class Bar:
    """One set of features: what it is, how well it predicts, and where that lies on the scale in percent."""

    name: str
    n_features: str
    value: str
    ends: str
    start: float
    width: float
    interval: forest.Interval | None


@dataclass(frozen=True)
class ChainView:
    """The bars from the embedding to the hypotheses, their scale, and what they say in sentences."""

    measure: str
    scale: forest.Scale
    bars: tuple[Bar, ...]
    sentences: tuple[str, ...]


def chain_view(details: Mapping[str, pd.DataFrame], metrics: Mapping[str, Any]) -> ChainView | None:
    """Lay out the table `chain`; None without any value in it."""
    both = table_of(details, "chain", ["features"], list(_NOTHING))
    key = next((key for key in _NOTHING if both[key].notna().any()), "")
    if not key:
        return None
    values = ["n_features", key, f"{key}_ci_low", f"{key}_ci_high"]
    table = table_of(details, "chain", ["features"], values)
    table = table.set_axis(["name", "n", "value", "low", "high"], axis=1)
    ends = (table[name].fillna(table["value"]).to_numpy(dtype=float) for name in ("value", "low", "high"))
    scale = forest.scale(*ends, origin=_NOTHING[key])
    links = table.to_dict("records")
    sentences = [_share(links, metrics, key), _largest_loss(links)]
    bars = tuple(_bar(one, scale) for one in links)
    return ChainView(measure_name(key), scale, bars, tuple(filter(None, sentences)))


def _bar(link: Mapping[Any, Any], scale: forest.Scale) -> Bar:
    value, low, high = (to_float(link[name]) for name in ("value", "low", "high"))
    ends = sorted([scale.percent(scale.origin), scale.percent(value if is_known(value) else scale.origin)])
    return Bar(
        name=str(link["name"]),
        n_features=count(link["n"]),
        value=number(value, 3),
        ends=span(low, high, 3),
        start=ends[0],
        width=round(ends[1] - ends[0], 2),
        interval=forest.interval(scale, value, low, high),
    )


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
    remedy = _REMEDIES.get(after["name"], "")
    return (
        f"The largest step down, {number(lost, 3)}, is from {before['name']} to {after['name']}"
        f"{f': {remedy}' if remedy else ''}."
    )


@dataclass(frozen=True)
class Group:
    """Hypotheses that say the same: their rows of the report, and how far each pair agrees, in words."""

    rows: tuple[Mapping[str, Any], ...]
    pairs: tuple[str, ...]


def redundancy_groups(rows: Rows, details: Mapping[str, pd.DataFrame]) -> list[Group]:
    """Return the groups of two or more hypotheses, each one once however many classes there are."""
    distinct = {row["hypothesis_id"]: row for row in rows}
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for row in distinct.values():
        if is_known(row["redundancy_group"]):
            groups.setdefault(int(row["redundancy_group"]), []).append(row)
    table = table_of(details, "redundancy", ["first", "second"], ["phi", "kappa", "n"])
    pairs = table.to_dict("records")
    return [Group(tuple(one), _pairs_within(one, pairs)) for _, one in sorted(groups.items()) if len(one) > 1]


def _pairs_within(rows: Rows, pairs: Sequence[Mapping[Any, Any]]) -> tuple[str, ...]:
    ids = {row["hypothesis_id"] for row in rows}
    return tuple(
        f"#{count(pair['first'])} and #{count(pair['second'])}: phi {number(pair['phi'])}, "
        f"kappa {number(pair['kappa'])}, {plural(pair['n'], 'text')}"
        for pair in pairs
        if {pair["first"], pair["second"]} <= ids
    )


def dependence_sentences(details: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say for each grouping in the table `dependence` what clustering by it would change."""
    table = table_of(details, "dependence", ["grouping", "se_ratio"], ["n_groups", "n_significant"])
    return [_dependence(row) for row in table.to_dict("records") if is_known(row["se_ratio"])]


def _dependence(row: Mapping[Any, Any]) -> str:
    ratio = number(row["se_ratio"], 1)
    groups = f" ({plural(row['n_groups'], 'group')})" if is_known(row["n_groups"]) else ""
    errors = "hardly change" if ratio == "1.0" else f"are {ratio} times as large"
    left = _still_significant(row["n_significant"])
    what = str(row["grouping"]).removeprefix("repeated ")  # "repeated text": rows with the same text
    return f"If rows with the same {what} belong together{groups}, standard errors {errors}{left}."


def _still_significant(amount: object) -> str:
    stay = "stays" if amount == 1 else "stay"
    left = f", and {plural(amount, 'hypothesis', 'hypotheses')} {stay} significant"
    return left if is_known(amount) else ""


def controls(details: Mapping[str, pd.DataFrame]) -> list[dict[Any, Any]]:
    """Return the rows of the table `covariates`; none if there is no such table."""
    values = ["coef", "ci_low", "ci_high", "pval"]
    return table_of(details, "covariates", ["name"], values).to_dict("records")
