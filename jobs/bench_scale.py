"""How labelling scales: the whole of `hypsae annotate` around a model whose every call takes a fixed time.

    python jobs/bench_scale.py [--replicas 1 2 4 8] [--texts 10000 100000] [--most-texts 1000000]

Each replica is a real Ray actor that waits, one call at a time as an engine does. What is measured is the
pipeline's own work: reading, planning, handing out shards, writing, assembling. Every case runs in a
process of its own; the largest data are labelled with the most replicas only. Prints one JSON line with a
table of cases:

- pairs_per_s: from the first shard to the last, all replicas loaded before;
- efficiency: this rate over that of one replica, times its replicas (of the largest data one replica has
  labelled, whose rate does not depend on their number);
- seconds: of the whole job, reading and assembling included;
- driver_mib, actor_mib: the most memory that the driver, and the largest actor, ever held;
- answer_bytes: what one answer takes on disk, in its shard and in the table of annotations.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from hypsae_ray.cluster.session import Session
from hypsae_ray.commands import annotation
from hypsae_ray.config import Annotate, AnnotateJob, Label, Llm, Replicas
from hypsae_ray.console import Console
from hypsae_ray.models.pool import Pool
from hypsae_ray.models.protocols import DEFAULT_LABEL, Annotations, Answer, LanguageModel, NamingPrompt
from hypsae_ray.pipeline import ANSWERS
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.progress import read_heartbeat
from hypsae_ray.store.schema import Status
from hypsae_ray.store.usage import Usage

WORDS = "the bread was warm and the waiter kind " * 12  # 468 characters, about a short review
ROWS_AT_ONCE = 50_000
WARM_UPS = 20


@dataclass(frozen=True)
class Case:
    """One labelling: texts, questions about each, replicas, texts in a call, its seconds, CPUs of a replica.

    CPUs are what Ray counts; null: all replicas share one.
    """

    texts: int
    questions: int
    replicas: int
    shard_rows: int
    call_s: float
    cpus: float | None = None


class WaitingModel:
    """A `LanguageModel` whose calls wait for one another, and then for a fixed time."""

    thread_safe = True

    def __init__(self, call_s: float) -> None:
        self._call_s, self._engine = call_s, threading.Lock()

    def generate(self, prompts: Sequence[NamingPrompt]) -> list[Answer]:
        """Name nothing."""
        return [Answer("", Status.FAILED)] * len(prompts)

    def score(
        self,
        texts: Sequence[str],
        questions: Sequence[str],
        how: Label = DEFAULT_LABEL,
        asked: np.ndarray | None = None,
    ) -> Annotations:
        """Wait, and return P(yes) by the length of the texts."""
        del how, asked
        with self._engine:
            time.sleep(self._call_s)
        shape = (len(texts), len(questions))
        p_yes = np.broadcast_to([[len(text) % 10 / 10] for text in texts], shape).astype(np.float32)
        status = np.full(shape, Status.OK, np.int8)
        return Annotations(p_yes, 1 - p_yes, status, Usage(seconds=self._call_s))


def _waiting_model(call_s: float, _: Llm) -> WaitingModel:
    return WaitingModel(call_s)


class WaitingEngines(Session):
    """Engines in Ray, of models that wait."""

    def __init__(self, call_s: float) -> None:
        super().__init__()
        self._load = partial(_waiting_model, call_s)

    def language_model(self, options: Llm) -> Pool[LanguageModel]:
        """Return the pool of models that wait."""
        return self._get(self._load, options)


def main() -> None:
    """Run all cases, and print the table."""
    options = _options()
    if options.case:
        print(json.dumps(_run(Case(**json.loads(options.case)))))
        return
    sizes = [(n, r) for n in options.texts for r in options.replicas]
    sizes.append((options.most_texts, max(options.replicas)))
    cases = [Case(n, options.questions, r, options.shard_rows, options.call_s) for n, r in sizes]
    table = pd.DataFrame([asdict(case) | _run_apart(case) for case in cases])
    alone = table[table["replicas"] == 1].set_index("texts")["pairs_per_s"]
    reference = table["texts"].map(alone).fillna(alone.iloc[-1])
    table["efficiency"] = (table["pairs_per_s"] / table["replicas"] / reference).round(3)
    print(table.to_string(index=False), flush=True)
    print(json.dumps({"cpus": os.cpu_count(), "cases": table.to_dict("records")}))


def _run_apart(case: Case) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run(case: Case) -> dict[str, float]:
    """Label once with all replicas loaded, and return what it took."""
    os.environ["RAY_ADDRESS"] = "local"
    with tempfile.TemporaryDirectory() as place, WaitingEngines(case.call_s) as engines:
        folder = Path(place)
        warm_up(case, folder, engines)
        job = write_job(case, case.texts, folder / "data.parquet")
        started = time.perf_counter()
        manifest = annotation.run(job, str(folder / "out"), engines, Console().say)
        seconds = time.perf_counter() - started
        beat = read_heartbeat(Folder.at(str(folder / "out")).sub(ANSWERS))
        assert beat is not None
        return {
            "pairs_per_s": round(beat.rate, 1),
            "busy_share": manifest.outcome.facts["busy_share"],
            "seconds": round(seconds, 1),
            "driver_mib": _peak_mib(os.getpid()),
            "answer_bytes": round(_answer_bytes(folder / "out") / case.texts / case.questions, 2),
            "actor_mib": max(_peak_mib(process.pid) for process in _actors()),
        }


def warm_up(case: Case, folder: Path, engines: Session) -> None:
    """Label something small until all replicas take part."""
    for attempt in range(WARM_UPS):
        small = 4 * case.replicas * case.shard_rows
        job = write_job(case, small, folder / f"warm-{attempt}.parquet", first=small * attempt)
        manifest = annotation.run(job, str(folder / "warm"), engines, Console().say)
        if manifest.outcome.facts["workers"] == case.replicas:
            return
    raise SystemExit(f"{case.replicas} replicas do not start")


def write_job(case: Case, n_texts: int, data: Path, first: int = 0) -> AnnotateJob:
    """Write texts and questions; return the job that labels them."""
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(data, schema) as writer:
        for numbers in _batches(first, n_texts):
            texts = [f"{number} {WORDS[: 300 + number % 168]}" for number in numbers]
            writer.write_table(pa.table({"text": texts}, schema=schema))
    hypotheses = data.with_suffix(".csv")
    pd.DataFrame({"hypothesis": [f"mentions thing {i}" for i in range(case.questions)]}).to_csv(hypotheses)
    replicas = Replicas(min=case.replicas, max=case.replicas, cpus=case.cpus or 1 / case.replicas)
    return AnnotateJob(
        hypotheses=str(hypotheses),
        data=str(data),
        llm=Llm(engine="keywords", replicas=replicas),
        annotate=Annotate(shard_rows=case.shard_rows),
    )


def _batches(first: int, n: int) -> Iterator[range]:
    for start in range(first, first + n, ROWS_AT_ONCE):
        yield range(start, min(start + ROWS_AT_ONCE, first + n))


def _actors() -> list[psutil.Process]:
    """Return the workers that Ray started below this process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if process.name().startswith("ray::")]


def _answer_bytes(out: Path) -> int:
    files = [*out.glob("answers/*/shard-*"), *out.glob("annotations-*/*.parquet")]
    return sum(file.stat().st_size for file in files)


def _peak_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", help="run this one case in this process")
    parser.add_argument("--call-s", type=float, default=0.5, help="seconds that each call takes")
    parser.add_argument("--shard-rows", type=int, default=256, help="texts in each call")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--texts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--most-texts", type=int, default=1_000_000, help="with the most replicas only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
