"""A whole run from Python: plan it, run what is missing, write and show the results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from hypsae_ray import pipeline
from hypsae_ray.commands import outlook
from hypsae_ray.commands.gold import refuse_own
from hypsae_ray.config import Config
from hypsae_ray.console import Console
from hypsae_ray.errors import PartialResultError
from hypsae_ray.report import results
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.report.terminal import annotation_counts, closing_text
from hypsae_ray.report.words import nothing_measured
from hypsae_ray.stages import fingerprints
from hypsae_ray.stages.gold import check_gold
from hypsae_ray.store.artifacts import Folder

# Columns of the table of stages, and how it names them.
_SHOWN = {name: name for name in ("stage", "chain", "rows", "seconds")} | {
    "prompt_tokens": "prompt tokens",
    "cached_tokens": "cached",
    "generated_tokens": "generated",
    "reused": "",
}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        out: its folder.
        records: its stages.
        chains: results by chain, "main" and "keywords"; empty if the run ended before `evaluate`.
    """

    out: Folder
    records: tuple[pipeline.Record, ...]
    chains: dict[str, Chain]

    @property
    def evaluation(self) -> pd.DataFrame:
        """The tested hypotheses."""
        return self.chains[pipeline.MAIN].evaluation

    def require_measured(self) -> None:
        """Refuse to pass as done where no hypothesis of the run's own chain could be tested.

        Raises:
            PartialResultError: what was computed is written all the same.
        """
        main = self.chains.get(pipeline.MAIN)
        if main and (nothing := nothing_measured(main.metrics)):
            raise PartialResultError(f"{nothing}; {annotation_counts(RunFolder.at(self.out))}")


def run(
    config: Config,
    out: str,
    *,
    until: str | None = None,
    show: Callable[[str], None] = lambda _: None,
    console: Console | None = None,
) -> Run:
    """Run every stage that is not done yet, and write the results.

    Args:
        config: what to run.
        out: run folder, a local path or a URI.
        until: last stage to run; None: all.
        show: is given the closing text, for people.
        console: shows what is done; None: one on stderr.

    Raises:
        UsageError: the config or the input cannot be used; nothing is written.
        HypsaeError: a stage failed; finished work is kept and the same call goes on from there.
    """
    folder, console = Folder.at(out), console or Console()
    commits = fingerprints.known_commits(folder)
    config = fingerprints.pinned(config, commits)
    steps = pipeline.plan(config, folder, until)
    _check_gold(steps, folder)
    records: list[pipeline.Record] = []
    for line in outlook.outlook(steps, config, folder):
        console.say(line)
    try:
        for record in pipeline.run_steps(steps, folder, console):
            records.append(record)  # kept if a later stage fails
            if record.step.stage.name == "data":
                fingerprints.remember_commits(commits, folder)
                for line in outlook.sizes(steps, config):
                    console.say(line)
                for line in outlook.labelling(steps):
                    console.say(line)
    finally:
        current = results.is_current(records, config, folder)
        if records and not current:
            results.write_run_json(records, config, folder)
    if until not in (None, pipeline.STAGE_NAMES[-1]):
        show(stage_table(records))
        return Run(folder, tuple(records), {})
    finished = RunFolder.at(folder)
    chains = finished.chains()
    if current:
        show(f"{stage_table(records)}\n\nnothing to do: {folder.path}/{results.REPORT} is up to date")
    else:
        results.write_results(finished, chains, console.say)
        show("\n\n".join([*closing_text(finished, chains), stage_table(records)]))
        show(f"\nreport: {folder.path}/{results.REPORT}")
    return Run(folder, tuple(records), chains)


def _check_gold(steps: Sequence[pipeline.Step], out: Folder) -> None:
    """Refuse labels of people before anything is written, where the run that they are about is there."""
    for step in steps:
        path = step.config.evaluate.gold
        if step.stage.name == pipeline.STAGE_NAMES[-1] and path is not None:
            refuse_own(Folder.at(path), out, "evaluate.gold:")
            check_gold(step.config, step.inputs)


def stage_table(records: Sequence[pipeline.Record]) -> str:
    """Return the stages with rows, seconds and tokens as text."""
    table = pd.DataFrame(map(results.describe, records))
    table["seconds"] = table["seconds"].map("{:.1f}".format)
    table["reused"] = table["reused"].map({True: "done before", False: ""})
    return table[[*_SHOWN]].rename(columns=_SHOWN).to_string(index=False)
