"""Pictures in rows and columns with titles."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN, TITLE, INK, PAPER = 8, 26, (34, 34, 34), (255, 255, 255)


def lay_out(rows: Sequence[Sequence[tuple[str, Image.Image]]], *, height: int = 280) -> Image.Image:
    """Puts titled pictures on white, every row to one height.

    Args:
        rows: For each row its (title, picture) columns.
        height: Of every picture, in pixels.

    Raises:
        ValueError: There are no pictures.
    """
    if not rows or not all(rows):
        raise ValueError("there are no pictures to lay out")
    font = ImageFont.load_default(size=15)
    strips = []
    for row in rows:
        sized = [
            (title, picture.convert("RGB").resize((max(1, round(picture.width * height / picture.height)), height)))
            for title, picture in row
        ]
        width = sum(picture.width + MARGIN for _, picture in sized) + MARGIN
        strip = Image.new("RGB", (width, height + TITLE + MARGIN), PAPER)
        pen, left = ImageDraw.Draw(strip), MARGIN
        for title, picture in sized:
            pen.text((left, 5), title, fill=INK, font=font)
            strip.paste(picture, (left, TITLE))
            left += picture.width + MARGIN
        strips.append(strip)
    return stack(strips)


def stack(strips: Sequence[Image.Image]) -> Image.Image:
    """Pictures below one another on white."""
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
