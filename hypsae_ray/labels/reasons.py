"""Reasons for labels, for audits: which pairs are looked at first, and whether a quote stands in its text.

The label stays what it is: a reason is asked for it, and does not decide it. An audit looks first at texts on
which label and neuron disagree, then at labels close to the threshold, and at last at the others.
"""

import re

import numpy as np
import pandas as pd
from scipy.special import logit

from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.data.words import UNSPACED
from hypsae_ray.models.prompts.wording import REASON_BEGUN
from hypsae_ray.neurons.names import without_thinking

FIRES_NO, SILENT_YES = "neuron fires, label no", "neuron silent, label yes"
NEAR, AGREES = "near the threshold", "neuron and label agree"
NEAR_ODDS = 0.5
"""So far from the threshold, in log-odds, a label counts as close to it: from 0.38 to 0.62 around 0.5."""
LEAST = 1e-6  # probability, as in models.prompts.guarded
NO_QUOTE = frozenset({"", "none", "n/a", "no quote"})

_PART = re.compile(r"(?:^|\n|(?<=[.!?\"”])\s)[\s*_#>•\d.)(-]*(reason|quote)[*_ ]*[:=][*_ ]*", re.IGNORECASE)
_MARKS = "\"“”„‟«»'‘’‚‛`´′″"
_MARK = re.compile(rf"[{_MARKS}]+")
_MARKED = re.compile(r"[\"“](.+)[\"”]")
_BEFORE, _AFTER = rf"(?<![^\W{UNSPACED}])", rf"(?![^\W{UNSPACED}])"  # no part of a longer word


def doubtful_first(
    p_yes: Floats, threshold: float, activation: Floats, rng: np.random.Generator
) -> pd.Series:
    """Return the pairs of one hypothesis in the order in which an audit looks at them, and why.

    First, by turns, texts on which the neuron fires and the label is no, the strongest first, and texts on
    which it is silent and the label is yes, the highest p_yes first. Then labels within `NEAR_ODDS` of the
    threshold, the closest first; then others at random, firing and silent ones by turns.

    Args:
        p_yes: (n,), NaN where there is no label; such pairs are left out.
        threshold: p_yes from which the label is yes.
        activation: (n,) of the hypothesis's neuron.
        rng: decides the order of what is equal otherwise.

    Returns:
        A reason per pair, indexed by its position in the n pairs.
    """
    rows = rng.permutation(np.flatnonzero(~np.isnan(p_yes)))
    fires, yes = activation[rows] > 0, p_yes[rows] >= threshold
    distance = np.abs(_log_odds(p_yes[rows]) - _log_odds(np.array([threshold])))
    near = (fires == yes) & (distance < NEAR_ODDS)
    rest = (fires == yes) & ~near
    missed = _by(rows[fires & ~yes], -activation)
    extra = _by(rows[~fires & yes], -p_yes)
    others = _by_turns(rows[rest & fires], rows[rest & ~fires])
    disagreeing = _by_turns(missed, extra)
    why = [np.where(activation[disagreeing] > 0, FIRES_NO, SILENT_YES)]
    why += [np.full(near.sum(), NEAR), np.full(rest.sum(), AGREES)]
    closest = rows[near][np.argsort(distance[near], kind="stable")]
    return pd.Series(np.concatenate(why), index=np.concatenate([disagreeing, closest, others]))


def _log_odds(p: Floats) -> Floats:
    return logit(np.clip(p.astype(np.float64), LEAST, 1 - LEAST))


def _by(rows: Ints, values: Floats) -> Ints:
    """Return rows in ascending order of their values, (n,) of all; equals keep their order."""
    return rows[np.argsort(values[rows], kind="stable")]


def _by_turns(first: Ints, second: Ints) -> Ints:
    """Return one of each in turn, then what is left of the longer one.

    >>> _by_turns(np.array([1, 2, 3, 4]), np.array([7, 8])).tolist()
    [1, 7, 2, 8, 3, 4]
    """
    turn = np.concatenate([2 * np.arange(len(first)), 2 * np.arange(len(second)) + 1])
    return np.concatenate([first, second])[np.argsort(turn, kind="stable")]


def read_reason(raw: str) -> tuple[str, str | None]:
    r"""Return the reason in an answer, "" for none, and the quote, "" where it says "none", None for none.

    The answer may go on with what `REASON_BEGUN` begins. The two may come in any order, on lines of their own
    or one after the other, with list marks, in bold; the quote may have quotation marks around it.

    >>> read_reason('**Reason:** The staff was slow.\n- Quote: "we waited an hour"')
    ('The staff was slow.', 'we waited an hour')
    """
    answer = without_thinking(raw).lstrip()
    if not _PART.match(answer):
        answer = REASON_BEGUN + answer
    names = list(_PART.finditer(answer))
    ends = [name.start() for name in names[1:]] + [len(answer)]
    parts: dict[str, str] = {}
    for name, end in zip(names, ends, strict=True):
        parts.setdefault(name[1].lower(), answer[name.end() : end].strip())
    reason = " ".join(parts.get("reason", "").split()).strip("*_ ")
    return reason, (_bare(parts["quote"]) if "quote" in parts else None)


def _bare(quote: str) -> str:
    """Return the first line of a quote, without marks around it; "" where it says that there is none.

    What follows is about the quote; the text was shown to the model on one line.
    """
    line = quote.partition("\n")[0]
    marked = _MARKED.match(line)
    inner = (marked[1] if marked else line).strip(f"{_MARKS}*_ ")
    return "" if inner.lower().rstrip(".") in NO_QUOTE else inner


def find_quote(quote: str, text: str) -> str | None:
    r"""Return the passage of a text that a quote repeats, as it stands there; None if there is none.

    Blanks, quotation marks and case may differ, and an ellipsis or a full stop may end the quote or begin it;
    words must be whole, and of no word may one be left out.

    >>> find_quote("the 'Best'  pie …", 'It was the “best”\npie, they said.')
    'the “best”\npie'
    >>> find_quote("art", "We start at noon.") is None
    True
    """
    words = re.sub(r"\\(?=[\"'])", "", quote).strip(f"{_MARKS} .…").split()
    if not any(character.isalnum() for word in words for character in word):
        return None
    before, after = _BEFORE * words[0][0].isalnum(), _AFTER * words[-1][-1].isalnum()
    pattern = r"\s+".join(_any_mark(word) for word in words)
    found = re.search(f"{before}{pattern}{after}", text, re.IGNORECASE)
    return found[0] if found else None


def _any_mark(word: str) -> str:
    """Return a pattern of a word in which each quotation mark stands for any other."""
    pieces = [re.escape(piece) for piece in _MARK.split(word)]
    return rf"[{_MARKS}]+".join(pieces)
