"""Pictures of things as rows of the joint space: what CLIP's image tower says of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.images import Picture, find_pictures, list_pictures, read_image
from clipself.data.preprocess import Preprocess

PICTURES_AT_ONCE = 64
"""Pictures in one pass of the image tower."""


Examples = Mapping[str, Sequence[Picture] | Picture]
"""Name of a thing -> pictures that show it, closely cut."""


def read_examples(folder: str | Path) -> dict[str, list[Picture]]:
    """Lists a folder of examples: in it a folder for each thing, called as the thing is, with pictures of it.

    Raises:
        FileNotFoundError: There is no such folder, or one of those in it holds no pictures.
        ValueError: There are no folders in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of examples at {folder}; check the path")
    things = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not things:
        raise ValueError(
            f"{folder} holds no folders; lay the pictures of each thing into one that is called as the thing is, such "
            f"as {folder / 'mug' / '1.jpg'}"
        )
    return {path.name: list(find_pictures(path).paths) for path in things}


def embed_examples(clip: DenseCLIP, examples: Examples) -> dict[str, Tensor]:
    """One unit row (D,) for each thing: the mean of what the image tower says of its pictures.

    Args:
        clip: The CLIP.
        examples: Pictures by name.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: A thing has no pictures, or one cannot be read.
    """
    rows = {}
    for name, given in examples.items():
        pictures = list_pictures(given)
        if not pictures:
            raise ValueError(f"there are no pictures of {name!r}; pass at least one")
        embedded_ND = embed_pictures(clip, map(read_image, pictures))
        rows[name] = F.normalize(embedded_ND.mean(0), dim=0)
    return rows


@torch.no_grad()
def embed_pictures(clip: DenseCLIP, pictures: Iterable[Image.Image]) -> Tensor:
    """Unit embeddings (N, D) of pictures, in float32 on the CPU; they are read and embedded some at a time.

    Args:
        clip: Whose image tower looks.
        pictures: RGB pictures.
    """
    rows = [torch.zeros(0, clip.embed_dim)]
    for some in _in_batches(as_clip_sees_it(clip, picture) for picture in pictures):
        rows.append(clip.encode_image(torch.stack(some).to(clip.device)).float().cpu())
    return torch.cat(rows)


def as_clip_sees_it(clip: DenseCLIP, picture: Image.Image) -> Tensor:
    """Short side to the tower's own size, bicubic, the middle square of it, normalised (3, H, W).

    Source: CLIP (arXiv:2103.00020), released preprocessing.
    """
    height, width = clip.image_size
    scale = max(height / picture.height, width / picture.width)
    size = (max(width, int(picture.width * scale)), max(height, int(picture.height * scale)))
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    middle = resized.crop((left, top, left + width, top + height))
    return Preprocess(mean=clip.image_mean, std=clip.image_std).normalize(middle)


def _in_batches(images: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    some: list[Tensor] = []
    for image in images:
        some.append(image)
        if len(some) == PICTURES_AT_ONCE:
            yield some
            some = []
    if some:
        yield some
