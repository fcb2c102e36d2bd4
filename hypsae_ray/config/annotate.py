"""Section `annotate`."""

from hypsae_ray.config.types import Positive, PositiveAmount, Runtime, Section


class Annotate(Section):
    """p_yes of every holdout text for every hypothesis."""

    max_rows: Positive | None = None
    """Rows annotated at the most, drawn at random by a hash of their row_id: the same ones in every run, and
    part of every larger sample; with data.chunk, whole documents; null: all."""
    max_minutes: Runtime[PositiveAmount | None] = None
    """Minutes of labelling, the loading of the model not counted: a few rows are labelled first, then as many
    as fit at the rate that was measured, drawn as for `max_rows`. The rest is unasked and counted; the same
    command goes on with it; null: no limit."""
    max_words: Positive = 512
    """Texts are cut after this many words, and further where the model's context is too short; the status
    tells both. Each character of a script without spaces (Chinese, Japanese, Thai) is a word."""
    mask: Runtime[str | None] = None
    """File with columns row_id and hypothesis_id: the pairs to ask (row_id 0 is the first row of the data,
    hypothesis_id 0 the first hypothesis); null: all pairs."""
    shard_rows: Runtime[Positive] = 64
    """Texts per shard: what one replica labels and writes at a time, and what a crash can lose."""
    tries: Runtime[Positive] = 3
    """Tries of a shard whose engine answers nothing, until its rest is left for the next run."""
    rate: Runtime[PositiveAmount | None] = None
    """Pairs per second of one replica, for the plan; null: as measured by the last job in the folder."""
    price_per_hour: Runtime[PositiveAmount | None] = None
    """Price of one replica for an hour, in any currency, for the plan; null: not known."""
