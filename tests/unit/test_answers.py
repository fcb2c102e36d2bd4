import hashlib

import numpy as np
import pyarrow as pa
import pytest

from hypsae_ray.labels.annotations import Answers, Part, Shard, Texts, by_part, to_table
from hypsae_ray.labels.pairs import Block, blocks
from hypsae_ray.labels.text_index import UNKNOWN
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status

QUESTIONS = ("mentions dogs", "mentions cats", "is angry", "asks for more")
PART = Part(number=3, rows=6, digest="0123abcd")
LABELLER = {"model": "m", "temperature": 0.0}


def text_id(text):
    return hashlib.md5(text.encode()).digest()


def by_id(*texts):
    return {text_id(text): text for text in texts}


def stored(folder):
    """All texts in the files of a folder, by file."""
    return [folder.read_table(name)["text"].to_pylist() for name in folder.names("texts-")]


def look_up(texts, wanted):
    """Read texts at the places where they are said to be."""
    places = texts.find([text_id(text) for text in wanted])
    parts, rows = np.full(len(wanted), -1), np.full(len(wanted), -1)
    for position, mine, its_rows in by_part(places):
        parts[mine], rows[mine] = position, its_rows
    return [
        texts.folder.read_rows(texts.parts[part].name, int(row), 1, ["text"])["text"][0].as_py()
        for part, row in zip(parts, rows, strict=True)
    ]


def random_scores(rng, n, h):
    p_yes = rng.random((n, h)).astype(np.float32)
    status = rng.choice([Status.OK, Status.CUT, Status.FAILED], size=(n, h)).astype(np.int8)
    p_yes[status == Status.FAILED] = np.nan
    return Annotations(p_yes, (rng.random((n, h)) / 10).astype(np.float32), status)


def write(answers, block, scores, questions=QUESTIONS, part=PART):
    shard = answers.shard(part, block, questions)
    assert answers.folder.write_table_once(shard.name, to_table(scores, {"seconds": 1.5}))
    answers.refresh()
    return shard


def whole(start, rows, columns):
    return Block(start, tuple(columns), np.ones((rows, len(columns)), dtype=bool))


def masked(scores, asked):
    """What a labeller gives back for a masked shard: no value where it was not asked."""
    nothing = np.float32(np.nan)
    return Annotations(
        np.where(asked, scores.p_yes, nothing),
        np.where(asked, scores.p_neither, nothing),
        np.where(asked, scores.status, Status.UNASKED).astype(np.int8),
    )


# --- texts ---


def test_each_text_is_kept_once_across_calls(tmp_path):
    folder = Folder.at(tmp_path / "answers")
    texts = Texts(folder)
    texts.add(by_id("a", "b", "c"), part_rows=10)
    texts.add(by_id("b", "d"), part_rows=10)
    assert texts.find([text_id("a")]).tolist() == [UNKNOWN]  # held, not written
    texts.flush()
    texts.add(by_id("a", "e", "d"), part_rows=10)
    texts.flush()
    texts.flush()  # nothing is held: nothing is written
    assert stored(folder) == [["a", "b", "c", "d"], ["e"]]
    assert look_up(texts, "edcba") == list("edcba")
    assert texts.find([text_id("f")]).tolist() == [UNKNOWN]


def test_parts_are_cut_at_their_size(tmp_path):
    folder = Folder.at(tmp_path)
    texts = Texts(folder)
    texts.add(by_id(*"abcdefg"), part_rows=3)
    assert stored(folder) == [list("abc"), list("def")]
    texts.flush()
    assert [part.rows for part in texts.parts] == [3, 3, 1]
    assert len({part.key for part in texts.parts}) == 3


def test_a_later_job_finds_the_texts_and_adds_only_new_ones(tmp_path):
    folder = Folder.at(tmp_path)
    first = Texts(folder)
    first.add(by_id(*"abcde"), part_rows=2)
    first.flush()
    second = Texts(folder)
    assert second.parts == first.parts
    ids = [text_id(text) for text in "eabcd"]
    assert second.find(ids).tolist() == first.find(ids).tolist()
    second.add(by_id(*"bxey"), part_rows=2)
    second.flush()
    assert stored(folder) == [["a", "b"], ["c", "d"], ["e"], ["x", "y"]]
    assert look_up(second, "yaxe") == list("yaxe")
    assert look_up(Texts(folder), "yaxe") == list("yaxe")


def test_two_jobs_that_write_the_same_text_leave_one_place_for_it(tmp_path):
    folder = Folder.at(tmp_path)
    one, two = Texts(folder), Texts(folder)
    one.add(by_id("a", "b"), part_rows=10)
    two.add(by_id("b", "c"), part_rows=10)
    one.flush()
    two.flush()
    later = Texts(folder)
    assert len(later.parts) == 2
    assert look_up(later, "abc") == list("abc")


def test_other_files_are_no_texts(tmp_path):
    folder = Folder.at(tmp_path)
    folder.write_bytes("texts-of-mine.parquet", b"not one of ours")
    assert Texts(folder).parts == []


# --- answers ---


def test_a_whole_shard_is_done_and_read(tmp_path):
    answers = Answers(Folder.at(tmp_path), LABELLER)
    scores = random_scores(np.random.default_rng(0), 4, 2)
    write(answers, whole(2, 4, (3, 1)), scores)
    expected = np.zeros((6, 4), dtype=bool)
    expected[2:6, [1, 3]] = True
    np.testing.assert_array_equal(answers.done(PART, QUESTIONS), expected)
    known = answers.read(PART, QUESTIONS)
    for name in ("p_yes", "p_neither", "status"):
        np.testing.assert_array_equal(getattr(known, name)[2:6][:, [3, 1]], getattr(scores, name))
    assert (known.status[~expected] == Status.PENDING).all()
    assert np.isnan(known.p_yes[~expected]).all()


def test_questions_are_found_in_any_order_and_company(tmp_path):
    scores = random_scores(np.random.default_rng(1), 6, 4)
    write(Answers(Folder.at(tmp_path), LABELLER), whole(0, 6, range(4)), scores)
    later = Answers(Folder.at(tmp_path), LABELLER)
    asked = ("asks for less", "asks for more", "mentions dogs", "mentions dog")
    assert later.done(PART, asked).all(axis=0).tolist() == [False, True, True, False]
    assert later.done(PART, asked).any(axis=0).tolist() == [False, True, True, False]
    known = later.read(PART, asked)
    np.testing.assert_array_equal(known.p_yes[:, [1, 2]], scores.p_yes[:, [3, 0]])
    assert (known.status[:, [0, 3]] == Status.PENDING).all()


def test_a_part_of_other_texts_is_not_done(tmp_path):
    answers = Answers(Folder.at(tmp_path), LABELLER)
    write(answers, whole(0, 6, range(4)), random_scores(np.random.default_rng(0), 6, 4))
    for other in (Part(4, 6, PART.digest), Part(3, 6, "ffffffff")):
        assert not answers.done(other, QUESTIONS).any()
        assert (answers.read(other, QUESTIONS).status == Status.PENDING).all()


def test_of_a_masked_shard_only_asked_pairs_count(tmp_path):
    answers = Answers(Folder.at(tmp_path), LABELLER)
    asked = np.array([[1, 0], [0, 1], [1, 1]], dtype=bool)
    scores = masked(random_scores(np.random.default_rng(2), 3, 2), asked)
    shard = write(answers, Block(1, (0, 2), asked), scores)
    np.testing.assert_array_equal(shard.pairs(2), asked)
    expected = np.zeros((6, 4), dtype=bool)
    expected[1, 0] = expected[2, 2] = expected[3, 0] = expected[3, 2] = True
    np.testing.assert_array_equal(answers.done(PART, QUESTIONS), expected)
    known = answers.read(PART, QUESTIONS)
    assert (known.status[~expected] == Status.PENDING).all()
    assert known.p_yes[3].tolist() == pytest.approx(
        [scores.p_yes[2, 0], np.nan, scores.p_yes[2, 1], np.nan], nan_ok=True
    )


def test_masked_shards_that_overlap_fill_each_other_up(tmp_path):
    rng = np.random.default_rng(3)
    truth = random_scores(rng, 6, 4)
    answers = Answers(Folder.at(tmp_path), LABELLER)
    wanted = np.zeros((6, 4), dtype=bool)
    for _ in range(4):
        wanted |= rng.random((6, 4)) < 0.4
        for block in blocks(wanted & ~answers.done(PART, QUESTIONS), 4):
            rows, columns = slice(block.start, block.start + len(block.asked)), list(block.columns)
            part = Annotations(truth.p_yes[rows, columns], truth.p_neither[rows, columns],
                          truth.status[rows, columns])  # fmt: skip
            write(answers, block, masked(part, block.asked))
        np.testing.assert_array_equal(answers.done(PART, QUESTIONS), wanted)
    assert wanted.any()
    assert not wanted.all()
    known = answers.read(PART, QUESTIONS)
    np.testing.assert_array_equal(known.status, np.where(wanted, truth.status, Status.PENDING))
    np.testing.assert_array_equal(known.p_yes, np.where(wanted, truth.p_yes, np.float32(np.nan)))
    np.testing.assert_array_equal(known.p_neither, np.where(wanted, truth.p_neither, np.float32(np.nan)))


def test_labellers_do_not_see_each_others_answers(tmp_path):
    root = Folder.at(tmp_path)
    one, other = Answers(root, LABELLER), Answers(root, {**LABELLER, "temperature": 0.7})
    assert not one.begun
    one.begin()
    assert one.begun
    assert not other.begun
    write(one, whole(0, 6, range(4)), random_scores(np.random.default_rng(0), 6, 4))
    assert one.done(PART, QUESTIONS).all()
    assert not other.done(PART, QUESTIONS).any()
    same = Answers(root, dict(reversed(LABELLER.items())))  # the order of the facts says nothing
    assert same.begun
    assert same.done(PART, QUESTIONS).all()


def test_labeller_json_says_who_it_was(tmp_path):
    answers = Answers(Folder.at(tmp_path), LABELLER)
    answers.begin()
    assert answers.folder.read_json("labeller.json").items() >= LABELLER.items()


# --- shards ---


def test_names_of_shards_tell_them_apart(tmp_path):
    def name(root, block, part=PART, questions=QUESTIONS):
        return Answers(Folder.at(tmp_path / root), LABELLER).shard(part, block, questions).name

    holes = [np.array(pairs, dtype=bool) for pairs in ([[1, 0], [1, 1]], [[0, 1], [1, 1]])]
    shards = [
        (whole(0, 2, (0, 1)),),
        (whole(2, 2, (0, 1)),),
        (whole(0, 3, (0, 1)),),
        (whole(0, 2, (0, 2)),),
        (whole(0, 2, (1, 0)),),
        (Block(0, (0, 1), holes[0]),),
        (Block(0, (0, 1), holes[1]),),
        (whole(0, 2, (0, 1)), Part(4, 6, PART.digest)),
        (whole(0, 2, (0, 1)), Part(3, 6, "ffffffff")),
        (whole(0, 2, (0, 1)), PART, QUESTIONS[::-1]),
    ]
    names = [name("a", *shard) for shard in shards]
    assert len(set(names)) == len(names)
    assert names == [name("b", *shard) for shard in shards]


def test_a_shard_of_all_pairs_names_none(tmp_path):
    shard = Answers(Folder.at(tmp_path), LABELLER).shard(PART, whole(0, 2, (0, 1)), QUESTIONS)
    assert shard.asked is None
    assert shard.pairs(2) is None


@pytest.mark.parametrize("shape", [(1, 3), (5, 7), (3, 8)])
def test_pairs_survive_the_packing(shape):
    asked = np.random.default_rng(0).random(shape) < 0.5
    shard = Shard(PART, 0, shape[0], "00000000", np.packbits(asked).tobytes())
    np.testing.assert_array_equal(shard.pairs(shape[1]), asked)


# --- files ---


def test_the_first_of_two_writers_stays(tmp_path):
    folder = Folder.at(tmp_path / "new")
    assert folder.write_table_once("x.parquet", pa.table({"x": [1]}))
    assert not folder.write_table_once("x.parquet", pa.table({"x": [2, 3]}))
    assert folder.read_table("x.parquet")["x"].to_pylist() == [1]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.parquet"]


@pytest.mark.parametrize(
    ("start", "rows"),
    [(0, 1), (0, 1300), (511, 1), (511, 2), (512, 512), (600, 100), (100, 900), (1299, 1), (1024, 276)],
)
def test_rows_are_read_across_row_groups(tmp_path, start, rows):
    folder = Folder.at(tmp_path)
    numbers = np.random.default_rng(0).integers(0, 10**9, 1300)
    table = pa.table({"n": numbers, "text": [f"text {n}" for n in numbers], "unused": numbers})
    folder.write_table("t.parquet", table)
    found = folder.read_rows("t.parquet", start, rows, ["text", "n"])
    assert found["n"].to_pylist() == numbers[start : start + rows].tolist()
    assert found["text"].to_pylist() == [f"text {n}" for n in numbers[start : start + rows]]
    assert set(found.column_names) == {"n", "text"}


def test_rows_behind_the_end_are_not_there(tmp_path):
    folder = Folder.at(tmp_path)
    folder.write_table("t.parquet", pa.table({"n": list(range(600))}))
    assert folder.read_rows("t.parquet", 590, 50, ["n"])["n"].to_pylist() == list(range(590, 600))
    assert folder.read_rows("t.parquet", 600, 5, ["n"]).num_rows == 0
