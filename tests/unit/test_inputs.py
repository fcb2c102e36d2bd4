import bz2
import csv
import gzip
import json
import lzma
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hypsae_ray.data import files
from hypsae_ray.errors import InputError

ROWS = pd.DataFrame({"text": ["one", 'two, "quoted"\nlines', "three"], "y": [1.0, 2.5, -3.0]})


def read(place, columns=("text", "y")) -> pd.DataFrame:
    frames = [frame for file in files.find_files(str(place)) for frame in files.read_frames(file, columns)]
    return pd.concat(frames)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_all_formats_say_the_same(tmp_path, name: str):
    file = tmp_path / name
    if name.endswith(".parquet"):
        ROWS.to_parquet(file)
    elif name.endswith(".csv"):
        ROWS.to_csv(file, index=False)
    else:
        content = ROWS.to_json(orient="records", lines=True).encode()
        file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    frame = read(file)
    assert frame["text"].tolist() == ROWS["text"].tolist()
    assert frame["y"].astype(float).tolist() == ROWS["y"].tolist()
    assert frame.index.tolist() == [1, 2, 3]


def test_file_glob_and_folder(tmp_path):
    for name in ("b.csv", "a.csv", "notes.txt", "sub/c.csv", "sub/.cache/d.csv", "_draft/e.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("text,y\nx,1\n")

    def found(place) -> list[str]:
        return [file.path.removeprefix(f"{tmp_path}/") for file in files.find_files(str(place))]

    assert found(tmp_path / "a.csv") == ["a.csv"]
    assert found(tmp_path / "*.csv") == ["a.csv", "b.csv"]
    assert found(tmp_path) == ["a.csv", "b.csv", "sub/c.csv"]
    assert found(tmp_path / "**/c.csv") == ["sub/c.csv"]
    assert found(tmp_path / "**/a.csv") == ["a.csv"]


def test_a_comma_at_the_end_of_each_csv_row_shifts_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("text,y\none,1,\ntwo,2,\n")
    assert read(tmp_path / "a.csv")["text"].tolist() == ["one", "two"]


def test_a_place_that_cannot_be_listed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    with pytest.raises(InputError, match=r"s3://reviews/a.csv\?.*: cannot be listed"):  # no server there
        files.find_files("s3://reviews/a.csv?endpoint_override=127.0.0.1:9&scheme=http")


@pytest.mark.parametrize("place", ["missing.csv", "*.nothing", "empty"])
def test_nothing_to_read(tmp_path, place: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such file or folder"):
        files.find_files(str(tmp_path / place))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"text,y\n", "holds no rows"),
        ("a.jsonl", b'{"text": "x", "y": 1}\n{"text": "x", "y"', "line 2 is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "item 1 of the array is not a JSON object: 1"),
        ("a.json", b'[{"text": "x", "y": 1}, {"text": "x', "item 2 of the array is not JSON"),
        ("a.jsonl", b'{"text": "x", "z": 1}\n', "no column 'y'; it has text, z"),
        ("a.csv", b"text,z\nx,1\n", "no column 'y'; it has text, z"),
        ("a.csv", b'text,y\nx,1\n"y,2\n', r"row 2 \(line 3\): a quote opens a cell that is never closed"),
        ("a.csv", b"text,y\nx, and more,1\nx, and more,2\n", r"row 1 \(line 2\): 3 cells .* header has 2"),
        ("a.csv", b"text,y\nx,1\n\nx\n", r"row 2 \(line 4\): 1 cells where the header has 2"),
        ("a.csv", "text,y\ncafé déjà,1\n".encode() + b"na\xefve,2\n", "line 3 holds the byte 0xef"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("a.jsonl", '{"text": "é'.encode() + b'\xff", "y": 1}\n', "line 1 holds the byte 0xff"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x", "y": 1}\n' * 1000, mtime=0)[:-20], "cannot be read"),
    ],
)
def test_broken_files_are_named_with_the_reason(tmp_path, name: str, content: bytes, reason: str):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=reason) as error:
        read(file)
    assert str(error.value).startswith(str(file))


def test_a_changed_file_has_another_stamp_and_digest(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,y\nx,1\n")
    (before,) = files.find_files(str(path))
    stamp, digest = before.stamp(), before.digest()
    path.write_text("text,y\nx,12\n")
    (after,) = files.find_files(str(path))
    assert after.stamp() != stamp
    assert after.digest() != digest


# Encodings and delimiters


GERMAN = "id;text;stars\n1;Das Gerät läuft gut, die Größe passt;4\n2;Schöne Grüße für alle;5\n"
POLISH = "id,text,stars\n1,Zażółć gęślą jaźń polecam każdemu,4\n2,źle,5\n"
RUSSIAN = "id\ttext\tstars\n1\tОчень хороший товар, всем советую купить\t4\n2\tплохо\t5\n"
JAPANESE = "id,text,stars\n1,とても良い商品です。また買いたいと思います。,4\n2,悪い,5\n"


@pytest.mark.parametrize("content", [GERMAN, POLISH, RUSSIAN, JAPANESE])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "own"])
def test_encodings_and_delimiters_are_found(tmp_path, content: str, encoding: str):
    own = {GERMAN: "latin-1", POLISH: "cp1250", RUSSIAN: "cp1251", JAPANESE: "cp932"}[content]
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode(own if encoding == "own" else encoding))
    if encoding == "utf-16-le" and content == JAPANESE:
        return  # nothing marks it
    expected = [line.split(content[2])[1] for line in content.splitlines()[1:]]
    assert read(path, ["text", "stars"])["text"].tolist() == expected
    (file,) = files.find_files(str(path))
    assert files.dialect(file).delimiter == content[2]
    told = files.remarks([file])
    assert [len(told)] == [0 if encoding.startswith("utf-8") else 1]
    assert all("not UTF-8, read as" in line and "data.encoding" in line for line in told)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "sep=;\r\ntext;y\r\na, b;1\r\n", ["a, b"]),
        ("a.tsv", "text\ty\nx,y;z\t1\n", ["x,y;z"]),
        ("a.csv", "text|y\na, b; c|1\n", ["a, b; c"]),
        ("a.csv", '"text";"a, b, c";y\n"x, y, z";2;1\n', ["x, y, z"]),
        ("a.csv", 'y, text\n1, well\n2, "good, bad"\n', ["well", "good, bad"]),
        ("A.CSV", " text ,y,\n x,1\n", [" x"]),
    ],
)
def test_the_header_and_the_ending_say_the_delimiter(tmp_path, name: str, content: str, expected: list[str]):
    (tmp_path / name).write_text(content, newline="")
    assert read(tmp_path / name)["text"].tolist() == expected


def test_a_csv_with_one_column_has_no_delimiter(tmp_path):
    (tmp_path / "a.csv").write_text('text\ngood, cheap; new\n""\n\n"two\nlines"\n')
    assert read(tmp_path / "a.csv", ["text"])["text"].tolist() == ["good, cheap; new", None, "two\nlines"]


def test_encoding_and_delimiter_can_be_set(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,a;y\nÄpfel;1\n".encode("cp850"))
    (file,) = files.find_files(str(path), "cp850", ";")
    assert next(files.read_frames(file, ["text,a"]))["text,a"].tolist() == ["Äpfel"]
    (wrong,) = files.find_files(str(path), "cp850", ",")
    told = r"no column 'y'; it has text, a;y \(delimiter ',', encoding cp850; .*encoding .*data.delimiter"
    with pytest.raises(InputError, match=told):
        list(files.read_frames(wrong, ["y"]))


# Quotes


def stray(cells: dict[int, str], n: int = 300) -> str:
    """Rows of id, text and stars as a program writes them that knows no quotes."""
    rows = [f"{i},{cells.get(i, f'text number {i}')},{i % 5}" for i in range(1, n + 1)]
    return "\n".join(["id,text,stars", *rows, ""])


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({11: '"good', 41: '"bad'}, r"row 11 \(line 12\): a quote opens a cell, and text follows .* line 42"),
        ({11: '"good', 41: 'screen of 5"'}, r"row 11 \(line 12\): .* runs to line 42, and each line in it"),
        ({11: '"good', 12: 'screen of 5"'}, r"row 11 \(line 12\): .* runs to line 13"),
        ({2: '"good', 299: 'of 5"', 120: '""'}, r"row 2 \(line 3\): .* runs to line 300"),
        ({11: '"good'}, r"row 11 \(line 12\): a quote opens a cell that is never closed"),
        ({11: '"said "no" to me"'}, r"row 11 \(line 12\): a quote opens a cell, and text follows"),
    ],
)
def test_a_stray_quote_swallows_no_rows(tmp_path, cells: dict[int, str], reason: str):
    (tmp_path / "a.csv").write_text(stray(cells))
    with pytest.raises(InputError, match=reason):
        read(tmp_path / "a.csv", ["text", "stars"])


def test_a_quote_inside_a_cell_is_a_letter(tmp_path):
    (tmp_path / "a.csv").write_text(stray({3: 'a 5" screen', 9: 'say "no"'}))
    texts = read(tmp_path / "a.csv", ["text"])["text"].tolist()
    assert (len(texts), texts[2], texts[8]) == (300, 'a 5" screen', 'say "no"')


PIECES = [
    "word",
    "However",
    " ",
    ", ",
    "; ",
    '"',
    "\n",
    "\r\n",
    "5",
    "12.5",
    "é",
    "|",
    "\t",
    "'",
    "\\",
    "sep=;",
]


@pytest.mark.parametrize("seed", range(40))
def test_what_csv_writers_write_is_read_as_it_was(tmp_path, seed: int):
    draw = random.Random(seed)
    texts = ["x" + "".join(draw.choices(PIECES, k=draw.randint(1, 30))) for _ in range(60)]
    frame = pd.DataFrame(
        {"id": range(60), "text": texts, "y": [i % 7 / 2 for i in range(60)], "t": texts[::-1]}
    )
    frame = frame[draw.sample(["id", "text", "y", "t"], 4)]
    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])  # the last one as R does
    end = draw.choice(["\n", "\r\n"])
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False, sep=draw.choice(",;\t|"), quoting=quoting, lineterminator=end)
    assert read(path, ["text", "t"])["text"].tolist() == texts


# Names of columns


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_column_that_stands_twice_is_refused_where_it_is_used(tmp_path, name: str):
    path = tmp_path / name
    if name == "a.csv":
        path.write_text("text,y,y\nx,1,2\n")
    elif name == "a.jsonl":
        path.write_text('{"text": "x", "y": 1, "y": 2}\n')
    else:
        arrays = [pa.array(["x"]), pa.array([1]), pa.array([2])]
        pq.write_table(pa.Table.from_arrays(arrays, names=["text", "y", "y"]), path)
    assert read(path, ["text"])["text"].tolist() == ["x"]
    with pytest.raises(InputError, match=r"'y' stands (2 times|twice)"):
        read(path)
    (file,) = files.find_files(str(path))
    assert files.columns_in(file) == {"text": 1, "y": 2}


def test_nested_fields_have_dotted_names(tmp_path):
    rows = [{"user": {"id": 7, "at": {"city": "Rom"}}, "user.name": "ann"}, {"user": None, "user.name": "bo"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    names = ["user.id", "user.at.city", "user.name"]
    for name in ("a.jsonl", "a.parquet"):
        frame = read(tmp_path / name, names)
        assert frame.to_numpy().tolist() == [[7, "Rom", "ann"], [None, None, "bo"]]
    (file,) = files.find_files(str(tmp_path / "a.parquet"))
    assert set(files.columns_in(file)) == set(names)
    with pytest.raises(InputError, match=r"no column 'user.mail'; it has user.id"):
        read(tmp_path / "a.jsonl", ["user.mail"])


def test_a_column_of_a_dotted_name_hides_the_nested_field(tmp_path):
    rows = [{"user": {"id": 7}, "user.id": 8}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [read(tmp_path / name, ["user.id"]).iloc[0, 0] for name in ("a.jsonl", "a.parquet")] == [8, 8]


# Places


def test_json_arrays_are_read_in_pieces(tmp_path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"text": '],[{ \\ " é' * (i % 9), "y": [i, {"a": i}]} for i in range(100)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1), encoding="utf-16")
    monkeypatch.setattr("hypsae_ray.data.files.json_file._BLOCK", 7)
    frame = read(tmp_path / "a.json")
    assert frame.to_dict("records") == rows
    assert frame.index.tolist() == list(range(1, 101))


@pytest.mark.parametrize("ending", [".CSV.GZ", ".csv.bz2", ".csv.xz", ".Csv.zst"])
def test_compressed_files_and_endings_in_any_case(tmp_path, ending: str):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    kind = ending[4:].lower()
    raw = b"text,y\nx,1\n"
    packed = pack[kind](raw) if kind in pack else pa.compress(raw, "zstd", asbytes=True)
    (tmp_path / f"a{ending}").write_bytes(packed)
    assert read(tmp_path / f"a{ending}")["text"].tolist() == ["x"]


def test_a_name_with_signs_of_a_glob_is_a_name_if_it_exists(tmp_path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "old [2024]"
    folder.mkdir()
    for name in ("a[1].csv", "a1.csv", "b?.csv"):
        (folder / name).write_text(f"text,y\n{name},1\n")
    assert read(folder / "a[1].csv")["text"].tolist() == ["a[1].csv"]
    assert read(folder / "a*.csv")["text"].tolist() == ["a1.csv", "a[1].csv"]
    assert read(folder / "[a]1.csv")["text"].tolist() == ["a1.csv"]
    monkeypatch.setenv("HOME", str(folder))
    assert read("~/b?.csv")["text"].tolist() == ["b?.csv"]


def test_hive_folders_are_columns(tmp_path):
    for year, city in (("2023", "S%C3%A3o"), ("2024", "__HIVE_DEFAULT_PARTITION__")):
        part = tmp_path / "d" / f"year={year}" / f"city={city}"
        part.mkdir(parents=True)
        ROWS[:1].to_parquet(part / "part-0.parquet")
        ROWS[:0].to_parquet(part / "part-1.parquet")
    frame = read(tmp_path / "d", ["year", "text", "city"])
    assert frame.to_numpy().tolist() == [["2023", "one", "São"], ["2024", "one", None]]
    assert read(tmp_path / "d" / "year=*4", ["year", "text"])["year"].tolist() == ["2024"]
    (file, *_) = files.find_files(str(tmp_path / "d"))
    assert set(files.columns_in(file)) >= {"year", "city", "text", "y"}


def test_a_column_of_the_file_wins_over_its_folder(tmp_path):
    (tmp_path / "y=9").mkdir()
    (tmp_path / "y=9" / "a.csv").write_text("text,y\nx,1\n")
    assert read(tmp_path / "y=9" / "a.csv")["y"].tolist() == ["1"]


def test_an_empty_part_is_read_as_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.csv").write_text("text,y\n")
    (tmp_path / "c.csv").write_text("text,y\nx,1\n")
    assert read(tmp_path)["text"].tolist() == ["x"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (" ", "is empty"),
        ("~nobody-of-that-name/a.csv", "opened"),
        ("x" * 300, "cannot be listed"),
        ("a.xlsx", "no JSONL, CSV or Parquet file, but a.xlsx; save the data as one of these"),
    ],
)
def test_a_place_that_is_none_is_one_line(tmp_path, monkeypatch: pytest.MonkeyPatch, place: str, reason: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=reason) as error:
        files.find_files(place)
    assert "\n" not in str(error.value)
