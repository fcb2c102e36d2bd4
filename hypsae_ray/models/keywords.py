"""A language model without a language model: names by telling terms, labels by looking for them.

It is the instant baseline next to every LLM, and makes whole runs fast and exact. Naming a neuron:

1. Weigh the terms (words and pairs of words) by class-based TF-IDF (Grootendorst 2022, arXiv 2203.05794):
   W(t, c) = tf(t, c) * log(1 + A / f(t)), the classes c being the positive and the negative texts, f(t) the
   count of t in both, A the mean count of terms per class.
2. Of the heaviest terms that are more common in positive texts, add one at a time the term that most raises
   Youden's J of "any of the terms occurs" (its share of the positive texts less its share of the negative
   ones), up to 6 of them, as long as it rises. F1 would reward a term for being common: "food", "place".
3. Say so: mentions "wait", "waited" or "slow service".
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer

from hypsae_ray.config import Label
from hypsae_ray.models.protocols import (
    DEFAULT_LABEL,
    Annotations,
    Answer,
    NamingPrompt,
    Prompt,
    ReasonPrompt,
)
from hypsae_ray.store.schema import Status

_MAX_TERMS = 6
_MAX_CANDIDATES = 200
# Cross-fitted R2 of the sentences on unseen texts with a share of 1/6, 1/12 and 0: 0.60, 0.65 and 0.69 on the
# demo, 0.20, 0.22 and 0.21 on 1,000 Yelp reviews (20 neurons). At 0, chance adds terms such as "away ready".
_MIN_SHARE = 1 / 12
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True)
class Keywords:
    """The keyword baseline: a `protocols.LanguageModel` that takes no tokens. Deterministic."""

    thread_safe: ClassVar[bool] = True

    def generate(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Name by telling terms, FAILED where no term tells the groups apart; explain by the terms found."""
        return [_name(one) if isinstance(one, NamingPrompt) else _explain(one) for one in prompts]

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        options: Label = DEFAULT_LABEL,
        asked: npt.NDArray[np.bool_] | None = None,
    ) -> Annotations:
        """Label each text 1 where one of a question's terms occurs in it as words, else 0.

        The terms are those in double quotes; without quotes, all words of the question but stop words. A
        question without terms is FAILED for every text. `options` have no effect: nothing is prompted.
        """
        del options
        terms_of = _terms(questions)
        vocabulary = sorted(set().union(*terms_of))
        p_yes = np.zeros((len(texts), len(questions)), dtype=np.float32)
        if vocabulary and texts:
            p_yes = _any_term(texts, terms_of, vocabulary)
        empty = np.array([not terms for terms in terms_of], dtype=bool)
        p_yes[:, empty] = np.nan
        status = np.where(np.isnan(p_yes), Status.FAILED, Status.OK).astype(np.int8)
        if asked is not None:
            p_yes[~asked], status[~asked] = np.nan, Status.UNASKED
        return Annotations(p_yes, p_yes * 0, status)


def _name(prompt: NamingPrompt) -> Answer:
    texts = [*prompt.positives, *prompt.negatives]
    vectorizer = CountVectorizer(stop_words="english", ngram_range=(1, 2))
    try:
        counts = cast(sp.csr_matrix, vectorizer.fit_transform(texts)).tocsc()
    except ValueError:  # scikit-learn's only sign that the texts hold no term at all
        return Answer("", Status.FAILED)
    positive = np.arange(len(texts)) < len(prompt.positives)
    chosen = _telling(counts, positive)
    if not chosen:
        return Answer("", Status.FAILED)
    return Answer(_sentence([str(term) for term in vectorizer.get_feature_names_out()[chosen]]), Status.OK)


def telling_terms(texts: Sequence[str], groups: npt.NDArray[np.bool_]) -> list[list[str]]:
    """Return the terms that tell the texts (n,) of each group (n, H) from all others, the heaviest first."""
    vectorizer = CountVectorizer(stop_words="english", ngram_range=(1, 2))
    try:
        counts = cast(sp.csr_matrix, vectorizer.fit_transform(texts)).tocsc()
    except ValueError:  # no text holds a term
        return [[] for _ in groups.T]
    terms = vectorizer.get_feature_names_out()
    return [[str(term) for term in terms[_telling(counts, group)]] for group in groups.T]


def _explain(prompt: ReasonPrompt) -> Answer:
    """Say which terms of the property occur in a text, and quote the passage of the first one."""
    passages = _passages(prompt.text, _terms([prompt.question])[0])
    if not passages:
        return Answer("Reason: none of its terms is in the text\nQuote: none", Status.OK)
    found = ", ".join(f'"{term}"' for term in sorted(passages))
    first = min(passages.values())
    return Answer(f"Reason: terms in the text: {found}\nQuote: {prompt.text[slice(*first)]}", Status.OK)


def _passages(text: str, terms: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return where each term stands first in a text, by `_any_term`: stop words may lie between its words."""
    words = CountVectorizer(stop_words="english").build_analyzer()
    at = [(words(found[0]), found.span()) for found in re.finditer(r"\b\w\w+\b", text)]
    kept = [(word[0], *span) for word, span in at if word]
    passages: dict[str, tuple[int, int]] = {}
    for term in terms:
        n = len(term.split())
        runs = (kept[i : i + n] for i in range(len(kept) - n + 1))
        spans = [(run[0][1], run[-1][2]) for run in runs if " ".join(word for word, *_ in run) == term]
        if spans:
            passages[term] = spans[0]
    return passages


def _telling(counts: sp.csc_matrix, positive: npt.NDArray[np.bool_]) -> list[int]:
    """Columns of the terms that together tell positive rows from the others best, in order of choice."""
    present = (counts > 0).astype(np.float64)
    telling = _share(present[positive]) > _share(present[~positive])
    weight = np.where(telling, _class_tf_idf(counts, positive), 0.0)
    heaviest = np.argsort(-weight, kind="stable")[:_MAX_CANDIDATES]
    heaviest = heaviest[weight[heaviest] > 0]
    chosen = _greedy(present[:, heaviest].toarray() > 0, positive)
    return [int(heaviest[i]) for i in chosen]


def _class_tf_idf(counts: sp.csc_matrix, positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Weight of each term in the positive class; its frequency there is a share of the class's terms."""
    frequency = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    inside = np.asarray(counts[positive].sum(axis=0), dtype=np.float64).ravel()
    per_class = frequency.sum() / 2
    return inside / max(inside.sum(), 1) * np.log1p(per_class / np.maximum(frequency, 1))


def _greedy(present: npt.NDArray[np.bool_], positive: npt.NDArray[np.bool_]) -> list[int]:
    """Columns that raise J of "any of them" most, one by one; equals by order, the heavier first.

    Each must add a twelfth of the positive rows: fewer are as easily covered by chance, which costs precision
    on other texts.
    """
    chosen: list[int] = []
    covered = np.zeros(len(positive), dtype=bool)
    best = 0.0
    while len(chosen) < _MAX_TERMS and present.shape[1]:
        either = present | covered[:, None]
        j = _share(either[positive]) - _share(either[~positive])
        added = either[positive].sum(axis=0) - covered[positive].sum()
        j[added < positive.sum() * _MIN_SHARE] = 0
        top = int(np.argmax(j))
        if j[top] <= best + 1e-12:
            break
        best, covered = float(j[top]), either[:, top]
        chosen.append(top)
    return chosen


def _share(rows: npt.NDArray[np.bool_] | sp.csc_matrix) -> npt.NDArray[np.float64]:
    """Share of rows that are true in each column; 0 where there is no row."""
    return np.asarray(rows.sum(axis=0), dtype=np.float64).ravel() / max(rows.shape[0], 1)


def _sentence(terms: Sequence[str]) -> str:
    quoted = [f'"{term}"' for term in terms]
    listed = ", ".join(quoted[:-1])
    return f"mentions {listed} or {quoted[-1]}" if listed else f"mentions {quoted[-1]}"


def _terms(questions: Sequence[str]) -> list[frozenset[str]]:
    """The terms of each question, in the form in which the vectorizer finds them in texts."""
    words = CountVectorizer(stop_words="english").build_analyzer()  # it checks 318 stop words: 2 ms
    found = list[frozenset[str]]()
    for question in questions:
        phrases = _QUOTED.findall(question)
        terms = [" ".join(words(phrase)) for phrase in phrases] if phrases else words(question)
        found.append(frozenset(filter(None, terms)))
    return found


def _any_term(
    texts: Sequence[str], terms_of: Sequence[frozenset[str]], vocabulary: list[str]
) -> npt.NDArray[np.float32]:
    """(n, H) 1.0 where a text holds any of the terms of a question."""
    longest = max(len(term.split()) for term in vocabulary)
    finder = CountVectorizer(
        vocabulary=vocabulary, stop_words="english", ngram_range=(1, longest), binary=True
    )
    member = np.array([[term in terms for terms in terms_of] for term in vocabulary], dtype=np.float32)
    found = cast(sp.csr_matrix, finder.transform(texts)) @ sp.csr_matrix(member)
    return (found.toarray() > 0).astype(np.float32)
