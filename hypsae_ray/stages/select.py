"""Stage `select`: the neurons associated with the target, over training texts, their documents, or pairs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from hypsae_ray.config import Select
from hypsae_ray.data.arrays import Ints, codes_of
from hypsae_ray.data.chunks import combine_activations, documents_of, starts_of
from hypsae_ray.data.rows import guess_task
from hypsae_ray.errors import StageError
from hypsae_ray.neurons.classes import take_turns
from hypsae_ray.neurons.given import Given
from hypsae_ray.neurons.selection import Selection, select
from hypsae_ray.stages.train_sae import STABILITY
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import Outcome
from hypsae_ray.store.stage_tables import covariate_columns, read_activations, read_column


def run(work: Workspace) -> Outcome:
    """Write one row per neuron, ranked or not; facts: neurons selected, dead, constant."""
    n_neurons = work.facts("train_sae")["n_neurons"]
    row_ids, fired = read_activations(work.inputs["train_sae"], "train", n_neurons)
    target = read_column(work.inputs["data"], "train", "target").loc[row_ids].to_numpy()
    options = work.config.select
    prevalence = fired.getnnz(axis=0) / len(target)
    given = _given(work, row_ids)
    if (rule := work.config.data.rule) is not None:  # each document counts once, as in the tests
        starts = starts_of(documents_of(row_ids))
        fired, target = combine_activations(fired, starts, rule), target[starts]
        given = None if given is None else given.rows(starts)
    data = work.facts("data")
    chosen, about = choose(fired, target, options, data["task"], given)
    if not work.config.data.labels_documents:  # else it is of what is labelled
        chosen = replace(chosen, prevalence=prevalence)
    dead, constant = (int((chosen.state == state).sum()) for state in ("dead", "constant"))
    useless = f"{dead} are dead and {constant} constant"
    if not len(chosen.neurons):
        raise StageError(
            f"select: none of {len(chosen.scores)} neurons can be selected by {options.method}: {useless}, "
            f"and the target takes {len(np.unique(target))} values in {len(target)} rows"
            f"{'' if given is None else '; what is held fixed may explain all of it (select.given)'}"
        )
    table = to_table(chosen, target_correlation(fired, target, about))
    if about is not None:
        names = np.array(data["classes"], dtype=object)[about]
        table = table.append_column(schema.TARGET_CLASS, pa.array(names, pa.string()))
    sae = work.inputs["train_sae"]
    if sae.has(STABILITY):
        table = table.append_column(schema.STABILITY, sae.read_table(STABILITY)[schema.STABILITY.name])
    work.out.write_table("selection.parquet", table)
    if dead or constant or len(chosen.neurons) < options.n:
        work.say(f"select: {len(chosen.neurons)} of {options.n} neurons selected; {useless}")
    facts = {"selected": len(chosen.neurons), "dead": dead, "constant": constant}
    return Outcome(len(chosen.neurons), facts=facts)


def _given(work: Workspace, row_ids: np.ndarray) -> Given | None:
    """Return what is known of the training rows and held fixed; None where that is nothing."""
    known, data = work.config.given_to_select, work.inputs["data"]
    if not known:
        return None
    names = covariate_columns(data, "train") if "covariates" in known else []
    columns = ["row_id", *names, *(name for name in ("weight", "group") if name in known)]
    rows = data.read_tables("train-", columns).to_pandas().set_index("row_id").loc[row_ids]
    return Given(
        rows[names].to_numpy(np.float64),
        tuple(name.removeprefix(schema.COVARIATE) for name in names),
        weights=rows["weight"].to_numpy(np.float64) if "weight" in known else None,
        effects=codes_of(rows["group"]) if "group" in known else None,
    )


def choose(
    fired: sp.csr_matrix, target: np.ndarray, options: Select, task: str, given: Given | None = None
) -> tuple[Selection, Ints | None]:
    """Return the neurons for a target; of codes of classes also the class that each score is about, (M,)."""
    if task == "multiclass":
        codes = np.unique(target).astype(np.int64)
        of_classes = ((target == code).astype(np.float64) for code in codes)
        chosen, about = take_turns(
            [select(fired, one, options, "classification", given) for one in of_classes], options.n
        )
        return chosen, codes[about]
    is_class = task == "classification" or (task == "pairwise" and guess_task(target) == "classification")
    # Neurons are ranked for a count, or a difference, as for any other number.
    return select(fired, target, options, "classification" if is_class else "regression", given), None


def target_correlation(fired: sp.csr_matrix, target: np.ndarray, about: Ints | None = None) -> np.ndarray:
    """Return the Pearson correlation of each neuron with the target, (M,); NaN for dead and constant ones.

    Where the target is codes of classes, `about` (M,) is the class of each neuron, against the rest.
    """
    options = Select(method="correlation", n=1)
    if about is None:
        return select(fired, target, options, "regression").scores
    found = np.full(fired.shape[1], np.nan)
    for code in np.unique(about):
        of_class = select(fired, (target == code).astype(np.float64), options, "classification").scores
        found[about == code] = of_class[about == code]
    return found


def to_table(chosen: Selection, correlation: np.ndarray) -> pa.Table:
    """Return the selection table: all M neurons, those selected with their rank; `correlation` is (M,)."""
    frame = pd.DataFrame({"neuron_idx": np.arange(len(chosen.scores)), "score": chosen.scores})
    frame["target_correlation"] = correlation
    frame["prevalence"] = chosen.prevalence
    ranks = pd.Series(np.arange(len(chosen.neurons)), index=chosen.neurons)
    frame["rank"] = ranks.reindex(frame["neuron_idx"]).astype("Int64").to_numpy()
    frame["state"] = chosen.state
    frame["turns_with"] = pd.Series(chosen.turns_with, dtype=object).replace("", None)
    return pa.Table.from_pandas(frame, schema=schema.SELECTION, preserve_index=False)
