import numpy as np
import pyarrow as pa
import pytest

from hypsae_ray.labels.annotations import AnnotationStore, to_columns, with_facts
from hypsae_ray.labels.shards import Shard, cut
from hypsae_ray.labels.texts import TextFile
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.schema import Status

QUESTIONS = ("mentions dogs", "mentions cats", "is angry", "asks for more")
FILE = TextFile(number=3, rows=6, digest="0123abcd")
LABELLER = {"model": "m", "temperature": 0.0}


def random_annotations(rng, n, h):
    p_yes = rng.random((n, h)).astype(np.float32)
    status = rng.choice([Status.OK, Status.CUT, Status.FAILED], size=(n, h)).astype(np.int8)
    p_yes[status == Status.FAILED] = np.nan
    return Annotations(p_yes, (rng.random((n, h)) / 10).astype(np.float32), status)


def write(store, shard, annotations):
    store.begin([shard])
    table = with_facts(pa.table(to_columns(annotations)), {"seconds": 1.5})
    assert store.folder.write_table_once(shard.name, table)
    store.refresh()


def whole(start, rows, columns):
    return Shard(FILE, start, rows, tuple(QUESTIONS[column] for column in columns))


def masked(annotations, asked):
    """What a labeller gives back for a masked shard: no value where it was not asked."""
    nothing = np.float32(np.nan)
    return Annotations(
        np.where(asked, annotations.p_yes, nothing),
        np.where(asked, annotations.p_neither, nothing),
        np.where(asked, annotations.status, Status.UNASKED).astype(np.int8),
    )


def test_a_whole_shard_is_annotated_and_read(tmp_path):
    store = AnnotationStore(Folder.at(tmp_path), LABELLER)
    annotations = random_annotations(np.random.default_rng(0), 4, 2)
    write(store, whole(2, 4, (3, 1)), annotations)
    expected = np.zeros((6, 4), dtype=bool)
    expected[2:6, [1, 3]] = True
    np.testing.assert_array_equal(store.annotated(FILE, QUESTIONS), expected)
    known = store.read(FILE, QUESTIONS)
    for name in ("p_yes", "p_neither", "status"):
        np.testing.assert_array_equal(getattr(known, name)[2:6][:, [3, 1]], getattr(annotations, name))
    assert (known.status[~expected] == Status.PENDING).all()
    assert np.isnan(known.p_yes[~expected]).all()


def test_questions_are_found_in_any_order_and_company(tmp_path):
    annotations = random_annotations(np.random.default_rng(1), 6, 4)
    write(AnnotationStore(Folder.at(tmp_path), LABELLER), whole(0, 6, range(4)), annotations)
    later = AnnotationStore(Folder.at(tmp_path), LABELLER)
    asked = ("asks for less", "asks for more", "mentions dogs", "mentions dog")
    assert later.annotated(FILE, asked).all(axis=0).tolist() == [False, True, True, False]
    assert later.annotated(FILE, asked).any(axis=0).tolist() == [False, True, True, False]
    known = later.read(FILE, asked)
    np.testing.assert_array_equal(known.p_yes[:, [1, 2]], annotations.p_yes[:, [3, 0]])
    assert (known.status[:, [0, 3]] == Status.PENDING).all()


def test_a_file_of_other_texts_is_not_annotated(tmp_path):
    store = AnnotationStore(Folder.at(tmp_path), LABELLER)
    write(store, whole(0, 6, range(4)), random_annotations(np.random.default_rng(0), 6, 4))
    for other in (TextFile(4, 6, FILE.digest), TextFile(3, 6, "ffffffff")):
        assert not store.annotated(other, QUESTIONS).any()
        assert (store.read(other, QUESTIONS).status == Status.PENDING).all()


def test_of_a_masked_shard_only_asked_pairs_count(tmp_path):
    store = AnnotationStore(Folder.at(tmp_path), LABELLER)
    asked = np.array([[1, 0], [0, 1], [1, 1]], dtype=bool)
    annotations = masked(random_annotations(np.random.default_rng(2), 3, 2), asked)
    write(store, whole(1, 3, (0, 2)).only(asked), annotations)
    expected = np.zeros((6, 4), dtype=bool)
    expected[1, 0] = expected[2, 2] = expected[3, 0] = expected[3, 2] = True
    np.testing.assert_array_equal(store.annotated(FILE, QUESTIONS), expected)
    known = store.read(FILE, QUESTIONS)
    assert (known.status[~expected] == Status.PENDING).all()
    assert known.p_yes[3].tolist() == pytest.approx(
        [annotations.p_yes[2, 0], np.nan, annotations.p_yes[2, 1], np.nan], nan_ok=True
    )


def test_masked_shards_that_overlap_fill_each_other_up(tmp_path):
    rng = np.random.default_rng(3)
    truth = random_annotations(rng, 6, 4)
    store = AnnotationStore(Folder.at(tmp_path), LABELLER)
    wanted = np.zeros((6, 4), dtype=bool)
    for _ in range(4):
        wanted |= rng.random((6, 4)) < 0.4
        for shard in cut(FILE, wanted & ~store.annotated(FILE, QUESTIONS), QUESTIONS, 4):
            rows = slice(shard.start, shard.start + shard.rows)
            columns = [QUESTIONS.index(question) for question in shard.questions]
            part = [getattr(truth, name)[rows, columns] for name in ("p_yes", "p_neither", "status")]
            write(store, shard, masked(Annotations(*part), shard.pairs))
        np.testing.assert_array_equal(store.annotated(FILE, QUESTIONS), wanted)
    assert wanted.any()
    assert not wanted.all()
    known = store.read(FILE, QUESTIONS)
    np.testing.assert_array_equal(known.status, np.where(wanted, truth.status, Status.PENDING))
    np.testing.assert_array_equal(known.p_yes, np.where(wanted, truth.p_yes, np.float32(np.nan)))
    np.testing.assert_array_equal(known.p_neither, np.where(wanted, truth.p_neither, np.float32(np.nan)))


def test_labellers_do_not_see_each_others_annotations(tmp_path):
    root = Folder.at(tmp_path)
    one, other = AnnotationStore(root, LABELLER), AnnotationStore(root, {**LABELLER, "temperature": 0.7})
    assert not one.begun
    one.begin([])
    assert one.begun
    assert not other.begun
    write(one, whole(0, 6, range(4)), random_annotations(np.random.default_rng(0), 6, 4))
    assert one.annotated(FILE, QUESTIONS).all()
    assert not other.annotated(FILE, QUESTIONS).any()
    same = AnnotationStore(root, dict(reversed(LABELLER.items())))  # the order of the facts says nothing
    assert same.begun
    assert same.annotated(FILE, QUESTIONS).all()


def test_labeller_json_says_who_it_was(tmp_path):
    store = AnnotationStore(Folder.at(tmp_path), LABELLER)
    store.begin([])
    assert store.folder.read_json("labeller.json").items() >= LABELLER.items()


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
