"""The contract between stages: the Arrow schema of each stored table, and the status codes in them.

Rows are keyed by `row_id` (int64, unique within a split), never by the text: texts repeat. Change VERSION
when a stored table means something else, or when the same config gives another content (another way to name
by keywords, say): it is part of every stage's content hash, so that older results are not taken for new ones.
"""

from enum import IntEnum

import pyarrow as pa

VERSION = 6
INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()


class Status(IntEnum):
    """What became of one annotation or naming answer. Only those in USABLE come with a value."""

    OK = 0
    FAILED = 1
    """The engine gave no answer."""
    TOO_LONG = 2
    """The prompt did not fit into the model's context."""
    UNPARSABLE = 3
    """An answer came, but no sentence could be read out of it."""
    TRUNCATED = 4
    """The answer hit its token limit before it ended."""
    NO_EXAMPLES = 5
    """There were too few firing or silent texts to ask about."""
    CUT = 6
    """The label is for the beginning of the text: the rest was cut off."""
    UNSURE = 7
    """Yes and no together got less probability than the stated floor."""
    UNASKED = 8
    """A mask left this pair out."""
    NO_TEXT = 9
    """The row holds no usable text."""
    PENDING = 10
    """Every try failed, for a reason that may pass; the next run asks again."""
    NO_FINDING = 11
    """Each sentence that came repeats the prompt, names a group of texts, or says nothing of a text."""
    TRUE_OF_ALL = 12
    """By its labels the sentence is true of nearly every text, silent ones too: it tells nothing."""
    NO_QUOTE = 13
    """A reason came without a quote that stands in the text."""
    RESTATES = 14
    """The sentence says the target in other words (`data.target_means`)."""
    REPEATS = 15
    """Each sentence of the neuron is the one of a neuron that was ranked before it."""


USABLE = (Status.OK, Status.CUT)
UNANSWERED = (Status.UNASKED, Status.PENDING)
"""What is never stored: the next run asks for it."""


def _floats(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, FLOAT) for name in names]


COVARIATE = "covariate_"  # before the names of covariates in tables of texts


def texts(covariates: tuple[str, ...] = ()) -> pa.Schema:
    """Schema of the texts of one split; covariates are kept under their own names after COVARIATE."""
    fixed = [("row_id", INT), ("source_id", TEXT), ("text_id", TEXT), ("text", TEXT), ("target", FLOAT)]
    own = _floats("weight", *(f"{COVARIATE}{name}" for name in covariates))
    return pa.schema([*fixed, ("group", TEXT), *own])


def embeddings(dim: int, dtype: str = "float32") -> pa.Schema:
    """Schema of embeddings of `dim` dimensions; dtype is float32 or float16.

    cut_at: tokens that were read of a text which has more; 0: it was read to its end.
    """
    value = pa.float16() if dtype == "float16" else pa.float32()
    return pa.schema([("row_id", INT), ("embedding", pa.list_(value, dim)), ("cut_at", pa.int32())])


# The rows of `hypsae annotate`: text and text_id are null, and reason is not, where a row has no usable text.
ROWS = pa.schema([("row_id", INT), ("source_id", TEXT), ("text_id", TEXT), ("text", TEXT), ("reason", TEXT)])


def annotations(n_hypotheses: int, *, sampled: bool = False) -> pa.Schema:
    """Schema of p_yes, p_neither and status per (text, hypothesis).

    Of a sample also with which probability the row was drawn, and whether with the same one as all others.
    """
    p, status = pa.list_(pa.float32(), n_hypotheses), pa.list_(pa.int8(), n_hypotheses)
    of_sample = [("probability", FLOAT), ("uniform", pa.bool_())] if sampled else []
    return pa.schema([("row_id", INT), ("p_yes", p), ("p_neither", p), ("status", status), *of_sample])


REJECTED = pa.schema([("split", TEXT), ("file", TEXT), ("row", INT), ("reason", TEXT)])

ACTIVATIONS = pa.schema(
    [("row_id", INT), ("neurons", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]
)

# One row per neuron of the SAE; rank is 0 for the best selected one, null for all not selected; state is
# alive, dead (never active) or constant (one value on every row). turns_with: the covariate with which the
# effect turns that the score is of; null: the score is of the effect itself.
SELECTION = pa.schema(
    [
        ("neuron_idx", INT),
        *_floats("score", "target_correlation", "prevalence"),
        ("rank", INT),
        ("state", TEXT),
        ("turns_with", TEXT),
    ]
)

# The texts that were shown, or are to be shown, for a neuron: row_ids of training texts. tries: how often it
# was asked for; 0: there was nothing to ask about.
CANDIDATES = pa.schema(
    [
        ("neuron_idx", INT),
        ("candidate", INT),
        ("interpretation", TEXT),
        ("status", pa.int8()),
        ("tries", pa.int8()),
        ("positives", pa.list_(INT)),
        ("negatives", pa.list_(INT)),
    ]
)

# The measures of neurons.fidelity.Fidelity except the F1 before them, whose name differs between tables.
MEASURES = pa.schema(
    [
        *_floats("f1_ci_low", "f1_ci_high"),
        *_floats("precision", "precision_ci_low", "precision_ci_high"),
        *_floats("recall", "recall_ci_low", "recall_ci_high"),
        ("correlation", FLOAT),
        ("n", INT),
        *_floats("precision_corpus", "f1_corpus", "f1_corpus_ci_low", "f1_corpus_ci_high"),
    ]
)

# Measures on all texts of a neuron, and those on the texts that its candidates were compared on. threshold:
# p_yes from which the label is 1; measures are at thresholds that other texts chose.
FIDELITY = pa.schema(
    [
        ("neuron_idx", INT),
        ("candidate", INT),
        *_floats("threshold", "f1"),
        *MEASURES,
        *_floats("choosing_f1", "choosing_f1_corpus", "choosing_correlation"),
    ]
)

# Of several classes, in selection and hypotheses: the one that chose a neuron, or that its score is about.
TARGET_CLASS = pa.field("target_class", TEXT)
# Of several SAEs, in selection and hypotheses: how well a neuron is found again in the others, 0 to 1.
STABILITY = pa.field("stability", FLOAT)
OPTIONAL = (TARGET_CLASS, STABILITY)

# Measures on the n texts that had no part in the choice of the sentence, where there are enough.
HYPOTHESES = pa.schema(
    [
        ("hypothesis_id", INT),
        ("neuron_idx", INT),
        ("source_sae", TEXT),
        ("selection_method", TEXT),
        *_floats("selection_score", "target_correlation", "prevalence"),
        ("interpretation", TEXT),
        ("status", TEXT),
        *_floats("threshold", "f1_fidelity_score"),
        *MEASURES,
    ]
)
