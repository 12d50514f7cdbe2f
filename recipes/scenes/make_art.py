"""Draws the things of the generated scenes from a colour font or from SVG files into one sheet and an index.

Usage:
    python recipes/scenes/make_art.py --style noto --font NotoColorEmoji.ttf
    npm pack @twemoji/svg@15.0.0 && tar xzf twemoji-svg-15.0.0.tgz && pip install cairosvg
    python recipes/scenes/make_art.py --style twemoji --svg package
"""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[2]
CELL, COLUMNS, STRIKE = 112, 16, 109  # the font's bitmaps come in one size, asked for as 109

Draw = Callable[[str], Image.Image | None]


def from_font(path: Path) -> Draw:
    """Draws characters with a colour font."""
    font = ImageFont.truetype(str(path), STRIKE)

    def draw(character: str) -> Image.Image | None:
        canvas = Image.new("RGBA", (256, 256))
        ImageDraw.Draw(canvas).text((40, 40), character, font=font, embedded_color=True)
        return canvas

    return draw


def from_svg(folder: Path) -> Draw:
    """Draws characters from one SVG file each, named by code point."""
    import cairosvg

    def draw(character: str) -> Image.Image | None:
        points = [f"{ord(part):x}" for part in character if part != "\ufe0f"]
        path = folder / f"{'-'.join(points)}.svg"
        if not path.exists():
            return None
        png = cairosvg.svg2png(url=str(path), output_width=2 * CELL, output_height=2 * CELL)
        return Image.open(io.BytesIO(png)).convert("RGBA")

    return draw


def fit(drawn: Image.Image | None) -> Image.Image | None:
    """One glyph, cut to its content and fitted to a cell; None where there is no such glyph."""
    box = None if drawn is None else drawn.getbbox()
    if drawn is None or box is None or box[2] - box[0] < 20:
        return None
    glyph = drawn.crop(box)
    glyph.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return glyph


def main() -> None:
    """Writes STYLE.webp and STYLE.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--font", type=Path, default=Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
    parser.add_argument("--svg", type=Path, help="folder of SVG files; takes the place of the font")
    parser.add_argument("--style", default="noto", help="name of the sheet")
    parser.add_argument("--out", type=Path, default=ROOT / "src/clipself/data/scenes/art")
    options = parser.parse_args()
    draw = from_svg(options.svg) if options.svg else from_font(options.font)
    lines = (Path(__file__).parent / "things.txt").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]
    drawn = [(name, glyph) for name, character in pairs if (glyph := fit(draw(character))) is not None]
    sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(drawn) // COLUMNS) * CELL))
    index = []
    for place, (name, glyph) in enumerate(drawn):
        left, top = place % COLUMNS * CELL, place // COLUMNS * CELL
        sheet.paste(glyph, (left, top))
        index.append({"name": name, "box": [left, top, left + glyph.width, top + glyph.height]})
    options.out.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out / f"{options.style}.webp", lossless=True, quality=90, method=6)
    rows = ",\n".join(json.dumps(row) for row in index)
    (options.out / f"{options.style}.json").write_text(f"[\n{rows}\n]\n")
    print(f"{len(drawn)} of {len(pairs)} things drawn")


if __name__ == "__main__":
    main()
