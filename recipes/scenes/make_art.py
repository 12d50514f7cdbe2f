"""Draws the things of the generated scenes from a colour font into one sheet and an index.

Usage: python recipes/scenes/make_art.py --font NotoColorEmoji.ttf --style noto
"""

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[2]
CELL, COLUMNS, STRIKE = 112, 16, 109  # the font's bitmaps come in one size, asked for as 109


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """One glyph, cut to its content and fitted to a cell; None where the font has no such glyph."""
    canvas = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(canvas).text((40, 40), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None or box[2] - box[0] < 20:
        return None
    glyph = canvas.crop(box)
    glyph.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return glyph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--font", type=Path, default=Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
    parser.add_argument("--style", default="noto")
    parser.add_argument("--out", type=Path, default=ROOT / "src/clipself/data/scenes/art")
    options = parser.parse_args()
    font = ImageFont.truetype(str(options.font), STRIKE)
    lines = (Path(__file__).parent / "things.txt").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]
    drawn = [(name, glyph) for name, character in pairs if (glyph := draw(character, font)) is not None]
    sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(drawn) // COLUMNS) * CELL))
    index = []
    for place, (name, glyph) in enumerate(drawn):
        left, top = place % COLUMNS * CELL, place // COLUMNS * CELL
        sheet.paste(glyph, (left, top))
        index.append({"name": name, "box": [left, top, left + glyph.width, top + glyph.height]})
    options.out.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out / f"{options.style}.webp", lossless=True, quality=90, method=6)
    (options.out / f"{options.style}.json").write_text(json.dumps(index, indent=0) + "\n")
    print(f"{len(drawn)} of {len(pairs)} things drawn")


if __name__ == "__main__":
    main()
