"""Documents of several texts: those cut into chunks, and pairs; results combined by document.

The row id of a text is row of its document x CHUNKS + position of the text in it. So every table of texts
says which rows are one document, and ascends by document. A pair is a document of two texts, which are
combined by their difference, first minus second.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from sentencex import segment  # pyrefly: ignore[missing-module-attribute]  # it is compiled

from hypsae_ray.config import Chunk, Data
from hypsae_ray.data.arrays import Floats, Ints
from hypsae_ray.data.rows import text_ids
from hypsae_ray.data.words import WORD, end_of_word
from hypsae_ray.errors import InputError

CHUNKS = 1 << 24  # of a document, at most
Rule = Literal["any", "mean", "max", "difference"]


def split_text(text: str, words: int, overlap: int) -> list[str]:
    """Return the chunks of a text: of `words` words each, the first `overlap` of which end the one before.

    Each word is in some chunk; the last chunk may be shorter. A text of up to `words` words is returned as it
    is. Words are those of `truncate_words`.

    >>> split_text("a b c d e f g", 3, 1), split_text("菜很好吃", 3, 0)
    (['a b c', 'c d e', 'e f g'], ['菜很好', '吃'])
    """
    found = [(word.start(), word.end()) for word in WORD.finditer(text)]
    if len(found) <= words:
        return [text]
    firsts = range(0, len(found) - overlap, words - overlap)
    ends = [min(first + words, len(found)) - 1 for first in firsts]
    return [
        text[found[first][0] : end_of_word(text, found[last][1])]
        for first, last in zip(firsts, ends, strict=True)
    ]


def split_document(text: str, chunk: Chunk) -> list[str]:
    """Return the chunks of a text: of so many sentences each, or of words alone; see `split_text`.

    >>> split_document("We met Dr. Lee.  He was late!  It ends well.", Chunk(sentences=2))
    ['We met Dr. Lee. He was late!', 'It ends well.']
    """
    if chunk.sentences is None:
        return split_text(text, chunk.words, chunk.overlap)
    found = [sentence for part in segment(chunk.language, text) if (sentence := part.strip())]
    runs = (found[first : first + chunk.sentences] for first in range(0, len(found), chunk.sentences))
    return [part for run in runs for part in split_text(" ".join(run), chunk.words, chunk.overlap)]


def describe_chunks(chunk: Chunk) -> str:
    """Return how long chunks are.

    >>> describe_chunks(Chunk()), describe_chunks(Chunk(sentences=1))
    ('150 words', '1 sentence')
    """
    if chunk.sentences is None:
        return f"{chunk.words} words"
    return f"{chunk.sentences} sentence{'s' * (chunk.sentences > 1)}"


def chunk_ids(documents: Ints, positions: Ints) -> Ints:
    """Return the row id of each chunk, (n,), of the row of its document and its position in it, from 0.

    Raises:
        InputError: a document has more than CHUNKS chunks.
    """
    if len(positions) and positions.max() >= CHUNKS:
        raise InputError(f"a text has more than {CHUNKS:,} chunks: make them longer in data.chunk")
    return documents * CHUNKS + positions


def documents_of(row_ids: Ints) -> Ints:
    """Return the row of the document of each chunk, (n,)."""
    return row_ids // CHUNKS


def first_of_documents(row_ids: Ints) -> Ints:
    """Return the row id of the first text of the document of each row, (n,)."""
    return documents_of(row_ids) * CHUNKS


def rows_of_documents(row_ids: Ints, labelled: Ints) -> Ints:
    """Return the positions in row ids (n,), ascending, of all chunks of the documents of labelled rows."""
    return np.flatnonzero(np.isin(documents_of(row_ids), documents_of(labelled)))


def starts_of(documents: Ints) -> Ints:
    """Return where each document begins, (D,), in (n,) documents of chunks that lie together."""
    return np.flatnonzero(np.diff(documents, prepend=-1))


def combine_labels(labels: Floats, p_yes: Floats, starts: Ints, rule: Rule) -> tuple[Floats, Floats]:
    """Return labels (D, H) of documents, and how much of a property each has, from 0 to 1, (D, H).

    any: a document's label is 1 if that of a chunk is. max: the same, and the amount is the highest p_yes.
    mean: the amount is the share of its labelled chunks that have 1, and the label is 1 from a half on. NaN
    where chunks without a label could change the result: under any and max where no chunk has 1 and one has
    no label, under mean where fewer than half have one. difference: of a pair both are the label of the first
    text minus that of the second, -1, 0 or 1; NaN where one has none.

    Args:
        labels: (n, H) of chunks: 0, 1, NaN where there is none.
        p_yes: (n, H) that they were made of, NaN where the labels are.
        starts: (D,) where each document begins.
        rule: one of the four.
    """
    if rule == "difference":
        differences = labels[starts] - labels[starts + 1]
        return differences, differences
    known = ~np.isnan(labels)
    n_chunks = np.diff(np.append(starts, len(labels)))[:, None]
    n_known = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    n_yes = np.add.reduceat(labels == 1, starts, axis=0, dtype=np.int64)
    if rule == "mean":
        share = np.where(2 * n_known >= n_chunks, n_yes / np.maximum(n_known, 1), np.nan)
        return np.where(np.isnan(share), np.nan, share >= 0.5), share
    combined = np.where(n_yes > 0, 1.0, np.where(n_known < n_chunks, np.nan, 0.0))
    if rule == "any":
        return combined, combined
    highest = np.fmax.reduceat(p_yes, starts, axis=0).astype(np.float64)
    return combined, np.where(np.isnan(combined), np.nan, highest)


def combine_activations(fired: sp.csr_matrix, starts: Ints, rule: Rule) -> sp.csr_matrix:
    """Return activations of documents (D, M): their largest of the chunks (n, M), or under mean the mean.

    Under difference, of pairs, they are those of the first text minus those of the second.
    """
    if rule == "difference":
        return sp.csr_matrix(fired[starts] - fired[starts + 1])
    if rule == "mean":
        return sp.csr_matrix(_means(fired.shape[0], starts) @ fired)
    cells = sp.coo_matrix(fired)
    document = np.searchsorted(starts, cells.row, side="right") - 1
    order = np.lexsort((cells.data, cells.col, document))
    document, neuron = document[order], cells.col[order]
    last = np.ones(len(order), dtype=bool)  # of its document and neuron, so the largest
    last[:-1] = (document[1:] != document[:-1]) | (neuron[1:] != neuron[:-1])
    shape = (len(starts), fired.shape[1])
    return sp.csr_matrix((cells.data[order][last], (document[last], neuron[last])), shape=shape)


def by_document(row_ids: Ints, fired: sp.csr_matrix, rule: Rule) -> tuple[Ints, sp.csr_matrix]:
    """Return the row id of the first text of each document (D,), and its activations (D, M)."""
    starts = starts_of(documents_of(row_ids))
    return row_ids[starts], combine_activations(fired, starts, rule)


def combine_vectors(vectors: npt.NDArray[np.float32], starts: Ints, rule: Rule) -> npt.NDArray[np.float32]:
    """Return the mean vector of the chunks (n, d) of each document, (D, d); of a pair the difference."""
    if rule == "difference":
        return vectors[starts] - vectors[starts + 1]
    return np.asarray(_means(len(vectors), starts) @ vectors, dtype=np.float32)


def _means(n: int, starts: Ints) -> sp.csr_matrix:
    ends = np.append(starts, n)
    weights = np.repeat(1 / np.diff(ends), np.diff(ends))
    return sp.csr_matrix((weights, np.arange(n), ends), shape=(len(starts), n))


def split_texts(texts: Sequence[str], chunk: Chunk) -> tuple[list[str], Ints]:
    """Return the chunks of all texts, one after another, and the position of the text of each, (n,)."""
    chunks = [split_document(text, chunk) for text in texts]
    lengths = [len(found) for found in chunks]
    return [chunk for found in chunks for chunk in found], np.repeat(np.arange(len(texts)), lengths)


def to_texts(documents: pd.DataFrame, options: Data, split: str) -> dict[str, pd.DataFrame]:
    """Return a row per text of each document of `rows.Rows`: its chunks, the two of a pair, or itself.

    They are by split, `split` or `Data.embedded_holdout`: documents that are labelled whole are in both, the
    first time as they are, with the row id of their first chunk.
    """
    if "text_b" in documents:
        return {split: to_singles(documents)}
    if options.chunk is None:
        return {split: documents}
    chunks = to_chunks(documents, options.chunk)
    if split != "holdout" or not options.labels_documents:
        return {split: chunks}
    ids = chunk_ids(documents["row_id"].to_numpy(), np.zeros(len(documents), dtype=np.int64))
    return {split: documents.assign(row_id=ids), options.embedded_holdout: chunks}


def to_singles(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return two rows per pair, the first text and then the second, with all else that its row has."""
    texts = pairs[["text", "text_b"]].to_numpy().ravel().tolist()
    of = np.repeat(np.arange(len(pairs)), 2)
    ids = chunk_ids(pairs["row_id"].to_numpy()[of], np.tile([0, 1], len(pairs)))
    singles = pairs.drop(columns="text_b").iloc[of]
    return singles.assign(row_id=ids, text=texts, text_id=text_ids(texts))


def to_chunks(documents: pd.DataFrame, chunk: Chunk) -> pd.DataFrame:
    """Return a row per chunk of each document of `schema.texts`, with all else that its row has."""
    texts, of = split_texts(documents["text"].tolist(), chunk)
    ids = chunk_ids(documents["row_id"].to_numpy()[of], np.arange(len(of)) - np.searchsorted(of, of))
    return documents.iloc[of].assign(row_id=ids, text=texts, text_id=text_ids(texts))
