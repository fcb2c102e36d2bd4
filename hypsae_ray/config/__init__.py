"""The config of a run: one YAML file, one section per stage, one frozen model and module per section.

`Config` refuses, before any work, unknown keys, bad values and combinations that cannot work; `loading`
reads the file and the overrides. Fields marked `Runtime` say where and how fast work is done, never what its
result is: the content hashes of stages leave them out. (Paths are among them: the hash of a stage holds the
content of its input files.)
"""

from hypsae_ray.config.annotate import Annotate, LabelSample
from hypsae_ray.config.data import Chunk, Data
from hypsae_ray.config.embed import AdvancedEmbed, Embed, VectorFiles
from hypsae_ray.config.endpoint import Endpoint
from hypsae_ray.config.evaluate import Evaluate
from hypsae_ray.config.interpret import AdvancedInterpret, Interpret
from hypsae_ray.config.label import UNPLACED, Label
from hypsae_ray.config.llm import Llm
from hypsae_ray.config.replicas import Replicas
from hypsae_ray.config.report import Report, TextPolicy
from hypsae_ray.config.run import AnnotateJob, Config, EvaluateJob, NamingOptions, ReplicateJob
from hypsae_ray.config.score_fidelity import ScoreFidelity
from hypsae_ray.config.select import Select
from hypsae_ray.config.train_sae import AdvancedSae, SaeShape, TrainSae
from hypsae_ray.config.types import Section

__all__ = [
    "UNPLACED",
    "AdvancedEmbed",
    "AdvancedInterpret",
    "AdvancedSae",
    "Annotate",
    "AnnotateJob",
    "Chunk",
    "Config",
    "Data",
    "Embed",
    "Endpoint",
    "Evaluate",
    "EvaluateJob",
    "Interpret",
    "Label",
    "LabelSample",
    "Llm",
    "NamingOptions",
    "Replicas",
    "ReplicateJob",
    "Report",
    "SaeShape",
    "ScoreFidelity",
    "Section",
    "Select",
    "TextPolicy",
    "TrainSae",
    "VectorFiles",
]
