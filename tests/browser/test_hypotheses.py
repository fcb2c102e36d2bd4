"""The report of the demo: its hypotheses, its neurons, and all of it by keyboard, ear, phone and paper."""

import json
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect


@pytest.fixture
def page(open_page, demo_run: Path) -> Page:
    page = open_page(demo_run / "report.html")
    page.wait_for_selector("html[data-ready]")
    return page


@pytest.fixture(scope="module")
def table(demo_run: Path) -> pd.DataFrame:
    return pd.read_csv(demo_run / "evaluation.csv").set_index("hypothesis_id")


def shown(page: Page) -> list[int]:
    """Ids of the rows of the table that are shown, from the top."""
    ids = page.eval_on_selector_all(
        "#hypotheses tr[data-hypothesis]:not([hidden])", "rows => rows.map(row => row.dataset.hypothesis)"
    )
    return [int(one) for one in ids]


def test_sorts_by_every_measure(page: Page, table: pd.DataFrame):
    """As pandas sorts; rows without a value come last in either direction."""
    for column in ("regression_coef", "feature_prevalence", "f1_fidelity_score", "regression_pval_adj"):
        for sign, ascending in (("", True), ("-", False)):
            page.select_option("#hypothesis-tools label:has-text('Sort by') select", sign + column)
            values = table.loc[shown(page), column]
            known = values.dropna()
            assert (known.diff().dropna() * (1 if ascending else -1) >= 0).all(), column
            assert values.isna().sum() == values.iloc[len(known) :].isna().sum()


def test_filters_and_finds(page: Page, table: pd.DataFrame):
    significant = set(table.index[table["significant"]])
    everything = set(shown(page))
    page.check("#hypothesis-tools input[type=checkbox]")
    assert set(shown(page)) == significant < everything
    page.select_option("#hypothesis-tools label:has-text('Effect') select", "negative")
    negative = significant & set(table.index[table["regression_coef"] < 0])
    assert set(shown(page)) == negative
    assert page.locator("#hypothesis-tools [role=status]").inner_text() == f"{len(negative)} of {len(table)}"
    page.uncheck("#hypothesis-tools input[type=checkbox]")
    page.select_option("#hypothesis-tools label:has-text('Effect') select", "")
    page.fill("#hypothesis-tools label:has-text('Prevalence') input", "0.1")
    assert set(shown(page)) == set(table.index[table["feature_prevalence"] >= 0.1])
    page.fill("#hypothesis-tools label:has-text('Prevalence') input", "")
    word = table["hypothesis"].dropna().iloc[0].split('"')[1]
    page.fill("#hypothesis-tools input[type=search]", word.upper())
    assert set(shown(page)) == set(table.index[table["hypothesis"].str.contains(word, na=False)])


def test_a_link_leads_back_to_the_view(page: Page, open_page, demo_run: Path):
    page.check("#hypothesis-tools input[type=checkbox]")
    page.select_option("#hypothesis-tools label:has-text('Sort by') select", "-feature_prevalence")
    before, hash_ = shown(page), page.evaluate("location.hash")
    again = open_page(demo_run / "report.html")
    again.evaluate("hash => { location.hash = hash; location.reload(); }", hash_)
    again.wait_for_selector("html[data-ready]")
    assert shown(again) == before
    assert again.is_checked("#hypothesis-tools input[type=checkbox]")


def test_shown_rows_become_a_figure_that_is_saved(page: Page, table: pd.DataFrame):
    page.check("#hypothesis-tools input[type=checkbox]")
    page.get_by_text("These rows as a figure").click()
    figure = page.locator("#hypotheses svg.figure")
    label = figure.get_attribute("aria-label") or ""
    assert label.count("; ") == table["significant"].sum() - 1
    assert figure.locator("circle").count() == table["significant"].sum()
    first = shown(page)[0]
    assert f"{table.loc[first, 'regression_coef']:+.2f}".replace("-", "−") in label.split(";")[0]
    with page.expect_download() as waited:
        page.locator("#hypotheses .figure-files button", has_text="SVG").click()
    svg = Path(waited.value.path()).read_text(encoding="utf-8")
    assert svg.startswith("<svg") and svg.count("<circle") == table["significant"].sum()
    page.uncheck("#hypothesis-tools input[type=checkbox]")
    assert figure.locator("circle").count() == table["regression_coef"].notna().sum()


def test_texts_drawer_and_what_if_of_the_demo(page: Page, table: pd.DataFrame, demo_folder: Path):
    texts = pd.read_json(demo_folder / "holdout.jsonl", lines=True)["text"]
    found = int(texts.str.contains(r"\bwait", case=False, regex=True).sum())
    page.get_by_label("Search the texts").fill("wait")
    page.get_by_label("Search the texts").press("Enter")
    assert page.locator("#selected h3").inner_text() == f"{found} of {len(texts)} texts"
    page.get_by_label("only the selected texts").check()
    expect(page.locator("#what-if-results [role=status]")).to_contain_text(f" {found} ")
    page.select_option("#map-tools select", "label:0")
    page.locator("#hypotheses tr[data-hypothesis='0'] button").click()
    drawer = page.locator("dialog")
    assert table.loc[0, "hypothesis"] in drawer.inner_text()
    assert f"{100 * table.loc[0, 'feature_prevalence']:.1f} % of the texts have it" in drawer.inner_text()
    page.keyboard.press("Escape")
    assert not drawer.is_visible()


def test_neurons_stand_below_those_they_fire_with(page: Page, demo_run: Path):
    facts = {one["stage"]: one["facts"] for one in json.loads((demo_run / "run.json").read_text())["stages"]}
    page.select_option("#neuron-tools select", "all")
    n_neurons = facts["train_sae"]["n_neurons"]
    assert page.locator("#neuron-tree li").count() == n_neurons
    assert page.locator("#neuron-tools p").inner_text().startswith(f"{n_neurons} neurons, prefix lengths ")
    page.select_option("#neuron-tools select", "chosen")
    chosen = pd.read_csv(demo_run / "hypotheses.csv")
    assert page.locator("#neuron-tree li > button").count() == len(chosen)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_serious_for_those_who_hear_or_see_little(
    open_page, axe, demo_run: Path, width: int, dark: bool
):
    page = open_page(demo_run / "report.html", width, dark)
    page.wait_for_selector("html[data-ready]")
    assert axe(page) == []
    page.locator("#hypotheses tr[data-hypothesis] button").first.click()
    assert axe(page) == []
    page.keyboard.press("Escape")
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide), "the page itself scrolls sideways"


def test_without_script_all_results_are_there(browser: Browser, demo_run: Path, table: pd.DataFrame):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((demo_run / "report.html").as_uri())
    assert page.locator("#hypotheses tr[data-hypothesis]").count() == len(table)
    assert page.locator(".with-script:visible").count() == 0
    assert page.locator("#methods").inner_text()
    context.close()


def test_prints_what_is_tested_and_the_map(page: Page):
    page.emulate_media(media="print")
    assert page.locator("#hypotheses table").first.is_visible()
    for exploring in (".tools", "#what-if", "#neurons", "#selected", "#share"):
        assert not page.locator(f"{exploring}:visible").count(), exploring
    assert page.locator("#map canvas").is_visible()
