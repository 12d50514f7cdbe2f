"""Pages of many pictures that lie beside them as files: grids, and scores as bars; nothing is fetched from afar."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from clipself.files import write_text
from clipself.viz.report import STYLE, framed

GRID: Final = """
body { max-width: 82rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(var(--wide, 15rem), 1fr)); }
.grid figure { margin: 0; } .grid img { width: 100%; display: block; }
.grid.small { --wide: 8rem; } .grid.small img { height: 8rem; object-fit: contain; background: #8882; }
figcaption { overflow-wrap: anywhere; }
svg { display: block; } svg rect { fill: currentColor; opacity: .65; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One picture of a grid.

    Attributes:
        file: Below the folder of the page.
        caption: Below it, and in its place where it cannot be shown.
        link: Where a click leads; nowhere if empty.
    """

    file: str
    caption: str
    link: str = ""


class GalleryPage:
    """Collects sections, then writes the page.

    Args:
        title: Heading of the page.
        lead: One sentence below it.
        links: (text, page) of its neighbours.
    """

    def __init__(self, title: str, *, lead: str, links: Sequence[tuple[str, str]] = ()) -> None:
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{html.escape(lead)}</p>']
        self.links(links)

    def heading(self, text: str) -> None:
        """Begins a section."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def links(self, links: Sequence[tuple[str, str]]) -> None:
        """A row of links to other pages."""
        if links:
            joined = "".join(f'<a href="{quote(page)}">{html.escape(text)}</a>' for text, page in links)
            self.parts.append(f"<nav>{joined}</nav>")

    def grid(self, tiles: Sequence[Tile], *, small: bool = False) -> None:
        """Pictures in as many columns as there is room for; they are loaded when they are scrolled to."""
        kind = "grid small" if small else "grid"
        self.parts.append(f'<div class="{kind}">{"".join(map(_figure, tiles))}</div>')

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table, whose cells are HTML already; see `link` and `bars`."""
        titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
        self.parts.append(f'<div class="scroll"><table><tr>{titles}</tr>{"".join(lines)}</table></div>')

    def write(self, path: str | Path) -> Path:
        """Writes the page, atomically."""
        return write_text(path, framed(self.title, STYLE + GRID, self.parts))


def _figure(tile: Tile) -> str:
    said = html.escape(tile.caption, quote=True)
    image = f'<img loading="lazy" alt="{said}" src="{quote(tile.file)}">'
    shown = f'<a href="{quote(tile.link)}">{image}</a>' if tile.link else image
    return f"<figure>{shown}<figcaption>{said}</figcaption></figure>"


def link(text: str, page: str) -> str:
    """A link for a cell of a table."""
    return f'<a href="{quote(page)}">{html.escape(text)}</a>'


def bars(counts: Sequence[int], *, title: str, width: int = 200, height: int = 28) -> str:
    """A histogram for a cell of a table: one bar a count, the largest as high as there is room.

    Args:
        counts: Left to right.
        title: Said where it is pointed at.
        width: In pixels.
        height: In pixels.
    """
    step, most = width / max(len(counts), 1), max([*counts, 1])
    drawn = "".join(
        f'<rect x="{place * step:.1f}" y="{height - height * count / most:.1f}" width="{step - 1:.1f}" '
        f'height="{height * count / most:.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    said = html.escape(title, quote=True)
    return (
        f'<svg role="img" aria-label="{said}" width="{width}" height="{height}"><title>{said}</title>'
        f'<line x1="0" x2="{width}" y1="{height - 0.5}" y2="{height - 0.5}" stroke="currentColor" opacity=".4"/>'
        f"{drawn}</svg>"
    )
