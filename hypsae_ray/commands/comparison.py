"""`hypsae report RUN_A RUN_B`: one page that shows two finished runs side by side."""

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow.fs as pafs

from hypsae_ray.commands.export import out_file
from hypsae_ray.data.arrays import Floats, Hashes, Ints
from hypsae_ray.errors import ConfigError
from hypsae_ray.labels.read import to_labels
from hypsae_ray.pipeline import MAIN
from hypsae_ray.report import comparison as report
from hypsae_ray.report.run_folder import Chain, RunFolder
from hypsae_ray.stats.matching import match, phi
from hypsae_ray.store.artifacts import Folder

PAGE = "comparison.html"
MOST_TEXTS = 200_000  # whose labels are compared: 20 hypotheses of two runs take 64 MB


def compare(first: str, second: str, out: str | None, overrides: Mapping[str, str]) -> str:
    """Write the page, and return its main figures and where it is, for people.

    Args:
        first: run folder or URI of A.
        second: that of B.
        out: the page, a file or URI whose name ends in .html; None: PAGE in the first run folder.
        overrides: none: the page shows no texts, which all fields of section report are about.

    Raises:
        InputError: one is not a finished run.
        ConfigError: both are the same one, `out` is no HTML file, or there are overrides.
        UsageError: the folder of `out` does not exist, or cannot be written to.
    """
    for name in overrides:
        raise ConfigError(f"--{name}: a page of two runs has no settings; those of report are of one run")
    runs = [RunFolder.at(path) for path in (first, second)]
    if _place(runs[0].folder) == _place(runs[1].folder):
        raise ConfigError(f"{second}: the same run twice: name another one to compare it with")
    for run in runs:
        run.tables()
    file = out_file(out, ".html") if out else runs[0].folder.sub(PAGE)
    results = _results(*runs)
    file.parent.write_bytes(file.name, report.render(results).encode())
    return f"{report.headline(results)}\npage: {file.path}"


def _place(folder: Folder) -> str:
    is_local = isinstance(folder.filesystem, pafs.LocalFileSystem)
    return os.path.realpath(folder.path) if is_local else f"{folder.filesystem.type_name}:{folder.path}"


def _results(first: RunFolder, second: RunFolder) -> report.Results:
    a, b = (report.Side(run, run.config, run.chains()[MAIN]) for run in (first, second))
    labels, n_common = _common_labels(a, b)
    return report.Results(a, b, match(_sentences(a), _sentences(b), phi(*labels)), n_common)


def _sentences(side: report.Side) -> list[str | None]:
    return [one if isinstance(one, str) else None for one in side.chain.hypotheses["interpretation"]]


def _common_labels(first: report.Side, second: report.Side) -> tuple[tuple[Floats, Floats], int]:
    """Return labels (n, H) and (n, K) of texts that both runs labelled, and how many there are.

    Of more than MOST_TEXTS, those of so many that the hashes of their texts draw.
    """
    (hashes, rows), (others, other_rows) = (_labelled(side) for side in (first, second))
    common, mine, theirs = np.intersect1d(hashes, others, assume_unique=True, return_indices=True)
    a = _labels(first.chain, rows[mine[:MOST_TEXTS]])
    b = _labels(second.chain, other_rows[theirs[:MOST_TEXTS]])
    return (a, b), len(common)


def _labelled(side: report.Side) -> tuple[Hashes, Ints]:
    """Return a hash of each distinct text that was labelled, ascending, and a row that has it."""
    labelled, hashes, ids = side.chain.labels.row_ids(), [], []
    for table in side.run.folders()["data"].tables("holdout-", ["row_id", "text_id"]):
        row_ids = table["row_id"].to_numpy()
        mine = np.isin(row_ids, labelled)
        hashes.append(pd.util.hash_array(table["text_id"].to_numpy()[mine], categorize=False))
        ids.append(row_ids[mine])
    distinct, first = np.unique(np.concatenate(hashes), return_index=True)
    return distinct, np.concatenate(ids)[first]


def _labels(chain: Chain, rows: Ints) -> Floats:
    """Return the labels (n, H) of rows (n,)."""
    found, position = np.full((len(rows), chain.labels.shape[1]), np.nan), pd.Index(rows)
    for ids, p_yes in chain.labels.tables():
        at = position.get_indexer(pd.Index(ids))
        mine = at >= 0
        found[at[mine]] = to_labels(p_yes[mine], chain.labels.threshold)
    return found
