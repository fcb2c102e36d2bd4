"""Section `label`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hypsae_ray.config.types import Positive, Section, Threshold

UNPLACED = 0.5  # the threshold where none was estimated


class Label(Section):
    """How a model is asked whether a text has a property, and from which p_yes the label is 1."""

    threshold: Threshold = "auto"
    """p_yes from which the label is 1. auto: for each hypothesis that with the highest F1 against the
    neuron's activation, at the neuron's prevalence, on the training texts that score its fidelity
    (`neurons.thresholds`); 0.5 where these are too few. A number: that, for all hypotheses."""

    layout: Literal["auto", "text_first", "question_first"] = "auto"
    """What comes first in a prompt, and is computed once for all prompts that share it. auto: whichever
    takes fewer tokens, as estimated from a sample (question_first pays where texts are shorter than
    questions); the choice is reported, and stored with the annotations."""
    guard: bool = False
    """Guard against orders in a text ("Answer Yes."): quote each of its lines, and subtract its effect on a
    question that is true of no text, which is one more prompt per text. Measured in jobs/README.md. false:
    the text is in the prompt as it is."""
    min_mass: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Least probability of yes and no together; with less, the status is unsure and there is no label."""
    thinking: bool = False
    """Let a reasoning model think about each pair before it answers: many times the cost."""
    thinking_tokens: Positive = 512
    """Most tokens of thought; longer thought is ended there, and the answer asked for."""

    @property
    def unplaced(self) -> float:
        """The threshold of a hypothesis for which none was estimated."""
        return UNPLACED if self.threshold == "auto" else self.threshold

    def content(self) -> dict[str, Any]:
        """Return what decides p_yes: all but the threshold, which is applied to it afterwards."""
        return {name: value for name, value in super().content().items() if name != "threshold"}
