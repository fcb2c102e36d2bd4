"""`hypsae report RUN`: the result files and the report of a finished run, written again from its stages."""

import io
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from hypsae_ray.config.loading import with_report
from hypsae_ray.console import Console
from hypsae_ray.demo.recovery import summary
from hypsae_ray.pipeline import BASELINE, MAIN
from hypsae_ray.report import results
from hypsae_ray.report.run_folder import Chain, RunFolder

_RECOVERY = {MAIN: "recovery.csv", BASELINE: f"{BASELINE}_recovery.csv"}


def rewrite(path: str, overrides: Mapping[str, str]) -> str:
    """Write them, and return where the report is, for people.

    Args:
        path: run folder or URI.
        overrides: fields of section report by dotted name; run.json keeps them.

    Raises:
        InputError: there is no finished run.
        ConfigError: an override is refused, or an earlier version wrote the config.
        UsageError: the run folder cannot be written to.
    """
    run = RunFolder.at(path)
    run.tables()
    config = with_report(run.config, overrides)
    shown = replace(run, saved={**run.saved, "config": config.model_dump(mode="json")})
    chains = shown.chains()
    for name, chain in chains.items():
        _keep_recovery(shown, name, chain)
    results.write_results(shown, chains, Console().say)
    return f"report: {run.folder.path}/{results.REPORT}"


def _keep_recovery(run: RunFolder, name: str, chain: Chain) -> None:
    """Add the table that `hypsae demo-recovery` wrote, if it did: no stage has it."""
    if _RECOVERY[name] in run.tables():
        table = pd.read_csv(io.BytesIO(run.folder.read_bytes(_RECOVERY[name])))
        table.attrs["caption"] = summary(table)
        chain.details["recovery"] = table
