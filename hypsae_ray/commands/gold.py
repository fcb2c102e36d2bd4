"""`hypsae gold sample`: draw texts of a finished run for people to label, into a CSV file.

1. Texts whose labels tell most about the coefficients, and are least certain, are the likeliest to be drawn;
   each line holds the probability, by which estimates are weighted.
2. A text is drawn if its own number, a hash of its row_id, is below its probability. With a larger --n, what
   was drawn stays drawn as far as probabilities grow.
3. Texts stand in the order of number over probability. The first ones of the file are a sample as well, with
   probabilities in the same proportions: whoever stops early has labelled one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.config import Config
from hypsae_ray.config.run import require_whole_texts
from hypsae_ray.data.arrays import Bools, Floats, Ints
from hypsae_ray.data.gold import for_spreadsheet
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.labels.draw import FOR_PEOPLE, uniform_numbers
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.report.results import TABLES
from hypsae_ray.report.run_folder import RunFolder
from hypsae_ray.stages.gold import TABLE, read_p_yes
from hypsae_ray.stages.holdout import read_labelled
from hypsae_ray.stats.analysis import Task, analyse, method_of, one_by_one
from hypsae_ray.stats.sample import Sample
from hypsae_ray.stats.two_phase.gold import draw_size
from hypsae_ray.stats.two_phase.probabilities import allocate
from hypsae_ray.store.artifacts import Folder, Manifest
from hypsae_ray.store.stage_tables import read_texts

COLUMNS = ("row_id", "hypothesis_id", "probability", "property", "text", "label", "coder")
OUT = "gold.csv"


@dataclass(frozen=True)
class GoldSample:
    """What is to be labelled.

    Attributes:
        out: the file.
        lines: one for each text and hypothesis, with COLUMNS.
        n_texts: texts drawn, of `n_all`.
    """

    out: Folder
    lines: pd.DataFrame
    n_texts: int
    n_all: int


def sample(path: str, n: int, hypotheses: Sequence[int] | None = None, out: str = OUT) -> GoldSample:
    """Draw about n texts of a finished run, and write the file that people fill in.

    Args:
        path: run folder or URI.
        n: how many texts are expected to be drawn.
        hypotheses: hypothesis_id of those to label; None: all that have a sentence and labels.
        out: the file, a path or URI.

    Raises:
        ConfigError: n is below 1, a hypothesis cannot be labelled, or `out` is no place for labels of people.
        InputError: there is no finished run, or `out` is there already.
    """
    if n < 1:
        raise ConfigError(f"--n {n}: expected 1 or more")
    run, file = RunFolder.at(path), Folder.at(out)
    run.tables()
    config, folders = run.config, run.folders()
    _require_place(file, run.folder)
    try:
        require_whole_texts(config.data, "hypsae gold sample")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    table = folders["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
    labels = StoredLabels(folders["annotate"], table["threshold"].to_numpy())
    p_yes, row_ids = read_p_yes(labels), labels.row_ids()
    chosen = _chosen(hypotheses, table["interpretation"], p_yes)
    size = _size(folders["data"], labels, config, p_yes, chosen)
    probability = allocate(size, n)
    probability = np.array([float(f"{one:.6g}") for one in probability])  # as a spreadsheet keeps them
    order = _draw(row_ids, probability)
    texts = read_texts(folders["data"], "holdout", row_ids[order])
    sentences = table["interpretation"][chosen]
    lines = _lines(row_ids[order], probability[order], texts, sentences)
    file.parent.write_bytes(file.name, lines.to_csv(index=False).encode("utf-8-sig"))  # as Excel wants it
    return GoldSample(file, lines, len(order), len(row_ids))


def _require_place(file: Folder, run: Folder) -> None:
    """Refuse a file that is there, or that the run itself would write over or delete."""
    if file.parent.has(file.name):
        raise InputError(
            f"{file.path}: is there already, and may hold labels of people: name another file with --out, or "
            "move this one"
        )
    refuse_own(file, run, "--out")


def refuse_own(file: Folder, run: Folder, option: str) -> None:
    """Refuse a file of labels that has the place of a table of the run.

    Raises:
        ConfigError: it has.
    """
    own = {f"{chain}{table}.csv" for chain in ("", "keywords_") for table in TABLES}
    if file.parent.path == run.path and file.name in own:
        raise ConfigError(
            f"{option} {file.path}: the run writes a table of its own there: keep labels elsewhere"
        )


def _chosen(given: Sequence[int] | None, sentences: "pd.Series[Any]", p_yes: Floats) -> Bools:
    """Return which hypotheses are to be labelled, (H,)."""
    can = sentences.notna().to_numpy() & (~np.isnan(p_yes)).any(axis=0)
    if not can.any():
        raise InputError("no hypothesis of this run has a sentence and labels: there is nothing to check")
    if given is None:
        return can
    for one in given:
        if not 0 <= one < len(can):
            raise ConfigError(f"--hypotheses {one}: they run from 0 to {len(can) - 1}")
        if not can[one]:
            raise ConfigError(f"--hypotheses {one}: it has no sentence, or no label: leave it out")
    return np.isin(np.arange(len(can)), list(given))


def _size(data: Folder, labels: StoredLabels, config: Config, p_yes: Floats, chosen: Bools) -> Floats:
    """Return in proportion to what rows (N,) are drawn."""
    manifest = Manifest.load(data)
    assert manifest is not None  # the run is finished
    rows, task = read_labelled(data, labels, config), manifest.outcome.facts["task"]
    samples, task = one_by_one(rows, task)
    squares = [_size_of(one, task, config, p_yes, chosen) ** 2 for one in samples]
    return np.sqrt(np.sum(squares, axis=0))


def _size_of(sample: Sample, task: Task, config: Config, p_yes: Floats, chosen: Bools) -> Floats:
    options = config.evaluate
    analysis = analyse(sample, method_of(task, sample, options.cov_type), options)
    if not len(analysis.fit.columns):
        return np.zeros(sample.n)
    return draw_size(analysis, sample, p_yes, chosen)


def _draw(row_ids: Ints, probability: Floats) -> Ints:
    """Return the positions (n,) of the rows that are drawn, in the order of the file."""
    numbers = uniform_numbers(row_ids, FOR_PEOPLE)
    drawn = np.flatnonzero(numbers < probability)
    return drawn[np.argsort(numbers[drawn] / probability[drawn], kind="stable")]


def _lines(
    row_ids: Ints, probability: Floats, texts: "pd.Series[str]", sentences: "pd.Series[str]"
) -> pd.DataFrame:
    """Return a line for each row (n,) and sentence, which are by hypothesis_id."""
    n, h = len(row_ids), len(sentences)
    columns: dict[str, Any] = {
        "row_id": np.repeat(row_ids, h),
        "hypothesis_id": np.tile(sentences.index.to_numpy(np.int64), n),
        "probability": np.repeat(probability, h),
        "property": [for_spreadsheet(one) for one in sentences] * n,
        "text": np.repeat([for_spreadsheet(text) for text in texts.reindex(row_ids)], h),
        "label": "",
        "coder": "",
    }
    return pd.DataFrame(columns)[[*COLUMNS]]


def describe(drawn: GoldSample, run: str) -> str:
    """Return what was written, and what comes next, for people."""
    properties = drawn.lines["hypothesis_id"].nunique()
    return (
        f"{drawn.out.path}: {drawn.n_texts:,} of {drawn.n_all:,} texts, {properties} properties each "
        f"({len(drawn.lines):,} lines)\n"
        "Write 1 or yes, 0 or no into column label; whoever stops early has labelled a sample all the same.\n"
        "A second person's labels are further lines, with other names in column coder.\n"
        f"Then: hypsae run --config FILE --out {run} --evaluate.gold {drawn.out.path}\n"
        f"and coefficients that allow for the model's errors are in {run}/{TABLE}.csv and the report"
    )
