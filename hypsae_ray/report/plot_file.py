"""`hypsae plot`: the forest plot of a finished run, as a file."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.report.plots import forest_plot
from hypsae_ray.report.results import BASELINE_EVALUATION, EVALUATION, RUN
from hypsae_ray.store.artifacts import Folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
_DOTS_PER_INCH = 150  # of a PNG


def plot_run(place: str, out: str, *, keywords: bool = False, most: int = 20) -> None:
    """Draw the hypotheses of a finished run into a file; the same run gives the same bytes.

    Args:
        place: run folder or URI.
        out: the file, on this machine; its ending says the format: svg, png or pdf.
        keywords: draw the keyword baseline, not the run's own chain; where there is no LLM they are one.
        most: hypotheses drawn at the most.

    Raises:
        InputError: the folder holds no run, or one without an evaluation.
        ConfigError: the format is none of these, `most` is no number of hypotheses, matplotlib is not
            installed, or the file cannot be written.
    """
    if (kind := Path(out).suffix.lstrip(".").lower()) not in FORMATS:
        raise ConfigError(f"{out}: a figure can be {', '.join(FORMATS)}: let its name end in one of these")
    if most < 1:
        raise ConfigError(f"--most {most}: at least one hypothesis must be drawn")
    run = Folder.at(place)
    if not run.has(RUN):
        raise InputError(f"{run.path}: not a run folder (no {RUN})")
    saved = run.read_json(RUN)
    tables = saved.get("results", ())  # a file that is not named there is of an earlier run
    if EVALUATION not in tables:
        raise InputError(f"{run.path}: this run has no evaluation yet; hypsae run goes on with it")
    name = BASELINE_EVALUATION if keywords and BASELINE_EVALUATION in tables else EVALUATION
    table = pd.read_csv(io.BytesIO(run.read_bytes(name)))
    _save(forest_plot(table, target=saved["config"]["data"]["target"], most=most), out, kind)


def _save(figure: "Figure", out: str, kind: str) -> None:
    from matplotlib import rc_context

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    try:
        with rc_context({"svg.hashsalt": "hypsae"}):  # else each file has ids of its own
            figure.savefig(out, format=kind, dpi=_DOTS_PER_INCH, metadata=undated)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
