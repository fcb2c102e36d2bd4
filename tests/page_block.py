"""The data block of a report, unpacked by what page_data.py says of it, and held against evaluation.csv."""

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd


def unpacked(block: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Header and columns of a block."""
    whole = gzip.decompress(base64.b64decode(block))
    length = int.from_bytes(whole[:4], "little")
    header = json.loads(whole[4 : 4 + length])
    types = {"f32": "<f4", "f64": "<f8", "i32": "<i4"}
    columns = {
        name: np.frombuffer(whole, types[place["type"]], place["length"], 4 + length + place["at"])
        for name, place in header.pop("columns").items()
    }
    return header, columns


def block_of(run: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Header and columns of the report of a run."""
    html = (run / "report.html").read_text(encoding="utf-8")
    found = re.search(r'id="run-data">([^<]*)</script>', html)
    assert found is not None
    return unpacked(found[1])


def check_page(run: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Compare prevalences and separation scores by the page's data with those that the run tested."""
    header, columns = block_of(run)
    tested = pd.read_csv(run / "evaluation.csv").set_index("hypothesis_id")
    weights = columns.get("weight", np.ones(header["n"]))
    pairs = "texts_b" in header
    for j, one in enumerate(header["hypotheses"]):
        labels = _labels(columns, j, one["threshold"], pairs)
        known = ~np.isnan(labels)
        for row in tested.loc[[one["id"]]].to_dict("records"):
            target = columns["target"]
            if header["classes"]:
                target = (target == header["classes"].index(row["target_class"])).astype(float)
            low = -1 if pairs else 0
            has, has_not = labels == 1, labels == low
            share = np.average(labels[known] != 0, weights=weights[known])
            np.testing.assert_allclose(share, row["feature_prevalence"], atol=1e-9)
            if has.any() and has_not.any():
                ends = (np.average(target[side], weights=weights[side]) for side in (has, has_not))
                score = np.subtract(*ends) * (0.5 if pairs else 1)
                np.testing.assert_allclose(score, row["separation_score"], atol=1e-9)
    return header, columns


def _labels(columns: dict[str, np.ndarray], j: int, threshold: float, pairs: bool) -> np.ndarray:
    def of(name: str) -> np.ndarray:
        p_yes = columns[f"{name}:{j}"].astype(np.float64)
        return np.where(np.isnan(p_yes), np.nan, p_yes >= threshold)

    return of("p_yes") - of("p_yes_b") if pairs else of("p_yes")
