"""Whole runs with the keyword engine, everything in this process."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

import hypsae_ray as hr
from hypsae_ray import cli, config, pipeline
from hypsae_ray.commands import runner
from hypsae_ray.config import LabelSample, loading
from hypsae_ray.demo import grammar
from hypsae_ray.report import results
from hypsae_ray.stages.embed import to_vectors
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_activations
from tests.page_block import block_of

ALL_PAIRS = "200 texts x 8 questions, 1,600 pairs to ask, 4 shards"


def computed(run: runner.Run) -> list[str]:
    return [record.step.stage.name for record in run.records if not record.reused]


def stage_folder(run: Path, name: str) -> Folder:
    (place,) = (run / "stages").glob(f"{name}-*")
    return Folder.at(place)


@pytest.fixture
def finished(demo_config: config.Config, demo_run: Path, tmp_path: Path) -> runner.Run:
    """A copy of a finished run, to do with as a test likes."""
    shutil.copytree(demo_run, tmp_path / "run")
    return runner.run(demo_config, str(tmp_path / "run"))


def test_a_run_leaves_every_promised_file(demo_run: Path):
    folder = demo_run
    evaluation = pd.read_csv(folder / "evaluation.csv")
    hypotheses = pd.read_csv(folder / "hypotheses.csv")
    assert len(evaluation) == len(hypotheses) == 8
    assert {"hypothesis", "separation_score", "separation_pval", "regression_coef", "regression_pval",
            "feature_prevalence"} <= set(evaluation)  # fmt: skip
    assert {"neuron_idx", "source_sae", "target_correlation", "interpretation", "f1_fidelity_score"} <= set(
        hypotheses
    )
    metrics = json.loads((folder / "metrics.json").read_text())["main"]
    assert metrics["n"] == 200
    assert metrics["n_hypotheses"] == 8
    assert "<svg" in (folder / "report.html").read_text()
    saved = json.loads((folder / "run.json").read_text())
    assert [stage["stage"] for stage in saved["stages"]] == list(pipeline.STAGE_NAMES)
    assert config.Config.model_validate(saved["config"]).select.n == 8
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert head.returncode or saved["git_revision"] == head.stdout.strip()


def test_the_annotated_holdout_is_embedded(demo_run: Path, demo_folder: Path, demo_config: config.Config):
    holdout = pd.read_json(demo_folder / "holdout.jsonl", lines=True)
    folder = stage_folder(demo_run, "embed_holdout")
    table = folder.read_tables("holdout-").sort_by("row_id")
    row_ids, fired = read_activations(folder, "holdout", 32)
    labelled = hr.load_annotations(stage_folder(demo_run, "annotate").path).index
    assert table["row_id"].to_pylist() == row_ids.tolist() == sorted(labelled) == list(range(200))
    direct = hr.embed(holdout["text"].tolist(), demo_config.embed)
    np.testing.assert_allclose(to_vectors(table), direct, atol=1e-6)
    sae = hr.load_sae(stage_folder(demo_run, "train_sae").path)
    np.testing.assert_allclose(fired.toarray(), hr.activations(sae, direct).toarray(), atol=1e-5)


def test_of_the_holdout_only_what_is_annotated_is_embedded(
    finished: runner.Run, demo_config: config.Config, demo_run: Path
):
    annotate = demo_config.annotate.model_copy(update={"sample": LabelSample(rows=170, proxies=())})
    again = runner.run(demo_config.model_copy(update={"annotate": annotate}), finished.out.path)
    assert computed(again) == ["embed_holdout", "annotate", "evaluate"]
    (fewer,) = (r.step.folder for r in again.records if r.step.stage.name == "embed_holdout")
    (labelled,) = (r.step.folder for r in again.records if r.step.stage.name == "annotate")
    row_ids, fired = read_activations(fewer, "holdout", 32)
    assert row_ids.tolist() == sorted(hr.load_annotations(labelled.path).index)
    assert len(row_ids) == 170
    assert 199 in row_ids or 198 in row_ids  # drawn, not the first ones
    _, all_fired = read_activations(stage_folder(demo_run, "embed_holdout"), "holdout", 32)
    np.testing.assert_allclose(fired.toarray(), all_fired[row_ids].toarray(), atol=1e-5)


def test_planted_concepts_are_found_and_shown(
    finished: runner.Run, demo_config: config.Config, demo_folder: Path, capsys: pytest.CaptureFixture
):
    run = Path(finished.out.path)
    assert cli.main(["demo-recovery", str(run), str(demo_folder)]) == 0
    recovery = pd.read_csv(run / "recovery.csv")
    assert len(recovery) == 12
    found = int((recovery["f1"] >= 0.6).sum())
    assert found >= 3  # 8 neurons, 400 texts; the demo itself has 20 and 2,000
    line = f"recovered {found} of 12 planted concepts (F1 of 0.6 or more)"
    shown = capsys.readouterr().out
    assert shown.startswith("keywords, against the planted truth:\n")
    assert shown.endswith(f"{line}\n\nreport: {run}/report.html\n")
    assert f"<h3>keywords: {line}</h3>" in (run / "report.html").read_text()
    assert computed(runner.run(demo_config, str(run))) == []  # what is current stays as it is
    assert line in (run / "report.html").read_text()
    # A run that came to other hypotheses has recovered nothing yet.
    runner.run(demo_config.model_copy(update={"select": config.Select(n=4)}), str(run))
    assert not (run / "recovery.csv").exists()
    assert line not in (run / "report.html").read_text()


def test_recovery_is_refused_where_the_truth_is_not_known(
    finished: runner.Run, demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    grammar.write(grammar.generate(n_train=5, n_holdout=5), tmp_path / "other")
    old = Path(shutil.copytree(finished.out.path, tmp_path / "old"))
    saved = json.loads((old / "run.json").read_text())
    saved["config"]["demo_truth"] = str(demo_folder)
    (old / "run.json").write_text(json.dumps(saved))
    for run, truth, reason in (
        (finished.out.path, tmp_path, "not a folder of hypsae demo-data"),
        (finished.out.path, tmp_path / "other", "holds no truth of some texts of this run"),
        (demo_folder, demo_folder, "not a run folder"),
        (old, demo_folder, f"{old}/run.json: an earlier version wrote its config"),
    ):
        assert cli.main(["demo-recovery", str(run), str(truth)]) == 2
        assert reason in capsys.readouterr().err


def test_the_same_run_again_computes_nothing(
    finished: runner.Run, demo_config: config.Config, capsys: pytest.CaptureFixture
):
    again = runner.run(demo_config, finished.out.path)
    assert capsys.readouterr().err == ""
    assert computed(again) == []
    pd.testing.assert_frame_equal(again.evaluation, finished.evaluation)


@pytest.mark.parametrize("name", ["pending", "set_aside"])  # the second as older folders have it
def test_answers_that_are_pending_are_asked_for_again(
    finished: runner.Run, demo_config: config.Config, name: str
):
    place = stage_folder(Path(finished.out.path), "annotate")
    saved = place.read_json("manifest.json")
    saved["facts"]["answers"][name] = 1
    place.write_json("manifest.json", saved)
    again = runner.run(demo_config, finished.out.path)
    assert computed(again) == ["annotate", "evaluate"]
    assert computed(runner.run(demo_config, finished.out.path)) == []


def test_with_nothing_to_do_neither_ray_nor_torch_is_loaded(
    finished: runner.Run, demo_tree: dict, tmp_path: Path
):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(demo_tree))
    script = (
        "import sys; from hypsae_ray.cli import main; "
        "code = main(sys.argv[1:]); assert not {'ray', 'torch'} & set(sys.modules); sys.exit(code)"
    )
    arguments = ["run", "--config", str(tmp_path / "c.yaml"), "--out", finished.out.path]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


def test_what_the_page_holds_of_texts_is_a_choice_that_computes_nothing(
    finished: runner.Run, demo_config: config.Config
):
    run = Path(finished.out.path)
    data = stage_folder(run, "data")
    ids: set[str] = set()
    for name in data.names("holdout-", ".parquet"):
        table = data.read_table(name).to_pandas()
        inner = [f"zq{row}first {'filling ' * 26} zq{row}last" for row in table["row_id"]]  # about 220
        data.write_table(name, pa.Table.from_pandas(table.assign(text=inner), preserve_index=False))
        ids |= set(table["source_id"])
    for policy, found in (("none", []), ("ids", ["ids"]), ("cut", ["first"]), ("all", ["first", "last"])):
        chosen = demo_config.model_copy(update={"report": config.Report(texts=policy)})
        said: list[str] = []
        assert computed(runner.run(chosen, str(run), show=said.append)) == []
        assert "nothing to do" not in said[0]
        html = (run / "report.html").read_text()
        header, columns = block_of(run)  # packed in the page: a search of the file does not see it
        held = html + json.dumps(header)
        assert [name for name in ("first", "last") if re.search(rf"zq\d+{name}", held)] == [
            name for name in found if name != "ids"
        ]
        quoted = set(re.findall(r"<blockquote>(.*?)</blockquote>", html))
        assert (len(quoted) > 8) == bool(found)
        assert (quoted <= ids) == (policy in ("none", "ids"))
        if policy == "none":
            words = set(re.findall(r"[\w-]+", held))
            assert not words & {*ids, "filling"}
            assert "row_id" not in columns
        others = [file for file in run.iterdir() if file.suffix in (".csv", ".txt")]
        assert len(others) > 3 and not any("zq" in file.read_text() for file in others)
        runner.run(chosen, str(run), show=said.append)
        assert "nothing to do" in said[-1]


def test_another_selection_reruns_selection_and_what_follows(
    finished: runner.Run, demo_config: config.Config, capsys: pytest.CaptureFixture
):
    select = demo_config.select.model_copy(update={"method": "lasso"})
    changed = runner.run(demo_config.model_copy(update={"select": select}), finished.out.path)
    # which hypotheses will be new is not known yet
    assert f"annotate will take: {ALL_PAIRS}" in capsys.readouterr().err
    assert computed(changed) == ["select", "interpret", "score_fidelity", "annotate", "evaluate"]
    back = runner.run(demo_config, finished.out.path)
    assert computed(back) == []
    shown = pd.read_csv(f"{finished.out.path}/evaluation.csv")
    np.testing.assert_allclose(shown["regression_coef"], finished.evaluation["regression_coef"])


def test_a_sentence_that_says_the_target_in_other_words_is_marked(
    finished: runner.Run, demo_config: config.Config
):
    first = finished.evaluation["hypothesis"].iloc[0]
    data = demo_config.data.model_copy(update={"target_means": (first,)})
    run = runner.run(demo_config.model_copy(update={"data": data}), finished.out.path)
    assert computed(run) == ["score_fidelity", "annotate", "evaluate"]
    folder = next(record.step.folder for record in run.records if record.step.stage.name == "score_fidelity")
    hypotheses = folder.read_table("hypotheses.parquet").to_pandas().set_index("interpretation")
    assert hypotheses.loc[first, "status"] == "restates"
    numbers = hypotheses.loc[hypotheses["status"] == "restates", "hypothesis_id"].astype(str)
    assert any(
        f"{', '.join(numbers)} say the target in other words" in note for note in run.chains["main"].notes
    )


def test_what_a_run_says_in_a_pipe_is_its_own(demo_said: subprocess.CompletedProcess, demo_run: Path):
    told = demo_said.stderr.splitlines()  # that no line is foreign is seen where it is run
    assert told[0] == f"to do: {', '.join(pipeline.STAGE_NAMES)}"
    assert told.index(f"annotate will take: {ALL_PAIRS}") < told.index("embed ...")
    begun = [line.removesuffix(" ...") for line in told if line.endswith(" ...")]
    assert begun == list(pipeline.STAGE_NAMES)
    ended = [line.split(": ")[0] for line in told if re.match(r"\w+: [\d.]+ (s|min), [\d,]+ [a-z]+$", line)]
    assert ended == begun
    assert demo_said.stdout.endswith(f"\nreport: {demo_run}/report.html\n")
    assert "Loading weights" in (demo_run / "run.log").read_text()


def test_until_stops_there(
    demo_config: config.Config, demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    for name in ("data", "embed"):
        folder = Path(stage_folder(demo_run, name).path)
        shutil.copytree(folder, tmp_path / "run" / "stages" / folder.name)
    run = runner.run(demo_config, str(tmp_path / "run"), until="train_sae")
    assert [record.step.stage.name for record in run.records] == ["data", "embed", "train_sae"]
    assert computed(run) == ["train_sae"]
    assert not (tmp_path / "run" / "evaluation.csv").exists()
    assert "annotate" not in capsys.readouterr().err


def test_an_interrupted_annotation_goes_on_with_the_missing_shards(
    finished: runner.Run, demo_config: config.Config
):
    (annotate,) = [r.step.folder for r in finished.records if r.step.stage.name == "annotate"]
    before = {name: annotate.read_bytes(name) for name in annotate.names("annotations-")}
    folder = Path(annotate.path)
    shards = sorted(Path(finished.out.path, "answers").glob("*/shard-*"))
    assert len(shards) == 4  # 200 texts in shards of 64
    kept = {shard: shard.stat().st_mtime_ns for shard in shards[:2]}
    for path in [*shards[2:], folder / "manifest.json"]:
        path.unlink()
    again = runner.run(demo_config, finished.out.path)
    assert computed(again) == ["annotate"]
    assert {shard: shard.stat().st_mtime_ns for shard in kept} == kept
    assert {name: annotate.read_bytes(name) for name in annotate.names("annotations-")} == before


def test_the_same_seed_gives_the_same_result_elsewhere(finished: runner.Run, demo_config, tmp_path: Path):
    for name in ("data", "embed"):  # what is copied is not what this test is about, and embedding is slow
        (source,) = Path(finished.out.path, "stages").glob(f"{name}-*")
        shutil.copytree(source, tmp_path / "other" / "stages" / source.name)
    other = runner.run(demo_config, str(tmp_path / "other"))
    assert "train_sae" in computed(other)
    pd.testing.assert_frame_equal(other.evaluation, finished.evaluation)
    assert [r.step.hash for r in other.records] == [r.step.hash for r in finished.records]


def test_a_holdout_text_changes_only_what_reads_it(
    finished: runner.Run, demo_tree: dict, demo_folder: Path, tmp_path: Path
):
    lines = (demo_folder / "holdout.jsonl").read_text().splitlines()
    (tmp_path / "holdout.jsonl").write_text("\n".join(lines[:150]))
    data = {**demo_tree["data"], "holdout": str(tmp_path / "holdout.jsonl")}
    again = runner.run(loading.parse({**demo_tree, "data": data}, "c"), finished.out.path)
    assert [name for name in pipeline.STAGE_NAMES if name not in computed(again)] == ["embed", "train_sae"]
    assert again.chains["main"].metrics["n"] == 150
    assert again.evaluation["hypothesis"].tolist() == finished.evaluation["hypothesis"].tolist()


def test_results_that_are_missing_or_half_written_are_written_again(
    finished: runner.Run, demo_config: config.Config, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(finished.out.path)
    whole = (folder / "evaluation.csv").read_text()
    (folder / "evaluation.csv").unlink()
    runner.run(demo_config, str(folder))
    assert (folder / "evaluation.csv").read_text() == whole
    # Another run dies between its tables and its report: they must not pass for those of the first.
    select = demo_config.select.model_copy(update={"n": 4})
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(results, "render", lambda _: 1 / 0)
        runner.run(demo_config.model_copy(update={"select": select}), str(folder))
    assert (folder / "evaluation.csv").read_text() != whole
    assert computed(runner.run(demo_config, str(folder))) == []
    assert (folder / "evaluation.csv").read_text() == whole


def test_tables_of_an_earlier_run_do_not_stay(finished: runner.Run, demo_config: config.Config):
    folder = Path(finished.out.path)
    (folder / "keywords_evaluation.csv").write_text("of a run that had an LLM")
    (folder / "recovery.csv").write_text("of a run whose truth was known")
    (folder / "report.html").unlink()
    runner.run(demo_config, str(folder))
    assert not (folder / "keywords_evaluation.csv").exists()
    assert not (folder / "recovery.csv").exists()


@pytest.fixture
def masked(finished: runner.Run, demo_tree: dict, tmp_path: Path):
    """Return what runs the finished run again, only some rows of each hypothesis labelled."""

    def run(labelled: dict[int, int]) -> tuple[int, Path]:
        pairs = [{"row_id": r, "hypothesis_id": h} for h, n in labelled.items() for r in range(n)]
        pd.DataFrame(pairs).to_csv(tmp_path / "mask.csv", index=False)
        tree = {**demo_tree, "annotate": {"mask": str(tmp_path / "mask.csv")}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        out = Path(finished.out.path)
        return cli.main(["run", "--config", str(tmp_path / "c.yaml"), "--out", str(out)]), out

    return run


def test_a_run_that_measured_nothing_says_so_first_and_does_not_end_as_done(
    masked: Callable[[dict[int, int]], tuple[int, Path]], capsys: pytest.CaptureFixture
):
    for said_before in ("report: ", "nothing to do: "):
        code, out = masked({0: 20, 3: 99})
        said = capsys.readouterr()
        assert code == 3
        assert said_before in said.out
        nothing = "nothing was measured: none of 8 hypotheses has labels on half of the 200 holdout texts"
        assert f"hypsae: {nothing} or more; answers: 119 ok, 1,481 unasked" in said.err
        if said_before == "report: ":
            assert said.out.startswith(f"keywords: {nothing}")
    report = (out / "report.html").read_text()
    assert f'<p class="lead">{nothing.capitalize()} or more.</p>' in report
    assert "held up on" not in report
    metrics = json.loads((out / "metrics.json").read_text())["main"]
    assert (metrics["n_hypotheses"], metrics["n_measured"]) == (8, 0)
    assert "8 of 8 hypotheses were not measured" in (out / "methods.txt").read_text()
    assert "significant" not in (out / "methods.txt").read_text()


def test_what_was_not_measured_is_not_counted_as_not_significant(
    masked: Callable[[dict[int, int]], tuple[int, Path]], capsys: pytest.CaptureFixture
):
    code, out = masked({0: 200, 1: 200, 2: 100, 3: 99})
    assert code == 0
    said = capsys.readouterr().out
    assert " of 3 measured hypotheses significant (" in said
    # 599 of 200 x 8
    assert (
        said.count("note: a mask left out 1001 of 1600 pairs of text and hypothesis: the regression is on")
        == 1
    )
    assert "is on the 100 of 200 rows that have every label" in said
    assert "Only 599 of 1,600 pairs of text and hypothesis were chosen to be labelled" in " ".join(
        (out / "methods.txt").read_text().split()
    )
    table = pd.read_csv(out / "evaluation.csv")
    assert (
        table["note"].str.endswith("chosen by a mask: biased if the choice has to do with the target").all()
    )
    metrics = json.loads((out / "metrics.json").read_text())["main"]
    assert (metrics["n_hypotheses"], metrics["n_measured"], metrics["n_tests"]) == (8, 3, 8)
    report = " ".join((out / "report.html").read_text().split())
    assert "of 3 hypotheses held up on 200 texts" in report
    assert "a mask left out 1001 of 1600 pairs" in report
    assert "5 more were not measured: too few labels" in report


def test_what_json_does_not_know_is_null():
    assert results.without_nan({"auc": float("nan"), "n": [1, float("inf")]}) == {"auc": None, "n": [1, None]}


def test_a_run_without_a_neuron_to_select_says_so(demo_tree: dict, tmp_path: Path, capsys):
    # Two texts that the model, which knows no capitals, does not tell apart. In one batch their embeddings
    # differ by 2e-7 on some processors.
    texts = ("the same words", "The same words")
    rows = [{"id": i, "text": texts[i % 2], "stars": i % 5} for i in range(60)]
    for name in ("train", "holdout"):
        pd.DataFrame(rows).to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    places = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "holdout")}
    data = {**demo_tree["data"], **places, "val": places["train"], "overlap": "keep"}
    tree = {**demo_tree, "data": data, "embed": {**demo_tree["embed"], "batch_size": 1}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    assert cli.main(["run", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "60 holdout rows are not new (same text: 60): kept" in said
    assert "select: none of 32 neurons can be selected by forward" in said


def test_inspect_shows_neurons(finished: runner.Run, capsys: pytest.CaptureFixture):
    assert cli.main(["inspect", finished.out.path, "--neurons", "random:5", "--examples", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("fires on") == 5
    assert shown.count("  1. ") >= 4  # a dead neuron has no top text
    sentence = finished.evaluation["hypothesis"].iloc[0]
    assert cli.main(["inspect", finished.out.path]) == 0
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wish", "reason"), [("99", "no neuron 99"), ("some", "expected selected"), ("random:x", "expected")]
)
def test_inspect_refuses_what_it_cannot_show(finished: runner.Run, wish: str, reason: str, capsys):
    assert cli.main(["inspect", finished.out.path, "--neurons", wish]) == 2
    assert reason in capsys.readouterr().err
