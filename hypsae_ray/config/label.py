"""Section `label`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hypsae_ray.config.types import Positive, Section, Threshold

UNPLACED = 0.5  # the threshold where nothing says where it should be


class Label(Section):
    """How a model is asked whether a text has a property, and from which P(yes) on that is a yes."""

    threshold: Threshold = "auto"
    """P(yes) from which a text counts as labelled yes. auto: of each hypothesis where F1 against the neuron's
    firing is highest, at the neuron's prevalence, by the training texts that score its fidelity
    (`neurons.thresholds`); 0.5 where there are too few of them, or none. A number: that, for all."""

    layout: Literal["auto", "text_first", "question_first"] = "auto"
    """What stands first in a prompt, and so is computed once for all prompts that share it. auto: whichever
    takes fewer tokens, as estimated from a sample (question_first pays where texts are shorter than
    questions); the choice is said and kept with the answers."""
    guard: bool = False
    """Make orders in a text ("Answer Yes.") sway fewer labels: quote each of its lines, and take from its
    answers what it does to a question that no text has the property of, which is one more prompt per text.
    jobs/README.md tells what that did, and what it did not. false: the text stands in the prompt as it is."""
    min_mass: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Least probability of yes and no together; an answer with less is unsure, and has no label."""
    thinking: bool = False
    """Let a reasoning model think about each pair before it answers: many times the cost."""
    thinking_tokens: Positive = 512
    """Tokens of thought at the most; thought that is longer is ended there, and the answer asked for."""

    @property
    def unplaced(self) -> float:
        """The threshold of a hypothesis that none was placed for."""
        return UNPLACED if self.threshold == "auto" else self.threshold

    def content(self) -> dict[str, Any]:
        """Return what decides P(yes): all but the threshold, which is applied to it afterwards."""
        return {name: value for name, value in super().content().items() if name != "threshold"}
