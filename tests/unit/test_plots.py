import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex

from hypsae_ray.errors import InputError
from hypsae_ray.report.plots import DOWN, GREY, UP, forest_plot

TABLE = pd.DataFrame(
    {
        "hypothesis": ["long waits", "kind staff", None, "no estimate"],
        "regression_coef": [-1.0, 0.5, 0.1, np.nan],
        "regression_ci_low": [-1.5, 0.25, -0.5, np.nan],
        "regression_ci_high": [-0.5, 0.75, 0.75, np.nan],
        "regression_pval": [0.001, 0.002, 0.6, np.nan],
        "significant": [True, True, False, False],
    }
)


def drawn(table: pd.DataFrame, **options) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Names, intervals (n, 2), effects (n,) and colours as they stand in the figure, from below."""
    (axes,) = forest_plot(table, **options).axes
    lines = next(one for one in axes.collections if isinstance(one, LineCollection))
    points = next(one for one in axes.collections if isinstance(one, PathCollection))
    names = [label.get_text() for label in axes.get_yticklabels()]
    ends = np.array([segment[:, 0] for segment in lines.get_segments()])
    return names, ends, np.asarray(points.get_offsets())[:, 0], [to_hex(c) for c in points.get_edgecolors()]


def test_effects_stand_in_order_with_their_intervals():
    names, ends, effects, colours = drawn(TABLE)
    assert names == ["long waits", "hypothesis 2", "kind staff"]
    assert effects.tolist() == [-1.0, 0.1, 0.5]
    assert ends.tolist() == [[-1.5, -0.5], [-0.5, 0.75], [0.25, 0.75]]
    assert colours == [DOWN, GREY, UP]


def test_the_smallest_p_values_are_drawn_where_there_are_too_many():
    assert drawn(TABLE, most=2)[0] == ["long waits", "kind staff"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="no column 'significant'"):
        forest_plot(TABLE.drop(columns="significant"))
    with pytest.raises(InputError, match="no hypothesis has an estimate"):
        forest_plot(TABLE.tail(1))
