"""`hypsae init`: look at a data file, and write the config that a first run needs."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hypsae_ray.config import Chunk, Data, Select, TrainSae
from hypsae_ray.data.files import DataFile, columns_in, find_files, read_frames
from hypsae_ray.data.guess import Guess, guess
from hypsae_ray.errors import ConfigError, InputError

ROWS_READ = 100_000  # by which columns are guessed; the others are only counted
HOLDOUT_FRACTION = 0.3
ROWS_PER_HYPOTHESIS, MIN_HYPOTHESES = 15, 5  # of the holdout: the joint model has a coefficient for each
LONG_WORDS = 300  # of the median text: the default model reads 256 tokens, and not what follows
FEW_WORDS = 25  # of the median text: up to there it is one or two sentences
GROUP_ADVICE = "these values repeat: take it in if rows that share one belong together"


def write_config(data: str, out: str | None = None, **known: str | None) -> tuple[Path, str]:
    """Write a config for a data file, and return where it is and its text.

    Args:
        data: a file, glob or folder of JSONL, CSV or Parquet.
        out: the config file; None: named after the data, in the current folder.
        known: columns that are not to be guessed: text, target, group.

    Raises:
        InputError: the data cannot be read, lack a column, or hold no texts or no numbers.
        ConfigError: the config file is there already, or cannot be written.
    """
    path = Path(out or f"{Path(data.rstrip('/*')).stem.partition('.')[0]}.yaml")
    frame, n_rows = _look(find_files(data), [name for name in known.values() if name])
    text = compose(data, guess(frame, **known), n_rows, len(frame) == n_rows)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: is there already; name another file with --out") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    return path, text


def _look(files: list[DataFile], known: list[str]) -> tuple[pd.DataFrame, int]:
    """Return the first rows with the columns that all files have, and the number of all rows."""
    counts = [columns_in(file) for file in files]
    common = [name for name in counts[0] if all(count[name] == 1 for count in counts)]
    if lacking := [name for name in known if name not in common]:
        raise files[0].no_column(lacking[0], common)
    kept: list[pd.DataFrame] = []
    n_rows = 0
    for frame in (frame for file in files for frame in read_frames(file, common)):
        if n_rows < ROWS_READ:
            kept.append(frame)
        n_rows += len(frame)
    if not kept:
        raise InputError(f"{files[0].path}: the file holds no rows")
    return pd.concat(kept, ignore_index=True), n_rows


def compose(path: str, found: Guess, n_rows: int, whole: bool) -> str:
    """Return the text of a config for data with such columns; `whole`: all rows were looked at."""
    of_holdout, val_fraction = HOLDOUT_FRACTION, Data.model_fields["val_fraction"].default
    usable = n_rows - found.bad_rows
    chunk, why = _chunk(found.words)
    pieces = found.words / (chunk["words"] - chunk["overlap"]) if "words" in chunk else 1
    n_trained = int(usable * pieces * (1 - of_holdout) * (1 - val_fraction))
    sae = TrainSae().sized(n_trained, "sentences" in chunk)
    k = list(sae.k) if isinstance(sae.k, tuple) else sae.k
    data = [
        ("train", path, ""),
        ("holdout_fraction", of_holdout, "for the tests, read by nothing else; or holdout: FILE"),
        ("text", found.text, ""),
        ("chunk", chunk or None, why),
        ("target", found.target, _others("other numbers", found.other_targets)),
        ("decimal", found.decimal, ""),
        ("task", "count" if found.counts else None, "a Poisson model of rates; regression: of differences"),
        ("group", found.group, _others("these repeat too", found.other_groups)),
        ("# group", None if found.group else next(iter(found.other_groups), None), _advice(found)),
        ("id", found.id if whole else None, ""),
        ("on_bad_rows", "drop" if found.bad_rows else None, f"{found.bad_rows:,} lack a text or a target"),
    ]
    lines = [
        f"# A first config for {n_rows:,} rows; `hypsae config` prints the other fields.",
        "data:",
        *(f"  {_line(*one)}" for one in data if one[1] is not None),
        f"train_sae: {{n_neurons: {sae.n_neurons}, k: {k}, prefix_lengths: {list(sae.prefix_lengths)}}}",
        *_few_hypotheses(int(usable * of_holdout)),
        "llm: {engine: keywords}  # no LLM, terms in place of sentences; {model: NAME} names one",
    ]
    return "\n".join(lines) + "\n"


def _chunk(words: float) -> tuple[dict[str, Any], str]:
    """Return the fields of `data.chunk` for texts of so many words, none where they stay whole, and why."""
    if words > LONG_WORDS:
        why = f"texts have some {words:,.0f} words: chunks are embedded and labelled, whole texts tested"
        return Chunk().model_dump(include={"words", "overlap"}), why
    if words > FEW_WORDS:
        return {"sentences": 1, "labels": "whole"}, "neurons are of sentences; whole texts are labelled"
    return {}, ""


def _few_hypotheses(n_holdout: int) -> list[str]:
    usual, n = Select().n, max(MIN_HYPOTHESES, n_holdout // ROWS_PER_HYPOTHESIS)
    comment = f"hypotheses; {usual} need some {usual * ROWS_PER_HYPOTHESIS} texts that test them"
    return [f"select: {{n: {n}}}  # {comment}"] if n < usual else []


def _advice(found: Guess) -> str:
    return "; ".join(part for part in (GROUP_ADVICE, _others("so do", found.other_groups[1:])) if part)


def _others(what: str, columns: tuple[str, ...]) -> str:
    return f"{what}: {', '.join(columns[:5])}" if columns else ""


def _line(name: str, value: Any, comment: str = "") -> str:
    if isinstance(value, dict):
        written = yaml.safe_dump(value, default_flow_style=True).strip()
    else:
        written = yaml.safe_dump([value], allow_unicode=True, width=10_000)[2:].strip()
    line = f"{name}: {written}"
    return f"{line}  # {comment}" if comment else line
