import gzip

import pandas as pd
import pytest

from hypsae_ray import inputs
from hypsae_ray.errors import InputError

ROWS = pd.DataFrame({"text": ["one", 'two, "quoted"\nlines', "three"], "y": [1.0, 2.5, -3.0]})


def read(place, columns=("text", "y")) -> pd.DataFrame:
    frames = [frame for file in inputs.find_files(str(place)) for frame in inputs.read_frames(file, columns)]
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
        return [file.path.removeprefix(f"{tmp_path}/") for file in inputs.find_files(str(place))]

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
        inputs.find_files("s3://reviews/a.csv?endpoint_override=127.0.0.1:9&scheme=http")


@pytest.mark.parametrize("place", ["missing.csv", "*.nothing", "empty"])
def test_nothing_to_read(tmp_path, place: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such file or folder"):
        inputs.find_files(str(tmp_path / place))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"text,y\n", "holds no rows"),
        ("a.jsonl", b'{"text": "x", "y": 1}\n{"text": "x", "y"', "line 2 is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1 is not a JSON object"),
        ("a.jsonl", b'{"text": "x", "z": 1}\n', "no column 'y'; it has text, z"),
        ("a.csv", b"text,z\nx,1\n", "no column 'y'; it has text, z"),
        ("a.csv", b'text,y\nx,1\n"y,2\n', "not a readable CSV"),
        ("a.csv", b"text,y\nx, and more,1\nx, and more,2\n", "not a readable CSV"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("a.jsonl", b'{"text": "\xff", "y": 1}\n', "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x", "y": 1}\n' * 1000)[:-20], "cannot be read"),
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
    (before,) = inputs.find_files(str(path))
    stamp, digest = before.stamp(), before.digest()
    path.write_text("text,y\nx,12\n")
    (after,) = inputs.find_files(str(path))
    assert after.stamp() != stamp
    assert after.digest() != digest
