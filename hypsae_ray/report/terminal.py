"""What a run says at its end, for a terminal."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hypsae_ray.report import words
from hypsae_ray.report.methods import cut_notes
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.stats.evaluate import Evaluation

# Columns of the tables of hypotheses, and what they are called there.
OF_RUN = {
    "target_class": "class",
    "hypothesis": "hypothesis",
    "separation_score": "separation",
    "separation_pval_adj": "p adj",
    "regression_coef": "coef",
    "regression_pval_adj": "p adj (joint)",
    "feature_prevalence": "prevalence",
    "f1_fidelity_score": "fidelity F1",
}
OF_GOLD = {
    "target_class": "class",
    "hypothesis": "hypothesis",
    "n_gold": "texts",
    "raw_coef": "coef",
    "raw_coef_ends": "95 % interval",
    "corrected_coef": "corrected",
    "corrected_coef_ends": "95 % interval ",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "kappa": "kappa",
}
EVALUATED = {
    "target_class": "class",
    "hypothesis": "hypothesis",
    "feature_prevalence": "prevalence",
    "separation_score": "separation",
    "regression_coef": "coef",
    "interval": "95 % interval",
    "regression_pval_adj": "p adj (joint)",
    "significant": "significant",
}


def closing_text(run: RunFolder, chains: Mapping[str, Chain]) -> list[str]:
    """Return the paragraphs that a run ends with: the baseline first, then the config's own chain."""
    config, paragraphs = run.config, []
    for name, chain in reversed(list(chains.items())):
        engine = words.engine_name(name, config)
        paragraphs.append(f"{engine}: {headline(chain.metrics)}\n{_short_table(chain.evaluation)}")
        paragraphs.append(_gold_table(chain))
        paragraphs.append("\n".join(f"note: {note}" for note in chain.notes))
    notes = "\n".join(f"note: {note}" for note in cut_notes(run.stages().values(), config))
    return [text for text in (*paragraphs, notes, words.caveat(config)) if text]


def _gold_table(chain: Chain) -> str:
    """Return what labels of people correct, a line for each hypothesis; empty where there are none."""
    if "gold" not in chain.details:
        return ""
    table = chain.details["gold"]
    sentences = chain.hypotheses.set_index("hypothesis_id")["interpretation"]
    table = table.assign(hypothesis=table["hypothesis_id"].map(sentences).str.slice(0, 50))
    for name in ("raw_coef", "corrected_coef"):
        ends = zip(table[f"{name}_ci_low"], table[f"{name}_ci_high"], strict=True)
        table[f"{name}_ends"] = [f"{_short_number(low)} to {_short_number(high)}" for low, high in ends]
    shown = table[[name for name in OF_GOLD if name in table]].rename(columns=OF_GOLD)
    return f"corrected by labels of people:\n{shown.to_string(index=False, float_format=_short_number)}"


def headline(metrics: dict[str, Any]) -> str:
    """Return the main figures of a chain in one line, as far as there are any."""
    if nothing := words.nothing_measured(metrics):
        return nothing
    found = words.quality(metrics)
    ends = words.span(found.low, found.high, 3)
    lacking = words.unmeasured(metrics)
    of_classes = " and classes" if metrics.get("task") == "multiclass" else ""
    parts = [
        f"{words.count(metrics.get('n_significant'))} of {words.count(words.tested(metrics))} "
        f"{'measured ' if lacking else ''}hypotheses{of_classes} significant{_by(metrics)} on "
        f"{words.labelled(metrics)} holdout {words.unit(metrics)}s",
        *([f"{lacking} not measured: too few labels"] if lacking else []),
        f"cross-fitted {found.key} {words.number(found.value, 3)}{f' ({ends})' if ends else ''}",
    ]
    if words.is_known(metrics.get("signal_pval")):
        parts.append(f"any signal at all: {words.p_equals(metrics['signal_pval'])}")
    return "; ".join(parts)


def evaluation_text(found: Evaluation) -> str:
    """Return an evaluation: its main figures, a line for each hypothesis, and notes."""
    ends = zip(found.table["regression_ci_low"], found.table["regression_ci_high"], strict=True)
    table = found.table.assign(
        interval=[f"{_short_number(low)} to {_short_number(high)}" for low, high in ends],
        significant=found.table["significant"].map({True: "yes", False: "no"}),
    )
    if "hypothesis" not in table:  # nobody wrote the sentences down
        table["hypothesis"] = [f"#{number}" for number in table["hypothesis_id"]]
    notes = "\n".join(f"note: {note}" for note in found.notes)
    return "\n\n".join(filter(None, [f"{headline(found.metrics)}\n{_short_table(table, EVALUATED)}", notes]))


def annotation_counts(run: RunFolder) -> str:
    """Return how many annotations of the run's own chain have each status."""
    counts = run.stages()["annotate"]["facts"]["answers"]
    return "answers: " + ", ".join(f"{words.count(n)} {status}" for status, n in counts.items())


def _by(metrics: dict[str, Any]) -> str:
    name = words.correction(metrics) if words.is_corrected(metrics) else "not corrected"
    at = f"at {metrics['alpha']:g}" if words.is_known(metrics.get("alpha")) else ""
    return f" ({' '.join(filter(None, [name, at]))})" if name or at else ""


def _short_table(evaluation: pd.DataFrame, columns: Mapping[str, str] = OF_RUN) -> str:
    order = evaluation["separation_score"].abs().sort_values(ascending=False, na_position="last").index
    table = evaluation.loc[order, [name for name in columns if name in evaluation]].rename(columns=columns)
    table["hypothesis"] = table["hypothesis"].fillna("(no usable sentence)").str.slice(0, 70)
    return table.to_string(index=False, float_format=_short_number)


def _short_number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
