"""What the page computes for a selection of rows is what Python computes for these rows."""

import math
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from hypsae_ray.labels.read import to_labels
from hypsae_ray.stats.prevalence import intervals, prevalences
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.stats.separation import PAIRS, PRESENCE, SMALL_CELL, Contrast, separations, sum_sides

ROWS, SELECTIONS, THRESHOLD = 600, 50, 0.4
CLOSE: dict[str, float] = {"rel": 1e-9, "abs": 1e-9}
COMPARE = """({ columns, selections, pairs }) => {
  const { compare, PAIRS, PRESENCE } = hypsae.statistics;
  const array = (kind, values) => values && kind.from(values);
  const hypothesis = {
    pYes: array(Float32Array, columns.pYes), pYesB: array(Float32Array, columns.pYesB) ?? undefined,
    target: array(Float64Array, columns.target), weights: array(Float64Array, columns.weights),
    groups: array(Int32Array, columns.groups), contrast: pairs ? PAIRS : PRESENCE, threshold: 0.4,
  };
  return selections.map((mask) => compare(hypothesis, Uint8Array.from(mask)));
}"""
SETTINGS: dict[str, dict[str, Any]] = {
    "regression": {},
    "binary": {"binary": True},
    "weights": {"weights": True},
    "binary weights": {"binary": True, "weights": True},
    "groups": {"groups": True},
    "groups and weights": {"groups": True, "weights": True},
    "pairs": {"pairs": True},
    "pairs, groups, weights": {"pairs": True, "groups": True, "weights": True},
}


def draw_columns(seed: int, binary=False, weights=False, groups=False, pairs=False) -> dict[str, Any]:
    """P(yes) of the texts of a row, a twentieth of them NaN; a target that depends on it, and on groups."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 60, ROWS).astype(np.int32)
    p_yes = rng.beta(0.5, 0.9, (2, ROWS)).astype(np.float32)
    p_yes[rng.random((2, ROWS)) < 0.05] = np.nan
    shift = 0.5 * np.nan_to_num(p_yes[0] - pairs * p_yes[1]) + 0.4 * rng.normal(size=60)[code]
    target = 1000 + 3 * (shift + rng.normal(size=ROWS))
    return {
        "pYes": p_yes[0],
        "pYesB": p_yes[1] if pairs else None,
        "target": (target > np.median(target)).astype(float) if binary else target,
        "weights": rng.lognormal(0, 0.7, ROWS) if weights else None,
        "groups": code if groups else None,
    }


def draw_selections(seed: int) -> np.ndarray:
    """Masks of 12 to 600 rows."""
    rng = np.random.default_rng([seed, 1])
    shares = np.geomspace(0.02, 1, SELECTIONS)
    return rng.random((SELECTIONS, ROWS)) < shares[:, None]


def label(columns: dict[str, Any]) -> np.ndarray:
    sides = [
        to_labels(p[:, None], np.array([THRESHOLD]))
        for p in (columns["pYes"], columns["pYesB"])
        if p is not None
    ]
    return sides[0] - sides[1] if len(sides) == 2 else sides[0]


def expect(columns: dict[str, Any], rows: np.ndarray, contrast: Contrast) -> dict[str, Any]:
    """What evaluation.csv would say of these rows, as `stats.analysis` puts it together."""
    known = {name: columns[name][rows] for name in ("groups", "weights") if columns[name] is not None}
    sample = Sample(LabelArray(label(columns)[rows]), columns["target"][rows], **known)
    sides = sum_sides(sample, contrast)
    (found,) = separations(sample, sides, np.random.default_rng(0), draws=99)
    n = (~np.isnan(label(columns)[rows])).sum(axis=0)
    df = np.inf if sample.weights is None else np.minimum(sides.yes.effective, sides.no.effective) - 1
    share = prevalences(sample)
    ((low, high),) = intervals(share, n.astype(float), df)
    return {
        "n": int(n[0]),
        "nYes": int(sides.yes.n[0] + (sides.no.n[0] if contrast.no else 0)),
        "prevalence": float(share.value[0]),
        "prevalenceLow": low,
        "prevalenceHigh": high,
        "found": found,
        "smallest": smallest_cell(sample, label(columns)[rows, 0], contrast),
    }


def smallest_cell(sample: Sample, labels: np.ndarray, contrast: Contrast) -> int:
    """Texts on the side with fewer, by value of a target of two values; groups where there are groups."""
    counts = []
    values = np.unique(sample.target)
    for side in (contrast.yes, contrast.no):
        mine = labels == side
        if sample.groups is not None:
            counts.append(len(np.unique(sample.groups[mine])))
        elif len(values) == 2:
            counts += [int((mine & (sample.target == value)).sum()) for value in values]
        else:
            counts.append(int(mine.sum()))
    return min(counts)


def check(got: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Compare one selection; return whether it has a test."""
    for name in ("n", "nYes", "prevalence", "prevalenceLow", "prevalenceHigh"):
        assert got[name] == pytest.approx(expected[name], nan_ok=True, **CLOSE), name
    found = expected["found"]
    assert got["score"] == pytest.approx(found.score, nan_ok=True, **CLOSE)
    has_test = found.test in ("Welch", "cluster-robust") and expected["smallest"] >= SMALL_CELL
    assert (got["test"], bool(got["reason"])) == ((found.test, False) if has_test else ("", True))
    names = {"se": found.se, "df": found.df, "low": found.ci_low, "high": found.ci_high, "p": found.pval}
    for name, value in names.items():
        assert got[name] == pytest.approx(value if has_test else math.nan, nan_ok=True, **CLOSE), name
    return has_test


def compare_in(
    page: Page, columns: dict[str, Any], selections: np.ndarray, pairs: bool
) -> list[dict[str, Any]]:
    sent = {name: None if values is None else values.tolist() for name, values in columns.items()}
    masks = ["".join(map(str, mask)) for mask in selections.astype(int)]  # lists take a second
    return page.evaluate(COMPARE, {"columns": sent, "selections": masks, "pairs": pairs})


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_page_computes_what_python_does(open_page, script_page, setting):
    seed, options = list(SETTINGS).index(setting), SETTINGS[setting]
    columns, selections = draw_columns(seed, **options), draw_selections(seed)
    contrast = PAIRS if options.get("pairs") else PRESENCE
    found = compare_in(open_page(script_page), columns, selections, contrast is PAIRS)
    tested = [
        check(got, expect(columns, np.flatnonzero(mask), contrast))
        for got, mask in zip(found, selections, strict=True)
    ]
    assert sum(tested) >= 15 and not all(tested)


def test_without_an_interval_there_is_a_reason(open_page, script_page):
    rng = np.random.default_rng(0)
    columns = {
        "pYes": np.repeat([0.9, 0.1, np.nan], [30, 30, 5]),
        "pYesB": None,
        "target": np.concatenate([np.full(30, 0.3), np.full(30, 0.7), rng.random(5)]),
        "weights": None,
        "groups": np.repeat([0, 1, 2], [30, 30, 5]),
    }
    masks = np.zeros((5, 65), bool)
    masks[0, 60:], masks[1, :30], masks[2, 30:], masks[3], masks[4, 25:33] = True, True, True, True, True
    page = open_page(script_page)
    reasons = [one["reason"] for one in compare_in(page, columns | {"groups": None}, masks, False)]
    assert reasons == [
        "no text has a usable label",
        "every labelled text has it: nothing to compare with",
        "no labelled text has it",
        "the target does not vary on either side",
        "the target does not vary on either side",
    ]
    (grouped,) = compare_in(page, columns, masks[3:4], False)
    assert grouped["reason"] == "all texts of one side are of one group"


def test_rows_can_be_a_mask_or_positions(open_page, script_page):
    page = open_page(script_page)
    assert page.evaluate("[...hypsae.statistics.rowsOf(Uint8Array.of(0, 1, 0, 1, 1))]") == [1, 3, 4]
