import pytest
import yaml

from hypsae_ray import cli, config
from hypsae_ray.config import loading
from hypsae_ray.errors import ConfigError

MINIMAL = {"data": {"train": "a.csv", "holdout": "b.csv", "target": "y"}}
PAIRS = {"train": "a.csv", "holdout": "b.csv", "target": "y", "text_a": "a", "text_b": "b"}


def refused(tree: dict) -> str:
    with pytest.raises(ConfigError) as error:
        loading.parse({**MINIMAL, **tree}, "c.yaml")
    return str(error.value)


def test_sizes_left_empty_follow_the_number_of_training_texts():
    sizes = [tuple(config.TrainSae().sized(n).shape) for n in (300, 3_000, 10_000, 30_000, 1_000_000)]
    small, middle, large = (64, 4, (16, 64)), (256, 8, (32, 256)), (1024, 8, (128, 1024))
    assert sizes == [small, small, middle, middle, large]
    assert tuple(config.TrainSae(n_neurons=100).sized(50_000).shape) == (100, 8, (100,))
    of_sentences = config.TrainSae().sized(10_000, of_sentences=True)
    assert [tuple(one.shape) for one in of_sentences.each] == [(256, k, (32, 256)) for k in (1, 2, 4)]
    assert config.TrainSae(n_neurons=12, k=5).sized(300, of_sentences=True).k == 5
    assert config.TrainSae(n_neurons=3).sized(300, of_sentences=True).k == (1, 2)
    assert tuple(config.TrainSae(n_neurons=12, k=2, prefix_lengths=(3, 12)).sized(50_000).shape) == (
        12,
        2,
        (3, 12),
    )


def test_defaults_are_filled_in():
    parsed = loading.parse(MINIMAL, "c.yaml")
    assert parsed.train_sae.sized(1_000).n_aux == 8
    assert parsed.interpreter == parsed.llm


@pytest.mark.parametrize(
    ("tree", "place", "reason"),
    [
        ({"train_sae": {"n_neuron": 8}}, "train_sae.n_neuron", "unknown key"),
        ({"train_sae": {"n_neurons": 8, "k": [2, 9]}}, "train_sae", "k (9) is above n_neurons (8)"),
        ({"train_sae": {"n_neurons": 8, "k": [2, 2]}}, "train_sae", "k [2, 2] must ascend, each one once"),
        ({"trainsae": {}}, "trainsae", "unknown key"),
        ({"evaluate": {"threshold": 0.4}}, "evaluate.threshold", "no longer a field: use label.threshold"),
        ({"evaluate": {"errors": "hc3"}}, "evaluate.errors", "no longer a field: use evaluate.cov_type"),
        ({"evaluate": {"seed": 1}}, "evaluate.seed", "no longer a field: use evaluate.random_state"),
        ({"score_fidelity": {"threshold": 0.4}}, "score_fidelity.threshold", "use label.threshold"),
        (
            {"train_sae": {"workers": 2}},
            "train_sae.workers",
            "use train_sae.replicas.min and train_sae.replicas.max, both set to it",
        ),
        ({"train_sae": {"aux_k": 2}}, "train_sae.aux_k", "use train_sae.advanced.aux_k"),
        ({"embed": {"layer": 2}}, "embed.layer", "use embed.advanced.layer"),
        ({"interpret": {"sampling": "top"}}, "interpret.sampling", "use interpret.advanced.sampling"),
        ({"label": {"threshold": 1.2}}, "label.threshold", "expected auto, or a number above 0 and below 1"),
        ({"label": {"threshold": "low"}}, "label.threshold", "expected auto, or a number above 0"),
        ({"label": {"threshold": True}}, "label.threshold", "expected auto, or a number above 0"),
        ({"data": {"train": "a"}}, "data.target", "required, but missing"),
        ({"train_sae": {"k": 8}}, "train_sae", "k is given without n_neurons"),
        ({"train_sae": {"n_neurons": 64, "prefix_lengths": [16, 32]}}, "train_sae", "end at 32"),
        ({"train_sae": {"n_neurons": 64, "prefix_lengths": [32, 16, 64]}}, "train_sae", "must ascend"),
        ({"train_sae": {"n_neurons": 4, "k": 5}}, "train_sae", "k (5) is above n_neurons (4)"),
        ({"train_sae": {"n_neurons": 16, "k": 8, "advanced": {"multi_k": 4}}}, "train_sae", "multi_k (4)"),
        ({"select": {"n": 65}}, "config", "more neurons selected than exist"),
        ({"select": {"method": "custom"}}, "select", "go together"),
        (
            {
                "data": {**MINIMAL["data"], "target_means": ["is positive"]},
                "embed": {"engine": "column", "column": "v"},
            },
            "config",
            "data.target_means needs a model in embed",
        ),
        ({"select": {"method": "lasso", "interactions": True}}, "select", "needs method correlation"),
        ({"select": {"method": "correlation", "interactions": True}}, "config", "needs data.covariates"),
        ({"llm": {"replicas": {"min": 3, "max": 2}}}, "llm.replicas", "max (2) is below min (3)"),
        ({"interpret": {"advanced": {"percentiles": [90, 80]}}}, "interpret.advanced", "must ascend"),
        ({"embed": {"advanced": {"component": "mlp"}}}, "embed", "mlp needs a layer"),
        (
            {"train_sae": {"replicas": {"min": 0, "max": 0, "gpus": 1}}},
            "train_sae",
            "replicas.gpus needs replicas.max",
        ),
        ({"train_sae": {"seed": -1}}, "train_sae.seed", "greater than or equal to 0"),
        ({"data": {**MINIMAL["data"], "covariates": ["a", "y"]}}, "data", "column 'y' is named twice"),
        ({"data": {**MINIMAL["data"], "text_a": "a"}}, "data", "name the columns of both"),
        ({"data": {**MINIMAL["data"], "task": "pairwise"}}, "data", "task pairwise needs two texts a row"),
        ({"data": {**PAIRS, "text": "t"}}, "data", "text (t) is one text a row"),
        ({"data": {**PAIRS, "text_b": "a"}}, "data", "column 'a' is named twice"),
        ({"data": {**PAIRS, "task": "count"}}, "data", "with text_a and text_b it is pairwise"),
        ({"data": {**PAIRS, "chunk": {}}}, "data", "chunk splits single texts"),
        ({"data": PAIRS, "annotate": {"mask": "m.csv"}}, "config", "annotate.mask is about rows of the data"),
        ({"evaluate": {"folds": 1}}, "evaluate", "nothing is left to fit"),
        ({"evaluate": {"cov_type": "cluster"}}, "config", "cov_type cluster needs data.group"),
        ({"evaluate": {"absorb_group": True}}, "config", "absorb_group needs data.group"),
        (
            {"data": {**MINIMAL["data"], "group": "g"}, "evaluate": {"absorb_group": True}},
            "config",
            "linear models alone absorb",
        ),
        (
            {"data": {**MINIMAL["data"], "covariates": ["constant"]}},
            "config",
            "a name that the joint model uses",
        ),
        ({"data": {**MINIMAL["data"], "weight": "y"}}, "data", "column 'y' is named twice"),
        (
            {"data": {"train": "a", "target": "y"}},
            "data",
            "or split off a share of train with holdout_fraction: 0",
        ),
        (
            {"data": {**MINIMAL["data"], "holdout_fraction": 0.3}},
            "data",
            "holdout (b.csv) and holdout_fraction (0.3)",
        ),
        (
            {"data": {"train": "a", "target": "y", "holdout_fraction": 1}},
            "data.holdout_fraction",
            "less than 1",
        ),
        ({"data": {**MINIMAL["data"], "overlap": "ignore"}}, "data.overlap", "'drop', 'error' or 'keep'"),
        ({"llm": {"engine_args": {"max_model_len": 8}}}, "llm", "llm.max_model_len"),
        ({"interpret": {"max_tokens": 4096}}, "config", "leaves no room for a prompt"),
        ({"demo_truth": "demo"}, "demo_truth", "no longer a field: use hypsae demo-recovery RUN FOLDER"),
        ({"evaluate": {"alpha": 1.5}}, "evaluate.alpha", "less than 1"),
        (
            {"llm": {"gpu_memory_utilization": 0.9, "replicas": {"gpus": 0.5}}},
            "llm",
            "gpu_memory_utilization (0.9) is above replicas.gpus (0.5), the part of a GPU that each replica "
            "reserves: leave it out (then 0.45 is taken), or set replicas.gpus: 1",
        ),
        (
            {"interpret": {"llm": {"gpu_memory_utilization": 0.3, "replicas": {"gpus": 0.25}}}},
            "interpret.llm",
            "gpu_memory_utilization (0.3) is above replicas.gpus (0.25)",
        ),
        (
            {"embed": {"replicas": {"gpus": 1.5}}},
            "embed.replicas",
            "gpus is 1.5: Ray gives a part of one GPU",
        ),
        ({"llm": {"replicas": {"gpus": 2}}}, "llm", "tensor_parallel_size x pipeline_parallel_size (1)"),
        (
            {"embed": {"engine": "vllm", "engine_args": {"max_model_len": 8}}},
            "embed",
            "set by fields of embed",
        ),
        (
            {"embed": {"engine": "vllm", "advanced": {"layer": 1}}},
            "embed",
            "layer needs engine: sentence_transformers",
        ),
        ({"embed": {"engine": "vllm", "replicas": {"gpus": 2}}}, "embed", "what each replica takes"),
        ({"embed": {"tensor_parallel_size": 2}}, "embed", "need engine: vllm"),
        (
            {"embed": {"advanced": {"backend": "openvino", "layer": 1}}},
            "embed",
            "backend openvino needs engine",
        ),
        (
            {"embed": {"advanced": {"backend": "onnx"}, "dtype": "bfloat16"}},
            "embed",
            "backend onnx computes in the precision of its file",
        ),
        ({"embed": {"batch_size": "many"}}, "embed.batch_size", 'expected a whole number (got "many")'),
    ],
)
def test_refuses_and_names_the_field(tree: dict, place: str, reason: str):
    message = refused(tree)
    assert message.startswith("c.yaml: ")
    assert f"{place}: " in message
    assert reason in message


def test_a_column_may_be_called_by_a_number():
    data = loading.parse({"data": {**MINIMAL["data"], "target": 2020, "covariates": [1, 2]}}, "c").data
    assert (data.target, data.covariates) == ("2020", ("1", "2"))


def test_all_faults_are_named_at_once():
    message = refused({"select": {"n": 0}, "embed": {"layr": 1}})
    assert "select.n" in message
    assert "embed.layr" in message


def test_overrides_by_dotted_name(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    overrides = {"train_sae.prefix_lengths": "[8, 64]", "llm.replicas.max": "3", "data.group": "author"}
    loaded = loading.load(file, overrides)
    assert loaded.train_sae.prefix_lengths == (8, 64)
    assert loaded.llm.replicas.max == 3
    assert loaded.data.group == "author"
    assert loading.load(file, {"data.decimal": ","}).data.decimal == ","
    with pytest.raises(ConfigError, match="not a YAML value"):
        loading.load(file, {"data.covariates": "[a"})
    with pytest.raises(ConfigError, match=r"data\.text\.x: text is a value, not a section"):
        loading.load(file, {"data.text": "t", "data.text.x": "1"})


@pytest.mark.parametrize(("given", "read"), [("0.3", 0.3), ("auto", "auto")])
def test_a_threshold_is_a_number_or_auto_and_decides_no_answer(tmp_path, given: str, read: float | str):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    label = loading.load(file, {"label.threshold": given}).label
    assert label.threshold == read
    assert label.content() == config.Label().content()


def test_texts_in_overrides_stay_texts(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    overrides = {
        "embed.prompt": "clustering: ",
        "embed.revision": "1e5",
        "data.target": "2024",
        "data.id": "null",
        "data.text": '"quoted"',
        "interpret.instructions": "[note: a list",
        "interpret.llm.model": "7",
        "data.delimiter": "|",
        "data.encoding": "1252",
    }
    loaded = loading.load(file, overrides)
    assert loaded.embed.prompt == "clustering: "
    assert loaded.data.target == "2024"
    assert loaded.embed.revision == "1e5"
    assert loaded.data.id is None
    assert loaded.interpret.instructions == "[note: a list"
    assert loaded.interpret.llm is not None
    assert loaded.interpret.llm.model == "7"
    assert loaded.data.text == "quoted"
    assert (loaded.data.delimiter, loaded.data.encoding) == ("|", "cp1252")
    assert loading.load(file, {"data.delimiter": "tab"}).data.delimiter == "\t"


@pytest.mark.parametrize(("content", "reason"), [("a: [", "not YAML"), ("- 1", "expected sections")])
def test_unreadable_files(tmp_path, content: str, reason: str):
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        loading.load(file)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        loading.load(tmp_path / "none.yaml")


def test_content_leaves_out_what_changes_no_result():
    slow = loading.parse({**MINIMAL, "embed": {"batch_size": 8}, "llm": {"replicas": {"max": 4}}}, "c")
    fast = loading.parse({**MINIMAL, "data": {**MINIMAL["data"], "train": "elsewhere.csv"}}, "c")
    assert slow.embed.content() == fast.embed.content()
    assert slow.llm.content() == fast.llm.content()
    assert slow.data.content() == fast.data.content()
    other = loading.parse({**MINIMAL, "embed": {"advanced": {"layer": -2}}}, "c")
    assert other.embed.content() != fast.embed.content()


@pytest.mark.parametrize(("gpus", "share"), [(0.5, 0.45), (0.25, 0.225), (1, 0.9), (0, 0.9)])
def test_replicas_that_share_a_gpu_find_room_on_it(gpus: float, share: float):
    assert config.Llm(replicas=config.Replicas(gpus=gpus)).gpu_memory_share == pytest.approx(share)
    chosen = config.Llm(gpu_memory_utilization=0.2, replicas=config.Replicas(gpus=gpus))
    assert chosen.gpu_memory_share == 0.2


def test_engine_arguments_that_only_log_or_load_leave_the_answers_alone():
    plain = config.Llm()
    logging = {"disable_log_stats": True, "download_dir": "/w", "use_tqdm_on_load": False}
    assert config.Llm(engine_args=logging).content() == plain.content()
    for counts in ({"kv_cache_dtype": "fp8"}, {"quantization": "awq"}, {"a_new_one": 1}):
        assert config.Llm(engine_args=counts).content() != plain.content()


def test_the_keyword_baseline_shares_every_stage_before_naming():
    parsed = loading.parse(MINIMAL, "c")
    baseline = parsed.with_keywords()
    assert baseline.llm.engine == baseline.interpreter.engine == "keywords"
    assert baseline.llm.replicas.max == 0
    for section in ("data", "embed", "train_sae", "select", "score_fidelity", "annotate", "evaluate"):
        assert getattr(baseline, section) == getattr(parsed, section)


def test_every_field_is_documented():
    def undocumented(model: type[config.Section]) -> list[str]:
        return [f"{model.__name__}.{n}" for n, f in model.model_fields.items() if not f.description]

    sections = config.Section.__subclasses__()
    own = [s for s in sections if s.__module__.startswith(config.__name__) and s is not config.Config]
    assert len(own) >= 10
    assert [name for section in own for name in undocumented(section)] == []


def test_pairs_leave_the_hashes_of_earlier_folders():
    plain = loading.parse(MINIMAL, "c").data
    assert not {"text_a", "text_b"} & set(plain.content())
    assert plain.text_columns == ("text",) and plain.rule is None
    pairs = loading.parse({"data": PAIRS}, "c").data
    assert pairs.text_columns == ("a", "b") and pairs.rule == "difference"
    assert {"text_a": "a", "text_b": "b"}.items() < pairs.content().items()


def test_fields_that_moved_or_have_another_name_leave_the_hashes_of_earlier_folders():
    sae = {"n_neurons": None, "k": None, "prefix_lengths": [], "batch_topk": False, "aux_k": None}
    sae |= {
        "aux_weight": 1 / 32,
        "multi_k": None,
        "multi_weight": 0.125,
        "dead_after": 256,
        "batch_size": 512,
    }
    sae |= {
        "learning_rate": None,
        "first_k": 3,
        "max_epochs": 200,
        "patience": 5,
        "clip_norm": 1.0,
        "seed": 0,
    }
    assert config.TrainSae().content() == sae
    tests = {"alpha": 0.1, "correction": "bonferroni", "errors": "auto", "covariates": True, "folds": 5}
    tests |= {"absorb_group": False, "n_bootstrap": 1000, "n_permutations": 999, "seed": 0}
    assert config.Evaluate().content() == tests
    assert {"sampling", "percentiles"} < set(config.Interpret().content())
    assert {"layer", "component", "backend", "store_dtype"} < set(config.Embed().content())


def test_the_documented_defaults_are_a_config_once_data_is_filled_in(tmp_path, capsys):
    assert cli.main(["config"]) == 0
    printed = capsys.readouterr().out
    given = ("data.train", "data.target", "data.holdout")
    with pytest.raises(
        ConfigError, match=r"(?s)data\.train: expected a text, but it is empty.*data\.target: "
    ):
        loading.parse(loading.read_yaml(printed), "c")
    (tmp_path / "c.yaml").write_text(printed)
    loaded = loading.load(
        tmp_path / "c.yaml", {name: MINIMAL["data"][name.removeprefix("data.")] for name in given}
    )
    assert loaded == loading.parse(MINIMAL, "c")


def test_the_documented_defaults_show_every_field_and_its_documentation(capsys):
    cli.main(["config"])
    printed = " ".join(capsys.readouterr().out.replace("#", "").split())
    for section in (config.Data, config.Chunk, config.Endpoint, config.VectorFiles, config.AdvancedSae):
        for name, field in section.model_fields.items():
            assert f"{' '.join(field.description.split())} {name}:" in printed


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("data:\n  text: a\n  target: y\n  text: b\n", "text is repeated, on lines 2 and 4"),
        ("embed: {}\ndata: {}\nembed: {}\n", "embed is repeated, on lines 1 and 3"),
        ("llm:\n  engine_args:\n    - {a: 1, 'a': 2}\n", " a is repeated, on lines 3 and 3"),
        ("", "is empty; expected sections"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, content: str, reason: str):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigError, match=reason):
        loading.load(tmp_path / "c.yaml")


def test_an_override_given_twice_is_refused(tmp_path, capsys: pytest.CaptureFixture):
    with pytest.raises(ConfigError, match=r"--select\.n is given twice, as '8' and '9'"):
        cli.parse_overrides(["--select.n", "8", "--select.n=9"])
    assert cli.main(["annotate", "--data", "a.csv", "--data=b.csv"]) == 2
    assert "--data is given twice, as 'a.csv' and 'b.csv'" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(ConfigError, match=r"--llm\.engine_args: a is repeated"):
        loading.load(tmp_path / "c.yaml", {"llm.engine_args": "{a: 1, a: 2}"})


def test_merge_keys_still_work():
    tree = loading.read_yaml("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: [*a, *b], y: 5}\n")
    assert (tree["b"], tree["c"]) == ({"x": 3, "y": 2}, {"x": 1, "y": 5})


def test_what_is_left_empty_is_the_default_and_one_name_is_a_list(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "data: {train: a, holdout: b, target: y, covariates: age}\nembed:\n  replicas:\ntrain_sae:\n"
        "  prefix_lengths: 64\nllm: {engine_args: }\nselect:\n"
    )
    loaded = loading.load(tmp_path / "c.yaml")
    assert loaded.data.covariates == ("age",)
    assert loaded.train_sae.prefix_lengths == (64,)
    assert loaded.model_copy(update={"data": None}) == loading.parse(
        {**MINIMAL, "train_sae": {"prefix_lengths": [64]}}, "c"
    ).model_copy(update={"data": None})
    loaded = loading.load(tmp_path / "c.yaml", {"data.covariates": "sex", "select": ""})
    assert loaded.data.covariates == ("sex",)


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"embed": 5}, "embed: expected a section, with fields of its own (got 5)"),
        ({"select": {"n": None}}, "select.n: expected a whole number, but it is empty"),
        ({"embed": {"prompt": 2024}}, "embed.prompt: expected a text (got 2024: put it in quotes)"),
        ({"data": {**MINIMAL["data"], "covariates": {"a": 1}}}, "data.covariates: expected a list"),
        ({"data": None}, "data: required, but missing"),
        ({"data": {**MINIMAL["data"], "encoding": "latin-99"}}, "Python knows no such encoding"),
        ({"data": {**MINIMAL["data"], "delimiter": ";;"}}, "expected one character, such as ; or tab"),
        (
            {"data": {**MINIMAL["data"], "chunk": {"language": "english"}}},
            "data.chunk.language: expected a code of a language, two or three letters such as en",
        ),
        ({"evaluate": {"alpha": "small"}}, 'expected a number (got "small")'),
    ],
)
def test_refusals_are_in_plain_words(tree: dict, reason: str):
    message = refused(tree)
    assert reason in message
    assert not any(word in message for word in ("valid", "instance", "Input", "dictionary"))
