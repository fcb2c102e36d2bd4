"""`hypsae plot`: the forest plot of a finished run, as a file."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hypsae_ray.errors import ConfigError
from hypsae_ray.pipeline import BASELINE
from hypsae_ray.report.plots import forest_plot
from hypsae_ray.report.run_folder import EVALUATION, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
_DOTS_PER_INCH = 150  # of a PNG


def plot_run(path: str, out: str, *, keywords: bool = False, most: int = 20) -> None:
    """Draw the hypotheses of a finished run into a file; the same run gives the same bytes.

    Args:
        path: run folder or URI.
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
    run = RunFolder.at(path)
    baseline = f"{BASELINE}_{EVALUATION}"
    name = baseline if baseline in run.tables() and keywords else EVALUATION
    table = pd.read_csv(io.BytesIO(run.folder.read_bytes(name)))
    _save(forest_plot(table, target=run.saved["config"]["data"]["target"], most=most), out, kind)


def _save(figure: "Figure", out: str, kind: str) -> None:
    from matplotlib import rc_context

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    try:
        with rc_context({"svg.hashsalt": "hypsae"}):  # else each file has ids of its own
            figure.savefig(out, format=kind, dpi=_DOTS_PER_INCH, metadata=undated)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
