import pickle

import pyarrow as pa
import pytest

from hypsae_ray.artifacts import Folder, Manifest, Outcome, content_hash
from hypsae_ray.boundary import Usage
from hypsae_ray.errors import ConfigError


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
