"""A picture in any form gives the pixels of its file; what is no picture is named."""

import json
import os
import random
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, features
from tests.support.damaged import damaged_files

from clipself.data.images import find_pictures, list_pictures, read_image, size_of
from clipself.data.images.inside import change_of
from clipself.data.images.read import MOST_PIXELS
from clipself.data.sources import CocoImages


def pixels(picture: Any) -> NDArray[np.uint8]:
    image = read_image(picture)
    assert image.mode == "RGB"
    return np.asarray(image)


def photo() -> Image.Image:
    """Colours of every kind, smooth enough for JPEG."""
    rows, cols = np.mgrid[0:40, 0:56]
    return Image.fromarray(np.stack([rows * 6, cols * 4, (rows + cols) * 2], axis=-1).astype(np.uint8))


MODES: dict[str, Callable[[], tuple[Image.Image, str]]] = {
    "1": lambda: (photo().convert("1"), "png"),
    "L": lambda: (photo().convert("L"), "png"),
    "LA": lambda: (with_alpha(photo()).convert("LA"), "png"),
    "P": lambda: (photo().convert("P"), "png"),
    "P with a transparent colour": lambda: (photo().quantize(16), "gif"),
    "RGB": lambda: (photo(), "webp"),
    "RGBA": lambda: (with_alpha(photo()), "png"),
    "CMYK": lambda: (photo().convert("CMYK"), "jpg"),
    "YCbCr": lambda: (photo().convert("YCbCr"), "tif"),
    "LAB": lambda: (to_lab(photo()), "tif"),
    "I;16": lambda: (Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257), "png"),
    "I;16 tiff": lambda: (Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257), "tif"),
    "I": lambda: (Image.fromarray(np.asarray(photo().convert("L")).astype(np.int32) * 257), "tif"),
    "F": lambda: (Image.fromarray(np.asarray(photo().convert("L")).astype(np.float32) / 255), "tif"),
}


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.fromarray(np.where(np.mgrid[0:40, 0:56][1] < 28, 0, 255).astype(np.uint8)))
    return image


def to_lab(image: Image.Image) -> Image.Image:
    made = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert made is not None
    return made


@pytest.mark.parametrize("mode", MODES)
def test_opened_and_stored_pictures_are_the_same_in_every_mode(tmp_path: Path, mode: str) -> None:
    made, suffix = MODES[mode]()
    path = tmp_path / f"a.{suffix}"
    if mode.startswith("P with"):
        made.save(path, transparency=3)
    else:
        made.save(path)
    stored = pixels(path)
    with Image.open(path) as opened:
        assert (pixels(opened) == stored).all()
    assert (pixels(str(path)) == stored).all()
    assert stored.shape == (40, 56, 3)
    if suffix != "gif":  # which is the only one that loses what was drawn
        difference = np.abs(pixels(made).astype(int) - stored).mean()
        assert difference < (3.0 if suffix in ("jpg", "webp") else 1e-9)


def test_transparency_is_black_and_deep_grey_keeps_its_tones() -> None:
    assert pixels(with_alpha(photo()))[:, :28].max() == 0
    assert (pixels(with_alpha(photo()))[:, 28:] == np.asarray(photo())[:, 28:]).all()
    deep = np.tile(np.arange(0, 65536, 257, dtype=np.uint16), (2, 1))
    assert pixels(Image.fromarray(deep))[0, :, 0].tolist() == list(range(256))
    for made in (  # which no file has
        with_alpha(photo()).convert("LA").convert("La"),
        with_alpha(photo()).convert("RGBa"),
        with_alpha(photo()).quantize(64),
    ):
        assert pixels(made)[:, :27].max() == 0
        assert pixels(made)[:, 28:].max() > 100
    lab = pixels(to_lab(photo())).astype(int)
    assert np.abs(lab - np.asarray(photo())).mean() < 3


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(lambda p: p, id="bytes"),
        pytest.param(lambda p: p.astype(np.uint16) * 257, id="16-bit"),
        pytest.param(lambda p: p.astype(np.float32) / 255, id="float32"),
        pytest.param(lambda p: p.astype(np.float64) / 255, id="float64"),
        pytest.param(lambda p: p.astype(np.int64), id="int64"),
        pytest.param(lambda p: np.concatenate([p, np.full_like(p[..., :1], 255)], -1), id="opaque-alpha"),
        pytest.param(lambda p: p[::-1][::-1], id="not-contiguous"),
    ],
)
def test_arrays_and_tensors_are_the_picture(values: Callable[[NDArray[np.uint8]], Any]) -> None:
    truth = np.asarray(photo())
    array = values(truth)
    assert (pixels(array) == truth).all()
    if array.dtype != np.uint16:
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
        assert (pixels(tensor.requires_grad_() if tensor.is_floating_point() else tensor) == truth).all()


def test_grey_arrays_booleans_and_half_floats() -> None:
    grey = np.asarray(photo())[..., 0]
    for one in (grey, grey[..., None], torch.from_numpy(grey.copy()), torch.from_numpy(grey.copy())[None]):
        assert (pixels(one) == grey[..., None]).all()
    assert (pixels(grey > 100)[..., 1] == (grey > 100) * 255).all()
    half = torch.from_numpy(np.asarray(photo()).copy()).permute(2, 0, 1).bfloat16() / 256
    assert np.abs(pixels(half).astype(int) - np.asarray(photo())).max() <= 2
    transparent = np.dstack([np.asarray(photo()), np.zeros((40, 56, 1), dtype=np.uint8)])
    assert pixels(transparent).max() == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(np.zeros((3, 40, 56), dtype=np.uint8), r"array of shape \(3, 40, 56\) is no picture", id="CHW"),
        pytest.param(
            np.eye(9, dtype=np.uint16) * 200, "uint16 runs from 0 to 200, nearly black; are these bytes", id="16"
        ),
        pytest.param(np.zeros((2, 4, 5, 3)), r"shape \(2, 4, 5, 3\).*pass one picture", id="batch"),
        pytest.param(torch.zeros(40, 56, 3), r"tensor of shape \(40, 56, 3\).*\(3, H, W\)", id="HWC-tensor"),
        pytest.param(np.zeros((0, 5, 3), dtype=np.uint8), "is no picture", id="empty"),
        pytest.param(np.full((4, 5), 7.5), "runs from 7.5 to 7.5", id="float-of-bytes"),
        pytest.param(torch.full((3, 4, 5), -1.2), "not normalised ones", id="normalised"),
        pytest.param(np.full((4, 5), np.nan), "runs from nan", id="nan"),
        pytest.param(np.full((4, 5), 300), "int64 runs from 300", id="integers"),
        pytest.param(Image.new("RGB", (0, 3)), r"has no pixels \(0 x 3\)", id="no-pixels"),
        pytest.param(["a.jpg"], "not list; pass one picture", id="list"),
        pytest.param(None, "not NoneType", id="none"),
        pytest.param("https://example.org/a.jpg", "is an address; download", id="address"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_image(given)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(ValueError, match=r"x\.jpg cannot be opened \(Is a directory\)"):
        read_image(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    with pytest.raises(ValueError, match=r"pipe\.png cannot be opened \(it is no regular file\)"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(FileNotFoundError, match=r"no image at .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_an_opened_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    photo().resize((300, 300)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-800])
    with Image.open(tmp_path / "a.jpg") as opened, pytest.raises(ValueError, match=r"a\.jpg is damaged or cut short"):
        read_image(opened)


def test_giants_are_refused_ahead_of_decoding(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    Image.new("1", (40_000, 10_000)).save(tmp_path / "more.png")
    for name in ("bomb", "more"):
        with pytest.raises(ValueError, match=rf"{name}\.png (has|is too large)"):
            read_image(tmp_path / f"{name}.png")
    Image.new("L", (10_000, 9_200)).save(tmp_path / "large.png")  # Pillow warns from 89 million pixels on
    assert read_image(tmp_path / "large.png").size == (10_000, 9_200)


def test_orientation_counts_for_objects_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        assert read_image(opened).size == (40, 56)
        assert (pixels(opened) == pixels(tmp_path / "a.png")).all()
    assert (pixels(tmp_path / "a.png") == np.rot90(np.asarray(photo()), -1)).all()


def test_animations_give_their_first_picture(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.webp", save_all=True, append_images=[photo().rotate(180)] * 2, lossless=True)
    assert (pixels(tmp_path / "a.webp") == np.asarray(photo())).all()


def heic_bytes() -> bytes:
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_its_plugin_is_told_how_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.jpg").write_bytes(heic_bytes())  # phones name them so, too
    with pytest.raises(ValueError, match=r"a\.jpg is a HEIC picture; pip install 'clipself\[heic\]'"):
        read_image(tmp_path / "a.jpg")


def test_heic_is_read_where_its_plugin_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's own interface, which registers a reader with Pillow."""
    known = dict(Image.OPEN), list(Image.ID)
    plugin = ModuleType("pillow_heif")

    def register() -> None:
        Image.register_open("HEIF", lambda stream, name: photo(), lambda head: head[4:12] == b"ftypheic")  # type: ignore[arg-type, return-value]

    plugin.register_heif_opener = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    (tmp_path / "a.heic").write_bytes(heic_bytes())
    try:
        assert (pixels(tmp_path / "a.heic") == np.asarray(photo())).all()
    finally:
        Image.OPEN.clear()
        Image.OPEN.update(known[0])
        Image.ID[:] = known[1]


def save_as(kind: str, path: Path) -> Path:
    """A real file of a format that needs a decoder of its own; skips where there is none."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    photo().save(path, format=kind, quality=95)
    return path


@pytest.mark.parametrize(("kind", "suffix"), [("AVIF", "avif"), ("AVIF", "jpg"), ("HEIF", "heic"), ("HEIF", "jpg")])
def test_avif_and_heic_are_read_as_every_picture_is(tmp_path: Path, kind: str, suffix: str) -> None:
    path = save_as(kind, tmp_path / f"a.{suffix}")
    assert np.abs(pixels(path).astype(int) - np.asarray(photo()).astype(int)).mean() < 3
    assert [one.path for one in find_pictures(tmp_path)] == [path]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\.{suffix} is damaged or cut short"):  # not: install what is there
        read_image(path)


def test_avif_follows_its_orientation(tmp_path: Path) -> None:
    path, exif = save_as("AVIF", tmp_path / "a.avif"), Image.Exif()
    exif[0x0112] = 6
    photo().save(path, quality=95, exif=exif)
    turned = np.asarray(photo().transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pixels(path).astype(int) - turned).mean() < 3


def test_avif_without_its_decoder_is_told_how_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(100))
    with pytest.raises(ValueError, match=r"a\.jpg is an AVIF picture; pip install 'pillow>=11\.3'"):
        read_image(tmp_path / "a.jpg")


def test_one_picture_or_several() -> None:
    array = np.zeros((4, 5, 3), dtype=np.uint8)
    assert list_pictures("a.jpg") == ["a.jpg"]
    assert list_pictures(["a.jpg", Path("b.jpg")]) == ["a.jpg", Path("b.jpg")]
    assert len(list_pictures(array)) == 1
    assert len(list_pictures(np.stack([array, array]))) == 2
    assert len(list_pictures(torch.zeros(2, 3, 4, 5))) == 2


@pytest.mark.parametrize("count", [pytest.param(6, id="few"), pytest.param(150, id="many", marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_named(tmp_path: Path, count: int) -> None:
    read = refused = 0
    for name, data in damaged_files(random.Random(5), count):
        path = tmp_path / name
        path.write_bytes(data)
        try:
            assert read_image(path).mode == "RGB"
            read += 1
        except ValueError as error:
            assert name in str(error)  # noqa: PT017 - both outcomes are right
            refused += 1
        path.unlink()
    assert read > count
    assert refused > count


@pytest.mark.parametrize(("stored", "said"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_leads_to_its_file_in_either_form_of_unicode(
    stored: Literal["NFC", "NFD"], said: Literal["NFC", "NFD"], tmp_path: Path
) -> None:
    """Archives of macOS hold accents as signs of their own; labels that were made elsewhere do not."""
    name = "\u00dcbung/\u00e9t\u00e9 \u30ac.png"
    file, other = (tmp_path / unicodedata.normalize(form, name) for form in (stored, said))
    file.parent.mkdir()
    photo().save(file)
    rows = [{"id": 1, "file_name": unicodedata.normalize(said, name)}]
    (tmp_path / "a.json").write_text(json.dumps({"images": rows}))
    source = CocoImages(tmp_path / "a.json", tmp_path, needs_boxes=False)
    assert source.paths == [other]
    assert np.array_equal(pixels(other), pixels(file))
    assert size_of(other) == (40, 56)
    assert change_of(other) == change_of(file)
    with pytest.raises(FileNotFoundError, match="no image at"):
        read_image(other.with_suffix(".jpg"))
