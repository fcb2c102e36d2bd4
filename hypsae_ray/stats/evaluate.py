"""Test hypotheses on texts that nothing else has used.

1. Each hypothesis alone: its prevalence and separation score (`separation`).
2. All together, on the rows without a missing label: OLS, logit or Poisson on a constant or fixed effects,
   covariates, and every hypothesis that is no combination of others (`regression`). One with
   labels on fewer than half of the rows would cost the others theirs, and is left out.
3. P-values adjusted for the number of hypotheses given, those that failed included (`multiplicity`).
   Significant is an adjusted p-value of the joint model below alpha.
4. How well all of them predict the target, cross-fitted (`chain`), and whether at all (`signal`).
5. What the numbers rest on, and where that does not hold (`notes`).

| task | target | joint model | effects in units of |
|---|---|---|---|
| regression | a number | OLS | the target |
| classification | 0 or 1 | logit | log odds, and probability |
| count | 0, 1, 2, ... | Poisson | log rate, and the target |
| pairwise | 1 if text A of a pair was chosen, else 0; or a difference | logit, or OLS | as above |
| multiclass | one of several classes | a logit for each class against the rest | as above |

A hypothesis is its column position; two with the same sentence stay two. Intervals cover 95 %, each one on
its own; those named "adj" cover as the correction wants.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from hypsae_ray.config import Evaluate
from hypsae_ray.data.arrays import Floats
from hypsae_ray.stats.analysis import Analysis, Task, analyse, covariate_table, method_of, table_of
from hypsae_ray.stats.dose import dose_response
from hypsae_ray.stats.multiplicity import Corrected, correct
from hypsae_ray.stats.notes import dependence_notes, notes_of
from hypsae_ray.stats.prediction.chain import Value, predictive_value
from hypsae_ray.stats.prediction.signal import signal_test
from hypsae_ray.stats.regression.joint import fit_joint
from hypsae_ray.stats.regression.likelihood import LINEAR
from hypsae_ray.stats.sample import Sample
from hypsae_ray.stats.two_phase.proxied import use_proxies


@dataclass(frozen=True)
class Evaluation:
    """What the holdout says about H hypotheses.

    Attributes:
        table: H rows in the order given; in multiclass one per class and hypothesis, with a column
            target_class. hypothesis_id (position); n (labelled rows); n_yes; feature_prevalence (weighted
            share of rows with the property), prevalence_ + ci_low, ci_high; separation_score, separation_ +
            se, ci_low, ci_high, pval, test, pval_adj (units of the target), separation_std (in standard
            deviations of the target); regression_coef, regression_ + se, ci_low, ci_high, pval, pval_adj,
            adj_ci_low, adj_ci_high, regression_std (target and hypothesis in standard deviations; in logit
            and Poisson the hypothesis only);
            average_effect, average_effect_ + se, ci_low, ci_high, pval (logit and Poisson: change of the mean
            target with the property); unique_r2 (share of the target's variance that it alone
            explains); redundancy_group (near-copies have the same number); significant; note (why values are
            NaN); of a sample also effective_labels (how many labels drawn plainly are as good).
        metrics: numbers and words about all of them: task, model, link, errors, correction, alpha, n_tests,
            alpha_per_test (Bonferroni only), adjusted_level, n, n_regression, n_groups, n_hypotheses,
            n_measured (those with labels on half of the rows or more), n_significant, r2 or auc and pseudo_r2
            (in-sample), r2_cross_fitted or auc_cross_fitted and auprc_cross_fitted with ci_low and ci_high,
            share_of_ceiling, signal_r2, signal_pval, signal_draws; n_pairs and n_pairs_asked where a mask
            left out pairs; n_all where n rows were drawn from so many, n_uniform of them uniformly, and where
            proxies are known, effective_labels: how many drawn plainly are as good (median of hypotheses).
        notes: what was left out, did not hold, or was done otherwise, in words; "#3" is hypothesis_id 3.
        details: further tables by name: redundancy, covariates, dependence, chain, dose, dose_trend, classes;
            stage `evaluate` adds gold (`two_phase.gold.Corrections`).
    """

    table: pd.DataFrame
    metrics: dict[str, Any]
    notes: list[str]
    details: dict[str, pd.DataFrame] = field(default_factory=dict[str, pd.DataFrame])


def evaluate(sample: Sample, task: Task, options: Evaluate) -> Evaluation:
    """Test every hypothesis against the target of the holdout; in multiclass it holds codes of classes.

    Raises:
        ValueError: a label cannot be, or the target or another part does not fit the task.
    """
    if task == "multiclass":
        return _evaluate_classes(sample, options)
    check(sample, task, options)
    labelled = analyse(sample, method_of(task, sample, options.cov_type), options)
    analysis = use_proxies(labelled, np.random.default_rng([options.random_state, 3]))
    (table,), level = _tables([analysis], options)
    value = predictive_value(analysis, sample.features, options)
    metrics: dict[str, Any] = {
        "task": task,
        **_counts(analysis, table, level, options),
        **analysis.fit.metrics,
        **value.metrics,
        **_signal(analysis, options),
    }
    dependence, n_significant = _dependence(labelled, options)
    notes = [*notes_of(analysis), *value.notes, *dependence_notes(dependence, n_significant)]
    details = _details(analysis, value) | {"dependence": dependence}
    return Evaluation(table, metrics, notes, _filled(details))


def note_mask(found: Evaluation, unasked: int) -> Evaluation:
    """Return the same with a note on every estimate, if a mask left out `unasked` pairs."""
    if not unasked:
        return found
    n, pairs = found.metrics["n"], found.metrics["n"] * found.metrics["n_hypotheses"]
    note = (
        f"a mask left out {unasked} of {pairs} pairs of text and hypothesis: the regression is on the "
        f"{found.metrics['n_regression']} of {n} rows that have every label, a separation score on the rows "
        "that were asked; if the choice of pairs has to do with the target or the property, every estimate "
        "is biased, and nothing here corrects for it"
    )
    marks = [f"{note}; {_MASKED}" if note else _MASKED for note in found.table["note"]]
    metrics = {**found.metrics, "n_pairs": pairs, "n_pairs_asked": pairs - unasked}
    return replace(found, table=found.table.assign(note=marks), metrics=metrics, notes=[note, *found.notes])


def name_classes(found: Evaluation, classes: npt.NDArray[Any]) -> Evaluation:
    """Return the same of multiclass with classes (C,) in place of their codes, in tables and notes."""

    def named(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(target_class=classes[table["target_class"].to_numpy(np.int64)])

    notes = list(found.notes)
    for i, note in enumerate(notes):
        if code := re.match(r"class (\d+): ", note):
            notes[i] = f"class {classes[int(code[1])]}: {note[code.end() :]}"
    details = {
        name: named(table) if "target_class" in table else table for name, table in found.details.items()
    }
    return replace(found, table=named(found.table), notes=notes, details=details)


_MASKED = "pairs were chosen by a mask: biased if the choice has to do with the target"


def _tables(analyses: list[Analysis], options: Evaluate) -> tuple[list[pd.DataFrame], float]:
    """The table of each analysis, p-values adjusted over all of them, and the level of adjusted intervals."""
    joint = _correct([one.by_hypothesis(one.fit.estimates.pval) for one in analyses], options)
    alone = _correct([np.array([test.pval for test in one.separations]) for one in analyses], options)
    ends = np.cumsum([one.sample.n_hypotheses for one in analyses])[:-1]
    parts = zip(analyses, np.split(joint.pval, ends), np.split(alone.pval, ends), strict=True)
    return [table_of(*part, joint.level, options.alpha) for part in parts], joint.level


def _correct(parts: list[Floats], options: Evaluate) -> Corrected:
    return correct(np.concatenate(parts), options.correction, options.alpha)


def _counts(analysis: Analysis, table: pd.DataFrame, level: float, options: Evaluate) -> dict[str, Any]:
    fit, sample, design = analysis.fit, analysis.sample, analysis.design
    counts: dict[str, Any] = {
        "model": fit.model,
        "link": fit.link,
        "errors": fit.errors,
        "correction": options.correction,
        "alpha": options.alpha,
        "n_tests": len(table),
        "adjusted_level": level,
        "n": sample.n,
        "n_regression": design.n,
        "n_hypotheses": sample.n_hypotheses,
        "n_measured": len(design.live),
        "n_significant": int(table["significant"].sum()),
    }
    if options.correction == "bonferroni":
        counts["alpha_per_test"] = options.alpha / max(len(table), 1)
    if sample.groups is not None:
        counts["n_groups"] = len(np.unique(sample.groups))
    if sample.drawn is not None:
        counts |= {"n_all": sample.drawn.n_all, "n_uniform": int(sample.drawn.uniform.sum())}
        effective = analysis.effective()
        if not np.isnan(effective).all():
            counts["effective_labels"] = float(np.nanmedian(effective))
    return counts


def _signal(analysis: Analysis, options: Evaluate) -> dict[str, Any]:
    if analysis.sample.effects is not None:
        return {}
    rng = np.random.default_rng([options.random_state, 2])
    found = signal_test(analysis.design, analysis.total, options.n_permutations, rng)
    return {f"signal_{name}": value for name, value in vars(found).items()} if found.draws else {}


def _details(analysis: Analysis, value: Value) -> dict[str, pd.DataFrame]:
    details = {
        "redundancy": analysis.agreement.pairs(),
        "covariates": covariate_table(analysis),
        "chain": value.chain,
    }
    sample = analysis.sample
    if sample.activations is not None:
        bins, trends = dose_response(sample.activations, sample.target, sample.groups)
        details |= {"dose": bins, "dose_trend": trends}
    return details


def _dependence(analysis: Analysis, options: Evaluate) -> tuple[pd.DataFrame, int]:
    """How standard errors and significance change if rows belong together by other groupings.

    Also how many hypotheses are significant as it is: by labels alone, where proxies are known.
    """
    rows: list[dict[str, Any]] = []
    usual, method = analysis.by_hypothesis(analysis.fit.estimates.se), analysis.method
    for name, groups in analysis.sample.groupings.items():
        sample = replace(analysis.sample, groups=groups, drawn=None)
        design = replace(analysis.design, sample=sample)
        fit = fit_joint(design, analysis.total, "cluster", method.family, method.contrast)
        other = replace(analysis, fit=fit)
        ratios = other.by_hypothesis(fit.estimates.se) / usual
        if np.isnan(ratios).all():
            continue
        row = {"grouping": name, "n_groups": len(np.unique(groups)), "se_ratio": float(np.nanmedian(ratios))}
        rows.append({**row, "n_significant": _n_significant(other, options)})
    return pd.DataFrame(rows), _n_significant(analysis, options)


def _n_significant(analysis: Analysis, options: Evaluate) -> int:
    pval = _correct([analysis.by_hypothesis(analysis.fit.estimates.pval)], options).pval
    return int((pval < options.alpha).sum())


def _evaluate_classes(sample: Sample, options: Evaluate) -> Evaluation:
    """Each class against the rest; p-values are adjusted over all classes and hypotheses together."""
    classes = np.unique(sample.target)
    if len(classes) < 2:
        raise ValueError("in multiclass the target must have two classes or more")
    samples = [sample.of_class(one) for one in classes]
    for one in samples:
        check(one, "classification", options)
    rng = np.random.default_rng([options.random_state, 3])
    analyses = [
        use_proxies(analyse(one, method_of("classification", one, options.cov_type), options), rng)
        for one in samples
    ]
    (tables, level), summary, notes = _tables(analyses, options), [], []
    controls: list[pd.DataFrame] = []
    for one, analysis, table in zip(classes, analyses, tables, strict=True):
        table.insert(1, "target_class", one)
        controls.append(covariate_table(analysis).assign(target_class=one))
        row = {"target_class": one, "n": int(analysis.sample.target.sum()), "model": analysis.fit.model}
        value = predictive_value(analysis, {}, options)
        summary.append({**row, **value.metrics, **_signal(analysis, options)})
        notes += [f"class {one:g}: {note}" for note in notes_of(analysis)]
    table, by_class = pd.concat(tables, ignore_index=True), pd.DataFrame(summary)
    metrics = {
        "task": "multiclass",
        **_counts(analyses[0], table, level, options),
        "n_classes": len(classes),
        "auc": float(np.mean([a.fit.metrics.get("auc", np.nan) for a in analyses])),
        **{
            f"{name}_cross_fitted": float(by_class.get(f"{name}_cross_fitted", pd.Series([np.nan])).mean())
            for name in ("auc", "auprc")
        },
    }
    p_values = [row["signal_pval"] for row in summary if "signal_pval" in row]
    if p_values:  # of so many tests, by Bonferroni
        metrics["signal_pval"] = min(1.0, min(p_values) * len(p_values))
    details = {
        "classes": by_class,
        "redundancy": analyses[0].agreement.pairs(),
        "covariates": pd.concat(controls, ignore_index=True),
    }
    return Evaluation(table, metrics, notes, _filled(details))


def _filled(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: table for name, table in tables.items() if len(table)}


def check(sample: Sample, task: Task, options: Evaluate) -> None:
    """Raise ValueError if parts of a sample do not fit together or the task."""
    if task not in get_args(Task):
        raise ValueError(f"task {task!r} is none of {', '.join(get_args(Task))}")
    y, w, covariates = sample.target, sample.weights, sample.covariates
    if not np.isfinite(y).all():
        raise ValueError("the target holds values that are not finite")
    if task == "classification" and not np.isin(y, (0, 1)).all():
        raise ValueError("in classification the target must be 0 or 1")
    if task == "count" and not ((y >= 0) & (y == np.rint(y))).all():
        raise ValueError("of counts the target must be whole numbers of 0 or more")
    if w is not None and not (np.isfinite(w) & (w > 0)).all():
        raise ValueError("weights must be finite and above 0")
    if covariates is not None and not np.isfinite(covariates).all():
        raise ValueError("covariates hold values that are not finite")
    if options.cov_type == "cluster" and sample.groups is None:
        raise ValueError("cluster-robust errors need groups")
    linear = method_of(task, sample, options.cov_type).family is LINEAR
    if sample.effects is not None and not linear:
        raise ValueError(
            "fixed effects are absorbed in linear models only: leave them out, or say task='regression' for "
            "a linear model of the same target"
        )
