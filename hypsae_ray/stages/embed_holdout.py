"""Stage `embed_holdout`: vectors and activations of the holdout texts.

Of a sample without proxies, those of the texts that are annotated. Texts that the SAE has not seen, and
nothing but the tests reads them. Documents that are labelled whole are
embedded in chunks, as the SAE was trained.
"""

from dataclasses import replace

import numpy as np

from hypsae_ray.data.chunks import rows_of_documents
from hypsae_ray.stages.annotate import to_job
from hypsae_ray.stages.embed import embed_rows
from hypsae_ray.stages.fingerprints import only_drawn
from hypsae_ray.stages.train_sae import load_all, write_activations
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store.artifacts import Outcome


def run(work: Workspace) -> Outcome:
    """Write embeddings and activations, each by file of texts; facts: those of `embed_rows`, dim."""
    job = to_job(work.config, (), work.inputs["data"], work.answers, work.out)  # as stage `annotate` labels
    if not only_drawn(work.config.annotate):
        job = replace(job, options=job.options.model_copy(update={"sample": None}))
    columns, split = ["row_id", "text_id"], work.config.data.embedded_holdout
    ids = {name: table.to_pandas() for name, table in job.tables(columns)}
    if work.config.data.labels_documents:
        labelled = np.concatenate([frame["row_id"] for frame in ids.values()])
        ids = {}
        for name in job.rows.names(f"{split}-", ".parquet"):
            frame = job.rows.read_table(name, columns).to_pandas()
            ids[name] = frame.iloc[rows_of_documents(frame["row_id"].to_numpy(), labelled)]
    facts = embed_rows(work, "embed_holdout", ids)
    saes = load_all(work.inputs["train_sae"], work.facts("train_sae")["k"])
    names = work.out.names(f"{split}-", ".parquet")
    total = sum(write_activations(saes, work.out, name, work.out) for name in names)
    return Outcome(total, facts={**facts, "dim": saes[0].dim})
