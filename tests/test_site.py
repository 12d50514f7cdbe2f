"""The site holds every page, and builds without a warning; the notebooks run."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(book, timeout=600, kernel_name="python3").execute()
nbformat.write(book, sys.argv[2])
"""


def named(nav: Any) -> list[str]:
    """Pages of a navigation, at any depth."""
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in named(one)]


def test_every_page_is_in_the_navigation_once() -> None:
    held = named(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(held) == len(set(held))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(held)  # the others fail the build


def test_the_reference_lists_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "src/clipself").glob("*/__init__.pyi")}
    linked = re.findall(r'href="api/clipself/(\w+)\.html"', (DOCS / "reference.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(rooms)


class Links(HTMLParser):
    """Where a page leads, and the places in it that can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.places.update(value for key in ("id", "name") if (value := held.get(key)))
        self.links += [value for key in ("href", "src") if (value := held.get(key))]


@pytest.mark.slow
def test_the_site_builds_strictly_and_leads_nowhere_else(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("material", reason="the extra docs is not installed")
    out = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path: Links(path) for path in out.rglob("*.html") if path.name != "404.html"}
    assert len(pages) == len(list(DOCS.rglob("*.md")))
    for path, page in pages.items():
        for link in page.links:
            target, _, place = link.partition("#")
            if re.match(r"\w+:|//", target):
                assert not link.endswith((".css", ".js", ".woff2")), f"{path.name} loads {link}"
            elif target.startswith("api/"):
                continue  # what pdoc writes beside it
            else:
                there = (path.parent / target).resolve() if target else path
                assert there.exists(), (path.name, link)
                if place and there in pages and not place.startswith("__"):
                    assert place in pages[there].places, (path.name, link)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_is_on_the_page(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert f"`{path.name}`" in (DOCS / "scripts.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    for needed in ("nbclient", "ipykernel"):
        pytest.importorskip(needed, reason="the extra docs is not installed")
    written = tmp_path / path.name
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(written)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [one for cell in json.loads(written.read_text())["cells"] for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in outputs)
