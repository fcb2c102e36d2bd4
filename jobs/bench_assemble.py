"""What assembly of annotations costs in another order of rows, and what stored labels take of memory.

1. Texts are labelled by keywords; the same texts in another order ask nothing. Seconds of assembly of both,
   the least of three turns.
2. A small run is finished, then its holdout and annotations are replaced by a million rows. Peak memory of
   `hypsae run` that finds nothing to do, of one that evaluates, and of `evaluate_hypotheses` on the
   annotations, each in a process of its own: in MB above the same process before the rows were replaced.

One line of JSON at the end.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from hypsae_ray import pipeline
from hypsae_ray.cluster.session import Session
from hypsae_ray.config import Annotate, AnnotateJob, Label, Llm, loading
from hypsae_ray.demo import grammar
from hypsae_ray.labels.annotations import to_columns
from hypsae_ray.labels.assembly import write_annotations
from hypsae_ray.labels.plan import Job, Plan, make_plan
from hypsae_ray.models.protocols import Annotations
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.annotate import annotate
from hypsae_ray.stages.texts import PREFIX, store_rows
from hypsae_ray.store import schema
from hypsae_ray.store.artifacts import MANIFEST, Folder
from hypsae_ray.store.schema import Status

TABLE_ROWS = 10_000
TURNS = 3
WORDS = ("rain", "bread", "trains", "music", "salt", "paper", "glass", "stone")
KEYWORDS = Llm.model_validate({"engine": "keywords", "replicas": {"min": 0, "max": 0}})
CONFIG = """
data: {{train: {place}/train.jsonl, holdout: {place}/holdout.jsonl, target: stars}}
embed: {{replicas: {{min: 0, max: 0}}}}
train_sae: {{n_neurons: 64, k: 4, prefix_lengths: [64], max_epochs: 5}}
select: {{n: {hypotheses}}}
llm: {{engine: keywords, replicas: {{min: 0, max: 0}}}}
"""
NOTEBOOK = (
    "import hypsae_ray, numpy; from hypsae_ray.labels.read import StoredLabels; "
    "from hypsae_ray.store.artifacts import Folder; n = StoredLabels(Folder.at('{folder}'), 0.5).shape[0]; "
    "target = numpy.random.default_rng(1).normal(size=n); "
    "hypsae_ray.evaluate_hypotheses('{folder}', target, task='regression')"
)


def assembly(place: Path, n_rows: int, n_hypotheses: int) -> dict[str, float]:
    """Label texts, then time the assembly of them in two orders."""
    rng = random.Random(0)
    texts = [f"{i} {' '.join(rng.choices(WORDS, k=6))}" for i in range(n_rows)]
    jobs = [
        job_over(place, name, rows, n_hypotheses)
        for name, rows in (("same", texts), ("other", rng.sample(texts, n_rows)))
    ]
    with Session() as session:
        annotate(jobs[0], session, lambda items, *_: iter(items), lambda line: print(line, file=sys.stderr))
    plans = [make_plan(job) for job in jobs]
    seconds = [[timed(plan) for plan in plans] for _ in range(TURNS)]
    same, other = np.min(seconds, axis=0)
    return {
        "rows": n_rows,
        "asked_in_the_other_order": plans[1].pairs,
        "same_order_s": round(float(same), 2),
        "other_order_s": round(float(other), 2),
        "ratio": round(float(other / same), 3),
    }


def job_over(place: Path, name: str, texts: list[str], n_hypotheses: int) -> Job:
    """Store texts, and return the job that labels them."""
    file, rows = place / f"{name}.jsonl", Folder.at(place / f"rows-{name}")
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    store_rows(AnnotateJob(hypotheses="", data=str(file), llm=KEYWORDS), rows)
    pairs = [f'mentions "{a}" or "{b}"' for a in WORDS for b in WORDS if a < b][:n_hypotheses]
    return Job(
        rows=rows,
        prefix=PREFIX,
        questions=tuple(pairs),
        llm=KEYWORDS,
        label=Label(),
        options=Annotate(),
        labeller=fingerprints.labeller(KEYWORDS, Label()),
        answers=Folder.at(place / "answers"),
        out=Folder.at(place / f"annotations-{name}"),
    )


def timed(plan: Plan) -> float:
    """Return the seconds of one assembly."""
    started = time.monotonic()
    write_annotations(plan)
    return time.monotonic() - started


def memory(place: Path, n_rows: int, n_hypotheses: int) -> dict[str, float]:
    """Return the peak memory that a million rows add to each of three processes."""
    grammar.write(grammar.generate(600, 300, seed=0), place)
    config, out = place / "c.yaml", place / "run"
    config.write_text(CONFIG.format(place=place, hypotheses=n_hypotheses))
    arguments = ["run", "--config", str(config), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "hypsae_ray.cli", *arguments], check=True, capture_output=True)
    steps = pipeline.plan(loading.load(str(config), {}), Folder.at(str(out)))
    folders = {step.stage.name: step.folder for step in steps}
    small = peaks(arguments, folders)
    print(f"a small run: {small}", file=sys.stderr)
    replace(folders, n_rows)
    large = peaks(arguments, folders)
    print(f"a large one: {large}", file=sys.stderr)
    return {"stored_rows": n_rows, **{name: large[name] - small[name] for name in small}}


def peaks(run: list[str], folders: dict[str, Folder]) -> dict[str, int]:
    """Return the peak memory of each process in MB."""
    command = f"from hypsae_ray import cli; assert cli.main({run!r}) == 0"
    notebook = NOTEBOOK.format(folder=folders["annotate"].path)
    found = {"evaluate_hypotheses_mb": peak_mb(notebook), "nothing_to_do_mb": peak_mb(command)}
    folders["evaluate"].remove(MANIFEST)
    return found | {"evaluate_stage_mb": peak_mb(command)}


def peak_mb(code: str) -> int:
    """Run Python code in a process of its own, and return the most memory that it ever held."""
    code += "; print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1]) // 1024


def replace(folders: dict[str, Folder], n_rows: int) -> None:
    """Put other rows in place of the holdout of a finished run, in all that `evaluate` reads."""
    data, embedded, annotated = (folders[name] for name in ("data", "embed_holdout", "annotate"))
    n_hypotheses = annotated.read_tables("annotations-").schema.field("p_yes").type.list_size
    rng = np.random.default_rng(0)
    kinds = ((data, "holdout-"), (embedded, "holdout-"), (embedded, "activations-holdout-"))
    for folder, prefix in kinds:
        few = folder.read_tables(prefix)
        for name in folder.names(prefix, ".parquet"):
            folder.remove(name)
        for number, ids in row_ids(n_rows):
            table = few.take(ids % len(few)).set_column(0, "row_id", pa.array(ids))
            if folder is data:  # texts that differ
                place = table.column_names.index("text_id")
                table = table.set_column(place, "text_id", pa.array([f"{i:032x}" for i in ids]))
            folder.write_table(f"{prefix}{number:05d}.parquet", table)
    for name in annotated.names("annotations-"):
        annotated.remove(name)
    for number, ids in row_ids(n_rows):
        p_yes = rng.random((len(ids), n_hypotheses), dtype=np.float32)
        scores = Annotations(p_yes, np.zeros_like(p_yes), np.full(p_yes.shape, Status.OK, np.int8))
        table = pa.table(
            {"row_id": pa.array(ids), **to_columns(scores)}, schema=schema.annotations(n_hypotheses)
        )
        annotated.write_table(f"annotations-{number:05d}.parquet", table)


def row_ids(n_rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each table, and its row ids."""
    for number, start in enumerate(range(0, n_rows, TABLE_ROWS)):
        yield number, np.arange(start, min(start + TABLE_ROWS, n_rows))


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000, help="rows that are assembled")
    parser.add_argument("--stored", type=int, default=1_000_000, help="rows of the large run")
    parser.add_argument("--hypotheses", type=int, default=20)
    options = parser.parse_args()
    found: dict[str, float] = {"hypotheses": options.hypotheses}
    for measure, rows in ((assembly, options.rows), (memory, options.stored)):
        with tempfile.TemporaryDirectory() as place:
            found |= measure(Path(place), rows, options.hypotheses)
            print(found, file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
