"""`hypsae annotate` against a server that answers 1 % of the texts badly, in six ways.

They are: an error body with status 200, no choices, 400 for this text, 503 for this text each time, HTML, and
silence. One line of JSON at the end: whether every other pair has its label, what became of the bad ones, and
requests per pair. Exit code 1 if a label is missing, or there were more than 1.1 requests per pair.

The server is that of the tests, so it runs in a checkout alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from hypsae_ray.labels.annotations import read_annotation_table
from hypsae_ray.labels.read import ANNOTATIONS, find_annotations
from hypsae_ray.store.schema import Status

sys.path.append(str(Path(__file__).parents[1]))
from tests.integration.openai_server import Fault, serve

BAD = {
    "errorbody": Fault(body='{"error": {"message": "overloaded"}}'),
    "nochoices": Fault(body='{"choices": []}'),
    "refused": Fault.error(400, "bad words"),
    "busy": Fault.error(503, "busy"),
    "html": Fault(body="<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
    "silent": Fault(silent=True),
}


def make_texts(n: int) -> tuple[list[str], np.ndarray]:
    """Return texts, and which of them the server answers badly: each word of BAD in turn."""
    bad = np.zeros(n, dtype=bool)
    bad[np.random.default_rng(0).choice(n, n // 100, replace=False)] = True
    words, kinds = ["fine"] * n, list(BAD)
    for number, row in enumerate(np.flatnonzero(bad)):
        words[row] = kinds[number % len(kinds)]
    return [f"{row} {word} wait" for row, word in enumerate(words)], bad


def label(place: Path, url: str, texts: list[str], n_hypotheses: int) -> int:
    """Run the command, and return its exit code."""
    data, hypotheses = place / "data.jsonl", place / "hypotheses.csv"
    pd.DataFrame({"text": texts}).to_json(data, orient="records", lines=True)
    sentences = [f"mentions a wait or word{number}" for number in range(n_hypotheses)]
    pd.DataFrame({"hypothesis": sentences}).to_csv(hypotheses, index=False)
    files = ["--data", str(data), "--hypotheses", str(hypotheses), "--out", str(place / "out")]
    engine = {"engine": "endpoint", "model": "tiny", "endpoint.url": url, "endpoint.timeout_s": "2"}
    engine["replicas"] = "{min: 0, max: 0}"
    options = [word for name, value in engine.items() for word in (f"--llm.{name}", value)]
    command = [sys.executable, "-m", "hypsae_ray.cli", "annotate", *files, *options]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Label, and count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--hypotheses", type=int, default=3)
    options = parser.parse_args()
    texts, bad = make_texts(options.texts)
    with tempfile.TemporaryDirectory() as folder, serve() as server:
        server.bad = BAD
        started = time.monotonic()
        code = label(Path(folder), server.url, texts, options.hypotheses)
        seconds = time.monotonic() - started
        found = find_annotations(f"{folder}/out")
        names = found.names(ANNOTATIONS, ".parquet")
        status = np.concatenate([read_annotation_table(found, name)[1].status for name in names])
        requests = len(server.bodies) + len(server.trials)
    missing = int((status[~bad] != Status.OK).sum())
    fates = Counter(Status(code).name.lower() for code in status[bad].ravel())
    per_pair = requests / status.size
    print(
        json.dumps(
            {
                "exit_code": code,
                "pairs": status.size,
                "bad_pairs": int(bad.sum()) * options.hypotheses,
                "bad_pairs_became": dict(fates),
                "other_pairs_without_label": missing,
                "requests": requests,
                "requests_per_pair": round(per_pair, 4),
                "seconds": round(seconds, 1),
            }
        )
    )
    return int(missing > 0 or per_pair > 1.1)


if __name__ == "__main__":
    sys.exit(main())
