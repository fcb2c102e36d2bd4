import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from hypsae_ray import cli
from hypsae_ray.errors import ConfigError, UsageError
from hypsae_ray.store.artifacts import Folder, Manifest, Outcome, content_hash
from hypsae_ray.store.usage import Usage


def test_files_come_back_as_they_were(tmp_path):
    folder = Folder.at(tmp_path).sub("a")
    table = pa.table({"x": [1, 2]})
    folder.write_table("part-1.parquet", table)
    folder.write_table("part-0.parquet", table.slice(0, 1))
    folder.write_json("m.json", {"k": [1]})
    assert folder.read_tables("part-")["x"].to_pylist() == [1, 1, 2]  # in order of name
    assert folder.read_json("m.json") == {"k": [1]}
    assert folder.names("part-") == ["part-0.parquet", "part-1.parquet"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "m.json",
        "part-0.parquet",
        "part-1.parquet",
    ]


def test_a_folder_travels_between_processes(tmp_path):
    Folder.at(tmp_path).write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(Folder.at(tmp_path))).read_bytes("x") == b"1"


def test_what_is_not_there(tmp_path):
    folder = Folder.at(tmp_path / "none")
    assert folder.names() == []
    assert not folder.has("x")
    assert Manifest.load(folder) is None
    with pytest.raises(FileNotFoundError, match="no part"):
        folder.read_tables("part-")


def test_an_unknown_filesystem_is_a_config_error():
    with pytest.raises(ConfigError, match="nowhere://x"):
        Folder.at("nowhere://x")


def test_manifest_round_trip(tmp_path):
    folder = Folder.at(tmp_path)
    manifest = Manifest("embed", "ab" * 32, 1.5, Outcome(3, Usage(1, 2, 3), {"dim": 4}))
    manifest.save(folder)
    assert Manifest.load(folder) == manifest


def test_the_hash_changes_with_everything_that_decides_content():
    base = content_hash("embed", {"model": "m"}, {"data": "1"})
    assert base == content_hash("embed", {"model": "m"}, {"data": "1"})
    others = [
        content_hash("select", {"model": "m"}, {"data": "1"}),
        content_hash("embed", {"model": "n"}, {"data": "1"}),
        content_hash("embed", {"model": "m"}, {"data": "2"}),
    ]
    assert len({base, *others}) == 4


# --- places that cannot be used ---


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """Mount something on a folder or file, where that is possible."""
    if shutil.which("mount") is None or subprocess.run(["mount", *options, str(place)]).returncode:
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def nobody() -> Iterator[None]:
    """Have no rights but those that everyone has."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_in_place_of_a_folder_is_told_in_one_line(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for place in (file, file / "below", file / "far" / "below"):
        with pytest.raises(UsageError) as told:
            Folder.at(place).write_bytes("x", b"1")
        assert str(told.value) == (
            f"{place}: cannot be written: {file} is a file, not a folder; choose another path"
        )
    with pytest.raises(UsageError, match=f"{file}: cannot be read: {file} is a file, not a folder"):
        Folder.at(file).names()
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/proc/results", "cannot be written: no such file or directory"),
        ("/" + "long" * 70, "cannot be written: file name too long"),
    ],
)
def test_a_place_that_cannot_be_made_is_told_in_one_line(place, reason):
    with pytest.raises(UsageError) as told:
        Folder.at(place).write_bytes("x", b"1")
    assert str(told.value) == f"{place}: {reason}; choose another path"


def test_a_place_without_permission_is_told_in_one_line(tmp_path):
    closed, public = tmp_path / "closed", tmp_path / "public"
    for folder, mode in ((closed, 0o000), (public, 0o555)):
        folder.mkdir(mode=mode)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    with nobody():
        for act in (
            lambda: Folder.at(public).write_bytes("x", b"1"),
            lambda: Folder.at(public / "new").write_bytes("x", b"1"),
            lambda: Folder.at(closed).has("x"),
            lambda: Folder.at(closed).names(),
        ):
            with pytest.raises(UsageError, match=r"cannot be (read|written): permission denied; choose"):
                act()


def test_a_read_only_file_system_is_told_in_one_line(tmp_path):
    reason = "cannot be written: read-only file system; choose another path"
    with mounted(tmp_path, "-t", "tmpfs", "-o", "ro", "tmpfs"), pytest.raises(UsageError, match=reason):
        Folder.at(tmp_path / "out").write_bytes("x", b"1")


def test_a_file_that_cannot_be_renamed_onto_is_written_all_the_same(tmp_path):
    # A mounted file refuses a rename, as a mounted bucket refuses each.
    kept, target = tmp_path / "kept", tmp_path / "out" / "run.json"
    target.parent.mkdir()
    for path in (kept, target):
        path.write_text("old")
    with mounted(target, "--bind", str(kept)):
        Folder.at(target.parent).write_bytes("run.json", b"new")
        assert target.read_text() == "new"
        assert [path.name for path in target.parent.iterdir()] == ["run.json"]
    assert kept.read_text() == "new"


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    folder, table = Folder.at(tmp_path), pa.table({"x": list(range(1000))})

    def write(_: int) -> int:
        folder.write_table_once("x.parquet", table)
        return folder.read_table("x.parquet")["x"].to_numpy().sum()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(write, range(32))) == {999 * 500}
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder.at("~/runs/x").path == f"{tmp_path}/runs/x"
    with pytest.raises(ConfigError, match="~nobody-here/x: cannot be opened"):
        Folder.at("~nobody-here/x")


def test_the_command_line_names_the_place_and_ends_with_2(tmp_path, capsys):
    file = tmp_path / "mine.txt"
    file.write_text("mine")
    for name, texts in (("t", ["a", "b"]), ("v", ["c", "d"])):
        table = pd.DataFrame({"text": texts, "stars": [1, 2]})
        table.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    pd.DataFrame({"hypothesis": ["mentions a"]}).to_csv(tmp_path / "h.csv")
    data = f"data: {{train: {tmp_path}/t.jsonl, holdout: {tmp_path}/v.jsonl, target: stars}}\n"
    (tmp_path / "c.yaml").write_text(f"{data}llm: {{engine: keywords}}\n")
    labelling = ["--data", f"{tmp_path}/t.jsonl", "--hypotheses", f"{tmp_path}/h.csv"]
    for command in (
        ["run", "--config", f"{tmp_path}/c.yaml", "--out", str(file)],
        ["run", "--config", f"{tmp_path}/c.yaml", "--out", str(file / "below")],
        ["annotate", *labelling, "--llm.engine", "keywords", "--out", str(file)],
        ["demo-data", str(file), "--train", "20", "--holdout", "20"],
        ["demo-data", str(file / "below"), "--train", "20", "--holdout", "20"],
    ):
        assert cli.main(command) == 2, command
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"hypsae: {file}"), said
        assert f"{file} is a file, not a folder; choose another path" in said
    assert cli.main(["inspect", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == "mine"
