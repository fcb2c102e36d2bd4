"""Stage `evaluate`: test every hypothesis on the holdout."""

import pyarrow as pa

from hypsae_ray.artifacts import Outcome
from hypsae_ray.core.inference import evaluate
from hypsae_ray.stages.annotate import read_annotations, to_labels
from hypsae_ray.stages.workspace import Workspace, read_column


def run(work: Workspace) -> Outcome:
    """Write one row of statistics per hypothesis; facts: metrics and notes."""
    options, data = work.config.evaluate, work.inputs["data"]
    hypotheses = work.inputs["score_fidelity"].folder.read_table("hypotheses.parquet").to_pandas()
    row_ids, p_yes, _ = read_annotations(work.inputs["annotate"].folder)
    target = read_column(data.folder, "holdout", "target").loc[row_ids].to_numpy()
    labels = to_labels(p_yes, options.threshold)
    result = evaluate(labels, target, task=data.facts["task"], alpha=options.alpha)
    table = hypotheses.rename(columns={"interpretation": "hypothesis"})[
        ["hypothesis_id", "neuron_idx", "hypothesis", "f1_fidelity_score"]
    ].merge(result.table, on="hypothesis_id", validate="one_to_one")
    work.out.write_table("evaluation.parquet", pa.Table.from_pandas(table, preserve_index=False))
    metrics = {"task": data.facts["task"], **result.metrics}
    return Outcome(len(table), facts={"metrics": metrics, "notes": list(result.notes)})
