"""`hypsae explain`: reasons and quotes for the labels of one hypothesis, written into the run folder.

1. Choose holdout texts, the doubtful ones first (`labels.reasons`).
2. Ask a model for a quote, and why each one has its label. The prompt states the label, which stays as it is:
   asked whether 12 texts have a property that 6 have, with quote and reason, a model of 1.5B weights said yes
   to 10 and nothing to 2. With a wrong yes in the prompt it made up both of its quotes; with a wrong no it
   quoted what shows the property.
3. A quote that does not stand in the text is refused, and the model asked once more; then the row has no
   reason, and a status.

What a model writes is kept as it comes in the run folder's answers: the same command asks for the rest only.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.cluster.engines import Engines
from hypsae_ray.config import Data, Llm
from hypsae_ray.config.loading import with_llm
from hypsae_ray.console import Console
from hypsae_ray.data.chunks import by_document
from hypsae_ray.data.words import truncate_words
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.labels.reasons import doubtful_first, find_quote, read_reason
from hypsae_ray.labels.retries import KeepingPool, RetryingPool
from hypsae_ray.models.identity import content_of
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.prompts.wording import reason_fingerprint
from hypsae_ray.models.protocols import Answer, LanguageModel, ReasonPrompt, Sampling
from hypsae_ray.pipeline import ANSWERS
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.interpret import Prompts, dump_answers, generate, load_answers, pending
from hypsae_ray.stages.train_sae import count_neurons
from hypsae_ray.stages.workspace import Track
from hypsae_ray.store.artifacts import Folder, content_hash
from hypsae_ray.store.schema import Status
from hypsae_ray.store.stage_tables import read_activations, read_column, read_texts

TRIES = 2
ASKED_AGAIN = (Status.NO_QUOTE, Status.UNPARSABLE)
PROMPTS_PER_TASK = 4  # few: with a larger --n, most tasks are as before, and their answers there
SAMPLING = Sampling(max_tokens=160)
MISSING = {
    "no_quote": "(refused: no quote that stands in the text came with it)",
    "unparsable": "(the answer has no reason, or no quote)",
    "truncated": "(the answer hit its token limit)",
    "too_long": "(the text does not fit into the model's context)",
    "failed": "(the model gave no answer)",
    "pending": "(no answer came; the same command asks again)",
}
COLUMNS = (
    "hypothesis_id", "hypothesis", "row_id", "source_id", "chosen_for", "activation", "p_yes", "threshold",
    "label", "reason", "quote", "status", "tries", "text",
)  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """What is to be explained.

    Attributes:
        folder: of the run.
        llm: the model that gives reasons.
        hypothesis: its `hypothesis_id`.
        question: its sentence.
        pairs: a row per text, the doubtful ones first, indexed by row_id: source_id, chosen_for, activation,
            p_yes, threshold, label (yes or no), text.
    """

    folder: Folder
    llm: Llm
    hypothesis: int
    question: str
    pairs: pd.DataFrame

    @property
    def file(self) -> str:
        """The name of the table in the run folder."""
        return f"explanations-{self.hypothesis}.csv"


@dataclass(frozen=True)
class Explanation:
    """A reason, and a quote as it stands in the text; "" where there is none, and the status says why."""

    reason: str
    quote: str
    status: Status
    tries: int = 1


def plan(path: str, hypothesis: int, n: int, overrides: Mapping[str, str], *, seed: int = 0) -> Audit:
    """Choose the texts whose labels are explained.

    Args:
        path: run folder or URI.
        hypothesis: its `hypothesis_id`.
        n: texts at the most; equal ones count once.
        overrides: fields of section llm by dotted name.
        seed: of the choice among texts that are equally doubtful.

    Raises:
        InputError: there is no run with labels, or the hypothesis has none.
        ConfigError: there is no such hypothesis, n is below 1, or an override is refused.
    """
    run = RunFolder.at(path)
    config = fingerprints.pinned(with_llm(run.config, overrides), fingerprints.known_commits(run.folder))
    stages = run.folders()
    if "annotate" not in stages:
        raise InputError(f"{path}: this run has not labelled its holdout yet; hypsae run continues it")
    if n < 1:
        raise ConfigError(f"--n {n}: expected 1 or more")
    hypotheses = stages["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    if hypothesis not in hypotheses.index:
        raise ConfigError(f"--hypothesis {hypothesis}: they run from 0 to {len(hypotheses) - 1}")
    labelled = _labelled(stages, hypotheses.loc[hypothesis], config.data)
    if labelled["p_yes"].isna().all():
        raise InputError(
            f"{path}: hypothesis {hypothesis} has no usable label, so there is nothing to explain"
        )
    pairs = _choose(labelled, n, np.random.default_rng(seed))
    texts = read_texts(stages["data"], "holdout", pairs.index).loc[pairs.index]
    read = [truncate_words(text, config.annotate.max_words) for text in texts]
    sentence = str(hypotheses.loc[hypothesis, "interpretation"])
    return Audit(run.folder, config.llm, hypothesis, sentence, pairs.assign(text=read))


def _labelled(stages: Mapping[str, Folder], hypothesis: "pd.Series[Any]", data: Data) -> pd.DataFrame:
    """Return p_yes, threshold, activation, text_id and source_id of every annotated text, by row_id."""
    column, neuron = int(hypothesis["hypothesis_id"]), int(hypothesis["neuron_idx"])
    threshold = float(hypothesis["threshold"])
    labels = StoredLabels(stages["annotate"], threshold).tables()
    p_yes = pd.concat([pd.Series(p_yes[:, column], index=rows) for rows, p_yes in labels])
    n_neurons = count_neurons(stages["train_sae"])
    row_ids, fired = read_activations(stages["embed_holdout"], data.embedded_holdout, n_neurons)
    if data.labels_documents:
        row_ids, fired = by_document(row_ids, fired, "any")
    known = {name: read_column(stages["data"], "holdout", name) for name in ("text_id", "source_id")}
    known["activation"] = pd.Series(fired[:, [neuron]].toarray().ravel(), index=row_ids)
    by_row = {name: column.loc[p_yes.index] for name, column in known.items()}
    return pd.DataFrame({"p_yes": p_yes, "threshold": threshold, **by_row})


def _choose(labelled: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the n most doubtful rows, with their label and why each is chosen."""
    p_yes, activation = (labelled[name].to_numpy(np.float64) for name in ("p_yes", "activation"))
    why = doubtful_first(p_yes, float(labelled["threshold"].iloc[0]), activation, rng)
    pairs = labelled.iloc[why.index].assign(chosen_for=why.to_numpy()).drop_duplicates("text_id").head(n)
    return pairs.assign(label=np.where(pairs["p_yes"] >= pairs["threshold"], "yes", "no"))


def run(audit: Audit, engines: Engines, console: Console) -> pd.DataFrame:
    """Have a model explain every label; write `explanations-<hypothesis>.csv`, and return it as a table.

    Raises:
        StageError: no answer came, or too many failed in a row; what came is kept.
        ModelError: the model does not load, or refuses every prompt.
    """
    with console.stage("explain") as close:
        table = _to_table(audit, explain(audit, _open(audit, engines, console), console.track))
        audit.folder.write_bytes(audit.file, table.to_csv(index=False).encode())
        close(f"{int((table['status'] == 'ok').sum())} of {len(table)} labels explained")
    return table


def _open(audit: Audit, engines: Engines, console: Console) -> Pool[LanguageModel]:
    """Open the model; what it answers is kept for all hypotheses of the run folder."""
    model = engines.language_model(audit.llm)
    pool = RetryingPool(model, console.say, lambda task: f"{len(task)} reasons", audit.llm.replicas.max)
    decides = {"llm": content_of(audit.llm), "prompts": reason_fingerprint()}
    kept = audit.folder.sub(ANSWERS).sub(f"reasons-{content_hash('reasons', decides, {})[:8]}")
    return KeepingPool(pool, kept, dump_answers, load_answers)


def explain(audit: Audit, pool: Pool[LanguageModel], track: Track) -> dict[int, Explanation]:
    """Return an explanation per row_id; one whose quote does not stand in its text is asked for once more."""
    asks = _prompts(audit)
    found: dict[int, Explanation] = {}
    for attempt in range(1, TRIES + 1):
        again: dict[int, ReasonPrompt] = {}
        for row, answer in _ask(pool, asks, track):
            found[row], refused = read_answer(answer, asks[row])
            found[row] = replace(found[row], tries=attempt)
            if found[row].status in ASKED_AGAIN:
                again[row] = replace(asks[row], refused=refused or "(no quote)")
        asks = {row: again[row] for row in asks if row in again}  # in their order, so that tasks are the same
    return found


def _prompts(audit: Audit) -> dict[int, ReasonPrompt]:
    """Return the prompt of each text by its row_id, the doubtful ones first."""
    pairs = zip(*(audit.pairs[name].tolist() for name in ("text", "label")), strict=True)
    prompts = [ReasonPrompt(text, audit.question, label == "yes", sampling=SAMPLING) for text, label in pairs]
    return dict(zip(audit.pairs.index.tolist(), prompts, strict=True))


def _ask(
    pool: Pool[LanguageModel], asks: Mapping[int, ReasonPrompt], track: Track
) -> Iterator[tuple[int, Answer]]:
    prompts: Prompts = [*asks.items()]
    tasks = [prompts[i : i + PROMPTS_PER_TASK] for i in range(0, len(prompts), PROMPTS_PER_TASK)]
    for done in track(pool.map(generate, tasks, pending), len(tasks), "task") if tasks else ():
        yield from done


def read_answer(answer: Answer, prompt: ReasonPrompt) -> tuple[Explanation, str]:
    """Return the explanation in an answer, and the quote in it that is refused, "" for none.

    Where the label is no, an answer may say that there is nothing to quote. Of an answer that hit its token
    limit, a quote that stands in the text is still good.
    """
    if answer.status not in (Status.OK, Status.TRUNCATED):
        return Explanation("", "", answer.status), ""
    reason, quote = read_reason(answer.text)
    passage = find_quote(quote or "", prompt.text)
    if reason and (passage or (quote == "" and not prompt.label)):
        return Explanation(reason, passage or "", Status.OK), ""
    if answer.status == Status.TRUNCATED:
        return Explanation("", "", Status.TRUNCATED), ""
    lacks = Status.UNPARSABLE if quote is None or not reason else Status.NO_QUOTE
    return Explanation("", "", lacks), quote or ""


def _to_table(audit: Audit, found: Mapping[int, Explanation]) -> pd.DataFrame:
    rows = [found[row] for row in audit.pairs.index]
    table = audit.pairs.rename_axis("row_id").reset_index()
    table["hypothesis_id"], table["hypothesis"] = audit.hypothesis, audit.question
    for name in ("reason", "quote", "tries"):
        table[name] = [getattr(row, name) for row in rows]
    table["status"] = [row.status.name.lower() for row in rows]
    return table[[*COLUMNS]]


def describe(audit: Audit, table: pd.DataFrame) -> str:
    """Return explanations for people, a paragraph each, and where they are written."""
    head = (
        f"hypothesis {audit.hypothesis}: {audit.question} (yes from p_yes {table['threshold'].iloc[0]:.2g})"
    )
    paragraphs = [_paragraph(number, row) for number, row in enumerate(table.to_dict("records"), 1)]
    counts = ", ".join(f"{n} {status}" for status, n in table["status"].value_counts().items())
    where = f"{audit.folder.path}/{audit.file}"
    return "\n\n".join([head, *paragraphs, f"{len(table)} labels: {counts}\nexplanations: {where}"])


def _paragraph(number: int, row: Mapping[Any, Any]) -> str:
    title = f"{number}. {row['label']}, p_yes {row['p_yes']:.2g}: {row['chosen_for']} (row {row['row_id']})"
    quote = f'"{" ".join(row["quote"].split())}"' if row["quote"] else ""
    lines = [row["reason"], quote] if row["status"] == "ok" else [MISSING[row["status"]]]
    filled = (
        textwrap.fill(line, 100, initial_indent="   ", subsequent_indent="   ") for line in lines if line
    )
    return "\n".join([title, *filled])
