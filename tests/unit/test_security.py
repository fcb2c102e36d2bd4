"""What must never be written, printed or executed, as far as it shows without a model and without Ray."""

import pickle
import re
from pathlib import Path

import pydantic
import pytest
import yaml

import hypsae_ray
from hypsae_ray import cli
from hypsae_ray.config import Data, Llm, loading
from hypsae_ray.data.files import find_files
from hypsae_ray.errors import ConfigError, EngineDiedError, HypsaeError, InputError
from hypsae_ray.store.artifacts import Folder

WORD = "hush/never-to-be-told"
STORE = f"s3://my-key-id:{WORD}@bucket/reviews"
SERVER = f"http://ann:{WORD}@host/v1"
COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40
MINIMAL = {"data": {"train": "a.csv", "holdout": "b.csv", "target": "y"}}
ENDPOINT = {"llm": {"engine": "endpoint"}}


def with_value(name: str, value: object, base: dict) -> dict:
    """Return `base` with one dotted field more."""
    head, _, rest = name.partition(".")
    return {**base, head: with_value(rest, value, base.get(head) or {}) if rest else value}


SECRETS = [
    ("data.train", STORE),
    ("data.holdout", f"gs://me:{WORD}@bucket/x"),
    ("data.val", STORE),
    ("data.train", f"abfs://data@account.dfs.core.windows.net/x?client_secret={WORD}"),
    ("annotate.mask", STORE),
    ("embed.model", STORE),
    ("interpret.instructions", f"the reviews of {STORE}"),
    ("data.covariates", [STORE]),
    ("llm.engine_args", {"hf_token": WORD}),
    ("llm.engine_args", {"model_loader_extra_config": {"s3": {"access_key": WORD}}}),
    ("llm.engine_args", {"download_dir": STORE}),
    ("llm.endpoint", {"url": SERVER}),
    ("llm.endpoint", {"url": f"https://{WORD.replace('/', '')}@host/v1"}),
    ("llm.endpoint", {"url": f"http://host/v1?version=1&api_key={WORD}"}),
    ("llm.endpoint", {"url": "http://host/v1", "key_env": f"sk-{WORD}"}),
    ("llm.endpoint", {"url": "http://host/v1", "key": WORD}),
    ("embed.device", [SERVER]),  # no text at all
    ("select.n", STORE),  # no number
    ("label.layout", STORE),  # none of the choices
]


@pytest.mark.parametrize(("name", "value"), SECRETS)
def test_a_config_with_a_secret_is_refused_and_the_secret_is_not_repeated(name: str, value: object):
    with pytest.raises(ConfigError) as caught:
        loading.parse(with_value(name, value, {**MINIMAL, **(ENDPOINT if "endpoint" in name else {})}), "c")
    said = str(caught.value)
    assert f"  {name}" in said
    assert not any(part in said for part in (*WORD.split("/"), WORD.replace("/", "")))


@pytest.mark.parametrize(("name", "value"), SECRETS[:-4])
def test_the_refusal_says_where_secrets_belong(name: str, value: object):
    with pytest.raises(ConfigError, match="environment"):
        loading.parse(with_value(name, value, {**MINIMAL, **(ENDPOINT if "endpoint" in name else {})}), "c")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data.train", "abfs://data@account.dfs.core.windows.net/reviews"),
        ("data.train", "gs://anonymous@bucket/reviews"),
        ("data.train", "s3://bucket/a@b?region=eu-west-1&endpoint_override=127.0.0.1:9000&scheme=http"),
        ("data.train", "reviews: me@home/x.csv"),
        ("llm.engine_args", {"max_num_scheduled_tokens": 8, "tokenizer_mode": "slow", "hf_token": True}),
        ("llm.endpoint", {"url": "http://[::1]:8000/v1?api-version=2", "key_env": "MY_KEY"}),
    ],
)
def test_what_only_looks_like_a_secret_is_taken(name: str, value: object):
    base = {**MINIMAL, **(ENDPOINT if "endpoint" in name else {})}
    kept = loading.parse(with_value(name, value, base), "c").model_dump()
    for part in name.split("."):
        kept = kept[part]
    assert (kept | value if isinstance(value, dict) else value) == kept


def test_pydantic_itself_does_not_show_a_secret():
    with pytest.raises(pydantic.ValidationError) as caught:
        Data(train=STORE, holdout="b", target="y")
    assert "environment" in str(caught.value)
    assert WORD not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--config", "{file}", "--out", STORE],
        ["run", "--config", "{file}", "--data.val", STORE],
        ["run", "--config", "{file}", "--data.covariates", f"[{STORE}"],
        ["run", "--config", "{file}", STORE],
        ["run", "--config", "{broken}"],
        ["run", "--config", STORE],
        ["annotate", "--hypotheses", STORE, "--data", "a.csv", "--out", "{file}"],
        ["annotate", "--hypotheses", "h.csv", "--data", STORE, "--out", "{file}"],
        ["status", STORE],
        ["inspect", STORE],
        ["demo-recovery", STORE, STORE],
        ["status", STORE, STORE],
    ],
)
def test_a_secret_on_the_command_line_is_not_printed(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    file, broken = tmp_path / "c.yaml", tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    broken.write_text(f"data:\n  train: {STORE}\n  holdout: [{STORE}: {{\n")
    code = cli.main([argument.format(file=file, broken=broken) for argument in arguments])
    told = capsys.readouterr()
    assert code == 2
    assert told.err.startswith("hypsae: ")
    assert not any(part in told.out + told.err for part in WORD.split("/"))


def test_no_message_repeats_the_secrets_of_a_uri():
    error = EngineDiedError(OSError(f"Cannot open '{STORE}': timeout at http://h:80/a@b?sig={WORD}&x=1"))
    assert str(error) == "Cannot open 's3://***@bucket/reviews': timeout at http://h:80/a@b?sig=***&x=1"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(HypsaeError()) == ""
    for refused, kind in ((Folder.at, ConfigError), (find_files, InputError)):
        with pytest.raises(kind, match=r"^s3://\*\*\*@bucket/reviews: .*AWS_ACCESS_KEY_ID"):
            refused(STORE)


# Code that models carry


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trust_remote_code": "main"}, "40"),
        ({"trust_remote_code": True}, "expected a text"),
        ({"trust_remote_code": COMMIT[:39]}, "40"),
        ({"trust_remote_code": COMMIT, "revision": "main"}, "weights and code come from one commit"),
        ({"trust_remote_code": COMMIT, "revision": OTHER}, "weights and code come from one commit"),
    ],
)
@pytest.mark.parametrize("section", ["embed", "llm"])
def test_code_is_trusted_by_its_commit_only(section: str, fields: dict, reason: str):
    with pytest.raises(ConfigError, match=reason):
        loading.parse({**MINIMAL, section: fields}, "c")


@pytest.mark.parametrize("section", ["embed", "llm"])
def test_the_commit_decides_results(section: str):
    trees = [
        {**MINIMAL, section: fields} for fields in ({}, {"trust_remote_code": COMMIT, "revision": COMMIT})
    ]
    plain, trusting = (getattr(loading.parse(tree, "c"), section) for tree in trees)
    assert plain.trust_remote_code is None
    assert plain.content() != trusting.content()


@pytest.mark.parametrize("name", ["trust_remote_code", "code_revision", "tokenizer_revision"])
def test_engine_args_cannot_trust_code(name: str):
    with pytest.raises(ConfigError, match=f"{name} has a field of its own, llm.trust_remote_code"):
        loading.parse({**MINIMAL, "llm": {"engine_args": {name: True}}}, "c")
    assert Llm().trust_remote_code is None


# What is unpickled

UNPICKLES = re.compile(
    r"(?<!safetensors\.)\b(pickle\.loads?|torch\.load|np\.load|joblib|yaml\.(unsafe_|full_)?load|eval|exec)\("
)
ALLOWED = {
    # What our own driver and actors send each other in Ray's memory; none of it lies in a file.
    "cluster/actors.py": {"pickle.loads"},
    "cluster/replica.py": {"pickle.loads"},
    # With weights_only=True: test_sae.py's test_no_checkpoint_is_ever_unpickled.
    "sae/model.py": {"torch.load"},
    # With allow_pickle=False: test_own_vectors.py offers it an array of objects.
    "data/own_vectors.py": {"np.load"},
}


def test_nothing_is_unpickled_from_a_file():
    package = Path(hypsae_ray.__path__[0])
    found: dict[str, set[str]] = {}
    for file in package.rglob("*.py"):
        if calls := {call[1] for call in UNPICKLES.finditer(file.read_text(encoding="utf-8"))}:
            found[str(file.relative_to(package))] = calls
    assert found == ALLOWED
    assert "weights_only=True" in (package / "sae" / "model.py").read_text(encoding="utf-8")
    assert "allow_pickle=False" in (package / "data" / "own_vectors.py").read_text(encoding="utf-8")
