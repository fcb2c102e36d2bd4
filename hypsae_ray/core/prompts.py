"""What a language model is asked, and the one place where its sentences are read.

The wording lies in hypsae_ray/prompts/*.txt. A label prompt has four parts, each of which ends in a newline:
instruction, text and property in either order, closing. Prompts that share their first parts share an
engine's prefix cache.

A text may hold orders for the model that reads it, or what looks like the end of the text and the next part.
With `guard` each line of a text is quoted after "> ", so that no line of it can be one of the prompt's own.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import islice
from string import Template

from hypsae_ray.boundary import NamingPrompt
from hypsae_ray.core.scripts import WORD, count_unspaced

_TEMPLATES = (
    "naming",
    "label_instruction",
    "label_text",
    "label_property",
    "label_closing",
    "guarded_text",
    "null_property",
    "null_text",
    "answer_now",
)
_MAX_NAME_WORDS = 50

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THINKING_END = re.compile(r".*</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_BULLET = re.compile(r"([-–—•*#>]+|\(?\d{1,2}[.):])\s+|[-–—•](?=[\"“'`A-Za-z])")
_CHATTER = re.compile(r"(sure|okay|ok|certainly|of course)[,.!]+\s*", re.IGNORECASE)
_LEAD_IN = re.compile(
    r"((the|one|a|my|here is|here's)\s+)*((shared|common|suggested|specific|distinguishing|best)\s+)*"
    r"((feature|property|answer|hypothesis|concept|name|response|output)\b[^:\"]{0,40}?:"
    r"|(feature|property|answer|hypothesis)\b[^:\"]{0,40}?\bis\b( that\b)?:?(?! (present|found|absent)))\s*",
    re.IGNORECASE,
)
_QUOTED_THEN_WHY = re.compile(r"[\"“]([^\"“”]+)[\"”]\s*([-–—:(.]|because\b|since\b|as\b).*", re.IGNORECASE)
_NO_NAME = frozenset({"none", "n/a", "na", "null", "unknown", "yes", "no", "no feature", "no property"})


def truncate_words(text: str, n: int) -> str:
    """Return the text unchanged if it has up to n words, else its first n words and an ellipsis.

    Words stand between spaces; of scripts that put none between words (Chinese, Japanese, Thai), each
    character is one.

    >>> truncate_words("one  two three", 2), truncate_words("菜很好吃", 2), truncate_words("กำลัง", 4)
    ('one  two …', '菜很 …', 'กำลั …')
    """
    words = list(islice(WORD.finditer(text), n + 1))
    if len(words) <= n:
        return text
    end = words[n - 1].end()
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):  # a vowel above, an accent
        end += 1
    return text if end == len(text) else f"{text[:end]} …"


def render_naming(prompt: NamingPrompt) -> str:
    """Return the question "what tells these texts from those?" as prose, the texts as numbered lists."""
    instructions = prompt.instructions.strip()
    return _template("naming").substitute(
        instructions=f"\n{instructions}\n" if instructions else "",
        positives=_numbered(prompt.positives),
        negatives=_numbered(prompt.negatives),
    )


def label_prompt(text: str, question: str, *, text_first: bool = True, guard: bool = False) -> str:
    """Return the question whether a text has a property ("mentions a long wait"), as prose."""
    parts = [label_text(text, guard=guard), label_property(question)]
    return "".join([label_instruction(), *(parts if text_first else parts[::-1]), label_closing()])


def label_instruction() -> str:
    """Return the first part of a label prompt, the same for all texts and questions."""
    return _template("label_instruction").template


def label_text(text: str, *, guard: bool = False) -> str:
    """Return the part of a label prompt that holds the text, without blanks around it."""
    if guard:
        return _template("guarded_text").substitute(text=_quoted(text.strip()))
    return _template("label_text").substitute(text=text.strip())


def label_property(question: str) -> str:
    """Return the part of a label prompt that holds the property, on one line."""
    return _template("label_property").substitute(question=_one_line(question))


def label_closing() -> str:
    """Return the last part of a label prompt, the same for all texts and questions."""
    return _template("label_closing").template


def null_property() -> str:
    """Return a property that no text has."""
    return _template("null_property").template.strip()


def null_text() -> str:
    """Return a text without orders, and without any property that one would ask for."""
    return _template("null_text").template.strip()


def answer_now() -> str:
    """Return what asks for the label after a thought, on one line."""
    return _template("answer_now").template.strip()


def parse_name(raw: str) -> str | None:
    r"""Read the sentence out of a model's answer to a naming prompt.

    Leaves out thinking, whether closed or not, list marks, quotes around the whole, lead-ins such as
    "Feature:", and takes the first line that is left with a plausible sentence in it.

    Returns:
        The sentence on one line, or None if there is none of at most 50 words.

    >>> parse_name('<think>dogs?</think>\n- "mentions dogs"')
    'mentions dogs'
    """
    answer = _THINKING_END.sub("", _THINKING.sub("", raw)) if "<" in raw else raw
    for line in answer.splitlines():
        name = _clean(line)
        if _is_name(name):
            return name
    return None


def template_fingerprint() -> str:
    """Return a hash of all prompt wording, hexadecimal, for the content hashes of stages."""
    digest = hashlib.sha256()
    for name in _TEMPLATES:
        digest.update(f"{name}\0{_template(name).template}\0".encode())
    return digest.hexdigest()


@cache
def _template(name: str) -> Template:
    path = resources.files("hypsae_ray") / "prompts" / f"{name}.txt"
    return Template(path.read_text(encoding="utf-8").rstrip() + "\n")


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{i}. {_one_line(text)}" for i, text in enumerate(texts, start=1)) or "(no such text)"


def _quoted(text: str) -> str:
    """Put a mark before each line of a text, whatever character ends a line."""
    return "\n".join(f"> {line}" for line in text.splitlines()) or "> "


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _clean(line: str) -> str:
    """Peel marks, lead-ins and quotes off a line until none is left."""
    name, before = _one_line(line), None
    while name != before:
        before = name
        for pattern in (_BULLET, _CHATTER, _LEAD_IN):
            found = pattern.match(name)
            name = name[found.end() :] if found else name
        name = _unquoted(name.strip("*_ "))
    return name.rstrip(".")


def _unquoted(name: str) -> str:
    """Take off quotes around the whole name, closed or not, but not those of a term inside it."""
    reason = _QUOTED_THEN_WHY.fullmatch(name)
    if reason:
        return reason[1]
    marks = re.findall(r"[\"“”]", name)
    opened, closed = name[:1] in tuple('"“'), name[-1:] in tuple('"”')
    if len(marks) % 2:
        return name[1:] if opened else name[:-1] if closed else name
    inner = re.search(r"[\"“”]", name[1:-1])
    if opened and closed and (inner is None or name[inner.start()].isspace()):
        return name[1:-1]
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in "'`" else name


def _is_name(name: str) -> bool:
    lower = name.lower().strip("\"' ")
    letters = sum(character.isalpha() for character in name) + count_unspaced(name)  # two of those are a word
    return (
        letters > 2
        and lower not in _NO_NAME
        and not name.endswith(":")
        and len(name.split()) <= _MAX_NAME_WORDS
    )
