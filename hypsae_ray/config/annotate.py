"""Section `annotate`."""

import math
from typing import Any, Literal, Self

from pydantic import model_validator

from hypsae_ray.config.llm import Llm
from hypsae_ray.config.types import Count, Fraction, Positive, PositiveAmount, Runtime, Section


class LabelSample(Section):
    """How many rows are labelled, by one of the first five fields.

    They are drawn at random by hashes: the same ones in every run, and part of every larger sample. Documents
    of several texts, and pairs of texts, are drawn whole.
    """

    rows: Positive | None = None
    """Number of rows."""
    share: Fraction | None = None
    """Share of the rows."""
    minutes: Runtime[PositiveAmount | None] = None
    """Minutes of labelling, the loading of the model not counted: a few rows are labelled first, then as many
    as fit at the rate that was measured. What is left is unasked; the same command goes on with it."""
    cost: Runtime[PositiveAmount | None] = None
    """The same for an amount of money; needs `price_per_hour`."""
    half_width: PositiveAmount | None = None
    """Half the width of 95 % intervals of coefficients, in units of the target (log odds or log rates where
    the model is a logit or Poisson): `first` rows say how many are needed."""
    hypotheses: tuple[Count, ...] = ()
    """hypothesis_id of those whose intervals are to be as narrow as `half_width`; empty: all."""
    first: Positive = 400
    """Rows that are drawn uniformly. Further ones are drawn by how much they tell about coefficients, which
    these say, where `active` is on."""
    active: bool = True
    """Draw rows beyond the first ones by what they tell; false: uniformly too. In a run; a job of `hypsae
    annotate` knows nothing of its rows."""
    proxies: tuple[Literal["activations", "embeddings"], ...] = ("activations", "embeddings")
    """What labels of the rows that are not labelled are predicted from: predictions make estimates more
    precise. Empty: nothing, and no other row is embedded."""

    llm: Llm | None = None
    """A small LLM that labels all rows, for proxies: worth it where it costs a small part of the one that is
    trusted. In a run; null: none."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        named = [name for name in ("rows", "share", "minutes", "cost", "half_width") if getattr(self, name)]
        if len(named) != 1:
            what = f"not {' and '.join(named)}" if named else "none is given"
            raise ValueError(f"name one of rows, share, minutes, cost and half_width: {what}")
        if self.hypotheses and self.half_width is None:
            raise ValueError("hypotheses are those of half_width, which is not given")
        if self.half_width is not None and not self.predicts:
            raise ValueError("half_width needs proxies")
        return self

    @property
    def predicts(self) -> bool:
        """Whether labels of rows without one are predicted, in a run."""
        return bool(self.proxies) or self.llm is not None

    def size(self, n: int) -> int:
        """Return how many of n rows are labelled; all of them where a limit or a width decides it."""
        return min(n, self.rows or (math.ceil(self.share * n) if self.share else n))

    @property
    def in_waves(self) -> bool:
        """Whether what the first rows say decides which others are drawn, in a run."""
        sized = self.rows is not None or self.share is not None
        return self.half_width is not None or (sized and self.active and self.predicts)


class Annotate(Section):
    """p_yes of every holdout text for every hypothesis."""

    sample: LabelSample | None = None
    """Label a sample of the rows, from which estimates are of all rows; null: label all."""
    max_words: Positive = 512
    """Texts are cut after this many words, and further where the model's context is too short; the status
    tells both. Each character of a script without spaces (Chinese, Japanese, Thai) is a word."""
    mask: Runtime[str | None] = None
    """File with columns row_id and hypothesis_id: the pairs to ask (row_id 0 is the first row of the data,
    hypothesis_id 0 the first hypothesis); null: all pairs. With a column probability, with which the row was
    drawn, estimates are of all rows; a row then has all hypotheses. Without, they are of what was asked."""
    shard_rows: Runtime[Positive] = 64
    """Texts per shard: what one replica labels and writes at a time, and what a crash can lose."""
    tries: Runtime[Positive] = 3
    """Tries of a shard whose engine answers nothing, until its rest is left for the next run."""
    rate: Runtime[PositiveAmount | None] = None
    """Pairs per second of one replica, for the plan; null: as measured by the last job in the folder."""
    price_per_hour: Runtime[PositiveAmount | None] = None
    """Price of one replica for an hour, in any currency, for the plan; null: not known."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.sample and self.sample.cost and not self.price_per_hour:
            raise ValueError("sample.cost needs price_per_hour, the price of one replica for an hour")
        if self.sample and self.sample.minutes is None and self.mask:
            raise ValueError("sample and mask both say what is labelled: name one")
        return self

    def content(self) -> dict[str, Any]:
        """Return what decides the annotations: no limit of time or cost, which the next run goes beyond."""
        return {**super().content(), **({"sample": None} if self.minutes is not None else {})}

    @property
    def minutes(self) -> float | None:
        """Minutes of labelling by one replica; None: no limit."""
        if self.sample is None:
            return None
        hours = self.sample.cost / self.price_per_hour if self.sample.cost and self.price_per_hour else None
        return self.sample.minutes or (60 * hours if hours else None)
