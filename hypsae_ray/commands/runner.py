"""A whole run from Python: plan it, run what is missing, write and show the results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from hypsae_ray import pipeline
from hypsae_ray.commands import outlook
from hypsae_ray.config import Config
from hypsae_ray.console import Console
from hypsae_ray.errors import PartialResultError
from hypsae_ray.report import results
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.report.terminal import annotation_counts, closing_text
from hypsae_ray.report.words import nothing_measured
from hypsae_ray.stages import fingerprints
from hypsae_ray.store.artifacts import Folder


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
                _foretell(steps, config, console.say)
    finally:
        current = results.is_current(records, folder)
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
        results.write_results(finished, chains)
        show("\n\n".join([*closing_text(finished, chains), stage_table(records)]))
        show(f"\nreport: {folder.path}/{results.REPORT}")
    return Run(folder, tuple(records), chains)


def _foretell(steps: Sequence[pipeline.Step], config: Config, say: Callable[[str], None]) -> None:
    """Say what the labelling will take, if any is to be done: by far the longest part of a run."""
    own = {step.stage.name: step for step in steps if step.chain == pipeline.MAIN}
    last = own.get("annotate")
    if last is None or pipeline.finished(last):
        return
    named = own["score_fidelity"]
    questions = results.usual_questions(config)
    if pipeline.finished(named):
        questions = named.folder.read_table("hypotheses.parquet")["interpretation"].to_pylist()
    from hypsae_ray.commands.annotation import foretell

    say(foretell(last, questions))


def stage_table(records: Sequence[pipeline.Record]) -> str:
    """Return the stages with rows, seconds and tokens as text."""
    rows = []
    for record in records:
        outcome, usage = record.manifest.outcome, record.manifest.outcome.usage
        rows.append(
            {
                "stage": record.step.stage.name,
                "chain": record.step.chain,
                "rows": outcome.rows,
                "seconds": f"{record.manifest.seconds:.1f}",
                "prompt tokens": usage.prompt,
                "cached": usage.cached,
                "generated": usage.generated,
                "": "done before" if record.reused else "",
            }
        )
    return pd.DataFrame(rows).to_string(index=False)
