import hashlib

import numpy as np
import pyarrow as pa
import pytest

from hypsae_ray.labels.texts import NO_TEXT, SAMPLE, register, slices, stored_texts
from hypsae_ray.store.artifacts import Folder


def hex_id(text):
    return None if text is None else hashlib.md5(text.encode()).hexdigest()


def tables(*rows, ids=None):
    """Tables of rows that hold these texts, None where a row has none."""

    def read(columns):
        for number, texts in enumerate(rows):
            named = {"text_id": ids or [hex_id(text) for text in texts], "text": list(texts)}
            types = pa.schema([("text_id", pa.string()), ("text", pa.string())])
            yield f"rows-{number}.parquet", pa.table(named, schema=types).select(columns)

    return read


def stored(folder):
    """All texts in the files of a folder, by file."""
    return [folder.read_table(name)["text"].to_pylist() for name in folder.names("texts-")]


def look_up(folder, found):
    """The texts at the positions that were returned for rows."""
    texts = [text for name in folder.names("texts-") for text in folder.read_table(name)["text"].to_pylist()]
    return [None if position == NO_TEXT else texts[position] for position in found.positions]


def test_each_text_is_kept_once_across_tables_and_calls(tmp_path):
    folder = Folder.at(tmp_path / "answers")
    assert look_up(folder, register(folder, tables("abc", "bd"), 10)) == list("abcbd")
    assert look_up(folder, register(folder, tables("aed"), 10)) == list("aed")
    assert look_up(folder, register(folder, tables("edcba"), 10)) == list("edcba")
    assert stored(folder) == [["a", "b", "c", "d"], ["e"]]


def test_files_are_cut_at_their_size(tmp_path):
    folder = Folder.at(tmp_path)
    found = register(folder, tables("abcdefg"), 3)
    assert stored(folder) == [list("abc"), list("def"), ["g"]]
    assert [file.rows for file in found.files] == [3, 3, 1]
    assert len({file.key for file in found.files}) == 3
    assert [rows for _, rows in slices(found.files)] == [slice(0, 3), slice(3, 6), slice(6, 7)]


def test_a_later_job_finds_the_texts_and_adds_only_new_ones(tmp_path):
    folder = Folder.at(tmp_path)
    first = register(folder, tables("abcde"), 2)
    assert stored_texts(folder) == first.files
    again = register(folder, tables("eabcd"), 2)
    assert again.files == first.files
    assert again.positions.tolist() == first.positions[[4, 0, 1, 2, 3]].tolist()
    assert look_up(folder, register(folder, tables("bxey"), 2)) == list("bxey")
    assert stored(folder) == [["a", "b"], ["c", "d"], ["e"], ["x", "y"]]


def test_two_jobs_that_write_the_same_text_leave_one_position_for_it(tmp_path):
    folder, other = Folder.at(tmp_path / "a"), Folder.at(tmp_path / "b")
    register(folder, tables("ab"), 10)
    register(other, tables("bc"), 10)  # at the same moment: neither sees the other's file
    for name in other.names("texts-"):
        folder.write_bytes(name, other.read_bytes(name))
    found = register(folder, tables("abcb"), 10)
    assert len(found.files) == 2
    assert look_up(folder, found) == list("abcb")
    assert found.positions[1] == found.positions[3]


def test_rows_without_a_text_have_no_position(tmp_path):
    folder = Folder.at(tmp_path)
    found = register(folder, tables(["a", None, "b"], [None, None], ["b", None]), 10)
    assert look_up(folder, found) == ["a", None, "b", None, None, "b", None]
    assert register(folder, tables([None]), 10).positions.tolist() == [NO_TEXT]


def test_other_files_are_no_texts(tmp_path):
    folder = Folder.at(tmp_path)
    folder.write_bytes("texts-of-mine.parquet", b"not one of ours")
    assert stored_texts(folder) == ()


@pytest.mark.parametrize("seed", range(3))
def test_positions_are_those_of_a_dict_whatever_the_sizes_of_the_additions(tmp_path, seed):
    rng = np.random.default_rng(seed)
    folder, truth = Folder.at(tmp_path), {}
    for size in rng.permutation([1, 1, 2, 3, 5, 8, 40, 41, 300, 700]):
        rows = [str(number) for number in rng.integers(0, 900, size)]
        for text in rows:
            truth.setdefault(text, len(truth))
        found = register(folder, tables(rows[: size // 2], rows[size // 2 :]), 64)
        assert found.positions.dtype == np.int64
        assert found.positions.tolist() == [truth[text] for text in rows]
    assert [text for file in stored(folder) for text in file] == list(truth)


@pytest.mark.parametrize(
    "ids",
    [
        [b"\x00" * 16, b"\xff" * 16, b"\x00" * 15 + b"\x01", b"\x80" + b"\x00" * 15],
        [b"same-one" + rest for rest in (b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"aaaaaaab")],
    ],
)
def test_ids_are_told_apart_by_all_of_their_bytes(tmp_path, ids):
    folder, rows = Folder.at(tmp_path), list("abcd")
    for order in ([2, 0], [0, 1, 2, 3, 0, 2], [3, 2, 1, 0]):
        named = tables([rows[i] for i in order], ids=[ids[i].hex() for i in order])
        assert look_up(folder, register(folder, named, 10)) == [rows[i] for i in order]


def test_the_sample_is_the_texts_of_the_least_ids_each_once(tmp_path):
    rows = [f"text {i % 2000}" for i in range(3000)]
    register(Folder.at(tmp_path), tables(rows[:500]), 100)  # some are there already
    found = register(Folder.at(tmp_path), tables(rows[:1700], rows[1700:]), 100)
    assert found.sample == sorted(set(rows), key=hex_id)[:SAMPLE]
