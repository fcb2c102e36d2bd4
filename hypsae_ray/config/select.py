"""Section `select`."""

from typing import Any, Literal, Self

from pydantic import model_validator

from hypsae_ray.config.types import Positive, Section


class Select(Section):
    """Which neurons become hypotheses."""

    method: Literal["correlation", "forward", "separation_score", "lasso", "custom"] = "forward"
    """How neurons are ranked against the target. forward: by correlation, but one after another, each by what
    it adds to those before it, so that neurons that say the same take one place. correlation: each alone."""
    n: Positive = 20
    """Neurons selected; fewer only if fewer neurons are alive, which is reported."""
    n_top: Positive = 100
    """separation_score: top-firing rows that are compared with the silent rows; of pairs, rows whose
    first text fires most ahead of the second, compared with those where it is most behind."""
    function: str | None = None
    """custom: import path "package.module:name" of score(activation (n,), target (n,)) -> float, larger is
    better."""

    given: Literal["auto", "none"] = "auto"
    """What is held fixed. auto: what the tests hold fixed (see `evaluate`): covariates, weights, fixed
    effects of groups; a custom function sees nothing of it. none: ranked by the target as it is."""
    interactions: bool = False
    """correlation: rank a neuron by how its effect turns with a covariate, where that is stronger than the
    effect. What is tested in the end are effects that do not turn."""

    def content(self) -> dict[str, Any]:
        """Return what decides the results; hashes of configs from before `given` stay.

        What is given stands in the fingerprint of the stage.
        """
        content = super().content()
        content.pop("given")
        if not self.interactions:
            content.pop("interactions")
        return content

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.method == "custom") != (self.function is not None):
            raise ValueError("method custom and a function go together: give both or neither")
        if self.interactions and (self.method != "correlation" or self.given == "none"):
            raise ValueError("interactions needs method correlation and given auto")
        return self
