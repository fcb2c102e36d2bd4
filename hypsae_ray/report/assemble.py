"""Gather what the report shows from the results of a run, and write it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from hypsae_ray.artifacts import Folder
from hypsae_ray.config import Config
from hypsae_ray.report.html import Examples, Findings, ReportData
from hypsae_ray.report.methods import MethodsFacts
from hypsae_ray.stages.workspace import read_texts

if TYPE_CHECKING:
    import pandas as pd

    from hypsae_ray.results import Chain

EXAMPLES_PER_SIDE = 3


def findings(
    name: str, chain: "Chain", data: Folder, *, recovery: "pd.DataFrame | None", threshold: float
) -> Findings:
    """Return one chain as the report shows it.

    Args:
        name: who named and labelled.
        chain: its results.
        data: folder of the `data` stage, where the holdout texts are.
        recovery: what it recovered of planted concepts, if that is known.
        threshold: P(yes) from which a text counts as labelled yes.
    """
    rows = {
        column: pick_examples(chain.p_yes[:, column], threshold) for column in range(chain.p_yes.shape[1])
    }
    wanted = {int(chain.row_ids[i]) for sides in rows.values() for side in sides for i in side}
    texts = read_texts(data, "holdout", wanted)

    def read(positions: np.ndarray) -> tuple[str, ...]:
        return tuple(texts.loc[chain.row_ids[positions]])

    examples = {column: Examples(read(yes), read(no)) for column, (yes, no) in rows.items()}
    return Findings(name, chain.evaluation, chain.metrics, examples, recovery, details=chain.details)


def pick_examples(p_yes: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the texts most surely labelled yes, and most surely no, up to three of each.

    >>> yes, no = pick_examples(np.array([0.9, 0.1, np.nan, 0.6]), 0.5)
    >>> yes.tolist(), no.tolist()
    ([0, 3], [1])
    """
    order = np.argsort(p_yes, kind="stable")
    order = order[~np.isnan(p_yes[order])]
    yes, no = order[p_yes[order] >= threshold][::-1], order[p_yes[order] < threshold]
    return yes[:EXAMPLES_PER_SIDE], no[:EXAMPLES_PER_SIDE]


def report_data(
    config: Config,
    chains: Mapping[str, Findings],
    stages: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    methods: str = "",
) -> ReportData:
    """Put the report together.

    Args:
        config: of the run.
        chains: findings by chain, the run's own one first.
        stages: as run.json has them.
        notes: sentences about the run as a whole.
        methods: paragraphs for a paper.
    """
    main, *others = chains.values()
    return ReportData(
        title="Hypotheses about " + config.data.target,
        target=config.data.target,
        findings=main,
        baseline=others[0] if others else None,
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        stages=[{**stage, "name": _label(stage)} for stage in stages],
        notes=notes,
        methods=methods,
    )


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
    labelled = chain.hypotheses.reindex(columns=["n"])["n"].dropna()
    tests = chain.evaluation.reindex(columns=["separation_test"])["separation_test"]
    return MethodsFacts(
        rows=data.get("rows", {}),
        distinct_texts=data.get("distinct_texts", {}),
        versions=versions,
        rejected=data.get("rejected", 0),
        overlap=data.get("overlap") or {},
        dead_neurons=selected.get("dead"),
        selected=selected.get("selected"),
        unnamed=facts.get("score_fidelity", {}).get("unnamed", 0),
        fidelity_texts=float(labelled.median()) if len(labelled) else None,
        tests={str(name): int(n) for name, n in tests.dropna().value_counts().items()},
    )


def _label(stage: Mapping[str, Any]) -> str:
    return stage["stage"] if stage["chain"] == "main" else f"{stage['stage']} ({stage['chain']})"
