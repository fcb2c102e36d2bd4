"""Stage `select`: the neurons that go with the target, on the training texts."""

import numpy as np
import pandas as pd
import pyarrow as pa

from hypsae_ray import schema
from hypsae_ray.artifacts import Outcome
from hypsae_ray.core.selection import Selection, correlations, select
from hypsae_ray.stages.workspace import Workspace, read_activations, read_texts


def run(work: Workspace) -> Outcome:
    """Write one row per neuron, ranked or not; facts: neurons selected, dead, constant."""
    data, sae = work.inputs["data"], work.inputs["train_sae"]
    row_ids, fired = read_activations(sae.folder, "train", work.config.train_sae.n_neurons)
    target = read_texts(data.folder, "train")["target"].loc[row_ids].to_numpy()
    chosen = select(fired, target, work.config.select, data.facts["task"])
    work.out.write_table("selection.parquet", to_table(chosen, correlations(fired, target)))
    n_dead, n_constant = (int((chosen.state == state).sum()) for state in ("dead", "constant"))
    wanted = work.config.select.n
    if n_dead or n_constant or len(chosen.neurons) < wanted:
        work.say(
            f"select: {len(chosen.neurons)} of {wanted} neurons selected; "
            f"{n_dead} dead and {n_constant} constant ones cannot be"
        )
    facts = {"selected": len(chosen.neurons), "dead": n_dead, "constant": n_constant}
    return Outcome(len(chosen.neurons), facts=facts)


def to_table(chosen: Selection, target_correlation: np.ndarray) -> pa.Table:
    """Return the selection table: all M neurons, those selected with their rank.

    Args:
        chosen: what was selected, by whatever method.
        target_correlation: (M,) Pearson correlation of each neuron with the target.
    """
    frame = pd.DataFrame({"neuron_idx": np.arange(len(chosen.scores)), "score": chosen.scores})
    frame["target_correlation"] = target_correlation
    frame["prevalence"] = chosen.prevalence
    ranks = pd.Series(np.arange(len(chosen.neurons)), index=chosen.neurons)
    frame["rank"] = ranks.reindex(frame["neuron_idx"]).astype("Int64").to_numpy()
    frame["state"] = chosen.state
    return pa.Table.from_pandas(frame, schema=schema.SELECTION, preserve_index=False)
