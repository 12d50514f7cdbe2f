"""The CLIP's opinion of masks: pooled from its dense map, cut out, or by attention of their own (ODISE, FC-CLIP)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.examples import embed_examples, typed_and_shown
from clipself.backbones.loading import load_clip
from clipself.backbones.mask_tokens import embed_mask_tokens
from clipself.backbones.readouts import find_readout
from clipself.backbones.refinement import refinement_of
from clipself.backbones.resnet import ResNetTrunk
from clipself.backbones.text import embed_names
from clipself.choices import pick
from clipself.data.images import Examples
from clipself.ops.masks import boxes_around
from clipself.ops.patches import fit_longest
from clipself.ops.pooling import pool_mask_logits
from clipself.panoptic.settings import JudgeSettings
from clipself.panoptic.text import class_logits
from clipself.panoptic.to_maps import resize_masks

LARGEST_SCALE: Final = 100.0
CROPS_AT_ONCE: Final = 64
CROP_MARGIN: Final = 1.2
"""Sides of a masked crop relative to the box of its mask."""
LEAST_COVER: Final = 1e-12
"""Keeps the logarithm of a pixel's cover finite."""


class ClipJudge:
    """Scores any masks of a picture against any names.

    Args:
        clip: The CLIP; one refined by CLIPSelf knows regions.
        names: One string a class, commas separate synonyms; may come later, by `use`.
        by: Row of `WAYS`: "masks" pools the dense map (CLIPSelf), "crops" embeds each mask cut out (slow upper bound),
            "tokens" is ODISE's own way, "attention" FC-CLIP's on ResNets.
        image_size: Longest side that the CLIP sees, in pixels; the aspect is kept up to whole patches.
        readout: How the last block becomes a dense map; "value" if not given.
        templates: Sentences around the names.

    Raises:
        ValueError: The way, the readout or the templates are unknown, or there are no names.
    """

    def __init__(
        self,
        clip: DenseCLIP,
        names: Sequence[str] | None = None,
        *,
        by: str = "masks",
        image_size: int = 640,
        readout: str | None = None,
        templates: str = "vild",
    ) -> None:
        self.clip, self.image_size, self.by, self.templates = clip, image_size, by, templates
        self.readout = readout or "value"
        self._way = pick(WAYS, by, what="way to judge masks")
        find_readout(self.readout)
        if image_size < clip.patch_size:
            raise ValueError(f"image_size={image_size} is smaller than one patch of {clip.patch_size} pixels")
        self.names, self.scale, self.shown = tuple[str, ...](), scale_of(clip), False
        if names is not None:
            self.use(names)

    def use(self, names: Sequence[str] = (), *, examples: Examples | None = None) -> None:
        """Compares with these names from now on; they are embedded once.

        Args:
            names: One string a class.
            examples: What is named by pictures of it, or by regions of pictures, beside `names` or in place of their
                words; see `backbones.examples.embed_examples`.

        Raises:
            ValueError: There are no names, one is empty, or an example cannot be read.
        """
        shown = embed_examples(self.clip, examples, readout=self.readout) if examples else {}
        asked = typed_and_shown(names, shown)
        if asked != self.names or not asked or shown or self.shown:
            self.text = embed_names(self.clip, asked, templates=self.templates, wording="short", shown=shown)
            self.names, self.shown = asked, bool(shown)

    def __call__(self, picture: Image.Image, masks_QYX: Tensor) -> Tensor:
        """Class logits (Q, K) of each mask.

        Args:
            picture: RGB picture.
            masks_QYX: Mask logits of the whole picture, at any resolution.
        """
        return self.classify(self.embed(picture, masks_QYX))

    @torch.no_grad()
    def embed(self, picture: Image.Image, masks_QYX: Tensor) -> Tensor:
        """Embeddings (Q, D) of masks, whatever the names."""
        if not len(masks_QYX):
            return torch.zeros(0, self.clip.embed_dim, device=self.clip.device)
        return self._way(self, picture, masks_QYX.to(self.clip.device))

    @torch.no_grad()
    def classify(self, embeddings_QD: Tensor) -> Tensor:
        """Class logits (Q, K) of embeddings.

        Raises:
            ValueError: No names have been given.
        """
        if not self.names:
            raise ValueError("this judge has no names to compare with; give it some by use(names)")
        return class_logits(embeddings_QD[None].float(), self.text, scale=self.scale)[0]

    def fit(self, picture: Image.Image) -> tuple[int, int]:
        """Height and width at which the CLIP sees a picture."""
        return fit_longest((picture.height, picture.width), longest=self.image_size, patch=self.clip.patch_size)


def open_judge(
    model: str,
    pretrained: str | None = None,
    *,
    text_from: str | None = None,
    names: Sequence[str] | None = None,
    settings: JudgeSettings | None = None,
    device: str | torch.device = "cpu",
) -> ClipJudge:
    """Loads a CLIP as a judge that reads it as it was refined, unless the settings say otherwise.

    Args:
        model: open_clip name, "clipself-mini", or an export folder.
        pretrained: open_clip tag or checkpoint file for a named model.
        text_from: Release whose text tower is taken where a checkpoint has none.
        names: One string a class; may come later.
        settings: How it judges.
        device: Where it goes.

    Raises:
        ValueError: The model or a setting does not fit.
        FileNotFoundError: A file is missing.
    """
    settings = settings or JudgeSettings()
    settings = replace(settings, readout=settings.readout or refinement_of(model).readout)
    return ClipJudge(load_clip(model, pretrained, text_from=text_from, device=device), names, **asdict(settings))


def scale_of(clip: DenseCLIP) -> float:
    """The CLIP's own logit scale, at most 100."""
    scale: Tensor = clip.clip.logit_scale  # type: ignore[assignment]
    return min(float(scale.detach().exp()), LARGEST_SCALE)


def pool_dense(judge: ClipJudge, picture: Image.Image, masks_QYX: Tensor) -> Tensor:
    """The mean of the dense map under each mask.

    Patches whose mask logit, resized to the grid, is above zero (FC-CLIP); a mask too small for any patch is pooled
    by how much of each patch it covers.
    """
    image = judge.clip.preprocess(picture, size=judge.fit(picture))
    dense_1DYX = judge.clip.dense_map(image[None], readout=judge.readout)
    grid = (dense_1DYX.shape[-2], dense_1DYX.shape[-1])
    on_grid = resize_masks(masks_QYX, grid)[None]
    pooled_QD = pool_mask_logits(dense_1DYX, on_grid)[0]
    lost_Q = _are_lost(on_grid[0])
    if lost_Q.any():
        cover = _cover_of(masks_QYX[lost_Q], grid).flatten(1)
        pooled_QD[lost_Q] = cover / (cover.sum(1, keepdim=True) + 1e-8) @ dense_1DYX[0].flatten(1).mT
    return pooled_QD


def _are_lost(on_grid_QYX: Tensor) -> Tensor:
    """Which masks (Q,) are too small for any patch: no logit is above zero."""
    return ~(on_grid_QYX > 0).flatten(1).any(1)


def _cover_of(masks_QYX: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much of each patch a mask covers (Q, *grid), in [0, 1]."""
    return F.adaptive_avg_pool2d(masks_QYX.float().sigmoid(), grid)


def embed_crops(judge: ClipJudge, picture: Image.Image, masks_QYX: Tensor) -> Tensor:
    """Each mask cut out of the picture, everything else at the mean colour, seen at the CLIP's own size."""
    clip = judge.clip
    size = (picture.height, picture.width)
    full_QHW = resize_masks(masks_QYX, size) > 0
    pixels = clip.preprocess(picture, size=size)
    crops = [
        _cut_out(pixels, mask_HW, box, side=clip.image_size)
        for mask_HW, box in zip(full_QHW, boxes_around(full_QHW).tolist(), strict=True)
    ]
    return torch.cat([clip.encode_image(torch.stack(crops[start : start + CROPS_AT_ONCE]))
                      for start in range(0, len(crops), CROPS_AT_ONCE)])  # fmt: skip


def _cut_out(pixels_3HW: Tensor, mask_HW: Tensor, box: Sequence[float], *, side: tuple[int, int]) -> Tensor:
    """A square around the box, grown a little; zero is the mean colour of a normalised image."""
    left, top, right, bottom = box
    reach = max(right - left, bottom - top, 2.0) * CROP_MARGIN / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    kept = F.pad(pixels_3HW * mask_HW, [int(reach) + 1] * 4)
    row, col, length = round(y + 1), round(x + 1), 2 * int(reach)
    crop = kept[:, row : row + max(2, length), col : col + max(2, length)]
    return F.interpolate(crop[None], size=side, mode="bilinear", align_corners=False, antialias=True)[0]


def mask_tokens(judge: ClipJudge, picture: Image.Image, masks_QYX: Tensor) -> Tensor:
    """ODISE: class tokens that look at one mask each, the picture squashed to the CLIP's own size."""
    image = judge.clip.preprocess(picture, size=judge.clip.image_size)
    return embed_mask_tokens(judge.clip, image[None], masks_QYX[None].float())[0]


def attend_pixels(judge: ClipJudge, picture: Image.Image, masks_QYX: Tensor) -> Tensor:
    """FC-CLIP on ResNets: their attention pool over the pixels under each mask.

    As in `pool_dense`, of a mask too small for any pixel each counts by how much of it is covered.

    Raises:
        ValueError: The CLIP has no attention pool.
    """
    clip, trunk = judge.clip, judge.clip.trunk
    if not isinstance(trunk, ResNetTrunk):
        raise ValueError(f"judging by attention needs a ResNet of CLIP; {clip.name} pools by {trunk.pools_by}")
    (last,) = clip.read(clip.preprocess(picture, size=judge.fit(picture))[None], taps=(len(trunk.stages) - 1,)).taps
    grid = (last.shape[-2], last.shape[-1])
    on_grid_QYX = resize_masks(masks_QYX, grid)
    weights_QYX, lost_Q = (on_grid_QYX > 0).float(), _are_lost(on_grid_QYX)
    if lost_Q.any():
        weights_QYX[lost_Q] = _cover_of(masks_QYX[lost_Q], grid) + LEAST_COVER
    return trunk.pool_under(last, weights_QYX)


Way = Callable[[ClipJudge, Image.Image, Tensor], Tensor]

WAYS: Final[Mapping[str, Way]] = {
    "masks": pool_dense,
    "crops": embed_crops,
    "tokens": mask_tokens,
    "attention": attend_pixels,
}
"""How a mask becomes an embedding (Q, D)."""
