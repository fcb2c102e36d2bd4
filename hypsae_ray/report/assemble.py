"""Gather what the report shows from the results of a run, and write it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import yaml

from hypsae_ray.config import Config
from hypsae_ray.pipeline import MAIN
from hypsae_ray.report.facts import cut_notes
from hypsae_ray.report.html import Examples, Findings, ReportData
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.report.words import caveat, engine_name
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_texts

EXAMPLES_PER_SIDE = 3


def pick_examples(
    tables: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float | np.ndarray
) -> list[tuple[list[int], list[int]]]:
    """Return of each hypothesis the row ids of the texts most surely labelled yes, and most surely no.

    Args:
        tables: row ids (m,) and P(yes) (m, H), NaN where there is no label, one table after another.
        threshold: P(yes) from which a text counts as labelled yes: one, or (H,).

    Returns:
        Up to three of each, the surest first; of equally sure ones the first.

    >>> pick_examples([(np.array([5, 6]), np.array([[0.6], [0.1]])), (np.array([7]), np.array([[0.9]]))], 0.5)
    [([7, 5], [6])]
    """
    yes = no = (np.zeros((0, 1), dtype=np.int64), np.zeros((0, 1)))
    for row_ids, p_yes in tables:
        ids = np.broadcast_to(row_ids[:, None], p_yes.shape)
        yes = _smallest(yes, ids, np.where(p_yes >= threshold, -p_yes, np.nan))
        no = _smallest(no, ids, np.where(p_yes < threshold, p_yes, np.nan))
    return [(_known(yes, column), _known(no, column)) for column in range(yes[0].shape[1])]


def _known(side: tuple[np.ndarray, np.ndarray], column: int) -> list[int]:
    ids, values = side
    return ids[~np.isnan(values[:, column]), column].tolist()


def _smallest(
    held: tuple[np.ndarray, np.ndarray], ids: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and values (k, H) of the smallest values of each column, held or new; NaN is last."""
    if len(held[0]):
        ids, values = np.concatenate([held[0], ids]), np.concatenate([held[1], values])
    order = np.argsort(values, axis=0, kind="stable")[:EXAMPLES_PER_SIDE]
    return np.take_along_axis(ids, order, axis=0), np.take_along_axis(values, order, axis=0)


def report_data(run: RunFolder, chains: Mapping[str, Chain], methods: str = "") -> ReportData:
    """Gather what the report shows.

    Args:
        run: what is finished.
        chains: its results, the config's own chain first.
        methods: paragraphs for a paper.
    """
    config, data = run.config, run.folders()["data"]
    main, *others = (_findings(name, chain, config, data) for name, chain in chains.items())
    notes = [f"{engine_name(name, config)}: {note}" for name, chain in chains.items() for note in chain.notes]
    return ReportData(
        title="Hypotheses about " + config.data.target,
        target=config.data.target,
        findings=main,
        baseline=others[0] if others else None,
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        stages=[{**stage, "name": _label(stage)} for stage in run.saved["stages"]],
        notes=[*cut_notes(run.stages().values(), config), *notes],
        methods=methods,
    )


def _findings(name: str, chain: Chain, config: Config, data: Folder) -> Findings:
    rows = pick_examples(chain.labels.tables(), chain.labels.threshold)
    texts = read_texts(data, "holdout", {row for sides in rows for side in sides for row in side})
    return Findings(
        engine_name(name, config),
        chain.evaluation,
        chain.metrics,
        {i: Examples(tuple(texts.loc[yes]), tuple(texts.loc[no])) for i, (yes, no) in enumerate(rows)},
        caveat(config) if name == MAIN else "",
        chain.details,
    )


def _label(stage: Mapping[str, Any]) -> str:
    return stage["stage"] if stage["chain"] == MAIN else f"{stage['stage']} ({stage['chain']})"
