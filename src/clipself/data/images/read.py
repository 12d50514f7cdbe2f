"""A picture of any kind to RGB pixels, or a message that names it; the same pixels by path and by object."""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from clipself.data.images.formats import ask_for_plugin, load_plugin
from clipself.data.images.inside import open_inside
from clipself.data.images.stored import as_stored
from clipself.data.images.video import Frame, is_video
from clipself.files import is_address, what_instead

Picture = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Frame
"""A file, an opened picture, an array (H, W), (H, W, 3) or (H, W, 4), a tensor (H, W) or (C, H, W), a frame of a
video."""

MOST_PIXELS: Final = 178_956_970
"""Larger pictures are refused ahead of decoding: Pillow's own bound, which keeps the RGB pixels below 540 MB."""

TURNED: Final = "clipself_turned"
"""Under which a picture keeps the orientation that it was stored in."""

SIDEWAYS: Final = (5, 6, 7, 8)
"""Orientations of EXIF that exchange width and height."""


def read_image(picture: Picture) -> Image.Image:
    """Decodes a picture whole: orientation applied, any mode brought to RGB.

    Greyscale, palette, CMYK, LAB and 16-bit pictures are converted; transparency is laid on black, as padding is. A
    file and the opened picture of that file give the same pixels.

    Args:
        picture: File of any format that Pillow reads (of an animation the first picture); a PIL image of any mode; an
            array (H, W), (H, W, 3) or (H, W, 4), or a tensor (H, W) or (1 | 3 | 4, H, W), of 8 or 16 bits without sign,
            booleans, or floats in [0, 1]; a frame of a video. Channels are red, green, blue: OpenCV's arrays are turned
            by `array[..., ::-1]`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no picture, is damaged or cut short, cannot be opened, or has more than `MOST_PIXELS` pixels.
    """
    if isinstance(picture, Image.Image):
        _load(picture, str(getattr(picture, "filename", "") or f"the PIL image of {picture.width} x {picture.height}"))
        return _to_rgb(_upright(picture))
    if isinstance(picture, np.ndarray):
        return _from_array(picture, "array")
    if isinstance(picture, Tensor):
        held = picture.detach().cpu()
        values: NDArray[Any] = (held.float() if held.is_floating_point() else held).numpy()
        return _from_array(np.moveaxis(values, 0, -1) if values.ndim == 3 else values, "tensor")
    if isinstance(picture, str | os.PathLike):
        with open_file(picture) as opened:
            return _to_rgb(_upright(opened))
    if isinstance(picture, Frame):
        return picture.read()
    raise ValueError(
        f"a picture is a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W), not {type(picture).__name__}; "
        "pass one picture, or a list of them where several are taken"
    )


def list_pictures(pictures: Sequence[Picture] | Picture) -> list[Picture]:
    """One picture, or several, as a list; arrays and tensors of one dimension more than a picture's are several."""
    one = isinstance(pictures, str | bytes | os.PathLike | Image.Image | Mapping) or hasattr(pictures, "read")
    if one or not isinstance(pictures, Iterable):
        return [cast(Picture, pictures)]  # what is no picture at all is told so as a whole
    if isinstance(pictures, np.ndarray | Tensor) and pictures.ndim < 4:
        return [pictures]
    return list(pictures)


def refuse_address(name: str | os.PathLike[str]) -> None:
    """Refuses what lies on a network, in a bucket or in a text; of addresses only those of tar shards are read.

    Raises:
        ValueError: It is an address.
    """
    if is_address(name):
        raise ValueError(f"{os.fspath(name)[:80]} is an address; download the file and pass its path")


@contextmanager
def open_file(name: str | os.PathLike[str], *, what: str = "image", decode: bool = True) -> Iterator[Image.Image]:
    """A picture file as Pillow reads it, its pixels decoded, in its own mode.

    Args:
        name: The file.
        what: It should be, for the message.
        decode: Whether its pixels are wanted.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As of `read_image`.
    """
    refuse_address(name)
    path = as_stored(Path(name))
    if (member := open_inside(path)) is not None:
        with _opened(member, path) as opened:
            if decode:
                _load(opened, str(path))
            yield opened
        return
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} cannot be opened (it is no regular file); pass a picture file")
        stream = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"no {what} at {path}; check the path") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be opened ({error.strerror}); check what it is and who may read it") from error
    with stream, _opened(stream, path) as opened:
        if decode:
            _load(opened, str(path))
        yield opened


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width at which `read_image` gives a picture file, without decoding it; errors as of `read_image`."""
    with open_file(path, decode=False) as opened:
        lies = _orientation(opened) in SIDEWAYS
        return (opened.width, opened.height) if lies else (opened.height, opened.width)


def turned(image: Image.Image) -> int:
    """EXIF's orientation (2 to 8) out of which `read_image` has turned a picture; 1 where it has not."""
    return int(image.info.get(TURNED, 1))


def orientation_of(path: str | os.PathLike[str]) -> int:
    """EXIF's orientation of a file, 1 where it has none; errors as of `read_image`."""
    with open_file(path, decode=False) as opened:
        return _orientation(opened)


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged tag says nothing about the pixels
        return 1


def _opened(stream: Any, path: Path) -> Image.Image:
    """The picture in a stream, its pixels not yet decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound is `MOST_PIXELS`
        try:
            return Image.open(stream)
        except UnidentifiedImageError:
            pass
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path} is too large ({error}); make it smaller") from None
        except Exception as error:  # the parsers of Pillow's many formats raise whatever a damaged file makes them meet
            raise _damaged(str(path), error) from error
        stream.seek(0)
        begun = stream.read(64)
        wanted = ask_for_plugin(begun[:32])
        if wanted is not None and load_plugin(wanted):
            stream.seek(0)
            try:
                return Image.open(stream)
            except Exception as error:
                raise _damaged(str(path), error) from error
    if wanted is not None:
        raise ValueError(f"{path} is {wanted.name} picture; {wanted.advice}, or convert it to JPEG or PNG")
    if is_video(path):
        raise ValueError(f"{path} is a video; pass its frames, one by one, by read_video")
    instead = what_instead(begun)
    cause = f" (it {instead})" if instead else ""
    raise ValueError(f"{path} is not an image that can be read{cause}; remove it or convert it")


def _load(opened: Image.Image, name: str) -> None:
    width, height = opened.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{name} has {width} x {height} pixels, {MOST_PIXELS} are the most; make it smaller")
    if not width * height:
        raise ValueError(f"{name} has no pixels ({width} x {height}); remove it")
    try:
        opened.load()
    except Exception as error:  # see _opened
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ValueError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{name} is damaged or cut short ({said}); copy it again or remove it")


def _upright(image: Image.Image) -> Image.Image:
    try:
        way = _orientation(image)
        upright = ImageOps.exif_transpose(image)
    except Exception:  # a damaged tag says nothing about the pixels
        return image
    if way in range(2, 9):
        upright.info[TURNED] = way
    return upright


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_bytes(np.asarray(image), deep=image.mode.startswith("I;16"))).convert("RGB")
    if image.has_transparency_data:
        return _on_black((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_black(image: Image.Image) -> Image.Image:
    layered = Image.new("RGBA", image.size, (0, 0, 0, 255))
    layered.alpha_composite(image)
    return layered.convert("RGB")


def _to_bytes(values: NDArray[Any], *, deep: bool) -> NDArray[np.uint8]:
    """Deep greyscale to 8 bits; 16-bit files fill their range, others are told by their largest value."""
    if deep:
        return _halve(values)
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    largest = float(numbers.max(initial=0.0))
    ranges = [255.0, 65535.0] if np.issubdtype(values.dtype, np.integer) else [1.0, 255.0, 65535.0]
    top = next((limit for limit in ranges if largest <= limit), largest)
    return np.clip(np.rint(numbers / top * 255.0), 0, 255).astype(np.uint8)


def _halve(values: NDArray[Any]) -> NDArray[np.uint8]:
    """16 bits to the nearest of 8."""
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _from_array(values: NDArray[Any], kind: str) -> Image.Image:
    """Pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of any type that says its range."""
    order = "(H, W), (H, W, 3) or (H, W, 4)" if kind == "array" else "(H, W) or (3, H, W)"
    shape = values.shape if kind == "array" or values.ndim != 3 else (values.shape[2], *values.shape[:2])
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)) or not values.size:
        raise ValueError(f"the {kind} of shape {shape} is no picture; pass one picture of shape {order}")
    pixels = np.ascontiguousarray(_array_to_bytes(values, kind))
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise ValueError(f"the {kind} has {shape} pixels, {MOST_PIXELS} are the most; make it smaller")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    image = Image.fromarray(pixels)
    return _on_black(image) if image.mode == "RGBA" else image.convert("RGB")


def _array_to_bytes(values: NDArray[Any], kind: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = float(values.min()), float(values.max())
    if values.dtype == np.uint16 and (high > 255 or high == low):
        return _halve(values)
    if values.dtype == np.uint16:
        raise ValueError(
            f"the {kind} of uint16 runs from {low:g} to {high:g}, nearly black; are these bytes? pass uint8"
        )
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= 255:
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating) and low >= -1e-3 and high <= 1 + 1e-3:
        scaled: NDArray[Any] = np.rint(np.clip(values, 0, 1) * 255)
        return scaled.astype(np.uint8)
    raise ValueError(
        f"the {kind} of {values.dtype} runs from {low:g} to {high:g}; a picture holds bytes (0 to 255), 16 bits "
        "without sign, or floats in [0, 1], not normalised ones"
    )
