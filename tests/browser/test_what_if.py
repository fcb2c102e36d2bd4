"""What if: its numbers are Python's, for a subgroup and a threshold; its tools, link and words."""

import numpy as np
import pytest
from playwright.sync_api import expect

from hypsae_ray.data.arrays import codes_of
from hypsae_ray.report import words
from hypsae_ray.stats.prevalence import intervals, prevalences
from hypsae_ray.stats.sample import LabelArray, Sample
from hypsae_ray.stats.separation import PRESENCE, separations, sum_sides
from tests.browser import explored
from tests.browser.pages import written

STATUS = "#what-if-results [role=status]"
AGE, MEMBER = "covariate:0", "covariate:1"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("what-if")
    pages = {"all": explored.page(n_all=5_000), "classes": explored.page(classes=True)}
    return written(pages, folder)


@pytest.fixture
def page(open_page, paths):
    return ready(open_page(paths["all"]))


def ready(page):
    page.wait_for_selector("html[data-ready=yes]")
    expect(page.locator(STATUS)).not_to_be_empty()
    return page


def expected(rows, hypothesis, threshold=0.5, code=None):
    """What the table says of one hypothesis on some rows, from Python's statistics."""
    numbers = {
        name: values[rows]
        for name, values in explored.columns(code is not None).items()
        if len(values) == explored.ROWS
    }
    p_yes = numbers[f"p_yes:{hypothesis}"]
    label = np.where(np.isnan(p_yes), np.nan, (p_yes >= threshold).astype(float))[:, None]
    target = numbers["target"] if code is None else (numbers["target"] == code).astype(float)
    sample = Sample(LabelArray(label), target, codes_of(numbers["group"]), numbers["weight"])
    sides = sum_sides(sample, PRESENCE)
    (found,) = separations(sample, sides, np.random.default_rng(0), draws=99)
    share, n = prevalences(sample), (~np.isnan(label)).sum(axis=0)
    df = np.minimum(sides.yes.effective, sides.no.effective) - 1
    ((low, high),) = intervals(share, n.astype(float), df)
    assert found.test == "cluster-robust"
    score, *ends = (words.signed(value) for value in (found.score, found.ci_low, found.ci_high))
    return {
        "separation": f"{score}{' to '.join(ends)}",
        "p, not adjusted": words.p_value(found.pval),
        "prevalence": f"{words.percent(share.value[0])}{words.number(100 * low, 1)} to {words.percent(high)}",
        "texts": f"{n[0]}{int((label == 1).sum())} yes",
    }


def shown(page, hypothesis):
    cells = page.locator(f"#what-if tr[data-hypothesis='{hypothesis}'] td.num")
    return cells.evaluate_all(
        "(cells) => Object.fromEntries(cells.map((cell) => [cell.dataset.label, cell.textContent]))"
    )


def slider(page, hypothesis):
    return page.get_by_role("slider", name=f"threshold of hypothesis {hypothesis}")


def test_at_the_start_it_has_all_texts(page):
    for hypothesis in (1, 2):
        assert shown(page, hypothesis) == expected(np.arange(explored.ROWS), hypothesis)
    # Both intervals that there are: +0.30 to +0.96, and −0.81 to −0.16.
    expect(page.locator(STATUS)).to_have_text("On all 200 texts, 2 of 3 intervals exclude 0.")
    assert page.locator(".explored:visible").count() == 0
    expect(page.locator("#what-if")).to_contain_text("The page holds 200 of the 5,000 labelled texts")


def test_a_subgroup_and_a_threshold_give_what_python_gives(page):
    numbers = explored.columns()
    page.get_by_label("age;=%, lowest").fill("30")
    page.get_by_label("age;=%, highest").fill("70")
    page.locator("#what-if-tools").get_by_label("member").select_option("yes")
    slider(page, 1).fill("0.37")
    rows = np.flatnonzero((numbers[AGE] >= 30) & (numbers[AGE] <= 70) & (numbers[MEMBER] == 1))
    expect(page.locator(STATUS)).to_contain_text(f"On {len(rows)} of 200 texts")
    assert shown(page, 1) == expected(rows, 1, 0.37)
    assert shown(page, 2) == expected(rows, 2)
    assert page.locator(".explored:visible").count() == 3


def test_a_slider_moves_its_hypothesis_alone_and_shows_how_p_yes_is_spread(page):
    before = shown(page, 2)
    slider(page, 1).fill("0.7")
    number = page.get_by_label("threshold of hypothesis 1 as a number")
    expect(number).to_have_value("0.70")
    expect(page.locator(".explored:visible")).to_have_count(1)
    assert shown(page, 1) == expected(np.arange(explored.ROWS), 1, 0.7)
    assert shown(page, 2) == before
    p_yes = explored.columns()["p_yes:1"]
    label = f"P(yes) of hypothesis 1: {(p_yes >= 0.7).sum()} of 200 texts from 0.70 on"
    expect(page.get_by_role("img", name=label)).to_be_visible()
    number.fill("0.5")
    expect(page.locator(".explored:visible")).to_have_count(0)
    assert page.evaluate("hypsae.app.state.view.thresholds") == ""


def test_a_link_brings_it_back_and_reset_undoes_it(page):
    link = "#view?thresholds=1%3D0.7&subgroup=member%3D0..0"
    page.goto(page.url.split("#")[0] + link)
    page.reload()
    expect(page.locator("#what-if-tools").get_by_label("member")).to_have_value("0")
    expect(slider(page, 1)).to_have_value("0.7")
    rows = np.flatnonzero(explored.columns()[MEMBER] == 0)
    expect(page.locator(STATUS)).to_contain_text(f"On {len(rows)} of 200 texts")
    page.get_by_role("button", name="reset").click()
    expect(page.locator(STATUS)).to_contain_text("On all 200 texts")
    assert shown(page, 1) == expected(np.arange(explored.ROWS), 1)
    expect(page.get_by_role("button", name="reset")).to_be_disabled()


def test_the_selected_texts_alone(page):
    box = page.get_by_label("only the selected texts")
    expect(box).to_be_disabled()
    page.evaluate("hypsae.app.state.set({ search: '/[02468]$/' })")
    expect(page.get_by_label("only the selected texts (100)")).to_be_enabled()
    box.check()
    expect(page.locator(STATUS)).to_contain_text("On 100 of 200 texts")
    assert shown(page, 1) == expected(np.arange(0, explored.ROWS, 2), 1)


def test_what_cannot_be_tested_says_why(page):
    assert "fewer than 10 groups: no test here" in shown(page, 0)["separation"]


def test_a_click_on_a_sentence_opens_the_drawer(page):
    page.locator("#what-if").get_by_role("button", name=explored.SENTENCES[2]).click()
    expect(page.get_by_role("dialog", name=explored.SENTENCES[2])).to_be_visible()


def test_a_class_is_compared_with_the_rest(open_page, paths):
    page = ready(open_page(paths["classes"]))
    assert shown(page, 1) == expected(np.arange(explored.ROWS), 1, code=0)
    page.locator("#what-if-tools").get_by_label("class").select_option("inn")
    expect(page.locator("#what-if td.num").nth(4)).to_have_text(
        expected(np.arange(explored.ROWS), 1, code=2)["separation"]
    )
    assert shown(page, 1) == expected(np.arange(explored.ROWS), 1, code=2)


@pytest.mark.parametrize("width", [1180, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_accessible_and_fits(open_page, paths, axe, width, dark):
    page = ready(open_page(paths["all"], width=width, dark=dark))
    slider(page, 1).fill("0.7")
    expect(page.locator(".histogram:visible")).to_have_count(1)
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
