"""Pictures of what a model sees: K-means groups and query heat maps, beside those of a refined one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.examples import embed_examples
from clipself.backbones.loading import load_clip
from clipself.backbones.refinement import dense_side, refinement_of
from clipself.backbones.text import embed_names
from clipself.data.examples import read_examples
from clipself.data.images import Example, Examples, Picture, list_examples, read_all
from clipself.engine.fields import fitted
from clipself.files import write_atomically
from clipself.ops.patches import fit_longest
from clipself.viz.heatmap import common_scale, draw_query
from clipself.viz.kmeans import draw_kmeans
from clipself.viz.panels import stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A model and how it is read.

    Attributes:
        title: Above its pictures.
        clip: The model.
        readout: How its last block becomes a dense map.
    """

    title: str
    clip: DenseCLIP
    readout: str = "value"


@fitted
def show_kmeans(
    images: Sequence[Picture] | Picture,
    *,
    model: str = "clipself-mini",
    pretrained: str | None = None,
    refined: str | Path | None = None,
    out: str | Path = "kmeans.png",
    clusters: int = 6,
    image_size: int | None = None,
    readout: str | None = None,
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
        image_size: Longest side that the models see, in pixels; the aspect is kept. What the last of them was refined
            at if not given.
        readout: How the last block becomes a dense map; what each was refined with if not given, else "value".
        device: cpu, cuda, mps or auto.

    Returns:
        The PNG.

    Raises:
        ValueError: A picture cannot be read, or the model or readout is unknown.
        FileNotFoundError: A picture or model is missing.
    """
    columns, side = load_columns(model, pretrained, refined, readout=readout, device=device)
    rows = [kmeans_row(picture, columns, image_size or side, clusters) for picture in read_all(images)]
    return save_picture(stack(rows), out)


@fitted
def show_query(
    images: Sequence[Picture] | Picture,
    text: str,
    *,
    model: str = "clipself-mini",
    pretrained: str | None = None,
    refined: str | Path | None = None,
    out: str | Path = "query.png",
    image_size: int | None = None,
    readout: str | None = None,
    templates: str = "simple",
    examples: str | Path | Examples | None = None,
    example_images: str | Path | None = None,
    device: str = "auto",
) -> Path:
    """Draws how near each patch is to a text, or to examples of a thing, for the original and a refined model.

    Args:
        images: Picture files, folders of them, or opened pictures; one that cannot be read is left out with a word.
        text: Any phrase, such as "a cat".
        model: open_clip name, "clipself-mini" or an export folder.
        pretrained: Tag or file of a named model.
        refined: Export folder of a refined model for a third column.
        out: PNG to write.
        image_size: Longest side that the models see, in pixels; the aspect is kept. What the last of them was refined
            at if not given.
        readout: How the last block becomes a dense map; what each was refined with if not given, else "value".
        templates: Sentences around the text.
        examples: Pictures of the thing that the text names, in place of the words: a folder of one folder a thing,
            labels with `example_images`, or a table of pictures by name.
        example_images: Folder of the pictures of labels.
        device: cpu, cuda, mps or auto.

    Returns:
        The PNG.

    Raises:
        ValueError: A picture cannot be read, the text is empty, or the model has no text tower.
        FileNotFoundError: A picture or model is missing.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text={text!r:.60} is nothing to look for; pass words after the pictures, such as 'a cat'")
    columns, side = load_columns(model, pretrained, refined, readout=readout, device=device)
    asked = [(picture, text) for picture in read_all(images)]
    shown = None if examples is None else {text: _examples_of(text, examples, example_images)}
    return save_picture(stack(query_rows(asked, columns, image_size or side, templates, examples=shown)), out)


def _examples_of(text: str, given: str | Path | Examples, images: str | Path | None) -> list[Example]:
    examples = read_examples(given, images) if isinstance(given, str | Path) else given
    if text not in examples:
        raise ValueError(f"there are no examples of {text!r}, only of {', '.join(sorted(examples)[:10])}")
    return list_examples(text, examples[text])


def load_columns(
    model: str,
    pretrained: str | None,
    refined: str | Path | None,
    *,
    readout: str | None = None,
    device: str = "auto",
) -> tuple[list[Column], int]:
    """The models of the columns, each read as its card says, and the size that suits the last of them."""
    columns, side = [], 0
    for title, name, weights in (("original", model, pretrained), ("refined", refined, None)):
        if name is not None:
            clip, refinement = load_clip(name, weights, device=pick_device(device)), refinement_of(name)
            columns.append(Column(title=title, clip=clip, readout=readout or refinement.readout or "value"))
            side = dense_side(clip, refinement)
    return columns, side


def kmeans_row(image: Image.Image, columns: Sequence[Column], image_size: int, clusters: int = 6) -> Image.Image:
    """One picture's row of K-means groups."""
    maps = [(column.title, dense_of(column, image, image_size)) for column in columns]
    return draw_kmeans(fit_to_patches(image, columns[0].clip.patch_size, image_size), maps, clusters=clusters)


def query_rows(
    asked: Sequence[tuple[Image.Image, str]],
    columns: Sequence[Column],
    image_size: int,
    templates: str = "simple",
    *,
    examples: Examples | None = None,
) -> list[Image.Image]:
    """A row of heat maps for each picture and its text, all on one scale, so that they can be compared.

    Args:
        asked: Pictures and texts.
        columns: The models.
        image_size: Longest side that they see, in pixels.
        templates: Sentences around the texts.
        examples: Pictures of what some of the texts name, in place of the words.
    """
    texts = list(dict.fromkeys(text for _, text in asked))
    rows: list[list[tuple[str, NDArray[np.float32]]]] = [[] for _ in asked]
    for column in columns:
        shown = embed_examples(column.clip, examples, readout=column.readout) if examples else None
        text = embed_names(column.clip, texts, templates=templates, cache=False, shown=shown)
        rows_SD = text.rows_SD.cpu().numpy()
        for row, (image, said) in zip(rows, asked, strict=True):
            dense_DYX = dense_of(column, image, image_size)
            row.append((column.title, np.einsum("dyx,d->yx", dense_DYX, rows_SD[texts.index(said)])))
    scale, patch = common_scale(similarity for row in rows for _, similarity in row), columns[0].clip.patch_size
    return [
        draw_query(fit_to_patches(image, patch, image_size), text, row, scale=scale)
        for (image, text), row in zip(asked, rows, strict=True)
    ]


@torch.no_grad()
def dense_of(column: Column, image: Image.Image, image_size: int) -> NDArray[np.float32]:
    """The dense map (D, Y, X) of a picture whose longest side is brought to `image_size`, without padding."""
    fitted = fit_to_patches(image, column.clip.patch_size, image_size)
    pixels = column.clip.preprocess(fitted, size=(fitted.height, fitted.width))[None]
    dense: NDArray[np.float32] = column.clip.dense_map(pixels, readout=column.readout)[0].float().cpu().numpy()
    return dense


def fit_to_patches(image: Image.Image, patch: int, longest: int) -> Image.Image:
    """The picture at whole patches, as near to its own aspect as they allow."""
    height, width = fit_longest((image.height, image.width), longest=longest, patch=patch)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Writes a PNG, atomically."""
    return write_atomically(path, lambda part: picture.save(part, format="PNG"))
