"""Sentences read out of a model's answers to a naming prompt, and those that say nothing of a text.

An answer may go on with the sentence that the prompt begins, repeat its beginning, or say it in another form.
What is kept is what it says of the first group: a phrase such as "mentions a long wait".
"""

import re
from collections.abc import Sequence

from hypsae_ray.data.words import count_unspaced
from hypsae_ray.models.prompts.wording import naming_words

_MAX_NAME_WORDS = 50
_REPEATED_WORDS = 5
"""So many words in a row that also stand in the prompt are a repetition."""

_COPIED_WORDS = 6
"""So many words in a row that also stand in one text are a copy of it; five are common by chance."""

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
_OPENING = re.compile(
    r"((unlike|in contrast to|compared (to|with))\b[^,]{0,40}\bgroup b,?\s*)?"
    r"((each|every|all|the|any|texts?|of|in|from)\s+){0,6}group a( texts?)?\b[:,]?\s*((all|each)\s+)?",
    re.IGNORECASE,
)
_IS_A_TEXT_THAT = re.compile(r"(is|are) (an? )?\w+ that (?=\w+s\b)", re.IGNORECASE)
_SHARED_TOPIC = re.compile(
    r"shares? (the|an?|one)( same| common| similar)? (topic|theme|subject) of (?=\w)", re.IGNORECASE
)
_QUOTED_THEN_WHY = re.compile(r"[\"“]([^\"“”]+)[\"”]\s*([-–—:(.]|because\b|since\b|as\b).*", re.IGNORECASE)
_NO_NAME = frozenset({"none", "n/a", "na", "null", "unknown", "yes", "no", "no feature", "no property"})

_FRAGMENT = re.compile(r"[,;.)].*|.*\b(that|the|an?|of|and|or|than)", re.IGNORECASE)
"""A piece of a sentence: it begins or ends in its middle."""

_GROUP = re.compile(r"\b[Gg]roups? [AB]\b|\b(the first|the second|the other|both) groups?\b(?! of)")
_NEXT_SENTENCE = re.compile(
    r"((?<=[a-z]{4})\.\s+(?=[A-Z])|\.\s+(?=(The|This|These|Each|All|None|It|They|In|Group)\b)).*"
)
_TURN = re.compile(
    r"\s*([,;:(—–]|\b(while|whereas|unlike|but|(rather )?than|compared|instead|in contrast|as opposed"
    r"|that no(ne)?|(is|are) not|(not )?(present|mentioned|found|seen) in|absent from)\b)"
)
_OTHERS = re.compile(
    r"\s*[,;(]\s*(whereas|unlike|in contrast|as opposed|(while|but) (the|those|other|none)\b).*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“][^\"“”]+[\"”]")
_EMPTY_WORD = re.compile(
    r"an?|the|and|or|of|in|on|to|for|with|about|from|by|as|at|its?|they|their|this|that|these|those|which"
    r"|is|are|was|were|be|been|has|have|do|does|not?|each|every|all|any|some|one|both|more|others?|same"
    r"|(mention|describe|contain|include|expresse?|discusse?|say|talk|refer|provide|give|share)s?|focus(es)?"
    r"|(some)?things?|specific|certain|particular|various|different|similar|common|unique"
    r"|propert(y|ies)|(type|kind|feature|topic|subject|theme|aspect|detail|word|sentence|text|group)s?|information|content"
)


def parse_name(raw: str) -> str | None:
    r"""Read the sentence out of a model's answer to a naming prompt.

    Leaves out thinking, whether closed or not, list marks, quotes around the whole, lead-ins such as
    "Feature:" or "Each text of group A", and what is said of the other group; what a group shares the topic
    of, a text mentions. Takes the first line that is left with a plausible sentence in it.

    Returns:
        The sentence on one line, or None if there is none of at most 50 words.

    >>> parse_name('<think>dogs?</think>\n- "mentions dogs"')
    'mentions dogs'
    >>> parse_name("Each text of group A mentions dogs or cats, while those of group B do not.")
    'mentions dogs or cats'
    """
    for line in without_thinking(raw).splitlines():
        name = _clean(line)
        if _is_name(name):
            return name
    return None


def without_thinking(raw: str) -> str:
    """Return an answer without the thinking in it, closed or not."""
    return _THINKING_END.sub("", _THINKING.sub("", raw)) if "<" in raw else raw


def says_something(name: str, instructions: str = "") -> bool:
    """Whether a sentence is a finding: it names no group, and has words that the prompt does not give.

    Args:
        name: what `parse_name` returned.
        instructions: what the user put into the prompt.

    >>> [says_something(name) for name in ("mentions a dog", "mentions a text of group A", "has one topic")]
    [True, False, False]
    """
    bare = _QUOTED.sub(" ", name)
    if _GROUP.search(bare):
        return False
    if bare != name:
        return True
    words, asked, given = _words(name), _words(naming_words()), _words(instructions)
    if _repeats(words, asked) or _repeats(words, given):
        return False
    known = {*asked, *(given if words[:1] in (["is"], ["are"]) else ())}
    own = {_stem(word) for word in words if not _EMPTY_WORD.fullmatch(word)}
    return bool(own - {_stem(word) for word in known})


def copies_a_text(name: str, texts: Sequence[str]) -> bool:
    """Whether a sentence has six words in a row from texts, but from fewer than half: it is about these.

    >>> texts = ["We were given a box of chocolates.", "There were roses on the bed.", "Wine was waiting."]
    >>> [copies_a_text(name, texts) for name in ("were given a box of chocolates", "mentions a box of gifts")]
    [True, False]
    """
    words = _words(name)
    copied = sum(_repeats(words, _words(text), _COPIED_WORDS) for text in texts)
    return 0 < 2 * copied < len(texts)


def _repeats(words: Sequence[str], source: Sequence[str], n: int = _REPEATED_WORDS) -> bool:
    """Whether words has a run of n words of `source`."""
    runs = {tuple(source[i : i + n]) for i in range(len(source) - n + 1)}
    return any(tuple(words[i : i + n]) in runs for i in range(len(words)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _stem(word: str) -> str:
    """Return a word without the ending of a plural, or of a verb's third person."""
    return word.removesuffix("s") if len(word) > 3 else word


def _clean(line: str) -> str:
    """Peel marks, lead-ins and quotes off a line until none is left, and cut what is said of others."""
    name, before = " ".join(line.split()), None
    while name != before:
        before = name
        for pattern in (_BULLET, _CHATTER, _LEAD_IN, _OPENING, _IS_A_TEXT_THAT):
            found = pattern.match(name)
            name = name[found.end() :] if found else name
        name = _unquoted(name.strip("*_ "))
    name = _SHARED_TOPIC.sub("mentions ", name, count=1) if _SHARED_TOPIC.match(name) else name
    return _without_others(name).rstrip(".,;: ")


def _without_others(name: str) -> str:
    """Cut a further sentence, and what compares with the other group."""
    name = _OTHERS.sub("", _NEXT_SENTENCE.sub("", name))
    group = _GROUP.search(name)
    turns = [turn.start() for turn in _TURN.finditer(name[: group.start()])] if group else []
    return name[: turns[-1]] if turns else name


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
        and not _FRAGMENT.fullmatch(name)
        and not name.endswith(":")
        and len(name.split()) <= _MAX_NAME_WORDS
    )
