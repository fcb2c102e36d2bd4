"""What a language model is asked.

The wording is in the *.txt files of this folder. A label prompt has four parts, each of which ends in a
newline: instruction, text and property in either order, closing. Prompts that share their first parts share
an engine's prefix cache. A prompt that is answered in prose ends with the beginning of the answer, which a
model continues where its engine can; `neurons.names` and `labels.reasons` read the answer.

A text may hold orders for the model that reads it, or lines that look like the end of the text and the next
part. With `guard` each line of a text is quoted after "> ", so that none can be one of the prompt's own.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from string import Template

from hypsae_ray.models.protocols import NamingPrompt, Prompt, ReasonPrompt

_TEMPLATES = (
    "naming",
    "naming_begun",
    "naming_broad",
    "naming_form",
    "naming_topic",
    "label_instruction",
    "label_text",
    "label_property",
    "label_closing",
    "guarded_text",
    "null_property",
    "null_text",
    "answer_now",
)
# Of what follows the stages of a run, and the hashes of their folders, know nothing.
_REASON_TEMPLATES = ("reason", "reason_begun", "reason_no", "reason_refused", "reason_yes")


@cache
def _template(name: str) -> Template:
    path = resources.files("hypsae_ray.models.prompts") / f"{name}.txt"
    return Template(path.read_text(encoding="utf-8").rstrip() + "\n")


NAMING_BEGUN = _template("naming_begun").template.strip()
"""The beginning of an answer to a naming prompt, which a verb is to follow."""
REASON_BEGUN = _template("reason_begun").template.strip()
"""The beginning of an answer to the question for a reason."""
LABEL_INSTRUCTION = _template("label_instruction").template
"""The first part of a label prompt, the same for all texts and questions."""
LABEL_CLOSING = _template("label_closing").template
"""The last part of a label prompt, the same for all texts and questions."""
NULL_PROPERTY = _template("null_property").template.strip()
"""A property that no text has."""
NULL_TEXT = _template("null_text").template.strip()
"""A text without orders, and without any property that one would ask for."""
ANSWER_NOW = _template("answer_now").template.strip()
"""What asks for the label after a thought, on one line."""


def render(prompt: Prompt, *, begun: bool = True) -> str:
    """Return a prompt as prose; `begun`: the answer will be begun for the model with `begun_answer`."""
    if isinstance(prompt, NamingPrompt):
        return render_naming(prompt, begun=begun)
    return render_reason(prompt)


def begun_answer(prompt: Prompt) -> str:
    """Return the beginning of the answer to a prompt."""
    return NAMING_BEGUN if isinstance(prompt, NamingPrompt) else REASON_BEGUN


def render_reason(prompt: ReasonPrompt) -> str:
    """Return the question why a text was found to have a property or not, as prose; both are on one line."""
    kind, finding = ("yes", "has this property") if prompt.label else ("no", "does not have this property")
    asked = _template("reason").substitute(
        text=_one_line(prompt.text),
        question=_one_line(prompt.question),
        finding=finding,
        quote=_template(f"reason_{kind}").template.strip(),
    )
    return asked + (_template("reason_refused").substitute(refused=prompt.refused) if prompt.refused else "")


def render_naming(prompt: NamingPrompt, *, begun: bool = True) -> str:
    """Return the question "what is said in these texts and not in those?", the texts as numbered lists.

    Args:
        prompt: the texts, what the user states about them, and which of the two questions is asked.
        begun: the answer will be begun for the model with `NAMING_BEGUN`; else it is asked to begin it so.
    """
    instructions = prompt.instructions.strip()
    asked = _template("naming").substitute(
        instructions=f"{instructions}\n\n" if instructions else "",
        positives=_numbered(prompt.positives),
        negatives=_numbered(prompt.negatives),
        question=_template("naming_broad" if prompt.broad else "naming_topic").template.strip(),
    )
    return asked if begun else asked + _template("naming_form").substitute(begun=NAMING_BEGUN)


def naming_words() -> str:
    """Return all wording of naming, without texts and instructions."""
    return "".join(render_naming(NamingPrompt(("",), ("",), broad=b), begun=False) for b in (True, False))


def label_prompt(text: str, question: str, *, text_first: bool = True, guard: bool = False) -> str:
    """Return the question whether a text has a property ("mentions a long wait"), as prose."""
    parts = [label_text(text, guard=guard), label_property(question)]
    return "".join([LABEL_INSTRUCTION, *(parts if text_first else parts[::-1]), LABEL_CLOSING])


def label_text(text: str, *, guard: bool = False) -> str:
    """Return the part of a label prompt that holds the text, without blanks around it."""
    if guard:
        return _template("guarded_text").substitute(text=_quoted(text.strip()))
    return _template("label_text").substitute(text=text.strip())


def label_property(question: str) -> str:
    """Return the part of a label prompt that holds the property, on one line."""
    return _template("label_property").substitute(question=_one_line(question))


def template_fingerprint() -> str:
    """Return a hash of the wording for names and labels, hexadecimal, for the content hashes of stages."""
    return _fingerprint(_TEMPLATES)


def reason_fingerprint() -> str:
    """Return a hash of the wording for reasons, hexadecimal."""
    return _fingerprint(_REASON_TEMPLATES)


def _fingerprint(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{_template(name).template}\0".encode())
    return digest.hexdigest()


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{i}. {_one_line(text)}" for i, text in enumerate(texts, start=1)) or "(no such text)"


def _quoted(text: str) -> str:
    """Put a mark before each line of a text; any character that Python splits lines at ends one."""
    return "\n".join(f"> {line}" for line in text.splitlines()) or "> "


def _one_line(text: str) -> str:
    return " ".join(text.split())
