"""A run folder as its readers see it: what run.json says, and the results of each chain from its stages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hypsae_ray.config import Config
from hypsae_ray.config.loading import parse
from hypsae_ray.errors import ConfigError, InputError
from hypsae_ray.labels.read import StoredLabels
from hypsae_ray.pipeline import BASELINE, MAIN
from hypsae_ray.store.artifacts import Folder, Manifest

RUN, EVALUATION = "run.json", "evaluation.csv"
DETAILS = ("dose", "dose_trend", "chain", "redundancy", "covariates", "dependence", "classes", "gold")


@dataclass(frozen=True)
class Chain:
    """The results of one chain of a run.

    Its `details` are those of DETAILS that the evaluation has, and any table that a command adds, with a
    sentence about it in `table.attrs["caption"]`.
    """

    hypotheses: pd.DataFrame
    evaluation: pd.DataFrame  # in the same order
    metrics: dict[str, Any]  # over all hypotheses
    notes: list[str]  # what the user should know about the statistics
    labels: StoredLabels  # of the annotated holdout rows; they stay on disk
    details: dict[str, pd.DataFrame] = field(default_factory=dict)  # other tables by name


@dataclass(frozen=True)
class RunFolder:
    """A run folder."""

    folder: Folder
    saved: Mapping[str, Any]  # the content of its run.json

    @classmethod
    def at(cls, path: str | Folder) -> "RunFolder":
        """Open a run folder or URI.

        Raises:
            InputError: there is no run.
        """
        folder = path if isinstance(path, Folder) else Folder.at(path)
        if not folder.has(RUN):
            raise InputError(f"{folder.path}: not a run folder (no {RUN})")
        return cls(folder, folder.read_json(RUN))

    @property
    def config(self) -> Config:
        """The config of the run.

        Raises:
            ConfigError: an earlier version wrote it, with fields that this one does not have.
        """
        try:
            return parse(self.saved["config"], f"{self.folder.path}/{RUN}")
        except ConfigError:
            reason = "an earlier version wrote its config, which has other fields; run it into a new folder"
            raise ConfigError(f"{self.folder.path}/{RUN}: {reason}") from None

    def tables(self) -> list[str]:
        """Return the names of its result files; files that it does not name are of an earlier run.

        Raises:
            InputError: the run is not finished.
        """
        names = self.saved.get("results", [])
        if EVALUATION not in names:
            raise InputError(f"{self.folder.path}: this run has no evaluation yet; hypsae run continues it")
        return names

    def stages(self, chain: str = MAIN) -> dict[str, dict[str, Any]]:
        """Return the stages of a chain as run.json has them, by name."""
        return {stage["stage"]: stage for stage in self.saved["stages"] if stage["chain"] == chain}

    def folders(self, chain: str = MAIN) -> dict[str, Folder]:
        """Return the folders of the stages of a chain, by name."""
        parent = self.folder.sub("stages")
        return {name: parent.sub(stage["folder"]) for name, stage in self.stages(chain).items()}

    def chains(self) -> dict[str, Chain]:
        """Read the results of every chain that is finished, the config's own one first.

        The last row of its table `chain` is the hypotheses of the baseline: rows and folds are the same.
        """
        chains = {name: self._chain(name) for name in (MAIN, BASELINE) if "evaluate" in self.stages(name)}
        if len(chains) == 2:
            own, baseline = (chains[name].details.get("chain") for name in (MAIN, BASELINE))
            if own is not None and baseline is not None:
                last = baseline[baseline["features"] == "hypotheses"].assign(features=BASELINE)
                chains[MAIN].details["chain"] = pd.concat([own, last], ignore_index=True)
        return chains

    def _chain(self, chain: str) -> Chain:
        folders = self.folders(chain)
        evaluated = folders["evaluate"]
        manifest = Manifest.load(evaluated)
        assert manifest is not None  # run.json names finished stages only
        names = {name.removesuffix(".parquet") for name in evaluated.names(suffix=".parquet")}
        hypotheses = folders["score_fidelity"].read_table("hypotheses.parquet").to_pandas()
        return Chain(
            hypotheses,
            evaluated.read_table("evaluation.parquet").to_pandas(),
            dict(manifest.outcome.facts["metrics"]),
            list(manifest.outcome.facts["notes"]),
            StoredLabels(folders["annotate"], hypotheses["threshold"].to_numpy()),
            {name: evaluated.read_table(f"{name}.parquet").to_pandas() for name in DETAILS if name in names},
        )
