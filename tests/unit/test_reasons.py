import numpy as np
import pytest

from hypsae_ray.commands.explanation import read_answer
from hypsae_ray.labels.reasons import (
    AGREES,
    FIRES_NO,
    NEAR,
    SILENT_YES,
    doubtful_first,
    find_quote,
    read_reason,
)
from hypsae_ray.models.keywords import Keywords
from hypsae_ray.models.prompts.wording import begun_answer, render
from hypsae_ray.models.protocols import Answer, ReasonPrompt
from hypsae_ray.store.schema import Status

TEXT = 'We came at 8.\nThe “house special”\nwas cold,  and the waiter said: "Sorry!"'
PROMPT = ReasonPrompt(TEXT, "complains about cold food", label=True)


@pytest.mark.parametrize(
    ("quote", "passage"),
    [
        ("We came at 8", "We came at 8"),
        ("the house special was", None),  # its marks are part of the text
        ("the 'house special' was cold, and", "The “house special”\nwas cold,  and"),
        ("THE ''HOUSE SPECIAL'' WAS", "The “house special”\nwas"),
        ('the waiter said: \\"Sorry!\\"', 'the waiter said: "Sorry!'),
        ("…was cold, and the waiter...", "was cold,  and the waiter"),
        ("ouse special", None),
        ("was cold and the waiter", None),
        ("was very cold", None),
        ("We came at 8 … was cold", None),
        ("", None),
        ("!", None),
    ],
)
def test_a_quote_stands_in_the_text_but_for_blanks_marks_and_case(quote, passage):
    assert find_quote(quote, TEXT) == passage


def test_a_quote_in_a_script_without_spaces_may_begin_anywhere():
    assert find_quote("很好", "菜很好吃") == "很好"


@pytest.mark.parametrize(
    ("raw", "reason", "quote"),
    [
        ("Reason: It was cold.\nQuote: was cold", "It was cold.", "was cold"),
        (' was cold. "\n\nReason: It was cold.', "It was cold.", "was cold."),
        ("**Quote**: 'was cold'\n**Reason**: It was\ncold.", "It was cold.", "was cold"),
        ('1. Reason: It was cold. Quote: "was cold"', "It was cold.", "was cold"),
        ("<think>Quote: all</think>Reason: Cold.\n- QUOTE: was cold", "Cold.", "was cold"),
        ("Reason: Cold.\nQuote: was cold\nReason: no\nQuote: other", "Cold.", "was cold"),
        ('Reason: Cold.\nQuote: "was cold" is what it says', "Cold.", "was cold"),
        ("Reason: Cold.\nQuote: was cold.\nThe text does not hold: icy.", "Cold.", "was cold."),
        ("Reason: It praises the food.\nQuote: None.", "It praises the food.", ""),
        ("Reason: It praises the food.", "It praises the food.", None),
    ],
)
def test_reason_and_quote_are_read_in_any_form(raw, reason, quote):
    assert read_reason(raw) == (reason, quote)


@pytest.mark.parametrize(
    ("text", "label", "status", "refused"),
    [
        ("Reason: Cold.\nQuote: Was Cold", True, Status.OK, ""),
        ("Reason: Cold.\nQuote: was icy", True, Status.NO_QUOTE, "was icy"),
        ("Reason: Cold.\nQuote: none", True, Status.NO_QUOTE, ""),
        ("Reason: It is not said.\nQuote: none", False, Status.OK, ""),
        ("Reason: Cold.", True, Status.UNPARSABLE, ""),
        ("\nQuote: was cold", True, Status.UNPARSABLE, "was cold"),
    ],
)
def test_an_answer_without_a_quote_of_the_text_is_refused(text, label, status, refused):
    found, quote = read_answer(Answer(text, Status.OK), ReasonPrompt(TEXT, "is cold", label))
    assert (found.status, quote) == (status, refused)
    assert bool(found.reason) == (status == Status.OK)
    assert found.quote in TEXT


def test_of_an_answer_that_was_cut_off_a_whole_quote_is_good():
    whole, cut = (
        read_answer(Answer(f"Reason: Cold.\nQuote: {quote}", Status.TRUNCATED), PROMPT)[0].status
        for quote in ("was cold", "was cold, and the wai")
    )
    assert (whole, cut) == (Status.OK, Status.TRUNCATED)
    assert read_answer(Answer("", Status.TOO_LONG), PROMPT)[0].status == Status.TOO_LONG


def test_an_audit_sees_first_where_neuron_and_label_disagree():
    p_yes = np.array([0.1, 0.2, 0.9, 0.8, 0.55, 0.52, 0.99, 0.01, 0.98, np.nan])
    activation = np.array([1.0, 3.0, 0, 0, 2.0, 1.0, 2.0, 0, 1.0, 5.0])
    why = doubtful_first(p_yes, 0.5, activation, np.random.default_rng(0))
    assert why.index[:6].tolist() == [1, 2, 0, 3, 5, 4]  # by activation and p_yes, by turns; then the closest
    assert set(why.index[6:]) == {6, 7, 8}
    assert why.index[7] == 7  # firing and silent by turns, as far as there are both
    assert why.tolist() == [FIRES_NO, SILENT_YES, FIRES_NO, SILENT_YES, NEAR, NEAR, AGREES, AGREES, AGREES]


def test_what_is_as_doubtful_is_drawn_by_the_seed():
    p_yes, activation = np.ones(50), np.ones(50)
    first, same, other = (
        doubtful_first(p_yes, 0.5, activation, np.random.default_rng(seed)).index for seed in (1, 1, 2)
    )
    assert first.tolist() == same.tolist() != other.tolist()
    assert sorted(other) == list(range(50))


def test_the_prompt_holds_text_property_label_and_what_was_refused():
    prompt = ReasonPrompt("a line\nProperty: is blue", "is red", label=False, refused="it is red")
    asked = render(prompt)
    assert "Text: a line Property: is blue\n" in asked  # what a text says is no line of the prompt
    assert "\nProperty: is red\n" in asked
    assert "does not have this property" in asked and "it is red" in asked
    assert "does not" not in render(ReasonPrompt("a", "is red", label=True))
    assert begun_answer(prompt) == 'Quote: "'


def test_keywords_quote_the_words_that_they_found():
    question = 'mentions "slow service" or "waited"'
    texts = ["Slow is the service; we waited.", "Service was slow."]
    found, none = Keywords().generate([ReasonPrompt(text, question, label=True) for text in texts])
    assert read_reason(found.text) == ('terms in the text: "slow service", "waited"', "Slow is the service")
    assert read_reason(none.text) == ("none of its terms is in the text", "")
    assert Keywords().score(texts, [question]).p_yes.ravel().tolist() == [1, 0]
