"""Hypotheses from texts with a target, at cluster scale, tested on texts the method never saw.

The steps, for notebooks (each is loaded when first used, so that `import hypsae_ray` stays instant):

    embed, train_sae, load_sae, activations, stability, top_texts, interpret_neurons, generate_hypotheses,
    annotate, load_annotations, evaluate_hypotheses, forest_plot, run

and `Session`, which keeps models loaded over several calls. Where each is defined says `__init__.pyi`, for
editors too. Their options are the models in `hypsae_ray.config`. Start reading at `hypsae_ray.pipeline`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
