"""The notebook of `examples/` runs from a fresh kernel, and its cells show what they promise."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.deadline import DEADLINE_S

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Texts and kinds of the outputs of each code cell of the notebook, run anew, by the cell's id."""
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(notebook, timeout=DEADLINE_S, resources={"metadata": {"path": folder}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {cell.source: " ".join(map(str, cell.outputs)) for cell in code}


def said(outputs: dict[str, str], call: str) -> str:
    return next(output for source, output in outputs.items() if call in source)


def test_planted_concepts_are_recovered(outputs: dict[str, str]):
    line = next(line for line in said(outputs, "recovery(").split("\\n") if line.startswith("recovered"))
    assert int(line.split()[1]) >= 5  # of 12, with 10 neurons and 400 texts


def test_five_neurons_and_a_forest_plot_are_shown(outputs: dict[str, str]):
    assert said(outputs, "top_texts(").count("<tr>") == 5 * 2  # rows; the header has a style
    assert "image/png" in said(outputs, "forest_plot(")


def test_no_warning_is_printed(outputs: dict[str, str]):
    assert not [source for source, output in outputs.items() if "'name': 'stderr'" in output]
