"""Image files of any kind to RGB pictures, or a message that names the file."""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
)
"""Suffixes that a folder is searched for, lower-case."""


def read_image(path: str | Path) -> Image.Image:
    """Decodes an image file whole: orientation applied, any mode brought to RGB.

    Greyscale, palette, CMYK and 16-bit files are converted; transparency is laid on black, as padding is.

    Args:
        path: File of any format that Pillow reads; of an animation the first picture.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, is damaged or cut short, or cannot be opened.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream, Image.open(stream) as opened:
            opened.load()
            return _to_rgb(_upright(opened))
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {path}; check the path") from None
    except (PermissionError, IsADirectoryError) as error:
        raise ValueError(f"{path} cannot be opened ({error.strerror}); check what it is and who may read it") from error
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read; remove it or convert it") from None
    except Exception as error:  # the parsers of Pillow's many formats raise whatever a damaged file makes them meet
        raise ValueError(f"{path} is damaged or cut short ({error}); copy it again or remove it") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged tag says nothing about the pixels
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_bytes(image)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        layered = Image.new("RGBA", image.size, (0, 0, 0, 255))
        layered.alpha_composite(image.convert("RGBA"))
        return layered.convert("RGB")
    return image.convert("RGB")


def _to_bytes(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Deep greyscale to 8 bits; 16-bit files fill their range, others are told by their largest value."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0.0))
    ranges = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0]
    if image.mode == "F":
        ranges.insert(0, 1.0)
    top = next((limit for limit in ranges if largest <= limit), largest)
    return np.clip(np.rint(values / top * 255.0), 0, 255).astype(np.uint8)
