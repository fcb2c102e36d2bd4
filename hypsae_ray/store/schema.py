"""The contract between stages: the Arrow schema of each stored table, and the status codes in them.

Rows are keyed by `row_id` (int64, unique within a split), never by the text: texts repeat. Change VERSION
when a stored table means something else, or when the same config gives another content (another way to name
by keywords, say): it is part of every stage's content hash, so that older results are not taken for new ones.
"""

from enum import IntEnum

import pyarrow as pa

VERSION = 6


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


USABLE = (Status.OK, Status.CUT)
UNANSWERED = (Status.UNASKED, Status.PENDING)
"""What is never stored: the next run asks for it."""


def texts(covariates: tuple[str, ...] = ()) -> pa.Schema:
    """Schema of the texts of one split; covariates are kept under their own names with a prefix."""
    fixed = [
        ("row_id", pa.int64()),
        ("source_id", pa.string()),
        ("text_id", pa.string()),
        ("text", pa.string()),
        ("target", pa.float64()),
        ("group", pa.string()),
        ("weight", pa.float64()),
    ]
    return pa.schema([*fixed, *((f"covariate_{name}", pa.float64()) for name in covariates)])


def embeddings(dim: int, dtype: str = "float32") -> pa.Schema:
    """Schema of embeddings of `dim` dimensions; dtype is float32 or float16.

    cut_at: tokens that were read of a text which has more; 0: it was read to its end.
    """
    value = pa.float16() if dtype == "float16" else pa.float32()
    fields = [("row_id", pa.int64()), ("embedding", pa.list_(value, dim)), ("cut_at", pa.int32())]
    return pa.schema(fields)


# The rows of `hypsae annotate`: text and text_id are null, and reason is not, where a row has no usable text.
ROWS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("source_id", pa.string()),
        ("text_id", pa.string()),
        ("text", pa.string()),
        ("reason", pa.string()),
    ]
)


def annotations(n_hypotheses: int) -> pa.Schema:
    """Schema of P(yes), the probability of neither yes nor no, and status per (text, hypothesis)."""
    return pa.schema(
        [
            ("row_id", pa.int64()),
            ("p_yes", pa.list_(pa.float32(), n_hypotheses)),
            ("p_neither", pa.list_(pa.float32(), n_hypotheses)),
            ("status", pa.list_(pa.int8(), n_hypotheses)),
        ]
    )


REJECTED = pa.schema(
    [("split", pa.string()), ("file", pa.string()), ("row", pa.int64()), ("reason", pa.string())]
)

ACTIVATIONS = pa.schema(
    [("row_id", pa.int64()), ("neurons", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]
)

# One row per neuron of the SAE; rank is 0 for the best selected one, null for all not selected.
SELECTION = pa.schema(
    [
        ("neuron_idx", pa.int64()),
        ("score", pa.float64()),
        ("target_correlation", pa.float64()),
        ("prevalence", pa.float64()),
        ("rank", pa.int64()),
        ("state", pa.string()),  # alive, dead (never fires) or constant (one value on every row)
    ]
)

# The texts that were shown, or are to be shown, for a neuron: row_ids point into the training texts.
CANDIDATES = pa.schema(
    [
        ("neuron_idx", pa.int64()),
        ("candidate", pa.int64()),
        ("interpretation", pa.string()),
        ("status", pa.int8()),
        ("tries", pa.int8()),  # how often it was asked for; 0: there was nothing to ask about
        ("positives", pa.list_(pa.int64())),
        ("negatives", pa.list_(pa.int64())),
    ]
)

# The measures of neurons.fidelity.Fidelity but the F1 before them, whose name differs between tables.
MEASURES = pa.schema(
    [
        ("f1_ci_low", pa.float64()),
        ("f1_ci_high", pa.float64()),
        ("precision", pa.float64()),
        ("precision_ci_low", pa.float64()),
        ("precision_ci_high", pa.float64()),
        ("recall", pa.float64()),
        ("recall_ci_low", pa.float64()),
        ("recall_ci_high", pa.float64()),
        ("correlation", pa.float64()),
        ("n", pa.int64()),
        ("precision_corpus", pa.float64()),
        ("f1_corpus", pa.float64()),
        ("f1_corpus_ci_low", pa.float64()),
        ("f1_corpus_ci_high", pa.float64()),
    ]
)

# Measures on all texts of a neuron, and those on the texts that its candidates were compared on. threshold:
# P(yes) from which a label is a yes; measures are at thresholds that the same texts did not place.
FIDELITY = pa.schema(
    [
        ("neuron_idx", pa.int64()),
        ("candidate", pa.int64()),
        ("threshold", pa.float64()),
        ("f1", pa.float64()),
        *MEASURES,
        ("choosing_f1", pa.float64()),
        ("choosing_f1_corpus", pa.float64()),
        ("choosing_correlation", pa.float64()),
    ]
)

# Measures on the n texts that had no part in the choice of the sentence, where there are enough.
HYPOTHESES = pa.schema(
    [
        ("hypothesis_id", pa.int64()),
        ("neuron_idx", pa.int64()),
        ("source_sae", pa.string()),
        ("selection_method", pa.string()),
        ("selection_score", pa.float64()),
        ("target_correlation", pa.float64()),
        ("prevalence", pa.float64()),
        ("interpretation", pa.string()),
        ("status", pa.string()),
        ("threshold", pa.float64()),  # P(yes) from which a label is a yes
        ("f1_fidelity_score", pa.float64()),
        *MEASURES,
    ]
)
