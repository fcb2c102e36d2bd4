"""Map, table of texts, and what leaves the page: link, CSV, figures."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from tests.browser.pages import (
    LEFT,
    MARKUP,
    RIGHT_TO_LEFT,
    ROWS,
    made_up_columns,
    made_up_page,
    made_up_texts,
    written,
)

MAP = "#map canvas"
SHOWN = (
    "[...document.querySelectorAll('#selected tbody:not(.pinned) tr')].map((row) => Number(row.dataset.text))"
)
SELECTED = "Array.from(hypsae.app.selection.rows())"
# Pixels in which the map is not its paper, left of the middle and right of it.
INK = """() => {
  const canvas = document.querySelector("#map canvas");
  const options = { willReadFrequently: true };
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", options);
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const paper = data.slice(0, 3);
  const sides = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    if (paper.every((value, k) => data[at + k] === value)) continue;
    sides[(at / 4) % canvas.width < canvas.width / 2 ? 0 : 1]++;
  }
  return sides;
}"""

# The least of red, green and blue of any pixel of the map.
DARKEST = """async () => {
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const canvas = document.querySelector("#map canvas");
  const options = { willReadFrequently: true };
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", options);
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((low, value) => Math.min(low, value), 255);
}"""
# Red of the map where there is no dot.
PAPER = """async () => {
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  copy.drawImage(document.querySelector("#map canvas"), 0, 0);
  return copy.getImageData(0, 0, 1, 1).data[0];
}"""
PLOT = """() => {
  const svg = hypsae.figure({ x: { domain: [0, 1] } }, "Shares & <parts>");
  document.querySelector("#what-if-results").append(svg);
}"""


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The made-up page under each policy, and of pairs and of classes."""
    folder = tmp_path_factory.mktemp("texts")
    kinds = {"pairs": made_up_page(kind="pairs"), "classes": made_up_page(kind="classes")}
    kinds |= {policy: made_up_page(policy) for policy in ("all", "ids", "none")}
    return written(kinds, folder)


@pytest.fixture
def page(open_page, pages):
    return ready(open_page(pages["all"]))


def ready(page):
    page.wait_for_selector("html[data-ready=yes]")
    page.locator(MAP).scroll_into_view_if_needed()
    return page


def drag(page, *corners):
    """Draw on the map, corners in shares of its width and height."""
    box = page.locator(MAP).bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def seek(page, search):
    field = page.get_by_label("Search the texts")
    field.fill(search)
    field.press("Enter")


def download(page, button):
    with page.expect_download() as event:
        button.click()
    return event.value.suggested_filename, Path(event.value.path()).read_bytes()


def test_every_text_with_a_place_is_on_the_map(page):
    assert page.locator(MAP).get_attribute("aria-label") == (
        f"Map of {ROWS - 1} texts, coloured by stars; none is selected."
    )
    left, right = page.evaluate(INK)
    assert right > 1.5 * left > 100
    assert page.locator(".map-legend").inner_text().endswith("1 text without a place on the map")


def test_a_drawn_selection_is_of_the_texts_in_it(page):
    page.get_by_role("button", name="Draw a selection").click()
    drag(page, (0.01, 0.01), (0.5, 0.01), (0.5, 0.99), (0.01, 0.99))
    assert page.evaluate(SELECTED) == list(range(LEFT)) == page.evaluate(SHOWN)
    assert page.locator("#selected h3").inner_text() == f"{LEFT} of {ROWS} texts"
    assert page.locator(MAP).get_attribute("aria-label").endswith(f"{LEFT} are selected.")
    page.get_by_role("button", name="Clear selection").click()
    assert page.evaluate(SELECTED) == list(range(ROWS))


def test_a_click_with_the_lasso_clears_it_and_a_drag_without_it_selects_nothing(page):
    drag(page, (0.1, 0.1), (0.6, 0.1), (0.6, 0.9))
    assert page.evaluate("hypsae.app.state.view.lasso") == ""
    page.get_by_role("button", name="Draw a selection").click()
    drag(page, (0.01, 0.01), (0.5, 0.01), (0.5, 0.99), (0.01, 0.99))
    drag(page, (0.3, 0.5), (0.3, 0.5))
    assert page.evaluate("hypsae.app.state.view.lasso") == ""


def test_a_selection_stays_on_its_texts_when_the_map_is_enlarged(page):
    page.get_by_role("button", name="zoom in").click()
    page.get_by_role("button", name="zoom in").click()
    page.get_by_role("button", name="zoom out").click()
    drag(page, (0.3, 0.5), (0.95, 0.5))
    page.get_by_role("button", name="Draw a selection").click()
    drag(page, (0.01, 0.01), (0.9, 0.01), (0.9, 0.99), (0.01, 0.99))
    found = page.evaluate(SELECTED)
    assert found and set(found) <= set(range(LEFT))
    page.get_by_role("button", name="Whole map").click()
    assert page.evaluate(SELECTED) == found


def test_search_finds_words_and_patterns(page):
    texts = made_up_texts()
    seek(page, "wait")
    expected = [i for i, text in enumerate(texts) if "waited" in text]
    assert page.evaluate(SHOWN) == expected
    assert page.locator(".map-status").inner_text() == f"{len(expected)} texts found for wait"
    assert set(page.locator("#selected mark").all_inner_texts()) == {"wait"}
    seek(page, "/coffee [12]\\d$/")
    assert page.evaluate(SHOWN) == [i for i in range(10, 30) if i % 2 == 0]


def test_found_texts_stand_out(page):
    all_lit = page.evaluate(DARKEST)
    seek(page, "nothing has this")
    assert page.evaluate(SHOWN) == []
    assert page.evaluate(DARKEST) > 150 > all_lit
    seek(page, "wait")
    assert page.evaluate(DARKEST) < 150


def test_a_dark_page_prints_a_light_map(open_page, pages):
    page = ready(open_page(pages["all"], dark=True))
    assert page.evaluate(PAPER) < 40
    page.emulate_media(media="print")
    assert page.evaluate(PAPER) > 240
    page.emulate_media(media="screen", color_scheme="dark")
    assert page.evaluate(PAPER) < 40


def test_a_pattern_that_is_none_is_said_and_selects_all(page):
    seek(page, "/(/")
    assert page.locator(".map-status").inner_text().startswith("not a regular expression: ")
    assert len(page.evaluate(SHOWN)) == ROWS


def test_texts_stay_texts(page):
    cells = page.locator("#selected td.text")
    assert cells.nth(0).inner_text() == MARKUP
    assert cells.nth(1).inner_text() == RIGHT_TO_LEFT
    direction = "(cell) => getComputedStyle(cell.querySelector('p')).direction"
    assert [cells.nth(i).evaluate(direction) for i in range(2)] == ["ltr", "rtl"]
    assert cells.nth(3).inner_text() == "(empty)"
    assert page.locator("#selected script, #selected b").count() == 0


def test_a_long_text_is_cut_around_what_is_found_and_can_be_read_whole(page):
    cell = page.locator("#selected tr[data-text='2'] td.text")
    assert len(cell.locator("p").inner_text()) < 250
    seek(page, "needle")
    assert cell.locator("mark").inner_text() == "needle"
    cell.get_by_role("button", name="whole text").click()
    assert len(cell.locator("p").inner_text()) == len(made_up_texts()[2])
    cell.get_by_role("button", name="less").click()
    assert len(cell.locator("p").inner_text()) < 250


def test_labels_follow_their_thresholds(page):
    p_yes = made_up_columns()["p_yes:1"]
    kinds = "(row) => [...row.querySelectorAll('.square')].map((square) => square.className.split(' ')[1])"
    words = page.locator("#selected tbody:not(.pinned) tr td:nth-child(4) .only-heard")

    def expected(threshold):
        return ["no label" if np.isnan(p) else "yes" if p >= threshold else "no" for p in p_yes.astype(float)]

    assert words.all_text_contents() == expected(0.5)
    page.evaluate("hypsae.app.state.set({ thresholds: '1=0.75' })")
    assert words.all_text_contents() == expected(0.75)
    assert page.locator("#selected tr[data-text='2']").evaluate(kinds)[1] == "unknown"
    assert page.locator("#selected tr[data-text='7'] td").nth(3).get_attribute("title") == "#1: P(yes) 0.80"


def test_the_number_of_a_hypothesis_opens_it(page):
    button = page.get_by_role("button", name="#2: praises <i>coffee</i>", exact=True)
    button.click()
    assert page.evaluate("hypsae.app.state.view.open") == 2
    assert page.evaluate("location.hash") == "#view?open=2"


def test_the_map_by_the_keyboard(page):
    page.locator(MAP).focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    assert page.locator(".map-tip").is_visible()
    heard = page.locator("#map .only-heard").inner_text()
    page.keyboard.press("Enter")
    row = page.locator("#selected .pinned tr")
    assert row.evaluate("(row) => row === document.activeElement")
    first = int(row.get_attribute("data-text"))
    target = made_up_columns()["target"][first]
    assert first < LEFT and heard.startswith(made_up_texts()[first][:100])
    assert heard.endswith(f". stars: {target:g}".replace("-", "−"))


def test_a_box_by_the_keyboard(page):
    page.locator(MAP).focus()
    for key in (*["Shift+ArrowLeft"] * 4, "Space", "Shift+ArrowUp", "Space"):
        page.keyboard.press(key)
    rows = page.evaluate(SELECTED)
    assert 1 < len(rows) <= LEFT and set(rows) <= set(range(LEFT))
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    assert page.evaluate(SELECTED) == rows


def test_a_dot_says_what_it_is(page):
    canvas = page.locator(MAP).bounding_box()
    scale = (
        canvas["width"] - 28
    ) / 18.8  # the map is so many units wide, and 14 pixels are left on either side
    x, y = (
        canvas["x"] + 14,
        canvas["y"] + canvas["height"] / 2 + 3 * scale,
    )  # text 0 is the lowest and leftmost
    page.mouse.move(x + 2, y - 2)
    assert page.locator(".map-tip p").all_inner_texts() == [MARKUP, "stars: −1.5"]
    page.mouse.move(x + 30, y - 30)
    assert not page.locator(".map-tip").is_visible()
    page.mouse.click(x, y)
    assert page.locator("#selected .pinned tr").get_attribute("data-text") == "0"


def test_the_selection_as_csv(page):
    seek(page, "/waited|script|word/")
    name, content = download(page, page.get_by_role("button", name="Selection as CSV"))
    assert name == "selection.csv" and content.startswith(b"\xef\xbb\xbf")
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    labels = [f"{kind}_{j}" for j in range(3) for kind in ("label", "p_yes")]
    assert header == ["row_id", "id", "text", "stars", *labels]
    columns, texts = made_up_columns(), made_up_texts()
    chosen = page.evaluate(SELECTED)
    assert [int(row[0]) for row in rows] == [100 + i for i in chosen] and 4 in chosen
    for row, i in zip(rows, chosen, strict=True):
        text = "'" + texts[i] if texts[i].startswith("=") else texts[i]
        assert row[1:4] == [f"id-{i}", text, f"{columns['target'][i]:g}"]
        for j in range(3):
            p = columns[f"p_yes:{j}"][i]
            assert row[4 + 2 * j : 6 + 2 * j] == (["", ""] if np.isnan(p) else [str(int(p >= 0.5)), f"{p:g}"])


def test_the_address_leads_back_to_the_view(page, open_page, pages):
    page.get_by_label("Colour", exact=True).select_option("label:1")
    seek(page, "/wait(ed)? 1/")
    page.get_by_role("button", name="Draw a selection").click()
    drag(page, (0.5, 0.01), (0.99, 0.01), (0.99, 0.99), (0.5, 0.99))
    address, selected = page.url, page.evaluate(SELECTED)
    assert selected == list(range(11, 20, 2)) and "#view?" in address
    other = ready(open_page(pages["all"]))
    other.goto(address)
    assert other.evaluate(SELECTED) == selected
    assert other.get_by_label("Search the texts").input_value() == "/wait(ed)? 1/"
    assert other.get_by_label("Colour", exact=True).input_value() == "label:1"
    assert "yes" in other.locator(".map-legend").inner_text()
    other.evaluate("location.hash = '#notes'")
    assert other.evaluate(SELECTED) == selected


def test_the_link_can_be_copied(page):
    page.get_by_label("Colour", exact=True).select_option("activation:0")
    page.get_by_role("button", name="Copy link to this view").click()
    status = page.locator("#share [role=status]")
    status.filter(has_text="cop").wait_for()
    field = page.get_by_label("Link to this view")
    if field.is_visible():
        assert field.input_value() == page.url
    assert page.url.endswith("#view?colour=activation%3A0")


def test_figures_can_be_saved(page):
    _, png = download(page, page.locator("#map").get_by_role("button", name="PNG"))
    assert png.startswith(b"\x89PNG")
    page.evaluate(PLOT)
    name, svg = download(page, page.get_by_role("button", name="Shares & <parts> as SVG"))
    assert name == "shares-parts.svg" and b'fill="rgb(' in svg and b"var(" not in svg
    name, png = download(page, page.get_by_role("button", name="Shares & <parts> as PNG"))
    assert name == "shares-parts.png" and png.startswith(b"\x89PNG")
    page.evaluate("document.querySelector('svg.figure').remove()")
    page.locator(".figure-files").wait_for(state="detached")


def test_ids_alone_are_shown_and_sought(open_page, pages):
    page = ready(open_page(pages["ids"]))
    assert page.locator("#selected td.text").nth(3).inner_text() == "id-3"
    page.get_by_label("Search the ids").fill("/^id-1.$/")
    page.get_by_label("Search the ids").press("Enter")
    assert page.evaluate(SHOWN) == list(range(10, 20))


def test_without_texts_there_are_none(open_page, pages):
    page = ready(open_page(pages["none"]))
    assert page.locator("#selected td.text").nth(3).inner_text() == "text 4"
    assert page.locator("#map-tools input").count() == 0
    page.locator(MAP).focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#map .only-heard").inner_text().startswith("text ")
    _, content = download(page, page.get_by_role("button", name="Selection as CSV"))
    assert content.decode("utf-8-sig").splitlines()[0].startswith("stars,label_0")
    assert "waited" not in page.content() and "id-3" not in page.content()


def test_pairs_show_both_texts_and_which_has_it(open_page, pages):
    page = ready(open_page(pages["pairs"]))
    assert page.locator("#selected h3").inner_text() == f"All {ROWS} pairs"
    cell = page.locator("#selected tr[data-text='7']")
    assert cell.locator("td.text p").all_inner_texts() == ["We waited 7 minutes", "Second text 7"]
    words = page.locator("#selected tbody:not(.pinned) tr td:nth-child(3) .only-heard").all_text_contents()
    sides = [made_up_columns(kind="pairs")[name] >= 0.5 for name in ("p_yes:0", "p_yes_b:0")]
    said = {(1, 0): "the first text only", (0, 1): "the second text only", (1, 1): "both", (0, 0): "neither"}
    assert words == [said[int(first), int(second)] for first, second in zip(*sides, strict=True)]
    assert set(words) == set(said.values())
    page.get_by_label("Colour", exact=True).select_option("label:0")
    assert "both or neither" in page.locator(".map-legend").inner_text()
    _, content = download(page, page.get_by_role("button", name="Selection as CSV"))
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert header[2:8] == ["text_a", "text_b", "stars", "label_0", "p_yes_a_0", "p_yes_b_0"]
    assert [int(row[5]) for row in rows] == [int(a) - int(b) for a, b in zip(*sides, strict=True)]


def test_classes_have_their_names(open_page, pages):
    page = ready(open_page(pages["classes"]))
    names = ["bar", "=cafe", "diner", "grill", "inn"]
    assert page.locator(".map-legend .legend-entry").all_inner_texts() == names
    assert page.locator("#selected tr[data-text='7'] td").nth(1).inner_text() == "diner"
    _, content = download(page, page.get_by_role("button", name="Selection as CSV"))
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [row[3] for row in rows[1:4]] == ["bar", "'=cafe", "diner"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_width_and_scheme_is_accessible_and_fits(open_page, pages, axe, width, dark):
    page = ready(open_page(pages["all"], width=width, dark=dark))
    seek(page, "wait")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [found for found in axe(page) if 'class="tiles"' not in found[2]] == []
