"""Pictures of what a model sees: K-means groups and query heat maps, beside those of a refined one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.text import embed_names
from clipself.data.images import Picture, read_all
from clipself.files import write_atomically
from clipself.ops.patches import fit_longest
from clipself.viz.heatmap import common_scale, draw_query
from clipself.viz.kmeans import draw_kmeans
from clipself.viz.panels import stack

Columns = Sequence[tuple[str, DenseCLIP]]


def show_kmeans(
    images: Sequence[Picture] | Picture,
    *,
    model: str = "clipself-mini",
    pretrained: str | None = None,
    refined: str | Path | None = None,
    out: str | Path = "kmeans.png",
    clusters: int = 6,
    image_size: int = 640,
    readout: str = "value",
    device: str = "auto",
) -> Path:
    """Draws image | original | refined for each picture, groups of the dense map in matching colours.

    Args:
        images: Picture files, folders of them, or opened pictures; one that cannot be read is left out with a word.
        model: open_clip name, "clipself-mini" or an export folder.
        pretrained: Tag or file of a named model.
        refined: Export folder of a refined model for a third column.
        out: PNG to write.
        clusters: Groups of each map.
        image_size: Longest side that the model sees, in pixels; the aspect is kept.
        readout: How the last block becomes a dense map.
        device: cpu, cuda, mps or auto.

    Returns:
        The PNG.

    Raises:
        ValueError: A picture cannot be read, or the model or readout is unknown.
        FileNotFoundError: A picture or model is missing.
    """
    columns = load_columns(model, pretrained, refined, device=device)
    rows = [kmeans_row(picture, columns, clusters, image_size, readout) for picture in read_all(images)]
    return save_picture(stack(rows), out)


def show_query(
    images: Sequence[Picture] | Picture,
    text: str,
    *,
    model: str = "clipself-mini",
    pretrained: str | None = None,
    refined: str | Path | None = None,
    out: str | Path = "query.png",
    image_size: int = 640,
    readout: str = "value",
    templates: str = "simple",
    device: str = "auto",
) -> Path:
    """Draws how near each patch is to a text, for the original and a refined model.

    Args:
        images: Picture files, folders of them, or opened pictures; one that cannot be read is left out with a word.
        text: Any phrase, such as "a cat".
        model: open_clip name, "clipself-mini" or an export folder.
        pretrained: Tag or file of a named model.
        refined: Export folder of a refined model for a third column.
        out: PNG to write.
        image_size: Longest side that the model sees, in pixels; the aspect is kept.
        readout: How the last block becomes a dense map.
        templates: Sentences around the text.
        device: cpu, cuda, mps or auto.

    Returns:
        The PNG.

    Raises:
        ValueError: A picture cannot be read, the text is empty, or the model has no text tower.
        FileNotFoundError: A picture or model is missing.
    """
    if not text.strip():
        raise ValueError("the query is empty; ask for something, such as 'a cat'")
    columns = load_columns(model, pretrained, refined, device=device)
    asked = [(picture, text) for picture in read_all(images)]
    return save_picture(stack(query_rows(asked, columns, image_size, readout, templates)), out)


def load_columns(
    model: str, pretrained: str | None, refined: str | Path | None, *, device: str = "auto"
) -> list[tuple[str, DenseCLIP]]:
    """The models of the columns, with their titles."""
    place = pick_device(device)
    columns = [("original", load_clip(model, pretrained, device=place))]
    if refined is not None:
        columns.append(("refined", load_clip(refined, device=place)))
    return columns


def kmeans_row(
    image: Image.Image, columns: Columns, clusters: int = 6, image_size: int = 640, readout: str = "value"
) -> Image.Image:
    """One picture's row of K-means groups."""
    maps = [(title, dense_of(clip, image, image_size, readout)) for title, clip in columns]
    return draw_kmeans(fit_to_patches(image, columns[0][1].patch_size, image_size), maps, clusters=clusters)


def query_rows(
    asked: Sequence[tuple[Image.Image, str]],
    columns: Columns,
    image_size: int = 640,
    readout: str = "value",
    templates: str = "simple",
) -> list[Image.Image]:
    """A row of heat maps for each picture and its text, all on one scale, so that they can be compared."""
    texts = list(dict.fromkeys(text for _, text in asked))
    rows: list[list[tuple[str, NDArray[np.float32]]]] = [[] for _ in asked]
    for title, clip in columns:
        rows_SD = embed_names(clip, texts, templates=templates, cache=False).rows_SD.cpu().numpy()
        for row, (image, text) in zip(rows, asked, strict=True):
            dense_DYX = dense_of(clip, image, image_size, readout)
            row.append((title, np.einsum("dyx,d->yx", dense_DYX, rows_SD[texts.index(text)])))
    scale, patch = common_scale(similarity for row in rows for _, similarity in row), columns[0][1].patch_size
    return [
        draw_query(fit_to_patches(image, patch, image_size), text, row, scale=scale)
        for (image, text), row in zip(asked, rows, strict=True)
    ]


@torch.no_grad()
def dense_of(clip: DenseCLIP, image: Image.Image, image_size: int, readout: str = "value") -> NDArray[np.float32]:
    """The dense map (D, Y, X) of a picture whose longest side is brought to `image_size`, without padding."""
    fitted = fit_to_patches(image, clip.patch_size, image_size)
    pixels = clip.preprocess(fitted, size=(fitted.height, fitted.width))[None]
    dense: NDArray[np.float32] = clip.dense_map(pixels, readout=readout)[0].float().cpu().numpy()
    return dense


def fit_to_patches(image: Image.Image, patch: int, longest: int) -> Image.Image:
    """The picture at whole patches, as near to its own aspect as they allow."""
    height, width = fit_longest((image.height, image.width), longest=longest, patch=patch)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Writes a PNG, atomically."""
    return write_atomically(path, lambda part: picture.save(part, format="PNG"))
