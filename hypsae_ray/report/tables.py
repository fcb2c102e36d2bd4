"""Reading the tables beside an evaluation, any of which an older or partial result may lack."""

from collections.abc import Mapping, Sequence

import pandas as pd


def table_of(
    tables: Mapping[str, pd.DataFrame], name: str, keys: Sequence[str], values: Sequence[str]
) -> pd.DataFrame:
    """Return some columns of one table.

    Args:
        tables: by name.
        name: of the wanted one.
        keys: columns that say what a row is about; the result has no rows where one of them is missing.
        values: other columns, NaN where they are missing.
    """
    columns, found = [*keys, *values], tables.get(name)
    if found is None or not set(keys) <= set(found):
        return pd.DataFrame(columns=columns)
    return found.reindex(columns=columns)
