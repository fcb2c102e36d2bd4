"""The script of report.html is the one that its sources make."""

import hashlib
from pathlib import Path

import hypsae_ray.report

REPORT = Path(hypsae_ray.report.__file__).parent
WEB = REPORT / "web"


def test_the_built_script_names_the_hash_of_its_sources():
    """`make web` after a change of web/; web/build.mjs says what is hashed."""
    sources = [path for path in (WEB / "src").rglob("*") if path.is_file()]
    built = [path.relative_to(WEB).as_posix() for path in sources]
    names = sorted([*built, "build.mjs", "package-lock.json"])
    lines = [f"{hashlib.sha256((WEB / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    with (REPORT / "explore.js").open(encoding="utf-8") as script:
        assert script.readline() == f"// sources sha256: {expected}\n"


def test_the_lock_file_names_no_registry():
    lock = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock


def test_the_page_without_data_stays_small():
    shared = [path for path in REPORT.iterdir() if path.suffix in (".js", ".j2")]
    assert sum(path.stat().st_size for path in shared) < 1_500_000
