"""How texts became hypotheses and labels, as the methods section says it."""

from statistics import median

from hypsae_ray.config import UNPLACED, Config, Label
from hypsae_ray.report.facts import MethodsFacts
from hypsae_ray.report.words import at_server, count, labels_cut, listed, model_in_use, plural, was

_RANKINGS = {
    "correlation": "the size of their correlation with the target",
    "separation_score": "the size of their separation score (mean target of the texts that fire the neuron "
    "most minus that of the texts on which it is silent)",
    "lasso": "the size of their coefficient in a lasso",
    "custom": "a score of our own",
}


def making(config: Config, facts: MethodsFacts) -> list[str]:
    """Say how texts became hypotheses and labels, in sentences."""
    return [
        _embedding(config, facts),
        _sae(config, facts),
        f"The {plural(facts.selected or config.select.n, 'neuron')} that rank highest by "
        f"{_RANKINGS[config.select.method]} on the training texts became the hypotheses.",
        _naming(config, facts),
        _fidelity(config, facts),
        _labelling(config, facts),
    ]


def _embedding(config: Config, facts: MethodsFacts) -> str:
    options = config.embed
    if options.engine == "column":
        first = f", the first {options.dimensions} numbers of each" if options.dimensions else ""
        scaled = ", scaled to unit length" if options.normalize else ""
        return f"The embeddings of the texts were given with the data{first}{scaled}."
    prompt = f', after the prompt "{options.prompt.strip()}"' if options.prompt.strip() else ""
    part = ", the output of its MLP block" if options.advanced.component == "mlp" else ""
    where = f" (layer {options.advanced.layer}{part})" if options.advanced.layer is not None else ""
    first = f", cut to its first {count(options.dimensions)} dimensions" if options.dimensions else ""
    scaled = f"{first} and scaled to unit length" if options.normalize else first
    model = f"{options.model}{_revision(options.revision)}"
    model += f" {at_server(options.endpoint)}" if options.endpoint else ""
    return f"Each text was embedded with {model}{where}{prompt}{scaled}.{_long_texts(config, facts)}"


def _long_texts(config: Config, facts: MethodsFacts) -> str:
    if config.embed.long_texts == "mean_of_chunks":
        return (
            " A text longer than the model reads was embedded in chunks; its embedding is their mean, "
            "weighted by tokens."
        )
    whose = {"embed": "training and validation", "embed_holdout": "the holdout"}
    cut = {whose[name]: cut for name, cut in facts.cuts.items() if name in whose and cut.texts}
    if not cut:
        return ""
    shares = listed([f"{one.share} of {name}" for name, one in cut.items()])
    at = max(one.at for one in cut.values())
    return f" It read only the first {count(at)} tokens of {shares}."


def _sae(config: Config, facts: MethodsFacts) -> str:
    options = config.train_sae.model_copy(update=facts.sae)
    shape = options.shape
    kind = "batch top-k" if options.advanced.batch_topk else "top-k"
    nested = len(shape.prefix_lengths) > 1
    lengths = f" and the prefix lengths {listed([count(n) for n in shape.prefix_lengths])}" if nested else ""
    dead = facts.dead_neurons
    idle = f" {plural(dead, 'neuron')} never fired." if dead else ""
    mean = " on average" if options.advanced.batch_topk else ""
    size = plural(shape.n_neurons, "neuron")
    ended = f"until the validation loss had not fallen for {plural(options.patience, 'epoch')}"
    if facts.epochs == options.max_epochs:
        ended = f"for {plural(facts.epochs, 'epoch')}, of which that with the least validation loss was kept"
    return (
        f"A {'Matryoshka ' if nested else ''}{kind} sparse autoencoder with {size}, k = {shape.k} active "
        f"per text{mean}{lengths} was trained on the embeddings of the training texts {ended}.{idle}"
    )


_POSITIVES = {
    "turns": "that activate it, in turns the strongest and ones drawn from the upper half,",
    "top": "that activate it most",
    "percentile": "drawn from a range of its activation",
}


def _naming(config: Config, facts: MethodsFacts) -> str:
    llm = config.interpreter
    options = config.naming
    who = "a keyword baseline without a language model (class-based TF-IDF)"
    who = who if llm.engine == "keywords" else f"{model_in_use(llm)} at temperature {options.temperature:g}"
    top = _POSITIVES[options.advanced.sampling]
    again = (
        f" {plural(facts.asked_again, 'answer')} {was(facts.asked_again)} asked for anew, up to twice each, "
        "as the one before repeated the prompt, named a group of texts or said nothing that a text can show."
        if facts.asked_again
        else ""
    )
    none = f" {plural(facts.unnamed, 'neuron')} got no usable sentence." if facts.unnamed else ""
    shown = facts.texts_shown or options.n_examples
    return (
        f"Each neuron was described by {who}, from {count(shown)} training texts, half of them texts "
        f"{top} and half texts on which it is silent; {plural(options.n_candidates, 'candidate sentence')} "
        f"{was(options.n_candidates)} written.{_cut_of('interpret', facts)}{again}{none}"
    )


def _fidelity(config: Config, facts: MethodsFacts) -> str:
    rests = (
        f" The reported fidelity rests on {plural(facts.fidelity_texts, 'text')} per sentence (median)."
        if facts.fidelity_texts
        else ""
    )
    choice = (
        " The sentence with the highest F1 on half of them, at the neuron's prevalence, was kept; its "
        "fidelity is that on the other half, where there were enough of them."
        if config.interpret.n_candidates > 1
        else ""
    )
    if config.label.threshold == "auto" and config.llm.engine != "keywords":
        choice += " Texts were labelled for it at thresholds that other texts had set."
    empty = (
        f" {plural(facts.true_of_all, 'candidate sentence')} {was(facts.true_of_all)} left out: by the "
        "labels nearly every text has the property, also where the neuron is silent."
        if facts.true_of_all
        else ""
    )
    return (
        f"The fidelity of a sentence is the F1 of its labels against the neuron's firing on up to "
        f"{config.score_fidelity.n_examples} other training texts, half of them firing.{empty}{choice}{rests}"
        f"{_cut_of('score_fidelity', facts)}"
    )


def _cut_of(stage: str, facts: MethodsFacts) -> str:
    cut = facts.cuts.get(stage)
    return f" Of these texts, {cut}." if cut and cut.texts else ""


def _labelling(config: Config, facts: MethodsFacts) -> str:
    cut = labels_cut(facts.answers, config.annotate.max_words)
    told = f" {cut[0].upper()}{cut[1:]}." if cut else ""
    if config.llm.engine == "keywords":
        return (
            f"A holdout text has a property if one of the quoted words of the description occurs in it.{told}"
        )
    return (
        f"{model_in_use(config.llm)} labelled each holdout text for each hypothesis: yes if the probability "
        f"of yes was at least {_threshold(config.label, facts.thresholds)}."
        f"{_how_asked(config.label, facts.layout)}{told}"
    )


def _threshold(label: Label, placed: tuple[float, ...]) -> str:
    if label.threshold != "auto":
        return f"{label.threshold:g}"
    if not placed:
        return f"{UNPLACED:g}"
    return (
        f"a threshold of the hypothesis (median {median(placed):.2g}, from {min(placed):.2g} to "
        f"{max(placed):.2g}), set where F1 against the neuron's firing was highest on the training texts "
        f"that score its fidelity, before any holdout text was labelled ({UNPLACED:g} where these were too "
        "few or told nothing)"
    )


def _how_asked(label: Label, layout: str) -> str:
    first = " The question stood before the text." if layout == "question_first" else ""
    guard = (
        " Each line of a text was quoted, and what the text did to a question that no text has the property "
        "of was taken from its answers."
    )
    thinking = f" The model could think for {plural(label.thinking_tokens, 'token')} before it answered."
    return f"{first}{guard if label.guard else ''}{thinking if label.thinking else ''}"


def _revision(revision: str | None) -> str:
    return f" (revision {revision})" if revision else ""
