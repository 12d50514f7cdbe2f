"""Pictures of things as rows of the joint space: what CLIP's image tower says of them."""

from collections.abc import Iterable, Iterator

import torch
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.preprocess import Preprocess

PICTURES_AT_ONCE = 64
"""Pictures in one pass of the image tower."""


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
