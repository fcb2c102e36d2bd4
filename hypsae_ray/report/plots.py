"""Figures for notebooks and papers, drawn with matplotlib (`pip install 'hypsae-ray[plot]'`)."""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.pipeline import BASELINE
from hypsae_ray.report.run_folder import EVALUATION, RunFolder
from hypsae_ray.stats.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
UP, DOWN, GREY = "#1f6f8b", "#b5482f", "#8a8a8a"
_ROW_INCHES, _LINE_INCHES, _WIDTH_INCHES = 0.18, 0.17, 9.0
_DOTS_PER_INCH = 150  # of a PNG
_NEEDED = ("regression_coef", "regression_ci_low", "regression_ci_high", "significant")


def forest_plot(
    evaluation: Evaluation | pd.DataFrame, *, target: str = "the target", most: int = 20
) -> "Figure":
    """Draw the effect of each hypothesis in the joint model with its 95 % interval, the largest on top.

    A filled marker is a significant effect. Hypotheses without an estimate are left out.

    Args:
        evaluation: what `evaluate_hypotheses` returned, its table, or the evaluation.csv of a run.
        target: what the effects are on, for the axis.
        most: hypotheses drawn at the most, those with the smallest p-values.

    Raises:
        InputError: the table lacks a column, or has no estimate.
        ConfigError: matplotlib is not installed.
    """
    rows = _rows(evaluation.table if isinstance(evaluation, Evaluation) else evaluation, most)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install 'hypsae-ray[plot]'") from None
    names = [textwrap.fill(name, 52, max_lines=2, placeholder=" …") for name in rows["name"]]
    n_lines = sum(1 + name.count("\n") for name in names)
    height = 1.0 + _ROW_INCHES * len(names) + _LINE_INCHES * n_lines
    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots()
    _draw(axes, rows)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xlabel(f"effect on {target}, all hypotheses in one model (95 % interval)")
    return figure


def _rows(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return what is drawn, from the lowest effect to the highest: name, effect, low, high, significant."""
    if lacking := [name for name in _NEEDED if name not in table]:
        raise InputError(f"evaluation: no column {lacking[0]!r}: give what evaluate_hypotheses returned")
    there = table[table["regression_coef"].notna()]
    if there.empty:
        raise InputError("evaluation: no hypothesis has an estimate: nothing to draw")
    if "regression_pval" in there:
        there = there.sort_values("regression_pval", kind="stable")
    there = there.head(most).sort_values("regression_coef", kind="stable")
    named = next((there[name] for name in ("interpretation", "hypothesis") if name in there), None)
    numbers = pd.Series([f"hypothesis {i}" for i in there.index], index=there.index, dtype=object)
    names = numbers if named is None else named.astype(object).where(named.notna(), numbers)
    if "target_class" in there:
        names = there["target_class"].astype(str) + ": " + names.astype(str)
    drawn = there[list(_NEEDED)].set_axis(["effect", "low", "high", "significant"], axis=1)
    return drawn.assign(name=names.astype(str)).reset_index(drop=True)


def _draw(axes: "Axes", rows: pd.DataFrame) -> None:
    positions = np.arange(len(rows))
    colours = np.where(rows["significant"], np.where(rows["effect"] > 0, UP, DOWN), GREY)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.hlines(positions, rows["low"], rows["high"], colors=colours.tolist(), linewidth=1.6)
    fills = np.where(rows["significant"], colours, "white")
    axes.scatter(rows["effect"], positions, s=36, c=fills.tolist(), edgecolors=colours.tolist(), zorder=3)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


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
