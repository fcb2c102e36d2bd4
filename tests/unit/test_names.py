import pytest

from hypsae_ray.models.prompts.wording import NAMING_BEGUN, naming_words, render_naming
from hypsae_ray.models.protocols import NamingPrompt
from hypsae_ray.neurons.names import parse_name, says_something

DOGS = "mentions dogs or cats, big and small"


@pytest.mark.parametrize(
    "raw",
    [
        DOGS,
        f" {DOGS}.",
        f"{NAMING_BEGUN} {DOGS}.",
        f"Unlike those of group B, all texts of Group A: {DOGS}",
        f"Group A: {DOGS}.\nGroup B: mentions a long wait.",
        f"All texts in group A {DOGS}. The texts in group B mention birds.",
        f"{DOGS}, while the texts of group B mention birds, bees and so on.",
        f"{DOGS} (group B mentions neither)",
        f"{DOGS}, which none of the texts of group B do",
        f"{DOGS} that no text of group B mentions",
        f"{DOGS} not found in group B",
        f"{DOGS}, unlike the others",
        f"{DOGS}, whereas the other texts do not",
        f"{DOGS} rather than birds as group B does",
        f"is a text that {DOGS}",
        f"**Answer:** The texts of group A all {DOGS}",
        "Each text of group A shares the topic of dogs or cats, big and small, while group B lacks it.",
        "All texts of group A share a common theme of dogs or cats, big and small",
    ],
)
def test_what_is_said_of_the_first_group_is_kept(raw: str):
    assert parse_name(raw) == DOGS


@pytest.mark.parametrize(
    "name",
    [
        "mentions waiting while standing at the bar",
        "mentions a dog, but no cat",
        "describes a group of friends who come back every week",
        "mentions Dr. Smith or Mt. Fuji",
        "compares the soup with that of other places",
        "mentions that a group A cappella singers performed",
        "was seated with the first groups of guests",
        'mentions "group A" or "text"',
        "is short",
        "is written in capital letters",
        "价格太贵",
    ],
)
def test_sentences_with_content_are_left_alone_and_are_findings(name: str):
    assert parse_name(name) == name
    assert says_something(name, "The texts are reviews of cafes and restaurants.") or "group A c" in name


@pytest.mark.parametrize(
    "name",
    [
        "mentions dogs in group A and cats in group B",
        "says what the first group says",
        "shares a common topic",
        "says something that no text of group B says",
        "contains a sentence that is not in the other text",
        "shares similarities with group A, but also has differences",
        "mentions a different type of content",
        "has something that the others do not",
        "is a text",
        "is a review of a restaurant",
        "mentions reviews of cafes and restaurants",
    ],
)
def test_a_group_empty_words_and_words_of_the_prompt_are_no_finding(name: str):
    assert not says_something(name, "The texts are reviews of cafes and restaurants.")


def test_no_line_of_the_prompt_passes_for_an_answer():
    said = [parse_name(line) for line in [*naming_words().splitlines(), naming_words()]]
    assert not any(name and says_something(name) for name in said)


def test_the_words_of_texts_are_free_to_be_used():
    rendered = render_naming(NamingPrompt(("the staff was rude to us all",), ("fine",)))
    assert "the staff was rude to us all" in rendered
    assert says_something("mentions that the staff was rude to us all")


@pytest.mark.parametrize(
    "raw", [", in a single sentence, is", "mentions the dog and the", "says more of it than"]
)
def test_a_piece_of_a_sentence_is_none(raw: str):
    assert parse_name(raw) is None
    assert parse_name(f"{raw}\n{DOGS}") == DOGS
