"""Figures of the page: an SVG with a name, which needs no style element."""

DRAW = """() => {
  const options = { x: { domain: [0, 1], label: "share" }, y: { domain: [0, 2] } };
  const svg = hypsae.figure(options, "Shares of texts");
  document.querySelector("main").append(svg);
  return [svg.getAttribute("role"), svg.getAttribute("aria-label"), svg.querySelectorAll("style").length];
}"""


def test_a_figure_is_labelled_and_breaks_no_policy(open_page, script_page, axe):
    page = open_page(script_page)
    assert page.evaluate(DRAW) == ["img", "Shares of texts", 0]
    assert page.locator("svg.figure text").count() > 4
    assert axe(page) == []
