"""Two `hypsae annotate` with other hypotheses and one --out, started at once, ten times in each order.

Each one's annotations are compared with a search for its words. One line of JSON at the end: how many of the
jobs were right, and whether `latest.json` pointed to a whole one each time. Exit code 1 if any was not.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import hypsae_ray

WORDS = ("rain", "bread", "trains", "music")
HYPOTHESES = {"two": ("rain", "bread"), "one": ("music",)}


def prepare(place: Path, n: int) -> list[str]:
    """Write texts, and a file per set of hypotheses; return the texts."""
    rng = random.Random(0)
    texts = [f"{i} {' '.join(rng.choices(WORDS, k=2))}" for i in range(n)]
    pd.DataFrame({"text": texts}).to_json(place / "texts.jsonl", orient="records", lines=True)
    for name, words in HYPOTHESES.items():
        table = pd.DataFrame({"hypothesis": [f'mentions "{word}"' for word in words]})
        table.to_csv(place / f"{name}.csv", index=False)
    return texts


def start(place: Path, out: Path, name: str) -> subprocess.Popen[str]:
    """Start one job in a process of its own."""
    files = ["--hypotheses", f"{place}/{name}.csv", "--data", f"{place}/texts.jsonl", "--out", str(out)]
    engine = ["--llm.engine", "keywords", "--llm.replicas", "{min: 0, max: 0}", "--annotate.shard_rows", "16"]
    command = [sys.executable, "-m", "hypsae_ray.cli", "annotate", *files, *engine]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_right(job: subprocess.Popen[str], name: str, texts: list[str]) -> bool:
    """Wait for a job, and compare what it says that it wrote."""
    said, complaint = job.communicate()
    if job.returncode:
        print(complaint, file=sys.stderr)
        return False
    found = hypsae_ray.load_annotations(said.rpartition(": ")[2].strip())
    right = np.array([[float(word in text.split()) for word in HYPOTHESES[name]] for text in texts])
    return found.shape == right.shape and bool((found.to_numpy() == right).all())


def points_to_one(out: Path, texts: list[str]) -> bool:
    """Whether the folder as a whole reads as the annotations of one of the two jobs."""
    widths = [len(words) for words in HYPOTHESES.values()]
    found = hypsae_ray.load_annotations(str(out))
    return len(found) == len(texts) and found.shape[1] in widths and bool(found.notna().all(axis=None))


def main() -> int:
    """Run all pairs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=10, help="pairs of jobs in each order")
    parser.add_argument("--texts", type=int, default=400)
    options = parser.parse_args()
    right = pointed = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        texts = prepare(place, options.texts)
        for number in range(2 * options.times):
            order, out = list(HYPOTHESES)[:: 1 if number % 2 else -1], place / f"out-{number}"
            jobs = {name: start(place, out, name) for name in order}
            right += sum(is_right(job, name, texts) for name, job in jobs.items())
            pointed += points_to_one(out, texts)
    pairs = 2 * options.times
    print(json.dumps({"pairs": pairs, "jobs_right": right, "of": 2 * pairs, "latest_is_whole": pointed}))
    return 0 if (right, pointed) == (2 * pairs, pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
