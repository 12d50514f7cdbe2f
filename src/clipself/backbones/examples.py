"""Names by example: pictures of a thing, or regions of pictures, as its row of the joint space beside rows of texts."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import Readout
from clipself.backbones.refinement import dense_side
from clipself.data.images import Example, Examples, list_examples, read_image
from clipself.ops.patches import fit_longest
from clipself.ops.pooling import pool_boxes, pool_masks
from clipself.ops.run_lengths import fill_runs, read_run_lengths
from clipself.text.names import class_names

PICTURES_AT_ONCE: Final = 64
"""Pictures in one pass of the image tower."""


def embed_examples(
    clip: DenseCLIP, examples: Examples, *, readout: str | Readout = "value", image_size: int | None = None
) -> dict[str, Tensor]:
    """One unit row (D,) for each thing, in float32 on the CPU: the mean of the unit rows of its examples.

    A whole picture is what the image tower says of it; a box or mask is pooled from the dense map of its picture, each
    box or mask one row.

    Args:
        clip: The CLIP.
        examples: Pictures and regions by name.
        readout: How the last block becomes a dense map.
        image_size: Longest side at which regions are read, in pixels; what suits the CLIP if not given.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: A thing has no examples, or one cannot be read.
    """
    side, rows = image_size or dense_side(clip), {}
    for name, given in examples.items():
        listed = list_examples(name, given)
        whole = embed_pictures(clip, (read_image(one.picture) for one in listed if not one.boxes))
        regions = [embed_regions(clip, one, readout=readout, image_size=side) for one in listed if one.boxes]
        rows[name] = F.normalize(torch.cat([whole, *regions]).mean(0), dim=0)
    return rows


def typed_and_shown(names: Sequence[str], shown: Collection[str]) -> tuple[str, ...]:
    """Names that are typed, then those that are only shown.

    Raises:
        ValueError: The names are no list of texts, or one is there twice.
    """
    typed = class_names(names)
    twice = [name for name, count in Counter(typed).items() if count > 1]
    if twice:
        raise ValueError(f"the name {twice[0]!r} is there more than once; the second would never be found")
    return (*typed, *(name for name in shown if name not in typed))


@torch.no_grad()
def embed_regions(clip: DenseCLIP, example: Example, *, readout: str | Readout, image_size: int) -> Tensor:
    """Unit rows (R, D) of the boxes of a picture, or of the masks where they have some, in float32 on the CPU.

    Raises:
        ValueError: A mask has another size than the picture.
    """
    picture = read_image(example.picture)
    height, width = fit_longest((picture.height, picture.width), longest=image_size, patch=clip.patch_size)
    dense = clip.dense_map(clip.preprocess(picture, size=(height, width))[None], readout=readout)
    shares = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float32)
    boxes = (torch.tensor(example.boxes, dtype=torch.float32).reshape(-1, 4) / shares).clamp(0, 1)
    rows = F.normalize(pool_boxes(dense, [boxes.to(dense.device)]), dim=-1).float().cpu()
    for place, mask in enumerate(example.masks):
        if mask is not None:
            lengths, size = read_run_lengths(mask)
            if size != (picture.height, picture.width):
                raise ValueError(
                    f"the mask of an example is {size[0]} x {size[1]} pixels (height x width), its picture "
                    f"{picture.height} x {picture.width}; masks belong to the picture at its own size"
                )
            full = torch.from_numpy(fill_runs(lengths, size).copy()).float()
            cover = F.adaptive_avg_pool2d(full[None], (dense.shape[-2], dense.shape[-1])).to(dense)
            if cover.any():
                rows[place] = pool_masks(dense, [cover])[0].float().cpu()
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
        rows.append(clip.encode_image(torch.stack(some)).float().cpu())
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
    return clip.preprocess(middle, size=(height, width))


def _in_batches(images: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    some: list[Tensor] = []
    for image in images:
        some.append(image)
        if len(some) == PICTURES_AT_ONCE:
            yield some
            some = []
    if some:
        yield some
