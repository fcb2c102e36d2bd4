"""The class of each engine in the config. A new engine is added here."""

from hypsae_ray.config import Embed, Llm
from hypsae_ray.errors import ConfigError
from hypsae_ray.models.protocols import Embedder, LanguageModel


def load_embedder(options: Embed) -> Embedder:
    """Load the embedder of a config section.

    Raises:
        ConfigError: the engine has no model, or the config does not fit the model.
        ModelError: the model does not load.
    """
    if options.engine == "column":
        raise ConfigError("embed.engine column: it has no model, and reads vectors for `hypsae run` alone")
    if options.engine == "vllm":
        from hypsae_ray.models.vllm.embedder import VllmEmbedder

        return VllmEmbedder(options)
    if options.engine == "endpoint":
        from hypsae_ray.models.endpoint.embedder import EndpointEmbedder

        return EndpointEmbedder(options)
    from hypsae_ray.models.sentence_embedder import SentenceEmbedder

    return SentenceEmbedder(options)


def load_language_model(options: Llm) -> LanguageModel:
    """Load the language model of a config section.

    Raises:
        ConfigError: the config does not fit the model.
        ModelError: the model does not load.
    """
    from hypsae_ray.models.prompts.guarded import Guarded

    if options.engine == "keywords":
        from hypsae_ray.models.keywords import Keywords

        return Keywords()
    if options.engine == "endpoint":
        from hypsae_ray.models.endpoint.model import EndpointModel

        return Guarded(EndpointModel(options))
    from hypsae_ray.models.vllm.model import VllmModel

    return Guarded(VllmModel(options))
