"""How bench_discovery.py judges labels of the test texts: by our statistics, and by the truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from discovery import Truth, count_by_truth, matches, n_reached
from discovery_systems import Draw, Rows
from threadpoolctl import threadpool_limits

import hypsae_ray
from hypsae_ray.labels.read import to_labels
from hypsae_ray.stats.analysis import Task

ALPHA, CUT = 0.1, 0.5


@dataclass(frozen=True)
class Judged:
    """Measures of labels (n, H), and H rows about the sentences."""

    numbers: dict[str, Any]
    sentences: pd.DataFrame


@dataclass(frozen=True)
class Test:
    """The test texts of one draw.

    Attributes:
        draw: the data.
        rows: the test texts.
        trained_on: the texts that neurons were selected and named on.
        task: what kind of number the target is.
    """

    draw: Draw
    rows: Rows
    trained_on: Rows
    task: Task

    @property
    def texts(self) -> list[str]:
        """Its texts."""
        return self.rows.frame["text"].tolist()

    @property
    def measure(self) -> str:
        """The measure of prediction."""
        return "auc" if self.task == "classification" else "r2"

    def truth(self, rows: Rows) -> Truth:
        """Return what some texts of planted data hold."""
        assert self.draw.truth is not None and self.draw.concepts is not None, "asked of planted data only"
        return Truth(self.draw.truth.loc[rows.frame["id"]].to_numpy(), self.draw.concepts)

    def judge(self, p_yes: np.ndarray, cuts: np.ndarray) -> Judged:
        """Test the labels that p_yes (n, H) has at cuts (H,); count what they are true of, if it is known."""
        evaluation = self._evaluate(p_yes, cuts, {"embedding": self.rows.vectors})
        significant = evaluation.table["significant"].to_numpy(dtype=bool)
        columns = ["feature_prevalence", "separation_score", "regression_pval_adj", "significant"]
        numbers, sentences = self._numbers(evaluation), evaluation.table[columns]
        numbers["significant"] = int(significant.sum())
        if self.draw.truth is None:
            return Judged(numbers, sentences)
        truth, labels = self.truth(self.rows), to_labels(p_yes, cuts)
        matched = matches(truth, labels)
        known = {
            "recovered": n_reached(truth.values, labels, truth.counted),
            "counted": int(truth.counted.sum()),
            **count_by_truth(matched, significant),
        }
        return Judged(known | numbers, sentences.join(matched))

    def predict(self, labels: np.ndarray) -> float:
        """Return how well labels (n, H) predict the target, cross-fitted; NaN without any."""
        if not labels.shape[1]:
            return np.nan
        return self._numbers(self._evaluate(labels, np.full(labels.shape[1], CUT), {}))[self.measure]

    def _evaluate(
        self, p_yes: np.ndarray, cuts: np.ndarray, features: dict[str, np.ndarray]
    ) -> hypsae_ray.Evaluation:
        covariates = self.rows.frame[[*self.draw.covariates]] if self.draw.covariates else None
        with threadpool_limits(1):  # two threads wait for each other for minutes where others work too
            return hypsae_ray.evaluate_hypotheses(
                p_yes,
                self.rows.frame["target"].to_numpy(),
                task=self.task,
                covariates=covariates,
                threshold=cuts,
                alpha=ALPHA,
                features=features,
            )

    def _numbers(self, evaluation: hypsae_ray.Evaluation) -> dict[str, float]:
        chain, name = evaluation.details.get("chain", pd.DataFrame()), self.measure
        ceiling = chain.set_index("features")[name].get("embedding", np.nan) if len(chain) else np.nan
        value = evaluation.metrics.get(f"{name}_cross_fitted", np.nan)
        return {name: value, "share": evaluation.metrics.get("share_of_ceiling", np.nan), "ceiling": ceiling}
