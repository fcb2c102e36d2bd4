"""A made-up page with what What if needs: P(yes) between 0 and 1, weights, groups, covariates."""

import numpy as np

from hypsae_ray.report.page import Findings, ReportData, render
from hypsae_ray.report.page_data import PageData
from tests.browser.pages import made_up_evaluation

ROWS = 200
SENTENCES = ("mentions live music", "complains of a wait", "praises coffee")
TERMS = (["live", "good band"], [], [])
CLASSES = ("bar", "diner", "inn")
RUN = (0.8, -0.6, 0.1)
# Of the first hypothesis P(yes) and activation of some texts; of all others 0.01 and 0.
SOME = {
    10: (0.9, 2.0), 11: (0.8, 3.0), 12: (0.6, 0.0), 13: (0.95, 0.0), 14: (0.45, 0.0), 15: (0.3, 1.0),
    16: (0.49, 0.5), 17: (np.nan, 9.0),
}  # fmt: skip
LONG = "LIVE music and a good, and very good band; alive, deliver <b>live</b>. " + "word " * 99 + "the end"


def columns(classes: bool = False) -> dict[str, np.ndarray]:
    """Numbers of 200 texts: the target depends on P(yes) of the last two hypotheses, and on groups."""
    rng = np.random.default_rng(7)
    p_yes = rng.beta(0.8, 1.2, (3, ROWS)).astype(np.float32)
    p_yes[0] = 0.01
    p_yes[:, 17] = np.nan
    activation = np.zeros((3, ROWS), np.float32)
    for row, (p, fires) in SOME.items():
        p_yes[0, row], activation[0, row] = p, fires
    group = rng.integers(0, 60, ROWS).astype(np.int32)
    shift = np.nan_to_num(p_yes[1] - 0.5 * p_yes[2]) + 0.3 * rng.normal(size=60)[group]
    target = shift + rng.normal(size=ROWS)
    found = {
        "row_id": 100.0 + np.arange(ROWS),
        "target": np.digitize(target, [-0.3, 0.7]).astype(float) if classes else target,
        "weight": rng.uniform(0.5, 2, ROWS),
        "group": group,
        "covariate:0": rng.integers(18, 90, ROWS).astype(float),
        "covariate:1": rng.integers(0, 2, ROWS).astype(float),
        "x": rng.normal(size=ROWS).astype(np.float32),
        "y": rng.normal(size=ROWS).astype(np.float32),
        "neuron_level": np.zeros(3, np.int32),
        "neuron_parent": np.full(3, -1, np.int32),
        "neuron_overlap": np.zeros(3, np.float32),
        "neuron_share": np.full(3, 0.4, np.float32),
    }
    found |= {f"p_yes:{j}": p_yes[j] for j in range(3)} | {f"activation:{j}": activation[j] for j in range(3)}
    return found


def page(policy: str = "all", classes: bool = False, pairs: bool = False, n_all: int = ROWS) -> str:
    """A report of these texts, as far as the policy lets it hold them."""
    table = made_up_evaluation().assign(hypothesis=SENTENCES)
    names = CLASSES if classes else (None,)
    results = [[{**one, "target_class": name} for name in names] for one in table.to_dict("records")]
    reasons = [[{"row_id": 111, "reason": "It names a band.", "quote": "LIVE music"}], [], []]
    hypotheses = [
        {"id": j, "sentence": sentence, "neuron": j, "threshold": 0.5, "terms": TERMS[j],
         "reasons": reasons[j], "results": results[j]}
        for j, sentence in enumerate(SENTENCES)
    ]  # fmt: skip
    task = "multiclass" if classes else "pairwise" if pairs else "regression"
    header = {
        "version": 1, "target": "stars", "task": task, "classes": list(CLASSES) if classes else None,
        "covariate_names": ["age;=%", "member"], "n": ROWS, "n_all": n_all, "policy": policy,
        "hypotheses": hypotheses,
        "neurons": {"prefix_lengths": [3], "state": ["alive"] * 3, "correlation": [0.4, -0.3, None],
                    "rank": [0, 1, 2]},
    }  # fmt: skip
    if policy != "none":
        header["ids"] = [f"id-{row}" for row in range(ROWS)]
    if policy == "all":
        header["texts"] = [LONG if row == 11 else f"Text {row}" for row in range(ROWS)]
    numbers = columns(classes)
    if pairs:
        header["texts_b"] = [f"Second {row}" for row in range(ROWS)]
        numbers |= {f"p_yes_b:{j}": np.full(ROWS, 0.01, np.float32) for j in range(3)}
    metrics = {"task": "regression", "n": ROWS, "n_hypotheses": 3, "n_significant": 2, "r2_cross_fitted": 0.4}
    return render(
        ReportData("Made up", "stars", Findings("m", table, metrics), page=PageData(header, numbers).packed())
    )
