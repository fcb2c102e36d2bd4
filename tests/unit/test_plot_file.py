"""`hypsae plot` draws what stands in the tables of a run folder; test_plots looks at the figure itself."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from hypsae_ray import cli

ROW = {
    "regression_coef": 0.5,
    "regression_ci_low": 0.25,
    "regression_ci_high": 0.75,
    "regression_pval": 0.001,
    "significant": True,
}
MAGIC = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one hypothesis of its own and one of the baseline, on stars."""
    folder = tmp_path / "run"
    folder.mkdir()
    names = {"evaluation.csv": "praises the staff", "keywords_evaluation.csv": 'mentions "staff"'}
    for file, sentence in names.items():
        pd.DataFrame([{"hypothesis": sentence, **ROW}]).to_csv(folder / file, index=False)
    saved = {"results": list(names), "config": {"data": {"target": "stars"}}}
    (folder / "run.json").write_text(json.dumps(saved))
    return folder


def words(file: Path) -> str:
    """What is written in an SVG: matplotlib draws the letters, and leaves the words as comments."""
    return " ".join(re.findall(r"<!-- (.+) -->", file.read_text()))


@pytest.mark.parametrize("kind", MAGIC)
def test_a_figure_has_the_format_of_its_name(run: Path, tmp_path: Path, kind: str):
    assert cli.main(["plot", str(run), "--out", str(tmp_path / f"figure.{kind}")]) == 0
    assert (tmp_path / f"figure.{kind}").read_bytes().startswith(MAGIC[kind])


def test_hypotheses_of_the_run_or_of_its_baseline_are_drawn(run: Path, tmp_path: Path):
    own, keywords = tmp_path / "own.svg", tmp_path / "keywords.svg"
    assert cli.main(["plot", str(run), "--out", str(own)]) == 0
    assert cli.main(["plot", str(run), "--keywords", "--out", str(keywords)]) == 0
    assert "praises the staff" in words(own) and "effect on stars" in words(own)
    assert 'mentions "staff"' in words(keywords) and "praises" not in words(keywords)


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path):
    for name in ("one.svg", "two.svg"):
        assert cli.main(["plot", str(run), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--out", "figure.gif"], "figure.gif: a figure can be svg, png, pdf"),
        (["{run}", "--out", "figure"], "figure: a figure can be svg, png, pdf"),
        (["{run}", "--out", "{run}/no/figure.svg"], "no/figure.svg: cannot be written"),
        (["{run}", "--out", "figure.svg", "--most", "0"], "--most 0: at least one"),
        (["{run}/elsewhere", "--out", "figure.svg"], "not a run folder (no run.json)"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(run: Path, capsys, arguments: list[str], said: str):
    assert cli.main(["plot", *(word.format(run=run) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_tables_of_an_earlier_run_are_not_drawn(run: Path, capsys):
    saved = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**saved, "results": []}))
    assert cli.main(["plot", str(run), "--out", str(run / "figure.svg")]) == 2
    assert "this run has no evaluation yet" in capsys.readouterr().err
    assert not (run / "figure.svg").exists()


def test_without_matplotlib_what_to_install_is_said(run: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["plot", str(run), "--out", str(run / "figure.svg")]) == 2
    assert capsys.readouterr().err == "hypsae: plots need matplotlib: pip install 'hypsae-ray[plot]'\n"
