"""Code that a model carries, weights that are pickles, and a run whose key must be nowhere afterwards."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import ray
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, dynamic_module_utils

from hypsae_ray.commands import runner
from hypsae_ray.config import Embed, Llm, loading
from hypsae_ray.errors import ConfigError, ModelError
from hypsae_ray.models.prompts.label_prompts import load_tokenizer
from hypsae_ray.models.remote_code import digest
from hypsae_ray.models.sentence_embedder import SentenceEmbedder
from tests.conftest import RAY_KEY
from tests.deadline import DEADLINE_S
from tests.integration.openai_server import Fault, serve
from tests.page_block import block_of

CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel, BertTokenizerFast

Path({mark!r}).touch()


class CarriedConfig(BertConfig):
    model_type = "carried"


class CarriedModel(BertModel):
    config_class = CarriedConfig


class CarriedTokenizer(BertTokenizerFast):
    pass
"""
MAPS = {
    "config.json": {"AutoConfig": "{}.CarriedConfig", "AutoModel": "{}.CarriedModel"},
    "tokenizer_config.json": {"AutoTokenizer": [None, "{}.CarriedTokenizer"]},
}


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def carry(folder: Path, mark: Path, module: str = "carried") -> None:
    """Turn a model into one that needs code of its own, which leaves a mark when it is imported."""
    (folder / "carried.py").write_text(CODE.format(mark=str(mark)))
    for name, classes in MAPS.items():
        text = json.dumps(classes).replace("{}", module)
        edit(folder / name, auto_map=json.loads(text), model_type="carried")
    edit(folder / "tokenizer_config.json", tokenizer_class="CarriedTokenizer")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer."""
    folder = tmp_path_factory.mktemp("models") / "plain"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "soup"]
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def code_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where transformers copies code to before it imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture
def carrying(plain: Path, tmp_path: Path) -> Path:
    """A model with code that touches `mark` beside its folder."""
    folder = tmp_path / tmp_path.name.replace("[", "_").replace("]", "_")
    shutil.copytree(plain, folder)
    carry(folder, tmp_path / "mark")
    return folder


def embed(model: Path, **trust: str) -> None:
    vectors = SentenceEmbedder(Embed(model=str(model), **trust)).embed(["a soup", "soup"]).vectors
    assert vectors.shape == (2, 8)


def tokenize(model: Path, **trust: str) -> None:
    assert load_tokenizer(Llm(model=str(model), **trust)).encode("soup", add_special_tokens=False) == [6]


both = pytest.mark.parametrize("load", [embed, tokenize])


@both
def test_code_runs_only_with_its_digest_in_the_config(carrying: Path, load: Callable[..., None]):
    mark, trusted = carrying.parent / "mark", digest(carrying)
    with pytest.raises(ModelError, match=f"custom code[^$]*in the config it is trust_remote_code: {trusted}"):
        load(carrying)
    assert not mark.exists()
    load(carrying, trust_remote_code=trusted)
    assert mark.exists()


@both
def test_code_that_changed_since_does_not_run(carrying: Path, load: Callable[..., None]):
    trusted = digest(carrying)
    with (carrying / "carried.py").open("a") as code:
        code.write("# more\n")
    with pytest.raises(ConfigError, match=f"trust_remote_code: {digest(carrying)}, not {trusted}"):
        load(carrying, trust_remote_code=trusted)
    assert not (carrying.parent / "mark").exists()


@both
def test_code_of_another_repository_does_not_run(carrying: Path, load: Callable[..., None]):
    carry(carrying, carrying.parent / "mark", module="owner/other--carried")
    with pytest.raises(ConfigError, match="code of owner/other, which no commit"):
        load(carrying, trust_remote_code=digest(carrying))
    assert not (carrying.parent / "mark").exists()


def test_a_module_of_a_sentence_transformer_is_code_too(plain: Path, tmp_path: Path):
    folder = tmp_path / "modules"
    shutil.copytree(plain, folder)
    (folder / "carried.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    (folder / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "carried.Module"}])
    )
    with pytest.raises(ModelError, match=f"third-party code[^$]*trust_remote_code: {digest(folder)}"):
        embed(folder)
    assert not (tmp_path / "mark").exists()


def test_a_model_without_code_needs_no_trust(plain: Path):
    embed(plain)
    tokenize(plain)


LOAD = """
import sys
from hypsae_ray.config import Llm
from hypsae_ray.models.prompts.label_prompts import load_tokenizer
from hypsae_ray.errors import HypsaeError

model, *commits = sys.argv[1:]
for commit in commits:
    fields = {"trust_remote_code": commit} if len(commit) == 40 else {"revision": commit or None}
    try:
        load_tokenizer(Llm(model=model, **fields))
    except HypsaeError as error:
        print(type(error).__name__, str(error).splitlines()[-1])
    else:
        print("loaded")
"""


def test_of_a_hub_model_the_commit_in_the_config_runs_and_not_the_newest(plain: Path, tmp_path: Path):
    good, newest, borrowing = "a" * 40, "b" * 40, "c" * 40
    cache = tmp_path / "hub" / "models--owner--name"
    for commit in (good, newest, borrowing):
        shutil.copytree(plain, cache / "snapshots" / commit)
        module = "owner/other--carried" if commit == borrowing else "carried"
        carry(cache / "snapshots" / commit, tmp_path / commit, module)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(newest)
    command = [sys.executable, "-c", LOAD, "owner/name", "", "main", good, borrowing, "d" * 40]
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    advice = "ModelError to let it run, read it first: in the config it is trust_remote_code: <its commit>"
    said = done.stdout.splitlines()
    assert said[:3] == [advice, advice, "loaded"], done.stderr
    assert said[3] == "ConfigError 'owner/name' runs code of owner/other, which no commit in a config can pin"
    assert said[4].startswith("ModelError ")
    assert [(tmp_path / commit).exists() for commit in (good, newest, borrowing)] == [True, False, False]


@pytest.mark.llm
def test_vllm_is_told_the_same(plain: Path, carrying: Path):
    from vllm.engine.arg_utils import EngineArgs

    from hypsae_ray.models.vllm.model import engine_arguments

    names = ("trust_remote_code", "revision", "load_format")
    trusted = digest(carrying)
    plainly, trusting, dummy = (
        engine_arguments(Llm(model=str(model), **fields))
        for model, fields in (
            (plain, {}),
            (carrying, {"trust_remote_code": trusted}),
            (plain, {"engine_args": {"load_format": "dummy"}}),
        )
    )
    assert [plainly[name] for name in names] == [False, None, "safetensors"]
    assert [trusting[name] for name in names] == [True, trusted, "safetensors"]
    assert dummy["load_format"] == "dummy"
    assert set(trusting) <= set(EngineArgs.__dataclass_fields__)
    with pytest.raises(ConfigError, match="not " + "0" * 40):
        engine_arguments(Llm(model=str(carrying), trust_remote_code="0" * 40))


def test_weights_that_are_a_pickle_are_not_read(plain: Path, tmp_path: Path):
    folder = tmp_path / "pickled"
    shutil.copytree(plain, folder)
    torch.save(BertModel.from_pretrained(plain).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        embed(folder)


# A run

KEY_NAME, KEY = RAY_KEY
EVIL = '<script>alert("x")</script>'
NAME = f"food, {EVIL.replace('x', 'y')}"  # not the markup of the texts: what nearly all have is no name
ACTORS = {"min": 1, "max": 1, "cpus": 1}


def evil_data(demo_folder: Path, folder: Path) -> dict:
    """Write the demo's data with markup in texts, in a column's name and in the files'; return `data`."""
    places = {}
    for split in ("train", "holdout"):
        table = pd.read_json(demo_folder / f"{split}.jsonl", lines=True).rename(
            columns={"stars": f"stars {EVIL}"}
        )
        table["text"] += f" {EVIL}"
        places[split] = str(folder / f"{split}<script>.csv")
        table.to_csv(places[split], index=False)
    return {**places, "target": f"stars {EVIL}", "id": "id", "shard_rows": 200}


def files_with(word: bytes, *folders: str | Path) -> list[str]:
    files = [file for folder in folders for file in Path(folder).rglob("*") if file.is_file()]
    assert files
    return [str(file) for file in files if word in file.read_bytes()]


def command_lines() -> bytes:
    """Return the arguments of all processes; those that end in between have none."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes())
        except OSError:
            continue
    return b"\n".join(lines)


@pytest.mark.cluster
def test_a_key_is_nowhere_after_a_run_and_markup_is_text_in_the_report(
    ray_session: Path, demo_tree: dict, demo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    out = tmp_path / "run"
    with serve() as server:
        server.faults.extend([Fault.error(500, f"wrong: {KEY}"), Fault.error(400, f"bad: {KEY}")])
        server.bad["B:"] = Fault.says(f"mentions {NAME}")  # all prompts that ask for a name
        endpoint = {"url": server.url, "key_env": KEY_NAME}
        llm = {"engine": "endpoint", "model": "m", "endpoint": endpoint, "replicas": ACTORS}
        annotate = {"sample": {"rows": 30}}
        small = {"select": {"n": 3}, "score_fidelity": {"n_examples": 8}, "annotate": annotate}
        tree = {
            **demo_tree,
            **small,
            "data": evil_data(demo_folder, tmp_path),
            "llm": llm,
        }
        runner.run(loading.parse(tree, "c"), str(out), show=print)
        sent = {headers["authorization"] for headers in server.headers}
    assert sent == {f"Bearer {KEY}"}
    assert KEY.encode() not in command_lines()
    assert KEY not in ray.get_runtime_context().get_runtime_env_string()
    printed = capfd.readouterr()
    assert KEY not in printed.out + printed.err
    assert files_with(KEY.encode(), out, ray_session) == []
    assert files_with(KEY_NAME.encode(), out)  # its name is there, and so would the key be found
    report = (out / "report.html").read_text()
    assert report.count("<script") == 2  # the data block, and the one script that the page's policy names
    assert KEY not in json.dumps(block_of(out)[0])
    assert report.count("mentions food, &lt;script&gt;alert(") > 1
    assert "stars &lt;script&gt;" in report
    assert "train&lt;script&gt;.csv" in report
