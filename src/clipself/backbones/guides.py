"""Guides: anything that yields a patch map, for what wants to know which patches belong together.

    guide = find_guide("timm:vit_small_patch14_dinov2.lvd142m", device="cuda")
    map_NDhw = guide(images_N3HW)                 # RGB in [0, 1], any size; unit length along D; never a gradient
    map_NDYX = guide(images_N3HW, grid=(Y, X))    # on a grid that is given, such as a student's

A guide knows its own normalisation and stride, so that whoever uses one passes plain pixels. It is frozen, in
evaluation mode, and kept: the same name on the same device is loaded once. It is no `nn.Module`, so that holding one
adds nothing to what is trained or saved.

| name | what |
| --- | --- |
| `clip` | the CLIP itself: what enters its last block; needs no other weights |
| `timm:NAME` | a model of timm's by name: DINO, DINOv2, DINOv3, C-RADIO, SAM's encoder, PE-spatial, ... |
| `timm:NAME@FILE` | the same architecture, weights from a file in timm's or the publisher's layout, or "random" |
| `hf:NAME` | a vision model of transformers' by hub name or folder: DINOv2, DINOv3, SigLIP's image side, ... |
| a folder | one that timm or transformers saved, known by its `config.json` |
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import timm
import torch
import torch.nn.functional as F
from timm.models import is_model
from torch import Tensor, nn

from clipself.backbones.devices import pick_device
from clipself.backbones.trunk import ClipReading, Trunk
from clipself.backbones.weights import first_line, read_state_dict
from clipself.files import read_json
from clipself.ops.patches import nearest_whole
from clipself.ops.pixels import IMAGENET_MEAN, IMAGENET_STD

IMAGENET: Final = (IMAGENET_MEAN, IMAGENET_STD)
"""Mean and standard deviation where a model does not say its own."""
SLACK: Final = 0.05
"""How far beyond [0, 1] pixels may lie: resampling overshoots at edges."""


class Guide(Protocol):
    """Anything that yields a patch map.

    Attributes:
        name: What it is called, for cards and messages.
        stride: Pixels from cell to cell of its map.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def stride(self) -> int: ...  # noqa: D102

    def __call__(self, images_N3HW: Tensor, *, grid: tuple[int, int] | None = None) -> Tensor:
        """Unit vectors (N, D, h, w) without a gradient.

        Args:
            images_N3HW: RGB in [0, 1], of any size.
            grid: Rows and columns of the map; those of the images' own size at the guide's stride if not given.
        """


class GuidingClip(Protocol):
    """What a CLIP must have to guide itself; a `DenseCLIP`."""

    name: str
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    patch_size: int

    @property
    def trunk(self) -> Trunk: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def read(self, images_B3HW: Tensor, *, taps: tuple[int, ...]) -> ClipReading: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchGuide:
    """A guide out of a network; see `Guide`.

    Attributes:
        name: What it is called.
        read: Normalised images, sides multiples of the stride -> map (N, D, h, w) of any length.
        net: What `read` runs.
        stride: Pixels from cell to cell.
        mean: RGB mean of its normalisation, for pixels in [0, 1].
        std: RGB standard deviation of it.
    """

    name: str
    read: Callable[[Tensor], Tensor]
    net: nn.Module
    stride: int
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]

    @torch.no_grad()
    def __call__(self, images_N3HW: Tensor, *, grid: tuple[int, int] | None = None) -> Tensor:
        """See `Guide`.

        Raises:
            ValueError: The images are no RGB in [0, 1], or the network does not yield the grid.
        """
        check_pixels(images_N3HW)
        height, width = images_N3HW.shape[-2:]
        rows, cols = grid or (
            nearest_whole(height, self.stride) // self.stride,
            nearest_whole(width, self.stride) // self.stride,
        )
        size = (rows * self.stride, cols * self.stride)
        where = next((parameter.device for parameter in self.net.parameters()), images_N3HW.device)
        pixels = images_N3HW.to(where).float()
        if size != (height, width):
            pixels = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(each, device=where)[:, None, None] for each in (self.mean, self.std))
        found = self.read((pixels - mean) / std)
        if found.shape[-2:] != (rows, cols):
            raise ValueError(f"guide {self.name} gave a map {tuple(found.shape)} where {rows} x {cols} was expected")
        return F.normalize(found.float(), dim=1)


def check_pixels(images_N3HW: Tensor) -> None:
    """Refuses what is no batch of plain RGB.

    Raises:
        ValueError: It is not (N, 3, H, W) or its numbers do not lie in [0, 1].
    """
    if images_N3HW.ndim != 4 or images_N3HW.shape[1] != 3:
        raise ValueError(f"a guide takes images (N, 3, H, W), got {tuple(images_N3HW.shape)}")
    low, high = (float(edge) for edge in images_N3HW.aminmax())
    if low < -SLACK or high > 1 + SLACK:
        raise ValueError(
            f"a guide takes RGB in [0, 1] and normalises by itself, got numbers from {low:.2f} to {high:.2f}; pass the "
            "images ahead of their normalisation"
        )


def find_guide(guide: str | Guide, *, clip: GuidingClip | None = None, device: str | torch.device = "cpu") -> Guide:
    """A guide by name, or the one that was passed.

    Args:
        guide: See the table at the top of this module.
        clip: The CLIP that "clip" means.
        device: Where the guide goes; "clip" stays where the CLIP is.

    Raises:
        ValueError: There is no such guide, its weights do not fit, or it yields no map at sizes other than its own.
        FileNotFoundError: Its weights are not there.
        OSError: They could not be downloaded.
    """
    if not isinstance(guide, str):
        return guide
    kind, name = guide_kind(guide)
    if kind == "clip" and not name:
        if clip is None:
            raise ValueError(
                "the guide 'clip' is the CLIP itself, and none was passed here; pass clip= or another guide"
            )
        return clip_guide(clip)
    where = pick_device(device)
    return _kept(kind, name, str(where))


def guide_kind(guide: str) -> tuple[str, str]:
    """The row of `GUIDES` that a name means, and what follows it.

    Raises:
        ValueError: It is none.
    """
    kind, _, name = guide.partition(":")
    if kind in GUIDES and (name or kind == "clip"):
        return kind, name
    config = Path(guide) / "config.json"
    if config.is_file():
        held = read_json(config)
        return ("timm" if isinstance(held, dict) and "architecture" in held else "hf"), guide
    raise ValueError(
        f"unknown guide {guide!r}; expected 'clip', 'timm:NAME', 'timm:NAME@FILE', 'hf:NAME', or a folder with the "
        "config.json of timm or transformers"
    )


@lru_cache(maxsize=4)
def _kept(kind: str, name: str, device: str) -> PatchGuide:
    guide = GUIDES[kind](name)
    guide.net.requires_grad_(False).eval().to(device)
    side = guide.stride * 4
    try:
        guide(torch.full((1, 3, side, side + 2 * guide.stride), 0.5))
    except Exception as error:
        raise ValueError(
            f"guide {guide.name} yields no patch map of images that are not of its own size ({first_line(error)})"
        ) from error
    return guide


def clip_guide(clip: GuidingClip) -> PatchGuide:
    """The CLIP itself: what enters its last block, or the last stage of a convolutional tower."""
    trunk, tap = clip.trunk, guide_tap(clip.trunk)
    return PatchGuide(
        name="clip",
        read=lambda images: clip.read(images, taps=(tap,)).taps[0],
        net=trunk.tower,
        stride=trunk.patch_size,
        mean=clip.image_mean,
        std=clip.image_std,
    )


def guide_tap(trunk: Trunk) -> int:
    """Index of the tap by which a tower guides itself."""
    last = len(trunk.stages) - 1
    return last if trunk.is_pyramid else max(last - 1, trunk.first_tap)


def _itself(name: str) -> PatchGuide:
    raise ValueError(f"the guide 'clip' is the CLIP itself and takes no name, got {name!r}")


def timm_guide(name: str) -> PatchGuide:
    """A model of timm's: "NAME", "NAME@FILE", "NAME@random" or a folder that timm saved.

    Raises:
        ValueError: There is no such model, or its weights do not fit.
    """
    overlay: dict[str, Any] = {"num_classes": 0}
    arguments: dict[str, Any] = {}
    if (Path(name) / "config.json").is_file():
        held = read_json(Path(name) / "config.json")
        architecture, weights = str(held["architecture"]), name
        arguments = {key: value for key, value in (held.get("model_args") or {}).items() if key != "num_classes"}
        trained: Mapping[str, Any] = held.get("pretrained_cfg") or {}
        overlay |= {key: tuple(trained[key]) for key in ("mean", "std") if key in trained}
    else:
        architecture, _, weights = name.partition("@")
    if not is_model(architecture.partition(".")[0]):
        raise ValueError(f"timm {timm.__version__} has no model {architecture!r}; timm.list_models() lists what it has")
    state = read_state_dict(weights) if weights and weights != "random" else None
    net = _build(architecture, state, overlay, arguments, pretrained=weights != "random")
    if not hasattr(net, "forward_intermediates") or not getattr(net, "feature_info", None):
        raise ValueError(
            f"timm's {architecture} hands out no patch map; take a vision transformer or a convolutional one"
        )
    config = net.pretrained_cfg
    return PatchGuide(
        name=f"timm:{name}", read=lambda images: _last_map(net, images), net=net, mean=tuple(config["mean"]),
        stride=int(net.feature_info[-1]["reduction"]), std=tuple(config["std"]),
    )  # fmt: skip


def _build(
    architecture: str,
    state: dict[str, Tensor] | None,
    overlay: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    pretrained: bool,
) -> Any:
    """Weights of a file are converted by timm's own filter and loaded strictly; a classifier is left out."""
    how: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    if state is not None:
        blank = timm.create_model(architecture, pretrained=False, **arguments).pretrained_cfg
        heads = blank.get("classifier") or ()
        heads = (heads,) if isinstance(heads, str) else tuple(heads)
        kept = {key: value for key, value in state.items() if not any(key.startswith(f"{head}.") for head in heads)}
        how["pretrained_cfg_overlay"] = {**overlay, "state_dict": kept}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            try:
                return timm.create_model(architecture, dynamic_img_size=True, **how, **arguments)
            except TypeError as error:
                if "dynamic_img_size" not in str(error):
                    raise
                return timm.create_model(architecture, **how, **arguments)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"timm's {architecture} cannot be built from these weights: {error}") from error


def _last_map(net: Any, images_N3HW: Tensor) -> Tensor:
    (last,) = net.forward_intermediates(images_N3HW, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)
    found: Tensor = last
    return found


def hub_guide(name: str) -> PatchGuide:
    """A vision model of transformers' by hub name or folder; no code of its own is run.

    Raises:
        ValueError: It is of no family of transformers', lacks weights, or has no patches.
    """
    from transformers import AutoModel

    try:
        model, told = AutoModel.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} is no model that transformers builds without code of its own: {first_line(error)}"
        ) from error
    absent = sorted(told["missing_keys"])
    if absent or told["mismatched_keys"]:
        raise ValueError(f"{name} lacks weights of its own model: {(absent or told['mismatched_keys'])[:4]}")
    net = next((getattr(model, part) for part in ("vision_model", "vision_encoder") if hasattr(model, part)), model)
    patch = getattr(net.config, "patch_size", None)
    if not isinstance(patch, int):
        raise ValueError(f"{name} ({type(net).__name__}) has no patches, so it yields no patch map")
    mean, std = _processing(name)
    return PatchGuide(
        name=f"hf:{name}", read=lambda images: _hub_map(net, images, patch), net=net, stride=patch, mean=mean, std=std
    )


def _hub_map(net: nn.Module, images_N3HW: Tensor, patch: int) -> Tensor:
    takes = inspect.signature(net.forward).parameters
    more = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
    hidden: Tensor = net(pixel_values=images_N3HW, **more).last_hidden_state
    if hidden.ndim == 4:
        return hidden
    rows, cols = images_N3HW.shape[-2] // patch, images_N3HW.shape[-1] // patch
    return hidden[:, hidden.shape[1] - rows * cols :].mT.reshape(len(hidden), -1, rows, cols)


def _processing(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of a model of transformers'; ImageNet's where it does not say."""
    from transformers import AutoImageProcessor

    try:
        held = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
        mean, std = (tuple(float(number) for number in each) for each in (held.image_mean, held.image_std))
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
    except (OSError, ValueError, AttributeError, TypeError, ImportError):
        return IMAGENET


GUIDES: Final[Mapping[str, Callable[[str], PatchGuide]]] = {"clip": _itself, "timm": timm_guide, "hf": hub_guide}
"""Kind, ahead of the colon -> what loads one by the name behind it."""
