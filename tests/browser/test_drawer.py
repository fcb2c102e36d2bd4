"""The drawer: opened by mouse, keyboard and link; its lists, by hand; its words; focus."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser import explored
from tests.browser.pages import written

ROWS_OF = (
    "(lists) => lists.map((list) => [...list.querySelectorAll('li')].map((one) => Number(one.dataset.row)))"
)
COUNTS = "(all) => all.map((one) => Number(one.textContent))"
FIGURE = """() => {
  const curve = `<figure data-hypothesis="0"><figcaption>it</figcaption><svg id="curve"></svg></figure>`;
  const section = `<section id="dose">${curve}</section>`;
  document.querySelector("#what-if").insertAdjacentHTML("beforebegin", section);
}"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawer")
    pages = {policy: explored.page(policy) for policy in ("all", "ids", "none")}
    pages |= {"classes": explored.page(classes=True), "pairs": explored.page(pairs=True)}
    return written(pages, folder)


@pytest.fixture
def page(open_page, paths):
    return ready(open_page(paths["all"]))


def ready(page):
    page.wait_for_selector("html[data-ready=yes]")
    return page


def opener(page, hypothesis):
    return page.locator(f"#hypotheses tr[data-hypothesis='{hypothesis}'] .opener")


def drawer(page):
    return page.get_by_role("dialog")


def test_a_click_on_a_row_opens_it_and_escape_gives_focus_back(page):
    page.locator("#hypotheses tr[data-hypothesis='1'] td[data-label='separation']").click()
    expect(page.get_by_role("dialog", name=explored.SENTENCES[1])).to_be_visible()
    assert page.evaluate("hypsae.app.state.view.open") == 1
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    expect(page).to_have_url(re.compile("open=1"))
    page.keyboard.press("Escape")
    expect(drawer(page)).to_be_hidden()
    expect(opener(page, 1)).to_be_focused()
    expect(page).not_to_have_url(re.compile("open="))  # the event comes after the focus
    assert page.evaluate("hypsae.app.state.view.open") is None


def test_enter_opens_it_and_its_button_closes_it(page):
    opener(page, 0).focus()
    page.keyboard.press("Enter")
    expect(drawer(page).get_by_role("heading", name=explored.SENTENCES[0])).to_be_focused()
    drawer(page).get_by_role("button", name="close").click()
    expect(opener(page, 0)).to_be_focused()


def test_a_link_opens_it(page):
    page.goto(page.url.split("#")[0] + "#view?open=2")
    page.reload()
    expect(page.get_by_role("dialog", name=explored.SENTENCES[2])).to_be_visible()
    page.keyboard.press("Escape")
    expect(opener(page, 2)).to_be_focused()


def test_a_click_outside_closes_it(page):
    opener(page, 0).click()
    page.mouse.click(20, 400)
    expect(drawer(page)).to_be_hidden()


def test_its_arrows_follow_the_rows_that_are_shown(page):
    page.evaluate("hypsae.app.state.set({ sort: 'regression_coef' })")
    opener(page, 1).click()
    places = []
    for _ in range(3):
        places.append(
            (
                drawer(page).get_by_role("heading").first.inner_text(),
                drawer(page).locator(".place").inner_text(),
            )
        )
        drawer(page).get_by_role("button", name="next hypothesis").click()
    assert places == [(explored.SENTENCES[j], f"{k} of 3") for j, k in ((1, 1), (2, 2), (0, 3))]
    drawer(page).get_by_role("button", name="previous hypothesis").click()
    assert page.evaluate("hypsae.app.state.view.open") == 0


def test_lists_hold_the_right_texts_in_order(page):
    opener(page, 0).click()
    lists = drawer(page).locator("ol.excerpts")
    expected = [[11, 10, 13, 12], [16, 14, 15, 0, 1], [15, 16], [13, 12]]
    assert lists.evaluate_all(ROWS_OF) == expected
    assert drawer(page).locator("h3 .amount").evaluate_all(COUNTS) == [4, 195, 2, 2]
    assert drawer(page).locator(".agreement td.num").evaluate_all(COUNTS) == [2, 2, 2, 193]
    expect(drawer(page)).to_contain_text("1 more has no label.")
    drawer(page).get_by_role("button", name="more (190 left)").click()
    assert lists.evaluate_all(ROWS_OF)[1] == [16, 14, 15, *range(7)]
    assert page.evaluate("document.activeElement.dataset.row") == "2"


def test_lists_follow_the_threshold_of_the_reader(page):
    page.evaluate("hypsae.app.state.set({ thresholds: '0=0.85' })")
    opener(page, 0).click()
    assert drawer(page).locator("ol.excerpts").evaluate_all(ROWS_OF)[0] == [10, 13]
    expect(drawer(page)).to_contain_text("0.85")


def test_a_text_has_its_terms_marked_its_numbers_and_its_reason(page):
    opener(page, 0).click()
    text = drawer(page).locator("li[data-row='11']").first
    assert text.locator("mark").all_inner_texts() == ["LIVE", "good band", "live"]
    expect(text).to_contain_text(re.compile(r"stars −?\d.* · P\(yes\) 0.80 · activation 3.00"))
    expect(text).to_contain_text("It names a band.")
    assert text.locator("q").inner_text() == "LIVE music"
    assert "the end" not in text.inner_text() and text.locator("b").count() == 0
    text.get_by_role("button", name="whole text").click()
    assert "the end" in text.inner_text()
    text.get_by_role("button", name="less").click()
    assert "the end" not in text.inner_text()


def test_it_says_what_was_found(page):
    opener(page, 0).click()
    expect(drawer(page)).to_contain_text("Alone: +0.80 (95 % interval +0.60 to +1.00)")
    expect(drawer(page)).to_contain_text("40.0 % of the texts have it.")
    label = drawer(page).locator("svg.figure").get_attribute("aria-label")
    assert label == "alone +0.80, 95 % interval +0.60 to +1.00; jointly +0.80, 95 % interval +0.60 to +1.00"


def test_it_shows_the_curve_of_the_page_once_more(page):
    page.evaluate(FIGURE)
    opener(page, 0).click()
    assert page.locator("dialog figure svg").get_attribute("id") == "drawer-curve"
    assert page.locator("dialog figcaption").inner_text() == ""


def test_it_holds_ids_or_counts_where_the_page_holds_no_texts(open_page, paths):
    ids = ready(open_page(paths["ids"]))
    opener(ids, 0).click()
    assert drawer(ids).locator("ol").first.locator("blockquote").all_inner_texts() == [
        "id-11",
        "id-10",
        "id-13",
        "id-12",
    ]
    none = ready(open_page(paths["none"]))
    opener(none, 0).click()
    expect(drawer(none)).to_contain_text("The page holds no texts")
    expect(drawer(none)).to_contain_text("The neuron fires, the label says no: 2")
    assert drawer(none).locator("ol").count() == 0


def test_pairs_show_both_texts(open_page, paths):
    page = ready(open_page(paths["pairs"]))
    opener(page, 0).click()
    first = drawer(page).locator("ol").first.locator("li").nth(1)
    assert first.locator("blockquote").all_inner_texts() == ["first text\nText 10", "second text\nSecond 10"]
    expect(first).to_contain_text("P(yes) 0.90 and 0.01")


def test_classes_have_a_block_each(open_page, paths):
    page = ready(open_page(paths["classes"]))
    opener(page, 0).click()
    assert drawer(page).locator("section.effects > .class").all_inner_texts() == list(explored.CLASSES)


@pytest.mark.parametrize("width", [1180, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_accessible_and_fits(open_page, paths, axe, width, dark):
    page = ready(open_page(paths["all"], width=width, dark=dark))
    opener(page, 0).click()
    assert axe(page) == []
    assert page.evaluate("document.querySelector('dialog').scrollWidth <= innerWidth")
