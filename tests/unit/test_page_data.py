"""What the page's script reads is what the run has: the data block, unpacked by hand."""

import base64
import gzip

import numpy as np
import scipy.sparse as sp

from hypsae_ray.report.neuron_tree import neuron_tree
from hypsae_ray.report.page_data import PageData
from tests.page_block import unpacked


def test_packs_columns_at_multiples_of_eight_bytes():
    columns = {
        "a": np.array([1.5, np.nan, -3], dtype=np.float32),
        "b": np.array([2, 7], dtype=np.int32),
        "c": np.array([0.1, 1e300]),
        "none": np.zeros(0),
    }
    header = {"texts": ["It’s </script> fine", "שלום", ""], "n": 3}
    found, values = unpacked(PageData(header, columns).packed())
    assert found == header
    for name, column in columns.items():
        np.testing.assert_array_equal(values[name], column)
        assert values[name].dtype == column.dtype
    raw = gzip.decompress(base64.b64decode(PageData(header, columns).packed()))
    length = int.from_bytes(raw[:4], "little")
    assert (4 + length) % 8 == 0  # typed arrays of the browser begin at multiples of their size


def test_same_data_same_block():
    data = PageData({"n": 1}, {"x": np.ones(1)})
    assert data.packed() == data.packed()


def test_neurons_of_several_saes_stay_apart():
    """Two SAEs of three neurons each: a parent is of the same SAE, even if the other's fires alike."""
    fired = sp.csr_matrix(
        np.array(
            [[1, 0, 1, 0, 1, 1], [1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]], dtype=float
        )
    )
    tree = neuron_tree(fired, [2, 3])
    assert tree.level.tolist() == [0, 0, 1, 0, 0, 1]
    assert tree.parent.tolist() == [-1, -1, 0, -1, -1, 4]
    assert tree.overlap.tolist() == [0, 0, 1, 0, 0, 1]
    assert tree.share.tolist() == [0.5, 0.5, 0.5, 0, 0.5, 0.25]


def test_a_neuron_without_much_in_common_begins_a_tree():
    """Of its four texts only one has neuron 0: a quarter, less than a third. A dead one has no parent."""
    fired = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=float))
    tree = neuron_tree(fired, [1, 3])
    assert tree.parent.tolist() == [-1, -1, -1]
