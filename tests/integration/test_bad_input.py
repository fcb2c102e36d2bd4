"""Every kind of bad input: one message that names file, column and rows, exit code 2, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hypsae_ray import cli

Rows = list[dict]


def good_rows(n: int = 40, first: int = 0) -> Rows:
    numbers = range(first, first + n)
    return [{"id": f"r{i}", "text": f"text number {i} about {i % 3}", "y": float(i % 5)} for i in numbers]


def write(folder: Path, rows: Rows, name: str = "train.jsonl") -> Path:
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows))
    return folder / name


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """Run the data stage on some training rows; returns the exit code and what stderr says."""

    def run_data(train: Path, *options: str) -> tuple[int, str]:
        data = {"train": str(train), "holdout": str(write(tmp_path, good_rows(first=100), "holdout.jsonl"))}
        tree = {"data": {**data, "text": "text", "target": "y", "id": "id", "task": "regression"}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        arguments = ["--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
        arguments += [] if "--until" in options else ["--until", "data"]
        code = cli.main(["run", *arguments, *options])
        return code, capsys.readouterr().err.rpartition("data ...\n")[2]

    return run_data


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": ""}, "row 3: column 'text': the text is missing"),
        ({"text": None}, "row 3: column 'text': the text is missing"),
        ({"y": None}, "row 3: column 'y': the target is missing"),
        ({"text": 5}, "row 3: column 'text': 5 is not a text"),
        ({"text": "\u3164\u200b"}, "row 3: column 'text': the text is missing ('\u3164\\u200b')"),
        ({"y": float("inf")}, "row 3: column 'y': inf is not a finite number"),
        ({"y": "high"}, "row 3: column 'y': 'high' is not a number"),
        ({"y": "4,5"}, "row 3: column 'y': '4,5' is not a number (is the comma a decimal mark?)"),
        ({"id": "r0"}, "row 3: column 'id': id r0 is there already"),
    ],
)
def test_bad_rows_are_named(run, tmp_path: Path, change: dict, reason: str):
    rows = good_rows()
    rows[2] |= change
    code, message = run(write(tmp_path, rows))
    assert code == 2
    assert message.startswith(f"hypsae: {tmp_path}/train.jsonl: 1 bad row(s) in train:")
    assert reason in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_only_the_first_rows_are_shown_and_all_are_counted(run, tmp_path: Path):
    rows = [{**row, "text": "" if i >= 10 else row["text"]} for i, row in enumerate(good_rows())]
    code, message = run(write(tmp_path, rows))
    assert code == 2
    assert "30 bad row(s)" in message
    assert "row 15:" in message
    assert "row 16:" not in message
    assert "and 25 more" in message


def test_bad_rows_can_be_dropped_and_are_counted(run, tmp_path: Path):
    rows = good_rows()
    rows[2]["text"], rows[7]["y"] = " ", None
    code, message = run(write(tmp_path, rows), "--data.on_bad_rows", "drop")
    assert code == 0
    assert "2 rows left out" in message
    (folder,) = (tmp_path / "run" / "stages").glob("data-*")
    rejected = pd.read_parquet(folder / "rejected.parquet")
    assert rejected["row"].tolist() == [3, 8]
    assert rejected["reason"].str.contains("missing").all()
    kept = pd.concat(pd.read_parquet(f) for f in [*folder.glob("train-*"), *folder.glob("val-*")])
    assert sorted(kept["row_id"]) == [i for i in range(40) if i not in (2, 7)]


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (None, (), "no such file or folder"),
        ("", (), "the file holds no rows"),
        ('{"id": "a", "text": "x", "y": 1}\n{"id": "b", "te', (), "line 2 is not JSON (truncated?)"),
        ('{"id": "a", "text": "x"}\n', (), "no column 'y'; it has id, text"),
        ("same", (), "column 'y' is 1 in every row of train: nothing to predict"),
        ("good", ("--data.task", "classification"), "row 3: column 'y': 2.0 is not 0 or 1"),
        ("halves", ("--data.task", "count"), "row 2: column 'y': 0.5 is not a whole number of 0 or more"),
    ],
)
def test_bad_files(run, tmp_path: Path, content: str | None, options: tuple[str, ...], reason: str):
    train = tmp_path / "train.jsonl"
    if content == "same":
        write(tmp_path, [{**row, "y": 1} for row in good_rows()])
    elif content == "good":
        write(tmp_path, good_rows())
    elif content == "halves":
        write(tmp_path, [{**row, "y": row["y"] / 2} for row in good_rows()])
    elif content is not None:
        train.write_text(content)
    code, message = run(train, *options)
    assert code == 2
    assert message.startswith(f"hypsae: {train}: ")
    assert reason in message
    assert not (tmp_path / "run").exists()


def test_the_task_is_told(run, tmp_path: Path):
    code, message = run(write(tmp_path, good_rows()), "--data.task", "auto")
    assert code == 0
    assert "task regression, since 'y' runs from 0 to 4 in 80 rows" in message


def test_unknown_stage_key_and_argument(run, tmp_path: Path):
    train = write(tmp_path, good_rows())
    assert run(train, "--select.nn", "3") == (2, f"hypsae: {tmp_path}/c.yaml: the config is refused:\n"
                                                 "  select.nn: unknown key\n")  # fmt: skip
    assert "its value is missing" in run(train, "--select.n")[1]
    assert "no such stage" in run(train, "--until", "annotation")[1]


def test_a_latin_1_export_with_semicolons_is_read_and_told(run, tmp_path: Path):
    train = tmp_path / "train.CSV"
    lines = [f"{row['id']};Größe {row['text']}, schön;{row['y']:g}" for row in good_rows()]
    train.write_bytes("\r\n".join(["sep=;", "id;text;y", *lines]).encode("latin-1"))
    code, message = run(train)
    assert code == 0
    assert f"data: {train}: not UTF-8, read as cp1252; where letters look wrong, set data.encoding" in message
    code, message = run(train, "--data.delimiter", ",")
    assert code == 2
    assert f"hypsae: {train}: no column 'text'; it has id;text;y (delimiter ','" in message
    assert "Traceback" not in message


def test_a_stray_quote_ends_the_run_before_it_begins(run, tmp_path: Path):
    train = tmp_path / "train.csv"
    opened = {10: '"', 30: '"'}
    lines = [f"{row['id']},{opened.get(i, '')}{row['text']},{row['y']}" for i, row in enumerate(good_rows())]
    train.write_text("\n".join(["id,text,y", *lines]))
    code, message = run(train)
    assert code == 2
    assert message.startswith(f"hypsae: {train}: row 11 (line 12): a quote opens a cell, and text follows")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["train.jsonl/a.csv", "folder", "x" * 300])
def test_a_config_or_data_file_that_cannot_be_read_is_one_line(
    run, tmp_path: Path, capsys: pytest.CaptureFixture, place: str
):
    write(tmp_path, good_rows())
    (tmp_path / "folder").mkdir()
    code, message = run(tmp_path / place)
    assert (code, message.count("\n")) == (2, 1)
    assert message.startswith(f"hypsae: {tmp_path / place}: ")
    assert cli.main(["run", "--config", str(tmp_path / place)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"hypsae: {tmp_path / place}: cannot be read: ")
    assert message.count("\n") == 1
