from string import Template

import pytest

from hypsae_ray.boundary import NamingPrompt
from hypsae_ray.core import prompts
from hypsae_ray.core.prompts import (
    label_closing,
    label_instruction,
    label_prompt,
    label_property,
    label_text,
    parse_name,
    render_naming,
    template_fingerprint,
    truncate_words,
)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("mentions dogs", "mentions dogs"),
        ('- "mentions dogs"', "mentions dogs"),
        ('-"mentions dogs"', "mentions dogs"),
        ('"mentions dogs', "mentions dogs"),
        ('mentions dogs"', "mentions dogs"),
        ("“mentions dogs”.", "mentions dogs"),
        ("'mentions dogs'", "mentions dogs"),
        ("1) mentions dogs.", "mentions dogs"),
        ("* **mentions dogs**", "mentions dogs"),
        ("**Feature:** mentions dogs", "mentions dogs"),
        ("The feature is: mentions dogs", "mentions dogs"),
        ("The shared property is that it mentions dogs", "it mentions dogs"),
        ("Sure! Here is the feature:\n\n1. mentions dogs\n2. mentions cats", "mentions dogs"),
        ('"mentions dogs" - because every text has one', "mentions dogs"),
        ("word " * 80 + "\nAnswer: mentions dogs", "mentions dogs"),
    ],
)
def test_answers_are_peeled_down_to_the_sentence(raw, name):
    assert parse_name(raw) == name


@pytest.mark.parametrize(
    "name",
    [
        'mentions "wait", "waited" or "slow service"',
        'mentions "wait"',
        '"wait" or "waited"',
        "none of the dishes were hot",
        "mentions a 5-star rating",
        "3 stars or fewer",
        "describes the name of a dish: pasta",
        "the name of a waiter is mentioned",
        "great food is mentioned",
        "mentions the waiters' mood",
        "uses <b> tags",
    ],
)
def test_a_plain_sentence_is_left_alone(name):
    assert parse_name(name) == name
    assert parse_name(f"- {name}") == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("<think>dogs?\ncats?</think>\nmentions dogs", "mentions dogs"),
        ("dogs? cats?</think>mentions dogs", "mentions dogs"),
        ("<thinking>a</thinking><think>b</think> mentions dogs", "mentions dogs"),
        ("<think>I will say: mentions dogs", None),
        ("mentions dogs\n<think>or cats", "mentions dogs"),
    ],
)
def test_thinking_is_never_part_of_the_answer(raw, name):
    assert parse_name(raw) == name


@pytest.mark.parametrize(
    "raw", ["", " \n ", "-", '""', "None", "N/A.", "Yes", "No.", "Feature:", "word " * 80]
)
def test_what_is_no_sentence_gives_none(raw):
    assert parse_name(raw) is None


def test_naming_prompt_numbers_the_texts_of_both_groups():
    prompt = render_naming(NamingPrompt(("a first\n\nline", "b {x} $y"), ("c",), "These are reviews."))
    lines = prompt.splitlines()
    assert lines.index("1. a first line") < lines.index("2. b {x} $y") < lines.index("1. c")
    assert "These are reviews." in lines


def test_naming_prompt_has_no_trace_of_python():
    prompt = render_naming(NamingPrompt(("a", "b"), ("c", "d")))
    for trace in ("None", "['", "',", "$", "\n\n\n"):
        assert trace not in prompt


def test_label_parts_end_in_single_newlines_and_the_prompt_is_all_of_them():
    text, question = label_text("  good food\nand more \n"), label_property("mentions\nfood")
    assert (text, question) == ("Text: good food\nand more\n", "Property: mentions food\n")
    for part in (label_instruction(), label_closing()):
        assert part == part.strip() + "\n"
    rest = (label_closing(), label_instruction())
    assert label_prompt("good food\nand more", "mentions food") == rest[1] + text + question + rest[0]
    turned = label_prompt("good food\nand more", "mentions food", text_first=False)
    assert turned == rest[1] + question + text + rest[0]


def test_texts_are_cut_after_n_words_and_short_ones_not_at_all():
    assert truncate_words("a  b\nc d", 3) == "a  b\nc …"
    assert truncate_words(" a  b ", 2) == " a  b "
    assert truncate_words("", 1) == ""


def test_the_fingerprint_changes_with_the_wording(monkeypatch: pytest.MonkeyPatch):
    before = template_fingerprint()
    assert template_fingerprint() == before
    monkeypatch.setattr(prompts, "_template", lambda name: Template(f"{name}, said otherwise"))
    assert template_fingerprint() != before
