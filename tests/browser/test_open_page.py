"""The fixture of the other tests here sees what a page must not do."""

PAGE = """<!doctype html><title>x</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="style-src 'none'">
<img src="other.png" alt=""><p style="color: red">x</p>
<script>console.info("said"); throw new Error("thrown")</script>"""


def test_messages_errors_and_requests_are_seen(browser, watch, tmp_path):
    path, problems = tmp_path / "page.html", []
    path.write_text(PAGE)
    page = browser.new_page()
    watch(page, path, problems)
    page.goto(path.as_uri())
    page.close()
    kinds = ("console: said", "error: thrown", "request: ", "console: Applying inline style")
    assert [kind for kind in kinds if not any(one.startswith(kind) for one in problems)] == []
    assert not any(one.startswith(("request: data:", f"request: {path.as_uri()}")) for one in problems)
