"""Stage `embed_holdout`: vectors and activations of the holdout texts that are annotated.

Texts that the SAE has not seen, and nothing but the tests reads them.
"""

from hypsae_ray.stages.annotate import to_job
from hypsae_ray.stages.embed import embed_rows
from hypsae_ray.stages.train_sae import load, write_activations
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.store.artifacts import Outcome


def run(work: Workspace) -> Outcome:
    """Write embeddings and activations, each by file of texts; facts: those of `embed_rows`, dim."""
    job = to_job(work.config, (), work.inputs["data"], work.answers, work.out)  # as stage `annotate` labels
    ids = {name: table.to_pandas() for name, table in job.tables(["row_id", "text_id"])}
    facts = embed_rows(work, "embed_holdout", ids)
    sae, names = load(work.inputs["train_sae"]), work.out.names("holdout-", ".parquet")
    total = sum(write_activations(sae, work.out, name, work.out) for name in names)
    return Outcome(total, facts={**facts, "dim": sae.dim})
