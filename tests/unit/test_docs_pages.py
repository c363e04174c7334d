"""Generated pages are up to date; every page is linked; targets of links exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
_LINK = re.compile(r"\]\(([^)\s]+)\)")


WRITTEN = {
    "cli.md": "isola.cli.reference",
    "compose.md": "isola.compose.reference",
    "docker-api.md": "isola.doors.docker.reference",
    "rest-api.md": "isola.doors.rest.reference",
    "runtimes/matrix.md": "isola.runtimes.reference",
    "settings.md": "isola.daemon.reference",
}


@pytest.mark.parametrize(("name", "module"), WRITTEN.items())
def test_generated_pages_are_up_to_date(name: str, module: str) -> None:
    page = importlib.import_module(module).page()
    assert (DOCS / "reference" / name).read_text() == page, f"run: python -m {module} > docs/reference/{name}"


def test_the_page_of_the_api_begins_with_what_is_missing() -> None:
    """Foreign clients need SFTP."""
    page = (DOCS / "reference" / "rest-api.md").read_text()
    beginning = page.partition("\n## ")[0]
    assert ("SFTP" in beginning) == ("SFTP is not offered yet" in page)
    assert "SFTP" not in page or "unmodified" not in page


def links(page: Path) -> list[Path]:
    """Files that a page links to, without external addresses and anchors."""
    targets = [target.partition("#")[0] for target in _LINK.findall(page.read_text())]
    return [(page.parent / target).resolve() for target in targets if target and "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    listed = {*links(index), *links(DOCS / "decisions" / "README.md"), index}
    assert [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page.resolve() not in listed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_source_files_on_pages_exist(page: Path) -> None:
    """Paths like `instances/create.py`, which change when code moves."""
    named = set(re.findall(r"(?<![\w/<.-])((?:[a-z_]+/)+[a-z_]+\.py)\b", page.read_text()))
    missing = [
        name for name in named if not any((place / name).exists() for place in (ROOT / "src/isola", ROOT / "src", ROOT))
    ]
    assert sorted(missing) == []
