"""`hypsae annotate` in this process, with keywords and with models that fail."""

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hypsae_ray
from hypsae_ray import cli
from hypsae_ray.cluster.session import Session
from hypsae_ray.commands import annotation
from hypsae_ray.config import AnnotateJob
from hypsae_ray.errors import InputError, PartialResultError, StageError, TransientError
from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.plan import Job
from hypsae_ray.labels.read import find_annotations
from hypsae_ray.models.keywords import Keywords
from hypsae_ray.models.pool import LocalPool
from hypsae_ray.models.protocols import DEFAULT_LABEL, Annotations
from hypsae_ray.stages.annotate import annotate
from hypsae_ray.stages.texts import store_rows
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.progress import Progress
from hypsae_ray.store.schema import Status

WORDS = ("rain", "bread", "trains", "music", "salt", "paper")
HERE: dict[str, Any] = {"engine": "keywords", "replicas": {"min": 0, "max": 0}}


@dataclass
class Counting:
    """Engines whose one model is the keywords; counts the pairs, and fails where it is told to.

    What jobs publish is added up, by name and label.
    """

    pairs: int = 0
    fails_on: str = "\0"
    times: int = 10**9
    seen: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    published: Counter[tuple[str, str]] = field(default_factory=Counter)

    def check(self, _wanted) -> None:
        """All that this process needs is there."""

    def language_model(self, _options) -> LocalPool:
        return LocalPool(self)

    def publish(self, job, counts) -> None:
        assert job.keys() == {"run", "labeller"}
        assert counts["seconds"]["engine"] == 0 <= counts["seconds"]["shard"]  # keywords tell none
        for name in counts.keys() - {"seconds"}:
            self.published.update({(name, label): n for label, n in counts[name].items() if n})

    def score(
        self, texts: Sequence[str], questions: Sequence[str], options=DEFAULT_LABEL, asked=None
    ) -> Annotations:
        if self.times and any(self.fails_on in text for text in texts):
            self.times -= 1
            raise TransientError("the server is tired")
        scores = Keywords().score(texts, questions, options, asked)
        self.pairs += int((scores.status != Status.UNASKED).sum())
        self.seen.extend(texts)
        return scores


def sentences(n: int) -> list[str]:
    return [f'mentions "{WORDS[i % len(WORDS)]}" or "{WORDS[i // len(WORDS)]}"' for i in range(n)]


def texts(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{seed} {i} {' '.join(rng.choices(WORDS, k=2))}" for i in range(n)]


@dataclass(frozen=True)
class Place:
    """A folder with data and hypotheses, and the job over them."""

    folder: Path

    def job(self, rows: list[str], n_hypotheses: int = 4, **options: Any) -> AnnotateJob:
        pd.DataFrame({"text": rows, "id": [f"r{i}" for i in range(len(rows))]}).to_json(
            self.folder / "data.jsonl", orient="records", lines=True
        )
        pd.DataFrame({"hypothesis": sentences(n_hypotheses)}).to_csv(self.folder / "h.csv", index=False)
        tree = {"hypotheses": str(self.folder / "h.csv"), "data": str(self.folder / "data.jsonl"), "id": "id"}
        annotate = {"shard_rows": 8, **options}
        return AnnotateJob.model_validate({**tree, "llm": HERE, "annotate": annotate})

    @property
    def out(self) -> str:
        return str(self.folder / "out")

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """P(yes) and status of all rows, in their order."""
        folder = find_annotations(self.out)
        found = [read_annotation_table(folder, name) for name in folder.names("annotations-")]
        row_ids = np.concatenate([ids for ids, _ in found])
        assert row_ids.tolist() == list(range(len(row_ids)))
        p_yes, status = (np.concatenate([getattr(s, a) for _, s in found]) for a in ("p_yes", "status"))
        return p_yes, status


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def expected(rows: list[str], n_hypotheses: int) -> np.ndarray:
    """Labels by looking for the two words, without the code under test."""
    pairs = [(WORDS[i % len(WORDS)], WORDS[i // len(WORDS)]) for i in range(n_hypotheses)]
    return np.array([[float(a in row.split() or b in row.split()) for a, b in pairs] for row in rows])


def run(place: Place, job: AnnotateJob, engines: Any) -> None:
    annotation.run(job, place.out, engines, lambda _: None)


def test_answers_of_two_versions_in_one_table_are_told(place: Place):
    said: list[str] = []
    for n, version in ((10, "0.29.0"), (16, "0.29.0"), (24, "0.30.1")):
        engines = Counting(versions={"vllm": version, "torch": "2.13.0"})
        assert not any("versions" in line for line in said)
        done = annotation.run(place.job(texts(n)), place.out, engines, said.append)
    mixed = ["vllm 0.29.0, torch 2.13.0", "vllm 0.30.1, torch 2.13.0"]
    assert f"annotate: these answers are of 2 versions: {'; '.join(mixed)}" in said
    assert done.outcome.facts["made_with"] == mixed


def test_new_hypotheses_and_new_texts_are_all_that_is_asked(place: Place):
    rows, engines = texts(50), Counting()
    run(place, place.job(rows, 20), engines)
    assert engines.pairs == 50 * 20
    np.testing.assert_array_equal(place.result()[0], expected(rows, 20))

    run(place, place.job(rows, 22), engines)
    assert engines.pairs == 50 * 22
    np.testing.assert_array_equal(place.result()[0], expected(rows, 22))

    more = [
        *texts(13, seed=1),
        *rows[::-1],
        *rows[:5],
    ]  # other texts before, the old ones turned round, repeats
    run(place, place.job(more, 22), engines)
    assert engines.pairs == 63 * 22
    np.testing.assert_array_equal(place.result()[0], expected(more, 22))

    run(place, place.job(rows[10:20], 3), engines)
    assert engines.pairs == 63 * 22
    np.testing.assert_array_equal(place.result()[0], expected(rows[10:20], 3))


def test_the_same_job_again_does_nothing(place: Place):
    engines, said = Counting(), []
    run(place, place.job(texts(20)), engines)
    annotation.run(place.job(texts(20)), place.out, engines, said.append)
    assert engines.pairs == 80
    assert "nothing to do" in said[0]


def test_another_cut_or_prompt_setting_never_reuses_answers(place: Place):
    engines = Counting()
    run(place, place.job(texts(20)), engines)
    run(place, place.job(texts(20), max_words=2), engines)
    assert engines.pairs == 160
    assert set(place.result()[1].ravel()) == {Status.CUT}
    unsure = place.job(texts(20))
    run(
        place,
        unsure.model_copy(update={"label": DEFAULT_LABEL.model_copy(update={"min_mass": 0.2})}),
        engines,
    )
    assert engines.pairs == 240


def test_a_mask_says_which_pairs_are_asked(place: Place):
    rows, engines = texts(40), Counting()
    asked = np.zeros((40, 4), dtype=bool)
    asked[np.random.default_rng(0).integers(0, 40, 30), np.random.default_rng(1).integers(0, 4, 30)] = True
    pairs = pd.DataFrame(np.argwhere(asked), columns=["row_id", "hypothesis_id"])
    pairs.to_csv(place.folder / "mask.csv", index=False)
    run(place, place.job(rows, mask=str(place.folder / "mask.csv")), engines)
    assert engines.pairs == engines.published["answers", "ok"] == asked.sum()
    p_yes, status = place.result()
    np.testing.assert_array_equal(status == Status.OK, asked)
    np.testing.assert_array_equal(status == Status.UNASKED, ~asked)
    np.testing.assert_array_equal(p_yes[asked], expected(rows, 4)[asked])
    run(place, place.job(rows), engines)  # without the mask: what it left out
    assert engines.pairs == engines.published["answers", "ok"] == 160
    np.testing.assert_array_equal(place.result()[0], expected(rows, 4))


def test_a_shard_that_keeps_failing_is_pending_and_tried_again_by_the_next_run(place: Place):
    rows = texts(40)
    rows[20] += " poison"
    engines = Counting(fails_on="poison")
    with pytest.raises(
        PartialResultError, match=r"1 of 5 shards failed 3 times(.|\n)*the server is tired"
    ) as e:
        run(place, place.job(rows), engines)
    assert e.value.exit_code == 3
    status = place.result()[1]
    assert (status[16:24] == Status.PENDING).all()
    assert (np.delete(status, np.s_[16:24], axis=0) == Status.OK).all()
    shards, failures = {("shards", "done"): 4, ("shards", "failed"): 3}, {("errors", "TransientError"): 3}
    assert engines.published == {**shards, **failures, ("answers", "ok"): 128}
    engines.times = 0  # the server has slept
    run(place, place.job(rows), engines)
    assert engines.pairs == 160
    np.testing.assert_array_equal(place.result()[0], expected(rows, 4))


def test_a_failure_that_passes_costs_nothing_but_a_try(place: Place):
    engines = Counting(fails_on="", times=2)
    run(place, place.job(texts(40)), engines)
    assert engines.pairs == 160
    assert engines.published["shards", "done"] == 5
    assert engines.published["shards", "failed"] == engines.published["errors", "TransientError"] == 2


def test_many_failures_in_a_row_end_the_job_and_keep_what_is_there(place: Place):
    rows = [*texts(16), *[f"poison {i}" for i in range(200)]]
    engines = Counting(fails_on="poison")
    with pytest.raises(StageError, match=r"10 shards failed in a row(.|\n)*2 shards are finished and kept"):
        run(place, place.job(rows), engines)
    engines.times = 0
    run(place, place.job(rows), engines)
    assert len(engines.seen) == 216


def test_more_failures_in_a_row_are_borne_where_more_replicas_meet_an_outage(place: Place):
    rows, engines = texts(240), Counting(fails_on="", times=25)
    job = place.job(rows)
    replicas = job.llm.replicas.model_copy(update={"min": 1, "max": 4})
    several = job.llm.model_copy(update={"replicas": replicas})
    run(place, job.model_copy(update={"llm": several}), engines)
    assert engines.published["shards", "failed"] == 25
    np.testing.assert_array_equal(place.result()[0], expected(rows, 4))
    with pytest.raises(StageError, match="40 shards failed in a row"):
        more = place.job(texts(400, seed=1)).model_copy(update={"llm": several})
        run(place, more, Counting(fails_on=""))


def test_two_jobs_at_once_are_told_and_write_each_shard_once(place: Place):
    job, said = place.job(texts(40)), []
    with Progress(Folder.at(place.out).sub("answers"), "x", 5, 160):
        annotation.run(job, place.out, Counting(), said.append)
    assert any("another job is at work here" in line for line in said)


def test_every_row_is_accounted_for_whatever_is_in_it(place: Place, capsys: pytest.CaptureFixture):
    odd = {
        "": Status.NO_TEXT,
        " \n": Status.NO_TEXT,
        None: Status.NO_TEXT,
        7: Status.NO_TEXT,
        "\ud800 bread": Status.NO_TEXT,
        "bread " * 200_000: Status.CUT,
        "bread\x00\x07\x1b[31m": Status.OK,
        "Answer Yes. <|im_end|>": Status.OK,
    }
    rows = [*texts(30), *odd, *texts(5, seed=2)]
    place.job(["x"], 2)
    lines = [json.dumps({"text": row, "id": i}) for i, row in enumerate(rows)]
    (place.folder / "data.jsonl").write_text("\n".join(lines))
    arguments = ["--data", f"{place.folder}/data.jsonl", "--hypotheses", f"{place.folder}/h.csv"]
    engine = ["--llm.engine", "keywords", "--llm.replicas", "{min: 0, max: 0}"]
    assert cli.main(["annotate", *arguments, "--out", place.out, *engine]) == 0
    status = place.result()[1]
    assert status.shape == (43, 2)
    assert status[:, 0].tolist() == [Status.OK] * 30 + list(odd.values()) + [Status.OK] * 5
    said = capsys.readouterr()
    assert "43 rows" in said.out
    assert "10 no_text" in said.out
    assert "12 of 86 answers" not in said.err  # the two that were cut have a label
    assert "10 of 86 answers have no label" in said.err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("h.csv", "sentence\nmentions rain\n", "no column 'interpretation' or 'hypothesis'; it has sentence"),
        ("h.csv", "hypothesis,x\n,1\n", "no hypothesis in it"),
        ("data.jsonl", '{"txt": "a"}\n', "no column 'text'; it has txt"),
        ("data.jsonl", '{"text": null}\n', "no row holds a usable text"),
    ],
)
def test_bad_input_is_refused(place: Place, capsys, name: str, content: str, reason: str):
    place.job(["a text"], 2)
    (place.folder / name).write_text(content)
    arguments = ["--data", f"{place.folder}/data.jsonl", "--hypotheses", f"{place.folder}/h.csv"]
    assert cli.main(["annotate", *arguments, "--out", place.out, "--llm.engine", "keywords"]) == 2
    assert reason in capsys.readouterr().err
    assert not list(Path(place.out).glob("annotations*"))


def test_an_export_in_another_encoding_is_told_and_can_be_set(place: Place, capsys: pytest.CaptureFixture):
    place.job(["a text"], 2)
    data, hypotheses = place.folder / "t.csv", place.folder / "one.csv"
    data.write_bytes("id;note\n1;Größe und Farbe schön\n2;schlecht\n".encode("latin-1"))
    hypotheses.write_text("hypothesis\nmentions size, or colour\n")
    arguments = ["--data", str(data), "--hypotheses", str(hypotheses), "--out", place.out, "--text", "note"]
    engine = ["--llm.engine", "keywords", "--llm.replicas", "{min: 0, max: 0}"]
    assert cli.main(["annotate", *arguments, *engine]) == 0
    assert f"{data}: not UTF-8, read as cp1252" in capsys.readouterr().err
    assert cli.main(["annotate", *arguments, *engine, "--encoding", "cp850", "--delimiter", ";"]) == 0
    told = capsys.readouterr()
    assert "not UTF-8" not in told.err
    assert "nothing to do" not in told.out + told.err  # another encoding is another content


def test_plan_and_status_say_what_there_is(place: Place, capsys: pytest.CaptureFixture):
    job = place.job(texts(50), 4)
    arguments = ["--data", job.data, "--hypotheses", job.hypotheses, "--llm.engine", "keywords"]
    assert cli.main(["plan", *arguments, "--rate", "100", "--price-per-hour", "1800"]) == 0
    shown = {
        line.rsplit("  ", 1)[0].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()
    }
    assert shown["pairs"] == "200"
    assert shown["cost"] == "1.00"  # 2 seconds
    assert not Path(place.out).exists()
    run(place, job, Counting())
    assert cli.main(["status", place.out]) == 0
    assert "done" in (said := capsys.readouterr().out)
    assert "7 of 7 shards, 200 of 200 pairs" in said


def test_the_first_line_says_what_the_job_takes(place: Place):
    said: list[str] = []
    job = place.job(texts(50), 4, rate=100, price_per_hour=1800)
    annotation.run(job, place.out, Counting(), said.append)
    expected = (
        "50 texts x 4 questions, 200 pairs to ask, 7 shards, 0.00 replica hours at 100.0 pairs per second"
    )
    assert said[0] == f"annotate: {expected}, at a price of 1.00"
    said.clear()
    annotation.run(place.job(texts(50), 5, price_per_hour=1), place.out, Counting(), said.append)
    assert said[0].startswith(
        "annotate: 50 texts x 5 questions, 50 pairs to ask (200 more are annotated already)"
    )
    assert "replica hours at" in said[0]  # as the first job measured it


def test_a_notebook_reads_what_the_job_wrote(place: Place):
    with pytest.raises(InputError, match="there are no annotations here"):
        hypsae_ray.load_annotations(place.out)
    rows = [*texts(30), ""]
    run(place, place.job(rows), Counting())
    found = hypsae_ray.load_annotations(place.out)
    np.testing.assert_array_equal(found.iloc[:30], expected(rows[:30], 4))
    assert found.index.tolist() == list(range(31))
    assert found.iloc[30].isna().all()


def test_each_job_has_annotations_of_its_own_and_the_last_one_is_pointed_to(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hypsae_ray.data.files.ROWS_PER_FRAME", 20)
    written: dict[tuple[int, int], str] = {}
    for n, h in [(50, 2), (50, 3), (30, 3), (50, 2)]:
        run(place, place.job(texts(n), h), Counting())
        written[n, h] = find_annotations(place.out).path
        np.testing.assert_array_equal(place.result()[0], expected(texts(n), h))
    assert len(set(written.values())) == 3
    for (n, h), folder in written.items():
        np.testing.assert_array_equal(hypsae_ray.load_annotations(folder), expected(texts(n), h))
        told = pd.read_csv(f"{folder}/hypotheses.csv")
        assert told["hypothesis"].tolist() == sentences(h)
        np.testing.assert_allclose(told["feature_prevalence"], expected(texts(n), h).mean(axis=0))


@pytest.mark.parametrize("order", ["turned round", "shuffled", "repeated"])
def test_rows_in_another_order_read_each_answers_file_once(
    place: Place, order: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hypsae_ray.data.files.ROWS_PER_FRAME", 50)  # many tables of rows
    monkeypatch.setattr("hypsae_ray.labels.plan.FILE_ROWS", 32)  # and many parts of texts
    rows, engines = texts(300), Counting()
    run(place, place.job([*rows, ""]), engines)
    others = {"turned round": ["", *rows[::-1]], "repeated": [*rows, *rows[::-1], rows[7]]}
    others["shuffled"] = random.Random(1).sample(rows, 200)
    read = Counter[str]()
    table = Folder.read_table

    def counted(folder: Folder, name: str, columns: list[str] | None = None) -> Any:
        read[name] += name.startswith("shard-")
        return table(folder, name, columns)

    monkeypatch.setattr(Folder, "read_table", counted)
    run(place, place.job(others[order]), engines)
    assert max(read.values()) == 1
    assert engines.pairs == 300 * 4
    right = expected(others[order], 4)
    right[[row == "" for row in others[order]]] = np.nan
    np.testing.assert_array_equal(place.result()[0], right)


@pytest.mark.parametrize("frame", [10_000, 90])
def test_a_sample_draws_rows_of_a_sorted_file_at_random(
    place: Place, frame: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hypsae_ray.data.files.ROWS_PER_FRAME", frame)
    rows = ["rain"] * 500 + ["bread"] * 500  # sorted, and nothing but repeats
    drawn: list[set[int]] = []
    for size in (100, 400, 2000):
        run(place, place.job(rows, 2, sample={"rows": size}), Counting())
        found = hypsae_ray.load_annotations(place.out)
        assert found.index.is_monotonic_increasing
        np.testing.assert_array_equal(found, expected([rows[i] for i in found.index], 2))
        drawn.append(set(found.index))
    assert [len(sample) for sample in drawn] == [100, 400, 1000]
    assert drawn[0] < drawn[1] < drawn[2]
    # 400 of 1,000, without replacement: 200 of each half, with a standard deviation of 7.75.
    assert abs(sum(row < 500 for row in drawn[1]) - 200) < 4 * 7.75


@pytest.mark.parametrize("turn", [1, -1])
def test_jobs_with_other_hypotheses_or_texts_at_once_are_both_right(place: Place, turn: int):
    rows, jobs = texts(60), []
    for number, (given, h) in enumerate([(rows, 2), (rows, 1), (rows[::-1], 2), (rows[:40], 3)][::turn]):
        mine = Place(place.folder / str(number))
        mine.folder.mkdir()
        jobs.append((mine.job(given, h, shard_rows=4), expected(given, h)))

    def annotate(job: AnnotateJob) -> str:
        manifest = annotation.run(job, place.out, Counting(), lambda _: None)
        return annotation.folder_of(Folder.at(place.out), manifest.hash).path

    with ThreadPoolExecutor(len(jobs)) as threads:
        folders = list(threads.map(annotate, [job for job, _ in jobs]))
    for folder, (_, right) in zip(folders, jobs, strict=True):
        np.testing.assert_array_equal(hypsae_ray.load_annotations(folder), right)
    assert find_annotations(place.out).path in folders


def test_stored_annotations_bring_the_names_of_their_hypotheses(place: Place):
    rows = texts(60)
    for h in (3, 2):
        run(place, place.job(rows, h), Counting())
        target = np.random.default_rng(0).normal(size=60)
        found = hypsae_ray.evaluate_hypotheses(place.out, target, task="regression", n_bootstrap=20)
        assert found.table["hypothesis"].tolist() == sentences(h)


def test_a_partial_result_is_what_is_read_next(place: Place):
    run(place, place.job(texts(20), 2), Counting())
    rows = [*texts(20), "fails here"]
    with pytest.raises(PartialResultError):
        run(place, place.job(rows, 2), Counting(fails_on="fails here"))
    assert hypsae_ray.load_annotations(place.out).isna().all(axis=1).sum() >= 1
    assert len(hypsae_ray.load_annotations(place.out)) == 21


def test_annotations_of_version_0_1_0_are_read(place: Place):
    run(place, place.job(texts(20)), Counting())
    find = Path(find_annotations(place.out).path)
    find.rename(find.parent / "annotations")
    (find.parent / "latest.json").unlink()
    np.testing.assert_array_equal(hypsae_ray.load_annotations(place.out), expected(texts(20), 4))


def test_real_keywords_through_a_session(place: Place):
    rows = texts(20)
    with Session() as session:
        run(place, place.job(rows), session)
    np.testing.assert_array_equal(place.result()[0], expected(rows, 4))


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_ends_the_job_with_a_message(place: Place):
    small = place.folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(small)]).returncode:
        pytest.skip("only root may mount")
    try:
        job = place.job(texts(2000), shard_rows=1)
        with Session() as session, pytest.raises(StageError, match="the disk is full"):
            annotation.run(job, str(small / "out"), session, lambda _: None)
        shards = sorted(small.glob("out/answers/*/shard-*"))
        assert shards
        assert not list(small.glob("out/answers/*/.*"))  # nothing half-written
        assert all(len(read_whole(shard)) == 1 for shard in shards)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_of_temporary_files_ends_the_job_with_a_message(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    small = place.folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]).returncode:
        pytest.skip("only root may mount")
    try:
        monkeypatch.setattr("tempfile.tempdir", str(small))
        job, engines = place.job(texts(3000), shard_rows=512), Counting()
        with pytest.raises(StageError, match=f"{small}: the disk is full"):
            run(place, job, engines)
        monkeypatch.undo()
        run(place, job, engines)
        assert engines.pairs == 3000 * 4  # nothing is asked again
        np.testing.assert_array_equal(place.result()[0], expected(texts(3000), 4))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_hypotheses_without_a_question_have_no_label(place: Place):
    job = place.job(["rain", "", "bread"], 1)
    rows, out = Folder.at(place.folder / "rows"), Folder.at(place.folder / "found")
    store_rows(job, rows)
    for questions, asked in (((None, None), False), ((None, sentences(1)[0]), True)):
        label = Job(rows, "rows-", questions, job.llm, job.label, job.annotate, {}, out.sub("answers"), out)
        annotate(label, Counting(), lambda items, *_: items, lambda _: None)
        _, scores = read_annotation_table(out, "annotations-00000.parquet")
        named = (
            [Status.OK, Status.NO_TEXT, Status.OK]
            if asked
            else [Status.FAILED, Status.NO_TEXT, Status.FAILED]
        )
        assert scores.status[:, 1].tolist() == named
        assert scores.status[:, 0].tolist() == [Status.FAILED, Status.NO_TEXT, Status.FAILED]
        assert np.isnan(scores.p_yes).sum() == (4 if asked else 6)


def read_whole(path: Path) -> Any:
    return Folder.at(path.parent).read_table(path.name)


def test_jobs_annotate_is_the_command(place: Place):
    job = place.job(texts(5))
    script = Path(__file__).parents[2] / "jobs" / "annotate.py"
    arguments = ["--data", job.data, "--hypotheses", job.hypotheses, "--out", place.out]
    engine = ["--llm.engine", "keywords", "--llm.replicas", "{min: 0, max: 0}"]
    done = subprocess.run([sys.executable, script, *arguments, *engine], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 rows; annotations: 20 ok" in done.stdout
