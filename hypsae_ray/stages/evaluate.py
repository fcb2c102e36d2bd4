"""Stage `evaluate`: test every hypothesis on the holdout."""

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray.artifacts import Outcome
from hypsae_ray.core.inference import evaluate
from hypsae_ray.stages.annotate import read_annotations
from hypsae_ray.stages.workspace import Workspace, read_texts


def run(work: Workspace) -> Outcome:
    """Write one row of statistics per hypothesis; facts: metrics and notes."""
    options, data = work.config.evaluate, work.inputs["data"]
    hypotheses = work.inputs["score_fidelity"].folder.read_table("hypotheses.parquet").to_pandas()
    row_ids, p_yes, _ = read_annotations(work.inputs["annotate"].folder)
    target = read_texts(data.folder, "holdout", row_ids)["target"].loc[row_ids].to_numpy()
    labels = to_labels(p_yes, options.threshold)
    result = evaluate(labels, target, task=data.facts["task"], alpha=options.alpha)
    table = hypotheses.rename(columns={"interpretation": "hypothesis"})[
        ["hypothesis_id", "neuron_idx", "hypothesis", "f1_fidelity_score"]
    ].merge(result.table, on="hypothesis_id", validate="one_to_one")
    work.out.write_table("evaluation.parquet", pa.Table.from_pandas(table, preserve_index=False))
    metrics = {"task": data.facts["task"], **result.metrics}
    return Outcome(len(table), facts={"metrics": metrics, "notes": list(result.notes)})


def to_labels(p_yes: np.ndarray, threshold: float) -> np.ndarray:
    """Return labels 0 and 1 of P(yes) (n, H); NaN stays NaN."""
    return np.where(np.isnan(p_yes), np.nan, (p_yes >= threshold).astype(np.float64))


def sort_by_effect(table: pd.DataFrame) -> pd.DataFrame:
    """Return an evaluation table with the largest separation first, undefined ones last."""
    order = table["separation_score"].abs().sort_values(ascending=False, na_position="last").index
    return table.loc[order].reset_index(drop=True)
