import math

import numpy as np
import pytest
import scipy.sparse as sp

from hypsae_ray.models.keywords import Keywords, _class_tf_idf
from hypsae_ray.models.protocols import LanguageModel, NamingPrompt
from hypsae_ray.neurons.names import parse_name
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

WAITS = (
    "We had to wait for an hour",
    "A long wait again and cold soup",
    "They made us queue outside in the rain",
    "The queue went round the corner",
)
OTHERS = ("The soup was cold", "A lovely hour in the garden", "Rain outside and good coffee", "Corner seat")


def test_names_the_few_terms_that_tell_the_groups_apart():
    answer = Keywords().generate([NamingPrompt(WAITS, OTHERS)])[0]
    assert answer.status == Status.OK
    assert answer.text in ('mentions "wait" or "queue"', 'mentions "queue" or "wait"')
    assert answer.usage == Usage()


def test_its_sentence_labels_the_examples_as_given():
    engine: LanguageModel = Keywords()
    name = parse_name(engine.generate([NamingPrompt(WAITS, OTHERS)])[0].text)
    assert name is not None
    scores = engine.score([*WAITS, *OTHERS], [name])
    assert scores.p_yes[:, 0].tolist() == [1] * 4 + [0] * 4
    assert scores.p_yes.dtype == np.float32


def test_pairs_of_words_are_terms_where_single_words_do_not_tell():
    positives = tuple(f"slow service {word}" for word in ("apple", "pear", "plum", "fig"))
    negatives = ("slow cooked beef", "good service", "slow song", "service dog")
    answer = Keywords().generate([NamingPrompt(positives, negatives)])[0]
    assert answer.text == 'mentions "slow service"'


def test_a_term_that_is_as_common_among_negatives_is_not_used():
    answer = Keywords().generate([NamingPrompt(("food bad",) * 3, ("food good",) * 3)])[0]
    assert "food" not in answer.text.replace("food bad", "")
    assert "bad" in answer.text


def test_a_telling_term_goes_before_a_common_one():
    positives = ("food and soup", "soup and food", "food", "food")
    negatives = ("food", "food", "food", "bread")
    # By hand: "food" has J = 1 - 3/4 and F1 = 8/11, "soup" J = 1/2 - 0 and F1 = 2/3; both together J = 1/4.
    assert Keywords().generate([NamingPrompt(positives, negatives)])[0].text == 'mentions "soup"'


def test_a_term_of_few_positive_texts_is_left_to_chance():
    positives = ("wait",) * 23 + ("lobster",) * 2
    assert Keywords().generate([NamingPrompt(positives, ("bread",) * 25)])[0].text == 'mentions "wait"'
    positives = ("wait",) * 22 + ("lobster",) * 3  # 3 of 25 is over a twelfth
    answer = Keywords().generate([NamingPrompt(positives, ("bread",) * 25)])[0]
    assert answer.text == 'mentions "wait" or "lobster"'


def test_without_negatives_the_commonest_terms_are_named():
    answer = Keywords().generate([NamingPrompt(("wait long", "wait", "queue"), ())])[0]
    assert answer.text == 'mentions "wait" or "queue"'


@pytest.mark.parametrize(
    "prompt",
    [
        NamingPrompt((), ()),
        NamingPrompt(("the of and",), ("is a",)),
        NamingPrompt(("same words",), ("same words",)),
        NamingPrompt((), ("only silent texts",)),
    ],
)
def test_no_telling_term_is_a_failed_answer_and_no_exception(prompt):
    answer = Keywords().generate([prompt])[0]
    assert answer.status == Status.FAILED
    assert parse_name(answer.text) is None


def test_terms_match_whole_words_in_any_case():
    scores = Keywords().score(
        ["The WAIT!", "waiter", "slow, slow service", "slow kind service"],
        ['mentions "wait" or "slow service"'],
    )
    assert scores.p_yes[:, 0].tolist() == [1, 0, 1, 0]


def test_without_quotes_the_content_words_count():
    scores = Keywords().score(["a queue outside", "nothing of the kind"], ["about the queue of a bank"])
    assert scores.p_yes[:, 0].tolist() == [1, 0]


def test_every_question_has_its_own_terms():
    scores = Keywords().score(["dogs", "cats", "birds"], ['"dogs"', '"cats" or "dogs"', '"fish"'])
    assert scores.p_yes.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert (scores.status == Status.OK).all()


def test_a_question_without_terms_fails_alone():
    scores = Keywords().score(["dogs"], ['"dogs"', "is it of the", '"the"'])
    assert scores.p_yes[0, 0] == 1
    assert np.isnan(scores.p_yes[0, 1:]).all()
    assert scores.status[0].tolist() == [Status.OK, Status.FAILED, Status.FAILED]


@pytest.mark.parametrize(("texts", "questions"), [([], ['"dogs"']), (["dogs"], []), ([], [])])
def test_nothing_in_gives_nothing_out(texts, questions):
    assert Keywords().score(texts, questions).p_yes.shape == (len(texts), len(questions))


def test_the_same_prompt_gives_the_same_answer():
    prompts = [NamingPrompt(WAITS, OTHERS)] * 3
    assert len({answer.text for answer in Keywords().generate(prompts)}) == 1


def test_weights_are_grootendorsts_by_hand():
    counts = sp.csc_matrix(np.array([[2, 1], [0, 1]]))
    weights = _class_tf_idf(counts, np.array([True, False]))
    # Positive class: 3 terms; both classes: 4, so A = 2. Frequencies: 2 and 2.
    np.testing.assert_allclose(weights, [2 / 3 * math.log(1 + 2 / 2), 1 / 3 * math.log(1 + 2 / 2)])
