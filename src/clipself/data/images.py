"""Image files of any kind to RGB pictures, or a message that names the file."""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES: Final = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"))
"""Suffixes that a folder is searched for, lower-case."""


def read_image(path: str | Path) -> Image.Image:
    """Decodes an image file whole: orientation applied, any mode brought to RGB.

    Greyscale, palette, CMYK and 16-bit files are converted; transparency is laid on black, as padding is.

    Args:
        path: File of any format that Pillow reads.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or is damaged or cut short.
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            return _to_rgb(upright if upright is not None else opened)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {path}; check the path") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read; remove it or convert it") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); copy it again or remove it") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        # 16-bit files fill their range; anything else is stretched from its own.
        top = 65535.0 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 255.0
        return Image.fromarray(np.clip(values / top * 255.0, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA", "La"):
        layered = Image.new("RGBA", image.size, (0, 0, 0, 255))
        layered.alpha_composite(image.convert("RGBA"))
        return layered.convert("RGB")
    return image.convert("RGB")
