import numpy as np

from hypsae_ray.neurons.restating import restate_target


def at(*degrees: float) -> np.ndarray:
    """Vectors of length 5 at angles in a plane."""
    angles = np.radians(degrees)
    return (5 * np.column_stack([np.cos(angles), np.sin(angles)])).astype(np.float32)


def test_a_sentence_restates_the_target_if_it_is_closer_to_a_meaning_than_others_are():
    # Ordinary sentences are at a right angle to the meaning: a quarter of the way is at 75.5 degrees.
    found = restate_target(at(0, 75, 76, 180, -75, -76), at(0), at(90, -90))
    assert found.tolist() == [True, True, False, False, True, False]


def test_where_all_sentences_are_alike_it_must_be_closer():
    # Ordinary ones have a cosine of 0.5 with the meaning: a quarter of the way from there is 0.625, at 51.3.
    found = restate_target(at(0, 51, 52, 60), at(0), at(60, -60))
    assert found.tolist() == [True, True, False, False]


def test_one_of_several_meanings_is_enough():
    assert restate_target(at(10, 100, 230), at(0, 90), at(200, 250)).tolist() == [True, True, False]
