import dataclasses
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.report import forest
from hypsae_ray.report.html import Examples, Findings, ReportData, elide, render

VOID = {"meta", "link", "br", "img", "input", "hr"}
METRICS = {
    "task": "regression",
    "n": 600,
    "n_hypotheses": 3,
    "n_significant": 1,
    "alpha": 0.1,
    "alpha_per_test": 0.1 / 3,
    "r2": 0.4321,
    "r2_cross_fitted": 0.4019,
}


class Page(HTMLParser):
    """All start tags with their attributes, the text inside each kind of element, and unbalanced tags."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        for tag in set(self.open):
            self.words.setdefault(tag, []).append(data)

    def text(self, tag: str) -> str:
        return " ".join(" ".join(self.words.get(tag, [])).split())

    def having(self, tag: str, css_class: str) -> list[dict[str, str | None]]:
        return [a for name, a in self.tags if name == tag and css_class in (a.get("class") or "").split()]

    def sections(self) -> set[str | None]:
        return {attrs.get("id") for tag, attrs in self.tags if tag == "section"}


def evaluation(effects: list[float], sentences: list[str | None]) -> pd.DataFrame:
    effect = np.array(effects)
    table = {"hypothesis_id": range(len(effects)), "neuron_idx": range(7, 7 + len(effects)), "n": 600}
    for name in ("regression", "separation"):
        value = "coef" if name == "regression" else "score"
        table |= {f"{name}_{value}": effect, f"{name}_se": 0.1, f"{name}_pval": 0.03}
        table |= {f"{name}_ci_low": effect - 0.2, f"{name}_ci_high": effect + 0.2}
    frame = pd.DataFrame(table).assign(feature_prevalence=0.125, significant=np.abs(effect) > 0.5, note="")
    return frame.assign(f1_fidelity_score=0.75, hypothesis=sentences)


def findings(**changes) -> Findings:
    table = evaluation([0.2, -0.8, 0.4], ["mentions rain", "complains of a wait", "praises the soup"])
    return dataclasses.replace(Findings("model-x in vLLM", table, METRICS), **changes)


def report(**changes) -> ReportData:
    return dataclasses.replace(ReportData("run-1", "stars", findings()), **changes)


def page(**changes) -> Page:
    return Page(render(report(**changes)))


STAGES = [
    {"name": "embed", "rows": 2600, "seconds": 50.0, "prompt_tokens": 0, "cached_tokens": 0,
     "generated_tokens": 0, "reused": True},
    {"name": "annotate", "rows": 600, "seconds": 200.0, "prompt_tokens": 12_000, "cached_tokens": 7_000,
     "generated_tokens": 600, "reused": False},
    {"name": "evaluate", "rows": 3, "seconds": 1.5, "prompt_tokens": 0, "cached_tokens": 0,
     "generated_tokens": 0, "reused": False},
]  # fmt: skip

RECOVERY = pd.DataFrame(
    {
        "concept": ["slow", "music"],
        "effect_planted": [-0.8, 0.6],
        "hypothesis_id": [1, 2],
        "hypothesis": ["complains of a wait", None],
        "f1": [0.91, 0.12],
        "effect_found": [-0.77, np.nan],
    }
)


def full() -> ReportData:
    examples = {0: Examples(("it rained",), ("it shone",))}
    main = findings(examples=examples, recovery=RECOVERY, caveat="a small model")
    baseline = findings(name="keywords", recovery=RECOVERY, metrics=METRICS | {"r2_cross_fitted": 0.611})
    return report(
        findings=main, baseline=baseline, settings="llm:\n  engine: vllm\n", stages=STAGES, notes=["2 dead"]
    )


def test_a_full_report_is_balanced_and_holds_every_section():
    made = Page(render(full()))
    assert not made.unbalanced
    assert not made.open
    assert made.sections() == {
        "hypotheses", "examples", "baseline", "recovery", "stages", "notes", "settings",
    }  # fmt: skip
    body = made.text("body")
    for words in (
        "0.402",
        "0.432",
        "0.611",
        "a small model",
        "it rained",
        "it shone",
        "2 dead",
        "engine: vllm",
    ):
        assert words in body


def test_nothing_is_fetched_and_nothing_runs():
    html = render(full())
    assert "http" not in html
    assert "<script" not in html
    assert "url(" not in html
    assert "@import" not in html
    links = [attrs[key] for _, attrs in Page(html).tags for key in ("src", "href") if key in attrs]
    assert all(link is not None and link.startswith("data:") for link in links)


def test_texts_are_escaped_wherever_they_come_from():
    evil = '<script>alert("x")</script>'
    main = findings(
        name=evil,
        evaluation=evaluation([0.2], [evil]).assign(note=evil),
        examples={0: Examples((evil,), (evil,))},
        recovery=RECOVERY.assign(hypothesis=evil, concept=evil),
        caveat=evil,
    )
    html = render(
        report(title=evil, target=evil, findings=main, baseline=main, settings=evil, notes=[evil],
               stages=[STAGES[0] | {"name": evil}])
    )  # fmt: skip
    assert "<script" not in html
    made = Page(html)
    assert not made.unbalanced
    assert evil in made.text("blockquote")
    assert evil in made.text("h1")


def test_one_marker_per_hypothesis_with_a_finite_interval_filled_if_significant():
    table = evaluation([0.2, -0.8, 0.4, 0.1], ["a", "b", "c", "d"])
    table.loc[2, ["regression_coef", "regression_ci_low", "regression_ci_high"]] = np.nan
    table.loc[3, "regression_ci_high"] = np.inf
    made = page(findings=findings(evaluation=table))
    markers = [(attrs["class"] or "").split() for attrs in made.having("circle", "marker")]
    assert [("filled" in marker, "hollow" in marker) for marker in markers] == [(False, True), (True, False)]
    assert len(made.having("svg", "strip")) == 4
    assert made.text("text").count("no estimate") == 2


def test_markers_lie_in_the_order_and_proportion_of_the_effects():
    made = page()
    places = [float((marker["cx"] or "").rstrip("%")) for marker in made.having("circle", "marker")]
    assert places == sorted(places, reverse=True)
    # Effects 0.4, 0.2 and -0.8: the second gap is five times the first.
    assert (places[1] - places[2]) / (places[0] - places[1]) == pytest.approx(5, abs=0.01)


def test_a_hypothesis_without_numbers_keeps_its_row_and_its_note():
    table = evaluation([0.2, -0.8], ["mentions rain", "never"]).astype({"significant": object})
    numbers = [name for name in table.columns if name.startswith(("regression", "separation"))]
    table.loc[1, numbers] = np.nan
    table.loc[1, "significant"] = None
    table.loc[1, "note"] = "constant on the holdout"
    made = page(findings=findings(evaluation=table))
    assert "constant on the holdout" in made.text("td")
    assert len(made.having("td", "sentence")) == 2
    assert "nan" not in made.text("body").lower()


def test_a_neuron_without_a_sentence_is_shown_as_such():
    made = page(findings=findings(evaluation=evaluation([0.2], [None])))
    assert "no usable sentence" in made.text("td")
    assert "None" not in made.text("body")


def test_equal_sentences_stay_two_rows():
    made = page(findings=findings(evaluation=evaluation([0.2, 0.9], ["same", "same"])))
    assert len(made.having("td", "sentence")) == 2


def test_no_significant_hypothesis_is_said_in_words():
    made = page(findings=findings(metrics=METRICS | {"n_significant": 0}))
    assert "None of the hypotheses is significant" in made.text("p")


def test_classification_shows_auc_and_log_odds():
    metrics = {key: value for key, value in METRICS.items() if not key.startswith("r2")}
    metrics |= {"task": "classification", "auc": 0.777, "auc_cross_fitted": 0.755}
    made = page(findings=findings(metrics=metrics))
    body = made.text("body")
    assert "AUC, cross-fitted 0.755" in body
    assert "AUC, in-sample 0.777" in body
    assert "log-odds of stars" in body
    assert "R²" not in body


def test_a_plain_run_has_only_its_hypotheses():
    assert page().sections() == {"hypotheses"}


@pytest.mark.parametrize("count", [0, 1, 50])
def test_any_number_of_hypotheses(count):
    effects = list(np.linspace(-1, 1, count)) if count != 1 else [0.0]
    metrics = METRICS | {"n_hypotheses": count, "n_significant": 0}
    made = page(findings=findings(evaluation=evaluation(effects, ["x"] * count), metrics=metrics))
    assert len(made.having("circle", "marker")) == count
    assert not made.unbalanced


def test_stage_bars_are_shares_of_the_longest_and_the_total_leaves_out_reused_ones():
    made = page(stages=STAGES)
    widths = [bar["style"] for bar in made.having("span", "bar")]
    assert widths == ["width: 25.0%", "width: 100.0%", "width: 0.8%"]
    # 200 + 1.5 seconds, without the 50 of the reused stage.
    assert "3 min 22 s" in made.text("tfoot")
    assert "12,000 7,000 600" in made.text("tfoot")


def test_recovery_counts_and_tints_what_reaches_the_bound():
    made = page(findings=findings(recovery=RECOVERY))
    assert "recovered 1 of 2 planted concepts" in made.text("h3")
    assert len(made.having("tr", "recovered")) == 1
    assert "nan" not in made.text("table").lower()


def test_long_texts_are_cut_at_a_space():
    words = "word " * 200
    assert elide(words, 402) == ("word " * 80).strip() + " …"
    assert elide("x" * 1000, 400) == "x" * 400 + " …"
    assert elide("two\n lines", 400) == "two lines"


def test_a_shaky_interval_is_cut_and_leaves_the_others_room():
    effect = np.array([0.5, 0.4, 0.3])
    low, high = effect - 0.2, effect + np.array([0.2, 0.2, 500.0])
    axis = forest.scale(effect, low, high)
    places = [forest.interval(axis, *ends) for ends in zip(effect, low, high, strict=True)]
    assert [place is not None and place.cut_high for place in places] == [False, False, True]
    assert axis.high < 5


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.003, 0.0121), (-40.0, 1234.0), (-0.2, 0.0)])
def test_ticks_are_few_round_and_include_zero(low, high):
    axis = forest.scale(np.array([low, high]), np.array([low, high]), np.array([low, high]))
    assert 2 <= len(axis.ticks) <= 6
    assert 0 in axis.ticks
    steps = np.diff(axis.ticks)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:e}"[0] in "125"
    assert axis.low <= min(axis.ticks)
    assert max(axis.ticks) <= axis.high
