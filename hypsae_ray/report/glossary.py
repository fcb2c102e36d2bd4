"""One plain sentence or two for each number that a report shows."""

from collections.abc import Mapping
from typing import Any

from hypsae_ray.report.words import (
    average_name,
    correction,
    count,
    effect_name,
    is_corrected,
    is_known,
    level,
    link,
    number,
    plural,
    quality,
)

_PER_UNIT = {
    "logit": " An effect of +0.69 doubles the odds, one of −0.69 halves them.",
    "log": " An effect of +0.69 doubles the mean, one of −0.69 halves it.",
}


def glossary(target: str, metrics: Mapping[str, Any], shown: set[str]) -> dict[str, str]:
    """Return a sentence for each number, by its name.

    Args:
        target: column that the hypotheses predict.
        metrics: of the evaluation.
        shown: which of "average effect", "controls", "dose", "signal" and "unique" the report has.
    """
    entries = {
        "Prevalence": "The share of holdout texts that were labelled as having the property.",
        "Separation": f"The mean {target} of the texts that have the property minus that of the texts that "
        "do not, each hypothesis on its own.",
        "Effect": _effect(target, metrics, "controls" in shown),
    }
    if "average effect" in shown:
        entries["Average effect"] = (
            f"By how much the {average_name(target, metrics)} is higher where a text has the property than "
            "where it does not, with all else as it is, on average over the texts."
        )
    if "unique" in shown:
        entries["Only it explains"] = (
            f"The share of the variance of {target} that would be lost without this hypothesis. It is small "
            "where others say the same."
        )
    entries |= {"Interval": _interval(metrics), "p and adjusted p": _p(metrics), "Fidelity": _FIDELITY}
    entries[f"{quality(metrics).name}, cross-fitted"] = _quality(target, metrics)
    if "signal" in shown:
        entries["Any signal at all"] = (
            f"How often {target}, dealt out to the texts at random, is fitted as well as the real one. A "
            "small p says that the hypotheses together know something, even if no single one is significant."
        )
    if "dose" in shown:
        entries["Dose"] = (
            f"The mean {target} of texts on which the neuron is silent, and of texts that it fires on, from "
            "weakly to strongly. A curve that goes on rising or falling says that more of the property goes "
            "with more (or less) of the target; a step without a slope says that only its presence counts."
        )
    return entries


_FIDELITY = (
    "How well the sentence tells the neuron's firing texts from silent ones (F1: 1 is perfect), on training "
    "texts that its author never saw. Where it is low, the sentence does not say what the neuron responds "
    "to; it says nothing about the target."
)


def _effect(target: str, metrics: Mapping[str, Any], controlled: bool) -> str:
    held = "all other hypotheses and the controls" if controlled else "all other hypotheses"
    name = effect_name(target, metrics)
    what = name if name == target else f"the {name}"
    return (
        f"The difference in {what} that goes with the property while {held} are held constant. "
        f"Hypotheses that say the same share one effect between them.{_PER_UNIT.get(link(metrics), '')} "
        "It is an association: the text need not be its cause."
    )


def _interval(metrics: Mapping[str, Any]) -> str:
    plain = "Of many intervals at 95 %, 95 in 100 hold the true value."
    adjusted = metrics.get("adjusted_level")
    if not is_corrected(metrics) or not is_known(adjusted):
        return plain
    return (
        f"{plain} The adjusted one ({level(adjusted)}) allows for the number of tests: read it where you "
        "look at the most striking hypotheses."
    )


def _p(metrics: Mapping[str, Any]) -> str:
    raw = "p is how often chance alone would give an estimate at least this far from zero."
    alpha, name = metrics.get("alpha"), correction(metrics)
    if not is_corrected(metrics):
        return f"{raw} No correction was made for the number of tests: some small ones are chance."
    if not name or not is_known(alpha):
        return raw
    tests = plural(metrics.get("n_tests", metrics.get("n_hypotheses")), "test")
    return f"{raw} The adjusted p allows for {tests}, by {name}: {_promise(metrics)}."


def _promise(metrics: Mapping[str, Any]) -> str:
    """Say what calling significant all below alpha keeps small."""
    bound, alpha = number(metrics["alpha"]), level(metrics["alpha"])
    if metrics["correction"].startswith("fdr"):
        return f"of the hypotheses below {bound}, no more than {alpha} are expected to be false"
    return f"the chance of even one false finding among those below {bound} is at most {alpha}"


def _quality(target: str, metrics: Mapping[str, Any]) -> str:
    if quality(metrics).key == "auc":
        what = (
            f"How often a text whose {target} is 1 gets a higher score than one whose {target} is 0, by a "
            "model that was fitted on neither: 0.5 is chance, 1 is perfect."
        )
    else:
        what = (
            f"The share of the variance of {target} that the hypotheses predict on texts left out of the "
            "fit: 0 is no better than the mean, and below 0 is worse."
        )
    return f"{what} In-sample, on the texts of the fit itself, the same measure flatters."


def legend(metrics: Mapping[str, Any]) -> str:
    """Return what model, errors and correction the forest plot rests on, as far as metrics say."""
    parts = [
        f"Joint model: {metrics['model']}" if metrics.get("model") else "",
        f"standard errors: {metrics['errors']}" if metrics.get("errors") else "",
        f"{count(metrics.get('n_regression'))} texts" if is_known(metrics.get("n_regression")) else "",
    ]
    said = ", ".join(filter(None, parts))
    return f"{said[:1].upper()}{said[1:]}." if said else ""
