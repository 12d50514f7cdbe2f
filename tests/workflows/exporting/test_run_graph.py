"""The script beside a graph prepares pictures as the package does, so that both see the same numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from tests.support.tiny import tiny_openai_clip

from clipself.data.images import read_image
from clipself.data.jitter import SquareCanvas
from clipself.data.preprocess import Preprocess
from clipself.data.random_crop import RandomCrop
from clipself.data.semantic_training import shortest_size
from clipself.ops.patches import fit_longest
from clipself.workflows.exporting.dense_map import prepared

SIZES = [(60, 40), (41, 77), (64, 64), (200, 3), (333, 500), (10, 7)]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def picture_of(size: tuple[int, int]) -> Image.Image:
    pixels = torch.randint(256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(size[0]))
    return Image.fromarray(pixels.byte().numpy())


def script() -> Any:
    pytest.importorskip("onnxruntime")
    from clipself.workflows.exporting import run_graph

    return run_graph


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["canvas", "grey-canvas", "whole-patches", "shortest"])
def test_pictures_are_prepared_as_in_the_package(kind: str, size: tuple[int, int]) -> None:
    picture, scale = picture_of(size), None
    if kind == "whole-patches":  # of a dense map
        clip = tiny_openai_clip()
        height, width = fit_longest((size[1], size[0]), longest=64, patch=8)
        expected = clip.preprocess(picture, size=(height, width))
        how = prepared(clip.image_mean, clip.image_std, side="longest", size=64, multiple=8, resample="bicubic")
    elif kind == "shortest":  # of CAT-Seg
        height, width = shortest_size((size[1], size[0]), 64, longest=256)
        expected = Preprocess(mean=MEAN, std=STD).normalize(picture.resize((width, height), Image.Resampling.BILINEAR))
        how = prepared(MEAN, STD, side="shortest", size=64, most=256, resample="bilinear")
    else:
        antialias, preprocess = kind == "canvas", Preprocess(mean=MEAN, std=STD)
        framing: Any = (
            SquareCanvas(side=64, preprocess=preprocess) if antialias else RandomCrop(side=64, preprocess=preprocess)
        )
        framed = framing.test(picture)
        expected, scale = framing.pixels(framed)[:, : framed.image.height, : framed.image.width], framed.scale
        how = prepared(MEAN, STD, side="longest", size=64, resample="bilinear", canvas=64, antialias=antialias)
    image, scaled = script().prepare(picture, how)
    assert scale is None or scaled == scale
    torch.testing.assert_close(torch.from_numpy(image)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_files_are_read_as_in_the_package(mode: str, tmp_path: Path) -> None:
    picture, exif = picture_of((40, 24)), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a telephone on its side
    if mode == "RGBA":
        picture.putalpha(picture.getchannel("R"))
    picture.convert(mode).save(tmp_path / "turned.png", exif=exif)
    read = script().read(tmp_path / "turned.png")
    assert read.size == (24, 40)
    assert np.array_equal(np.asarray(read), np.asarray(read_image(tmp_path / "turned.png")))
