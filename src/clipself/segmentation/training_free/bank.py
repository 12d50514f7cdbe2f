"""A bank of regions of unlabelled pictures, found by a guide: what CLIP said of their like helps to name a region.

Source: CorrCLIPv2, from its description: a region's guide embedding finds its like among regions of unlabelled
pictures, and the mean of what CLIP made of those is added to the picture's own map. How many and how strongly is ours,
since no text names it; its ensemble of several CLIPs is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.guides import find_guide
from clipself.backbones.readouts import find_readout
from clipself.backbones.weights import read_state_dict
from clipself.cards import read_card
from clipself.data.images import Picture, read_image
from clipself.files import write_bytes, write_json
from clipself.ops.pixels import plain_pixels
from clipself.segmentation.training_free.regions import RegionsOf, bring, region_means

STEM: Final = "regions"
"""The files of a bank: `regions.safetensors`, `regions.json`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionBank:
    """Regions of pictures, without names.

    Attributes:
        keys_NG: What the guide makes of each, unit vectors.
        values_ND: What the CLIP makes of it, unit vectors.
        guide: The guide's name.
        weights: Digest of the CLIP's image tower.
        readout: How its dense map was read.
    """

    keys_NG: Tensor
    values_ND: Tensor
    guide: str
    weights: str
    readout: str

    def __post_init__(self) -> None:
        if self.keys_NG.ndim != 2 or self.values_ND.ndim != 2 or len(self.keys_NG) != len(self.values_ND):
            raise ValueError(
                f"keys {tuple(self.keys_NG.shape)} and values {tuple(self.values_ND.shape)} make no bank; each region "
                "has one of both"
            )
        if not len(self.keys_NG):
            raise ValueError("a bank without a region; were there masks on its pictures?")

    def support(self, keys_RG: Tensor, *, top: int) -> Tensor:
        """The mean of the values of each region's nearest keys, unit vectors (R, D).

        Args:
            keys_RG: What the guide makes of the regions, unit vectors.
            top: How many keys, or all where there are fewer.
        """
        nearest = (keys_RG @ self.keys_NG.T.to(keys_RG)).topk(min(top, len(self.keys_NG)), dim=1).indices
        return F.normalize(self.values_ND.to(keys_RG)[nearest].mean(1), dim=-1)

    def save(self, folder: str | Path) -> Path:
        """Writes `regions.safetensors` and, last, `regions.json`."""
        held = {"keys": self.keys_NG.cpu().contiguous(), "values": self.values_ND.cpu().contiguous()}
        write_bytes(Path(folder) / f"{STEM}.safetensors", save(held))
        card = {"guide": self.guide, "weights": self.weights, "readout": self.readout}
        return write_json(Path(folder) / f"{STEM}.json", card)

    @classmethod
    def load(cls, folder: str | Path) -> "RegionBank":
        """Reads what `save` has written.

        Raises:
            FileNotFoundError: There is no bank.
            ValueError: It is damaged.
        """
        card: dict[str, Any] = read_card(Path(folder) / f"{STEM}.json")
        state = read_state_dict(Path(folder) / f"{STEM}.safetensors")
        if set(state) != {"keys", "values"} or not all(isinstance(card.get(key), str) for key in cls._told()):
            raise ValueError(f"{folder} holds no bank of regions: {sorted(state)[:4]}; `build_bank` makes one")
        told = {key: card[key] for key in cls._told()}
        return cls(keys_NG=state["keys"], values_ND=state["values"], **told)

    @staticmethod
    def _told() -> tuple[str, ...]:
        return ("guide", "weights", "readout")


@torch.no_grad()
def build_bank(
    clip: DenseCLIP,
    pictures: Iterable[Picture],
    *,
    readout: str,
    regions: RegionsOf,
    shortest: int = 336,
    progress: bool = True,
) -> RegionBank:
    """Reads the regions of pictures; one picture is in memory at a time.

    Args:
        clip: The model.
        pictures: Without labels.
        readout: One that takes regions, with its guide, such as "corrclip@timm:NAME".
        regions: Where regions come from.
        shortest: Shortest side that pictures are brought to, in pixels.
        progress: Whether to show a bar.

    Raises:
        ValueError: The readout has no use for regions, or there is no region at all.
    """
    how = find_readout(readout)
    keys, values = [], []
    for picture in tqdm(pictures, desc="bank", unit="image", disable=not progress, leave=False):
        image = read_image(picture)
        pixels, regions_HW = bring(clip, image, regions(image), shortest=shortest)
        dense = clip.dense_map(pixels[None], readout=how, regions=regions_HW[None])[0]
        found = guide_keys(clip, pixels, regions_HW, guide=how.guide)
        numbers, means = region_means(dense, regions_HW)
        for number, mean_D in zip(numbers.tolist(), means, strict=True):
            if number in found:
                keys.append(found[number])
                values.append(mean_D)
    nothing = torch.zeros(0, 1)
    return RegionBank(
        keys_NG=torch.stack(keys) if keys else nothing, values_ND=torch.stack(values) if values else nothing,
        guide=how.guide, weights=clip.weights_hash("image"), readout=readout,
    )  # fmt: skip


def guide_keys(clip: DenseCLIP, pixels_3HW: Tensor, regions_HW: Tensor, *, guide: str) -> dict[int, Tensor]:
    """Number of a region -> the mean of the guide's map over it, a unit vector."""
    plain = plain_pixels(pixels_3HW, mean=clip.image_mean, std=clip.image_std).clamp(0, 1)
    numbers, means = region_means(find_guide(guide, clip=clip, device=clip.device)(plain[None])[0], regions_HW)
    return dict(zip(numbers.tolist(), means, strict=True))
