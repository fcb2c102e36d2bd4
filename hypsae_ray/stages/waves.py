"""Which rows are labelled after the first ones, by what these and proxies of all rows say.

1. Rows whose label matters most for the coefficients, and is least certain, are the likeliest to be drawn.
2. For intervals of a half width, the first rows say how many that takes.

Every row has a probability above 0 and a number of its own, from its row_id alone: asked for more, the same
run draws the same rows and further ones.
"""

import numpy as np
import pandas as pd

from hypsae_ray.config import Evaluate, LabelSample
from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.labels.draw import DrawnRows, uniform_numbers
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.stages.holdout import read_holdout
from hypsae_ray.stages.workspace import Workspace
from hypsae_ray.stats.analysis import Analysis, Task, analyse, method_of, one_by_one
from hypsae_ray.stats.sample import Sample
from hypsae_ray.stats.two_phase.probabilities import allocate, pooled, rows_for, spread_of_influence
from hypsae_ray.stats.two_phase.proxied import use_proxies

CHARACTERS = 6
"""Of a word, the space after it included; texts are cut after so many words."""


def draw_further(work: Workspace, hypotheses: pd.DataFrame) -> DrawnRows:
    """Return the rows of all waves, by the annotations of the first one, which the stage has written."""
    options = work.config.annotate.sample
    assert options is not None
    labels = StoredLabels(work.out, hypotheses["threshold"].to_numpy())
    sample = read_holdout(work, labels, hypotheses["neuron_idx"].to_numpy()).sample
    drawn = sample.drawn
    assert drawn is not None and drawn.all_rows is not None
    samples, task = one_by_one(sample, work.facts("data")["task"])
    analyses = [_analyse(one, task, work.config.evaluate) for one in samples]
    squares = [spread_of_influence(one, drawn.all_rows) ** 2 for one in analyses]
    row_ids, costs = _costs(work, hypotheses["interpretation"])
    size, n_first = np.sqrt(np.sum(squares, axis=0) / costs), len(drawn.positions)
    n, share = _rows(work, options, analyses, size), n_first / len(row_ids)
    later = allocate(size, (n - n_first) / max(1 - share, 1e-300))
    uniform = np.zeros(len(row_ids), dtype=bool)
    uniform[drawn.positions] = True
    which = np.flatnonzero(uniform | (uniform_numbers(row_ids) < later))
    return DrawnRows(row_ids[which], pooled(share, later)[which], uniform[which])


def _analyse(sample: Sample, task: Task, options: Evaluate) -> Analysis:
    rng = np.random.default_rng(options.random_state)
    return use_proxies(analyse(sample, method_of(task, sample, options.cov_type), options), rng)


def _rows(work: Workspace, options: LabelSample, analyses: list[Analysis], size: Floats) -> int:
    """How many rows are labelled in all."""
    width, n = options.half_width, options.size(len(size))
    if width is None:
        return n
    n = max(rows_for(one, size, width, options.hypotheses) for one in analyses)
    of = f"{n:,} of {len(size):,} rows"
    if n == len(size):
        work.say(f"annotate: all {n:,} rows are labelled: fewer are not enough for a half width of {width:g}")
    else:
        work.say(f"annotate: {of} are labelled, for intervals of a half width of {width:g}")
    return n


def _costs(work: Workspace, sentences: "pd.Series[str]") -> tuple[Ints, Floats]:
    """Return the row_id of each text of the holdout, (N,), and how many characters a model reads for it."""
    questions = float(sentences.dropna().str.len().sum())
    most = CHARACTERS * work.config.annotate.max_words
    ids, lengths = list[Ints](), list[Floats]()
    for table in work.inputs["data"].tables("holdout-", ["row_id", "text"]):
        ids.append(table["row_id"].to_numpy())
        lengths.append(np.minimum(table["text"].to_pandas().str.len().to_numpy(np.float64), most))
    return np.concatenate(ids), np.concatenate(lengths) + questions
