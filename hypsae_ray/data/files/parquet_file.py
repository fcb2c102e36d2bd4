"""Parquet: columns, and fields of structs by their dotted names."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hypsae_ray.data.files.encoding import Dialect
from hypsae_ray.data.files.find import DataFile

Path = tuple[str, ...]


def read(
    file: DataFile, _dialect: Dialect, columns: Sequence[str], rows_per_frame: int
) -> Iterator[pd.DataFrame]:
    """Yield frames of a file's rows."""
    with file.filesystem.open_input_file(file.path) as source:
        parquet = pq.ParquetFile(source)
        if parquet.metadata.num_rows == 0:
            return
        leaves = list(_leaves(parquet.schema_arrow))
        counts, paths = _count(leaves), {".".join(path): path for path in leaves}
        found = {name: paths[file.find_column(name, counts)] for name in columns}
        dotted = list(dict.fromkeys(".".join(path) for path in found.values()))
        for batch in parquet.iter_batches(rows_per_frame, columns=dotted, use_threads=False):
            values = {name: _values(_column(batch, path)) for name, path in found.items()}
            yield pd.DataFrame(values, dtype=object)


def _values(column: pa.Array) -> list[Any]:
    """Return Python values; short floats keep their type, since it says which whole numbers they hold.

    A list of floats is an array: 10,000 vectors of 768 as Python objects take 240 MB.
    """
    kind = column.type
    is_short = pa.types.is_float32(kind) or pa.types.is_float16(kind)
    is_vector = pa.types.is_nested(kind) and pa.types.is_floating(getattr(kind, "value_type", kind))
    return list(column.to_numpy(zero_copy_only=False)) if is_short or is_vector else column.to_pylist()


def columns_in(file: DataFile, _dialect: Dialect) -> Counter[str]:
    """Return how often the file has each name; a field of a struct has a dotted one."""
    with file.filesystem.open_input_file(file.path) as source:
        return _count(_leaves(pq.ParquetFile(source).schema_arrow))


def _leaves(fields: Iterable[pa.Field], above: Path = ()) -> Iterator[Path]:
    """Yield the path of each field that is no struct; whole columns last, so that they hide nested ones."""
    for field in sorted(fields, key=lambda field: not pa.types.is_struct(field.type)):
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type, (*above, field.name))
        else:
            yield (*above, field.name)


def _count(leaves: Iterable[Path]) -> Counter[str]:
    """Count names; a whole column of a dotted name is not the same as the nested field that it hides."""
    by_depth = Counter((".".join(path), len(path)) for path in leaves)
    shallowest: dict[str, int] = {}
    for name, depth in by_depth:
        shallowest[name] = min(depth, shallowest.get(name, depth))
    return Counter({name: by_depth[name, depth] for name, depth in shallowest.items()})


def _column(batch: pa.RecordBatch, path: Path) -> pa.Array:
    column = batch.column(path[0])
    if len(path) == 1:
        return column
    return pc.struct_field(column, list(path[1:]))  # type: ignore[attr-defined]
