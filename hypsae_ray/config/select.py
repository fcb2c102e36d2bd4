"""Section `select`."""

from typing import Literal, Self

from pydantic import model_validator

from hypsae_ray.config.types import Positive, Section


class Select(Section):
    """Which neurons become hypotheses."""

    method: Literal["correlation", "separation_score", "lasso", "custom"] = "correlation"
    """How neurons are ranked against the target."""
    n: Positive = 20
    """Neurons selected; fewer only if fewer neurons are alive, which is reported."""
    n_top: Positive = 100
    """separation_score: top-firing rows that are compared with the silent rows."""
    function: str | None = None
    """custom: import path "package.module:name" of score(activation (n,), target (n,)) -> float, larger is
    better."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.method == "custom") != (self.function is not None):
            raise ValueError("method custom and a function go together: give both or neither")
        return self
