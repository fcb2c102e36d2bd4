"""What a run found out that neither its config nor its metrics say: the facts of its stages, gathered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypsae_ray.config import Config, SaeShape
from hypsae_ray.data.words import Cut
from hypsae_ray.report.words import labels_cut
from hypsae_ray.stages.embed import CUT_ADVICE

if TYPE_CHECKING:
    from hypsae_ray.report.run_folder import Chain


@dataclass(frozen=True)
class MethodsFacts:
    """What a run found out that neither its config nor its metrics say.

    Attributes:
        rows: rows per split: train, val, holdout.
        chunks: that they were split into, by split; empty: they stayed whole.
        distinct_texts: how many of them differ in their text, by split.
        versions: of Python and of each package, by name.
        rejected: rows left out as unusable.
        overlap: holdout texts that the training data had seen: same_text, near_copy, same_group, action.
        sae: its n_neurons, k and prefix_lengths; empty: as the config says.
        dead_neurons: neurons of the SAE that never fire; None: not known.
        selected: neurons selected; None: not known.
        asked_again: answers that were asked for since one before them was no finding.
        true_of_all: candidate sentences that labels say are true of nearly every text.
        unnamed: selected neurons without a usable sentence.
        fidelity_texts: median of the labelled texts that a fidelity rests on; None: not known.
        thresholds: of P(yes), one per hypothesis.
        tests: how many separation scores were tested by each test.
        cuts: texts of which only the beginning was read, by stage.
        answers: how many answers of stage `annotate` have each status.
        layout: what stood first in a label prompt; empty: not known.
        texts_shown: median of the texts that a sentence was written from; None: not known.
        epochs: of training; None: not known.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    chunks: Mapping[str, int] = field(default_factory=dict)
    distinct_texts: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    rejected: int = 0
    overlap: Mapping[str, Any] = field(default_factory=dict)
    sae: Mapping[str, Any] = field(default_factory=dict)
    dead_neurons: int | None = None
    selected: int | None = None
    asked_again: int = 0
    true_of_all: int = 0
    unnamed: int = 0
    fidelity_texts: float | None = None
    thresholds: tuple[float, ...] = ()
    tests: Mapping[str, int] = field(default_factory=dict)
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    layout: str = ""
    texts_shown: float | None = None
    epochs: int | None = None


def methods_facts(
    stages: Sequence[Mapping[str, Any]], chain: "Chain", versions: Mapping[str, str]
) -> MethodsFacts:
    """Gather what the methods section says beyond config and metrics.

    Args:
        stages: of the chain, as run.json has them.
        chain: its results.
        versions: of Python and of each package, by name.
    """
    facts = {stage["stage"]: stage["facts"] for stage in stages}
    data, selected = facts.get("data", {}), facts.get("select", {})
    sae = {name: facts["train_sae"][name] for name in SaeShape._fields} if "train_sae" in facts else {}
    labelled = chain.hypotheses.reindex(columns=["n"])["n"].dropna()
    tests = chain.evaluation.reindex(columns=["separation_test"])["separation_test"]
    return MethodsFacts(
        rows=data.get("rows", {}),
        chunks=data.get("chunks", {}),
        distinct_texts=data.get("distinct_texts", {}),
        versions=versions,
        rejected=data.get("rejected", 0),
        overlap=data.get("overlap") or {},
        sae={name: tuple(value) if isinstance(value, list) else value for name, value in sae.items()},
        dead_neurons=selected.get("dead"),
        selected=selected.get("selected"),
        asked_again=facts.get("interpret", {}).get("asked_again", 0),
        true_of_all=facts.get("score_fidelity", {}).get("true_of_all", 0),
        unnamed=facts.get("score_fidelity", {}).get("unnamed", 0),
        fidelity_texts=float(labelled.median()) if len(labelled) else None,
        thresholds=tuple(chain.hypotheses.reindex(columns=["threshold"])["threshold"].dropna()),
        cuts=cuts_of(stages),
        answers=facts.get("annotate", {}).get("answers", {}),
        layout=facts.get("annotate", {}).get("layout", ""),
        texts_shown=facts.get("interpret", {}).get("texts_shown"),
        epochs=facts.get("train_sae", {}).get("epochs"),
        tests={str(name): int(n) for name, n in tests.dropna().value_counts().items()},
    )


def cuts_of(stages: Iterable[Mapping[str, Any]]) -> dict[str, Cut]:
    """Return the texts of which only the beginning was read, by stage, of stages as run.json has them."""
    return {stage["stage"]: Cut(**stage["facts"]["cut"]) for stage in stages if "cut" in stage["facts"]}


def cut_notes(stages: Iterable[Mapping[str, Any]], config: Config) -> list[str]:
    """Say for each stage of a chain that read only the beginning of some texts, how many."""
    cuts = {name: cut for name, cut in cuts_of(stages).items() if cut.texts}
    notes = [f"{name}: {cut}" for name, cut in cuts.items()]
    answers = next((stage["facts"]["answers"] for stage in stages if stage["stage"] == "annotate"), {})
    labels = labels_cut(answers, config.annotate.max_words)
    notes += [f"annotate: {labels}"] if labels else []
    return [f"{note}; {CUT_ADVICE}" if note.startswith("embed:") else note for note in notes]
