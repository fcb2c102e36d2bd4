"""Section `evaluate`."""

from typing import Any, Literal, Self

from pydantic import model_validator

from hypsae_ray.config.types import Count, Fraction, Runtime, Section


class Evaluate(Section):
    """Tests of the hypotheses on the holdout."""

    alpha: Fraction = 0.1
    """Error level over all hypotheses together; significant is an adjusted p-value below it."""
    correction: Literal["bonferroni", "holm", "fdr_bh", "fdr_by", "none"] = "bonferroni"
    """How p-values are adjusted for their number: bonferroni and holm hold the family-wise error, fdr_bh and
    fdr_by the false discovery rate (fdr_by under any dependence). Hypotheses that failed count as tests."""
    cov_type: Literal["auto", "HC3", "cluster", "nonrobust"] = "auto"
    """Covariance of the joint model's coefficients. auto: cluster-robust with groups; else HC3, or that of
    maximum likelihood for a logit. nonrobust: the one that the model's own assumptions give."""
    covariates: bool = True
    """Hold `data.covariates` fixed in the joint model; false: they are only kept."""
    absorb_group: bool = False
    """Fixed effects of the groups: hypotheses are compared within groups only."""
    folds: Count = 5
    """Folds of the cross-fitted measures; 0: nothing is cross-fitted."""
    n_bootstrap: Count = 1000
    """Bootstrap samples for the intervals of these; 0: none."""
    n_permutations: Count = 999
    """Permutations in the test for any signal at all; 0: no test."""
    random_state: Count = 0
    """Seed of folds, bootstrap and permutations."""
    gold: Runtime[str | None] = None
    """File that `hypsae gold sample` wrote, with labels that people filled in: coefficients are corrected by
    them, in a table `gold`; null: none. Its content decides the result, not its place."""

    def content(self) -> dict[str, Any]:
        """Return what decides the results, under the names and values of 0.1: hashes of its folders stay."""
        content = super().content()
        cov_type, seed = content.pop("cov_type"), content.pop("random_state")
        errors = {"HC3": "hc3", "nonrobust": "classical"}.get(cov_type, cov_type)
        return {**content, "errors": errors, "seed": seed}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1: nothing is left to fit; give 2 or more, or 0")
        return self
