"""What a run found of what was planted: each concept next to the hypothesis that matches it best."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.errors import InputError
from hypsae_ray.report.results import write_results
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.report.words import engine_name
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_column

RECOVERED_F1 = 0.6


def add_recovery(path: str, truth: str) -> str:
    """Compare each chain of a finished run with the truth: writes recovery.csv, and the report with it.

    Return the tables for a terminal, the config's own chain last. `truth` is a folder of `hypsae demo-data`.

    Raises:
        InputError: the run is not finished or has no ids, or these files are not the truth of its texts.
    """
    run, planted = RunFolder.at(path), Folder.at(truth)
    data, chains = run.config.data, run.chains() if run.tables() else {}
    if data.id is None or data.rule is not None:
        raise InputError(f"{path}: the truth is looked up by data.id, of rows that are one text each")
    if not planted.has("truth.parquet"):
        raise InputError(f"{truth}: not a folder of hypsae demo-data (no truth.parquet)")
    concepts = planted.read_table("concepts.parquet").to_pandas()
    known = planted.read_table("truth.parquet").to_pandas().set_index("id")[concepts["concept"].tolist()]
    ids = read_column(run.folders()["data"], "holdout", "source_id")
    if not ids.isin(known.index).all():
        raise InputError(f"{truth}: holds no truth of some texts of this run: it is of other demo data")
    for chain in chains.values():
        chain.details["recovery"] = _of_chain(chain, concepts, known.loc[ids], ids.index)
    write_results(run, chains)
    return "\n\n".join(
        f"{engine_name(name, run.config)}, against the planted truth:\n"
        f"{format_recovery(chain.details['recovery'])}"
        for name, chain in reversed(list(chains.items()))
    )


def _of_chain(chain: Chain, concepts: pd.DataFrame, truth: pd.DataFrame, row_ids: pd.Index) -> pd.DataFrame:
    rows = truth.set_axis(row_ids).loc[chain.labels.row_ids()]
    labels = np.concatenate(list(chain.labels.blocks()))
    table = recovery(concepts, rows.to_numpy(), labels, chain.evaluation)
    table.attrs["caption"] = summary(table)
    return table


def recovery(
    concepts: pd.DataFrame, truth: np.ndarray, labels: np.ndarray, evaluation: pd.DataFrame
) -> pd.DataFrame:
    """Match every planted concept with the hypothesis whose labels agree best with its truth.

    Args:
        concepts: one row per concept; columns concept and effect (stars).
        truth: (n, C) of 0 and 1, columns in the order of `concepts`.
        labels: (n, H) of 0 and 1, NaN where there is no label; rows as in `truth`.
        evaluation: one row per column of `labels`; hypothesis, regression_coef, and hypothesis_id if there is
            one (else hypotheses are numbered from 0).

    Returns:
        One row per concept: concept, effect_planted (stars), hypothesis_id, hypothesis, f1, effect_found
        (regression_coef). Without any hypothesis, f1 is 0 and what was found is missing. One hypothesis may
        be the best match of several concepts.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _check(concepts, truth, labels, evaluation)
    planted = pd.DataFrame({"concept": concepts["concept"], "effect_planted": concepts["effect"]})
    planted = planted.reset_index(drop=True)
    if not len(evaluation):
        return planted.assign(hypothesis_id=None, hypothesis=None, f1=0.0, effect_found=np.nan)
    f1 = f1_table(truth, labels)
    best = f1.argmax(axis=1)
    ids = evaluation.get("hypothesis_id", pd.Series(range(len(evaluation))))
    return planted.assign(
        hypothesis_id=ids.to_numpy()[best],
        hypothesis=evaluation["hypothesis"].to_numpy()[best],
        f1=f1.max(axis=1),
        effect_found=evaluation["regression_coef"].to_numpy(dtype=float)[best],
    )


def f1_table(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return F1 of labels (n, H) against each concept (n, C): (C, H), 0 where nothing is true and labelled.

    A row whose label is NaN is left out for that hypothesis alone.
    """
    known = np.isfinite(labels)
    predicted = np.where(known, labels, 0) > 0.5
    true = truth.astype(float)
    hits = true.T @ predicted
    total = true.T @ known + predicted.sum(axis=0)
    return np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)


def format_recovery(table: pd.DataFrame) -> str:
    """Lay the table of `recovery` out for a terminal, with a line that counts what was recovered."""
    lines = [f"{'planted concept':<20} {'planted':>8} {'found':>8} {'F1':>6}  best matching hypothesis"]
    lines += [_line(row) for row in table.to_dict("records")]
    return "\n".join([*lines, summary(table)])


def summary(table: pd.DataFrame) -> str:
    """Count the concepts whose best hypothesis reaches F1 of 0.6."""
    count = int((table["f1"] >= RECOVERED_F1).sum())
    return f"recovered {count} of {len(table)} planted concepts (F1 of {RECOVERED_F1} or more)"


def _check(concepts: pd.DataFrame, truth: np.ndarray, labels: np.ndarray, evaluation: pd.DataFrame) -> None:
    if truth.shape != (len(labels), len(concepts)):
        raise ValueError(f"truth is {truth.shape}, expected {(len(labels), len(concepts))}")
    if labels.shape[1] != len(evaluation):
        raise ValueError(f"labels have {labels.shape[1]} columns for {len(evaluation)} hypotheses")


def _line(row: dict[Hashable, Any]) -> str:
    sentence = row["hypothesis"]
    hypothesis = " ".join(sentence.split()) if isinstance(sentence, str) else "-"
    elided = hypothesis if len(hypothesis) <= 60 else hypothesis[:59] + "…"
    found = "-" if np.isnan(row["effect_found"]) else f"{row['effect_found']:+.2f}"
    return f"{row['concept']:<20} {row['effect_planted']:>+8.2f} {found:>8} {row['f1']:>6.2f}  {elided}"
