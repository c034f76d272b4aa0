"""The documentation: it builds as a site without a warning, and its links lead somewhere, there and on a code host."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from provider.config.reading import read_configuration
from tests.support.blocks import blocks
from tests.support.markdown import anchors, code_spans, links
from tests.support.processes import PROJECT
from tests.support.tools import tool

DOCS = PROJECT / "docs"
PAGES = sorted(page.relative_to(DOCS) for page in DOCS.rglob("*.md"))
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md")
ROOMS = ("bench/", "common/", "deploy/", "docs/", "ghub/", "hub/", "provider/", "tests/")
BUILD_LIMIT_S = 45


def build(folder: Path) -> tuple[int, str]:
    """Build the site of the copy in a folder; exit status and what was said."""
    argv = [tool("zensical", "uv sync, with Python 3.11.5 or later"), "build", "--strict"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def copied(folder: Path) -> Path:
    shutil.copy(PROJECT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copied(tmp_path_factory.mktemp("site"))
    status, said = build(folder)
    assert status == 0, said
    assert "No issues found" in said
    assert "warning" not in said.lower()
    return folder / "site"


def in_nav(entry: object) -> list[str]:
    """The pages that an entry of the navigation names, itself or below."""
    if isinstance(entry, str):
        return [entry]
    return [page for below in (entry.values() if isinstance(entry, dict) else entry) for page in in_nav(below)]


class Fetched(HTMLParser):
    """What a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in {"script", "img", "iframe", "source"} or (tag == "link" and named.get("rel") != "canonical"):
            self.found += [value for name in ("src", "href") if (value := named.get(name))]


def test_every_page_is_built_and_nothing_else(site: Path) -> None:
    built = {page.relative_to(site) for page in site.rglob("*.html")} - {Path("404.html")}
    assert built == {page.with_name("index.html" if page.stem == "README" else f"{page.stem}.html") for page in PAGES}
    assert not list(site.rglob("*.py"))


def test_every_page_stands_in_the_navigation_once() -> None:
    nav = yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"]
    assert sorted(map(Path, in_nav(nav))) == PAGES


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = Fetched()
        fetched.feed(page.read_text())
        assert len(fetched.found) > 2
        assert [url for url in fetched.found if re.match(r"(https?:)?//", url)] == [], page
    sheets = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheets)


def test_the_search_finds_what_pages_say(site: Path) -> None:
    index = json.loads((site / "search.json").read_text())
    found = {item["location"].partition("#")[0] for item in index["items"] if "yield_to_owner" in str(item)}
    assert "provider.html" in found


@pytest.mark.parametrize("mistake", ["[x](api.md#nowhere)", "[x](nowhere.md)", "[x](../README.md)"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, mistake: str) -> None:
    page = copied(tmp_path) / "docs/wire.md"
    page.write_text(f"{page.read_text()}\n{mistake}\n")
    status, said = build(tmp_path)
    assert status != 0
    assert "wire.md" in said


@pytest.mark.parametrize("name", [*OUTSIDE, *(f"docs/{page}" for page in PAGES)])
def test_links_lead_somewhere_on_a_code_host_too(name: str) -> None:
    page = PROJECT / name
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


@pytest.fixture(scope="module")
def sources() -> str:
    """All that could know a variable."""
    files = [
        file
        for room in ("common", "hub", "provider", "ghub", "deploy", "tests")
        for file in (PROJECT / room).rglob("*")
    ]
    return "".join(file.read_text() for file in files if file.suffix in {".py", ".example", ".yaml", ".cfg"})


@pytest.mark.parametrize("name", [*OUTSIDE, *(f"docs/{page}" for page in PAGES)])
def test_variables_that_are_named_are_known(name: str, sources: str) -> None:
    known = set(re.findall(r"GHUB_\w+", sources + (DOCS / "configuration.md").read_text()))
    named = {one for one in re.findall(r"GHUB_\w+", (PROJECT / name).read_text()) if not one.endswith("_")}
    assert named - known == set()


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_settings_of_a_provider_that_are_shown_are_read(name: str, tmp_path: Path) -> None:
    for number, block in enumerate(one for one in blocks(PROJECT / name) if one.language == "yaml"):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block.text)
        assert read_configuration(file).places, block.text


@pytest.mark.parametrize("name", [*OUTSIDE, *(f"docs/{page}" for page in PAGES)])
def test_files_that_are_named_are_there(name: str) -> None:
    named = [span for span in code_spans(PROJECT / name) if span.startswith(ROOMS) and re.fullmatch(r"[\w./-]+", span)]
    assert [span for span in named if not (PROJECT / span).exists()] == []
