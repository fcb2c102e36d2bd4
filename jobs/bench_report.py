"""How large the report of a large holdout is, and how fast a browser shows and filters it.

A small run with keywords is finished, then its holdout is replaced by N rows (`bench_sample.replace`), and
the run is continued to its report, which Chromium opens from the disk with nothing else. Seconds of the
report's own part, the map, are those of its line in the log. One line of JSON at the end:

- first_paint_ms: first contentful paint; ready_ms: when the script has mounted everything;
- filter_ms, search_ms, colour_ms, threshold_ms, subgroup_ms: from the change of the view until the next frame
  is painted, the median of 11.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_sample import replace
from playwright.sync_api import Page, sync_playwright

from hypsae_ray import pipeline
from hypsae_ray.config import loading
from hypsae_ray.demo import grammar
from hypsae_ray.store.artifacts import Folder

CONFIG = """
data: {{train: {place}/train.jsonl, holdout: {place}/holdout.jsonl, target: stars, near_copy: null}}
embed: {{replicas: {{min: 0, max: 0}}}}
train_sae: {{n_neurons: 64, k: 4, prefix_lengths: [16, 64], max_epochs: 5}}
select: {{n: 20}}
llm: {{engine: keywords, replicas: {{min: 0, max: 0}}}}
evaluate: {{folds: 0, n_permutations: 0}}
"""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
CHANGES = {
    "filter": [{"filter": "significant=yes"}, {"filter": ""}],
    "search": [{"search": "waited"}, {"search": "/cold (soup|coffee)/"}],
    "colour": [{"colour": "label:0"}, {"colour": "target"}],
    "threshold": [{"thresholds": "0=0.4"}, {"thresholds": ""}],
    "lasso": [{"lasso": "-20,-20 20,-20 20,20 -20,20"}, {"lasso": ""}],
}
TIMED = """async (patch) => {
  const started = performance.now();
  hypsae.app.state.set(patch);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - started;
}"""


def write_report(place: Path, n_rows: int) -> tuple[Path, float]:
    """Make a run of many rows; return its report and the seconds that the last part of the run took."""
    grammar.write(grammar.generate(600, 300, seed=0), place)
    config, out = place / "c.yaml", place / "run"
    config.write_text(CONFIG.format(place=place))
    command = [sys.executable, "-m", "hypsae_ray.cli", "run", "--config", str(config), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    steps = pipeline.plan(loading.load(str(config), {}), Folder.at(str(out)))
    folders = {step.stage.name: step.folder for step in steps}
    replace(folders["data"], folders["embed_holdout"], n_rows, embeddings=True)
    for step in steps:
        if step.stage.name in ("annotate", "evaluate"):
            shutil.rmtree(step.folder.path)
    (out / "run.json").unlink()
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return out / "report.html", time.monotonic() - started


def measure(page: Page, report: Path) -> dict[str, Any]:
    """Open the report and change its view, as often as it takes for a median."""
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    started = time.monotonic()
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready]")
    found: dict[str, Any] = {"ready_ms": round(1000 * (time.monotonic() - started))}
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    found["first_paint_ms"] = round(page.evaluate(paint))
    for name, patches in CHANGES.items():
        times = [page.evaluate(TIMED, patches[i % len(patches)]) for i in range(11)]
        found[f"{name}_ms"] = round(statistics.median(times), 1)
    return found | {"messages": trouble}


def main() -> None:
    """Make the report, open it and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--report", help="a report that is there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, sync_playwright() as tool:
        report, seconds = (
            (Path(options.report), 0.0) if options.report else write_report(Path(place), options.rows)
        )
        browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        found = measure(browser.new_page(viewport={"width": 1280, "height": 900}), report)
        found |= {
            "rows": options.rows,
            "mb": round(report.stat().st_size / 1e6, 2),
            "run_s": round(seconds, 1),
        }
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
