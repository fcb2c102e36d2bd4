"""Small made-up pages of the report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from hypsae_ray.report.page import Findings, ReportData, render
from hypsae_ray.report.page_data import PageData

ROWS, LEFT = 40, 10
MARKUP = "<script>alert(1)</script> & <b>bold</b> parking"
RIGHT_TO_LEFT = "הקפה היה טעים מאוד"
LONG = "word " * 9_999 + "needle"
EMPTY = ""
FORMULA = '=1+1, "quoted"\nwaited'
SENTENCES = ("mentions parking", "complains of a wait", "praises <i>coffee</i>")


def made_up_texts() -> list[str]:
    """Forty texts: the first five unlike any other, then such as wait and such as do not."""
    special = [MARKUP, RIGHT_TO_LEFT, LONG, EMPTY, FORMULA]
    return special + [f"We waited {i} minutes" if i % 2 else f"Good coffee {i}" for i in range(5, ROWS)]


def made_up_columns(kind: str = "texts") -> dict[str, np.ndarray]:
    """Numbers of forty texts and three hypotheses: ten texts lie far to the left, one has no place.

    Of pairs there is P(yes) of the second text too; of classes the target has their codes.
    """
    number = np.arange(ROWS)
    x = np.where(number < LEFT, -10 + 0.1 * number, 5 + 0.1 * number).astype(np.float32)
    y = (number % 7).astype(np.float32)
    x[-1] = y[-1] = np.nan
    columns = {
        "row_id": 100.0 + number,
        "target": (number % 5) - 1.5,
        "covariate:0": number / 2.0,
        "x": x,
        "y": y,
    }
    for j in range(len(SENTENCES)):
        columns[f"p_yes:{j}"] = ((number * (j + 3)) % 10 / 10).astype(np.float32)
        columns[f"activation:{j}"] = np.maximum(0, columns[f"p_yes:{j}"] - 0.4).astype(np.float32)
        if kind == "pairs":
            columns[f"p_yes_b:{j}"] = ((number * (j + 4)) % 7 / 7).astype(np.float32)
    columns["p_yes:1"][2] = np.nan
    if kind == "classes":
        columns["target"] = number % 5 * 1.0
    tree = {"level": [0, 0, 1], "parent": [-1, -1, 0]}
    columns |= {f"neuron_{name}": np.array(values, np.int32) for name, values in tree.items()}
    columns |= {f"neuron_{name}": np.full(3, 0.4, np.float32) for name in ("overlap", "share")}
    return columns


def made_up_evaluation() -> pd.DataFrame:
    """What an evaluation of the three hypotheses has at the least."""
    effect = np.array([0.8, -0.6, 0.1])
    table = {"hypothesis_id": range(3), "neuron_idx": range(3), "hypothesis": SENTENCES, "n": ROWS}
    for name, value in (("regression", "coef"), ("separation", "score")):
        table |= {f"{name}_{value}": effect, f"{name}_se": 0.1, f"{name}_pval": 0.03}
        table |= {f"{name}_ci_low": effect - 0.2, f"{name}_ci_high": effect + 0.2}
    return pd.DataFrame(table).assign(
        feature_prevalence=0.4, f1_fidelity_score=0.75, significant=np.abs(effect) > 0.5, note=""
    )


def made_up_page(policy: str = "all", kind: str = "texts") -> str:
    """A report of forty texts and three hypotheses, with texts and ids as far as the policy allows.

    `kind` is texts, or pairs or classes, as the script sees them: the rest of the page is the same.
    """
    records = made_up_evaluation().to_dict("records")
    hypotheses = [
        {"id": j, "sentence": sentence, "neuron": j, "threshold": 0.5, "terms": [], "reasons": [],
         "results": [records[j]]}
        for j, sentence in enumerate(SENTENCES)
    ]  # fmt: skip
    header = {
        "version": 1, "target": "stars", "task": "regression", "classes": None, "covariate_names": ["age"],
        "n": ROWS, "n_all": ROWS, "policy": policy, "hypotheses": hypotheses,
        "neurons": {"prefix_lengths": [2, 3], "state": ["alive"] * 3, "correlation": [0.4, -0.3, None],
                    "rank": [0, 1, 2]},
    }  # fmt: skip
    if policy != "none":
        header["ids"] = [f"id-{i}" for i in range(ROWS)]
    if policy == "all":
        header["texts"] = made_up_texts()
    if kind == "pairs":
        header |= {"task": "pairwise", "texts_b": [f"Second text {i}" for i in range(ROWS)]}
    if kind == "classes":
        header |= {"task": "multiclass", "classes": ["bar", "=cafe", "diner", "grill", "inn"]}
    metrics = {"task": "regression", "n": ROWS, "n_hypotheses": 3, "n_significant": 2, "r2_cross_fitted": 0.4}
    findings = Findings("made up", made_up_evaluation(), metrics)
    columns = made_up_columns(kind)
    if policy == "none":
        del columns["row_id"]
    return render(ReportData("Made up", "stars", findings, page=PageData(header, columns).packed()))


def written(pages: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Write pages to files of a folder, by their names."""
    paths = {name: folder / f"{name}.html" for name in pages}
    for name, path in paths.items():
        path.write_text(pages[name], encoding="utf-8")
    return paths
