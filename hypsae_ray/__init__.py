"""Hypotheses from texts with a target, at cluster scale, tested on texts the method never saw.

The steps, for notebooks (each is loaded when first used, so that `import hypsae_ray` stays instant):

    embed, train_sae, load_sae, activations, interpret_neurons, generate_hypotheses, annotate,
    load_annotations, evaluate_hypotheses, run

and `Session`, which keeps models loaded over several calls. Their options are the models in
`hypsae_ray.config`. Start reading at `hypsae_ray.pipeline`.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "hypsae_ray.api": (
        "embed",
        "train_sae",
        "load_sae",
        "activations",
        "interpret_neurons",
        "generate_hypotheses",
        "annotate",
        "load_annotations",
        "run",
        "Settings",
    ),
    "hypsae_ray.evaluation": ("evaluate_hypotheses",),
    "hypsae_ray.core.inference": ("Evaluation", "Surroundings"),
    "hypsae_ray.engine.session": ("Session",),
}


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(place), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for names in _PLACES.values() for name in names)
