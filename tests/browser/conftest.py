"""A page in Chromium: no message in the console, no request but for the file itself."""

import base64
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import hypsae_ray.report

REPORT = Path(hypsae_ray.report.__file__).parent
AXE = REPORT / "web" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# A browser without a sandbox runs as root too; the others keep it from asking anything of the network.
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
AXE_RUN = "async () => (await axe.run()).violations.map(({id, impact, nodes}) => [impact, id, nodes[0].html])"


def lacking(what: str) -> NoReturn:
    """Skip the test, or fail it where CI wants everything to be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {what}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system; for a module, as a process cannot call asyncio.run while it is open."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        lacking("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, watch: Callable[..., None]) -> Iterator[Callable[..., Page]]:
    """Open an HTML file: `open_page(path, width=1180, dark=False)`. Messages and requests fail the test."""
    problems: list[str] = []
    contexts: list[BrowserContext] = []

    def open_one(path: Path, width: int = 1180, dark: bool = False) -> Page:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        watch(page, path, problems)
        page.goto(path.resolve().as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def watch() -> Callable[[Page, Path, list[str]], None]:
    """Add to a list what a page logs, throws, and requests, but for the file at a path."""

    def start(page: Page, path: Path, problems: list[str]) -> None:
        own = path.resolve().as_uri()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: problems.extend(foreign(request.url, own)))

    return start


def foreign(url: str, own: str) -> list[str]:
    """Return a sentence about a request for anything but the page itself, and what it holds."""
    is_own = url.split("#")[0] == own or url.startswith(("data:", "blob:"))
    return [] if is_own else [f"request: {url}"]


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], list[list[str]]]:
    """Return serious and critical violations of accessibility, each as impact, rule and first element."""
    if not AXE.exists():
        lacking("node_modules of report/web: make check-web")
    source = AXE.read_text(encoding="utf-8")

    def violations(page: Page) -> list[list[str]]:
        page.evaluate(source)
        return [found for found in page.evaluate(AXE_RUN) if found[0] in ("serious", "critical")]

    return violations


@pytest.fixture(scope="session")
def script_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the script of the report, allowed by its hash as in the report, and an empty main."""
    script = (REPORT / "explore.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; script-src 'sha256-{digest}'"
    path = tmp_path_factory.mktemp("script") / "page.html"
    path.write_text(
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Script</title>
<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">
</head><body><main><h1>Script</h1></main><script>{script}</script></body></html>""",
        encoding="utf-8",
    )
    return path
