"""One HTML page that holds everything: text, tables and pictures; nothing is fetched when it is opened."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from clipself.files import write_text

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; }
.lead { opacity: .75; margin-top: 0; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; border-radius: 4px; background: #fff; }
figcaption { font-size: .9rem; opacity: .75; }
table { border-collapse: collapse; } .scroll { overflow-x: auto; }
th, td { padding: .35rem .9rem .35rem 0; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.best td { font-weight: 600; }
pre { background: #8882; padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; font-size: .9rem; }
"""


class ReportPage:
    """Collects sections, then writes the page.

    Args:
        title: Heading of the page.
        lead: One sentence below it.
    """

    def __init__(self, title: str, *, lead: str) -> None:
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{html.escape(lead)}</p>']

    def heading(self, text: str) -> None:
        """Begins a section."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Adds a paragraph of plain text."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, best: int | None = None) -> None:
        """Adds a table.

        Args:
            head: Titles of the columns.
            rows: Cells.
            best: Row that stands out.
        """
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        lines = [
            f"<tr{' class=best' if place == best else ''}>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            + "</tr>"
            for place, row in enumerate(rows)
        ]
        self.parts.append(f'<div class="scroll"><table><tr>{cells}</tr>{"".join(lines)}</table></div>')

    def picture(self, picture: Image.Image | Path, *, caption: str) -> None:
        """Embeds a picture; the caption is its alternative text too."""
        if isinstance(picture, Path):
            data, kind = picture.read_bytes(), "png"
        else:
            stream = io.BytesIO()
            picture.convert("RGB").save(stream, "JPEG", quality=88)
            data, kind = stream.getvalue(), "jpeg"
        said = html.escape(caption, quote=True)
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        self.parts.append(f'<figure><img alt="{said}" src="{source}"><figcaption>{said}</figcaption></figure>')

    def code(self, text: str) -> None:
        """Adds commands to copy."""
        self.parts.append(f"<pre>{html.escape(text)}</pre>")

    def write(self, path: str | Path) -> Path:
        """Writes the page, atomically."""
        return write_text(path, framed(self.title, STYLE, self.parts))


def framed(title: str, style: str, parts: Sequence[str]) -> str:
    """A whole page of parts that are HTML already."""
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body>"
    )
    return head + "\n".join(parts) + "</body></html>\n"
