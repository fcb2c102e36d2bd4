"""Section `report`."""

from typing import Literal

from hypsae_ray.config.types import Positive, Runtime, Section

TextPolicy = Literal["all", "cut", "ids", "none"]


class Report(Section):
    """What the pages of a run hold: nothing that is computed depends on it."""

    texts: Runtime[TextPolicy] = "all"
    """What pages that people share hold of single texts. all: texts as they are. cut: their first 200
    characters, up to a word. ids: no text, only its id (`data.id`, else the number of its row). none: neither
    text nor id. Hypotheses are results and stay, whatever words they quote (with engine keywords all do)."""
    max_texts: Runtime[Positive] = 20_000
    """Holdout texts that a page holds at the most; of more, a sample that is the same each time."""
