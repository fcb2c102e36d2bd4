"""Section `evaluate`."""

from typing import Literal, Self

from pydantic import model_validator

from hypsae_ray.config.types import Count, Fraction, Section


class Evaluate(Section):
    """Tests of the hypotheses on the holdout."""

    alpha: Fraction = 0.1
    """Error level over all hypotheses together; significant is an adjusted p-value below it."""
    correction: Literal["bonferroni", "holm", "fdr_bh", "fdr_by", "none"] = "bonferroni"
    """How p-values are adjusted for their number: bonferroni and holm hold the family-wise error, fdr_bh and
    fdr_by the false discovery rate (by: whatever the dependence). Hypotheses that failed count as tests."""
    errors: Literal["auto", "hc3", "cluster", "classical"] = "auto"
    """Standard errors of the joint model. auto: cluster-robust with groups; else HC3, or those of maximum
    likelihood for a logit. classical: those that the model's own assumptions give."""
    covariates: bool = True
    """Hold `data.covariates` fixed in the joint model; false: they are only kept."""
    absorb_group: bool = False
    """Give each group a level of its own (fixed effects): hypotheses are compared within groups only."""
    folds: Count = 5
    """Folds of the cross-fitted measures; 0: nothing is cross-fitted."""
    n_bootstrap: Count = 1000
    """Bootstrap samples for the intervals of these; 0: none."""
    n_permutations: Count = 999
    """Permutations in the test for any signal at all; 0: no test."""
    seed: Count = 0
    """Seed of folds, bootstrap and permutations."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1: nothing is left to fit; give 2 or more, or 0")
        return self
