"""What a run did, as the Methods section of a paper: `methods.txt.j2`, and the facts that it reads."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from hypsae_ray.config import Config
from hypsae_ray.data.words import Cut
from hypsae_ray.report.run_folder import Chain
from hypsae_ray.report.templates import render
from hypsae_ray.report.words import labels_cut
from hypsae_ray.stages.embed import CUT_ADVICE


def methods(config: Config, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Describe a run in plain text: paragraphs with blank lines between them, the sources last."""
    return fill("methods.txt.j2", config=config, metrics=metrics, facts=facts)


def fill(template: str, **values: Any) -> str:
    """Return what a template of paragraphs, --- between them, makes of values, and the sources it cites."""
    filled = render(template, **values)
    paragraphs = [" ".join(paragraph.split()) for paragraph in filled.split("\n---\n")]
    text = "\n\n".join(filter(None, paragraphs))
    sources = yaml.safe_load((files("hypsae_ray.report") / "sources.yaml").read_text(encoding="utf-8"))
    return f"{text}\n\nReferences: {' '.join(source for key, source in sources.items() if key in text)}"


def methods_facts(
    stages: Iterable[Mapping[str, Any]], chain: Chain, versions: Mapping[str, str]
) -> dict[str, Any]:
    """Gather what the Methods section says beyond config and metrics; stages as run.json has them.

    These are the facts of each stage by its name; versions; cuts (by stage); tests (how many hypotheses each
    one tested); thresholds; fidelity_texts (median of the texts that a fidelity rests on).
    """
    stages = list(stages)
    labelled, thresholds = (chain.hypotheses.get(name, pd.Series()).dropna() for name in ("n", "threshold"))
    tests = chain.evaluation.get("separation_test", pd.Series()).dropna()
    return {stage["stage"]: stage["facts"] for stage in stages} | {
        "versions": versions,
        "cuts": cuts_of(stages),
        "tests": tests.value_counts().to_dict(),
        "thresholds": thresholds.tolist(),
        "fidelity_texts": labelled.median() if len(labelled) else 0,
    }


def cuts_of(stages: Iterable[Mapping[str, Any]]) -> dict[str, Cut]:
    """Return the texts of which only the beginning was read, by stage; stages as run.json has them."""
    cuts = {stage["stage"]: Cut(**stage["facts"]["cut"]) for stage in stages if "cut" in stage["facts"]}
    return {name: cut for name, cut in cuts.items() if cut.texts}


def cut_notes(stages: Iterable[Mapping[str, Any]], config: Config) -> list[str]:
    """Say for each stage of a chain that read only the beginning of some texts, how many."""
    stages = list(stages)
    notes = [f"{name}: {cut}" for name, cut in cuts_of(stages).items()]
    answers = next((stage["facts"]["answers"] for stage in stages if stage["stage"] == "annotate"), {})
    labels = labels_cut(answers, config.annotate.max_words)
    notes += [f"annotate: {labels}"] if labels else []
    return [f"{note}; {CUT_ADVICE}" if note.startswith("embed:") else note for note in notes]
