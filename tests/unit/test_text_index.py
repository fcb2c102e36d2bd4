import numpy as np
import pytest

from hypsae_ray.labels.text_index import UNKNOWN, TextIndex


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_dict_whatever_the_sizes_of_the_additions(seed):
    rng = np.random.default_rng(seed)
    index, truth = TextIndex(), {}
    for size in rng.permutation([0, 1, 1, 1, 2, 3, 5, 8, 40, 40, 41, 300, 700, 1]):
        ids = [rng.bytes(16) for _ in range(size)]
        places = rng.integers(0, 2**62, size=size)
        index.add(ids, places)
        truth.update(zip(ids, places.tolist(), strict=True))
        strangers = [rng.bytes(16) for _ in range(20)]
        asked = [*truth, *strangers]
        order = rng.permutation(len(asked))
        found = index.find([asked[i] for i in order])
        assert found.dtype == np.int64
        assert found.tolist() == [truth.get(asked[i], UNKNOWN) for i in order]
        assert len(index) == len(truth)


def test_an_id_may_be_asked_for_twice():
    index = TextIndex()
    index.add([b"a" * 16, b"b" * 16], np.array([7, 0]))
    assert index.find([b"b" * 16, b"a" * 16, b"b" * 16]).tolist() == [0, 7, 0]


def test_an_empty_index_knows_nothing():
    index = TextIndex()
    assert len(index) == 0
    assert index.find([]).tolist() == []
    assert index.find([b"a" * 16]).tolist() == [UNKNOWN]
    index.add([], np.array([], dtype=np.int64))
    assert len(index) == 0


def test_bytes_at_both_ends_of_the_range_are_ids():
    ids = [b"\x00" * 16, b"\xff" * 16, b"\x00" * 15 + b"\x01", b"\x80" + b"\x00" * 15]
    index = TextIndex()
    for place, text_id in enumerate(ids[:2]):
        index.add([text_id], np.array([place]))
    assert index.find(ids[:2]).tolist() == [0, 1]
    assert index.find([ids[3]]).tolist() == [UNKNOWN]


def test_ids_with_one_first_half_are_never_mistaken_for_each_other():
    first, second, third = (b"same-one" + rest for rest in (b"aaaaaaaa", b"bbbbbbbb", b"cccccccc"))
    index = TextIndex()
    index.add([first], np.array([1]))
    assert index.find([first, second, third]).tolist() == [1, UNKNOWN, UNKNOWN]
    index.add([second], np.array([2]))
    found = index.find([first, second, third])
    assert set(found[:1].tolist()) <= {1, UNKNOWN}
    assert set(found[1:2].tolist()) <= {2, UNKNOWN}
    assert found[2] == UNKNOWN
