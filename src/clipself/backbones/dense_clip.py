"""One CLIP with a dense side: image, text, dense map and taps over a stock open_clip model."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as ListLike
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from clipself.backbones.eva import EvaTrunk
from clipself.backbones.readouts import Readout, find_readout, read_last_block
from clipself.backbones.resnet import ResNetTrunk
from clipself.backbones.timm_vit import TimmVitTrunk
from clipself.backbones.trunk import Sequence, Trunk
from clipself.backbones.vit import OpenClipTrunk
from clipself.data.images import Picture, read_image

TRUNKS: Final[Mapping[type, Callable[[Any], Trunk]]] = {
    VisionTransformer: OpenClipTrunk,
    Eva: EvaTrunk,
    TimmVisionTransformer: TimmVitTrunk,
    ModifiedResNet: ResNetTrunk,
}
"""Stock tower class -> the view of it; a new family is one line here and one file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerIdentity:
    """Where the two towers come from.

    Attributes:
        image: Release of the image tower, "model@weights".
        text: Release of the text tower; None when the file held none.
    """

    image: str
    text: str | None


class DenseCLIP(nn.Module):
    """A stock open_clip model, read at any image size, square or not, any multiple of the patch.

    Three lines to a dense map::

        clip = load_clip("ViT-B-16", "openai")
        images = clip.preprocess(picture, size=(512, 768))[None]
        dense_BDYX = clip.dense_map(images)

    Args:
        clip: `open_clip.CLIP` or `CustomTextCLIP` with a class-token vision transformer.
        name: open_clip name of the architecture, or the name of a packaged model.
        model_cfg: open_clip's configuration of it, as in `open_clip_config.json`.
        tokenizer: Callable that turns a list of texts into token ids (K, L).
        identity: Where both towers come from.
        image_mean: RGB mean of the input normalisation, for pixels in [0, 1].
        image_std: RGB standard deviation of it.
        merges_file: Byte pairs of the tokenizer, where they are the model's own; an export takes them along.

    Raises:
        ValueError: The vision tower is of a family that has no dense readout.
    """

    def __init__(
        self,
        clip: nn.Module,
        *,
        name: str,
        model_cfg: Mapping[str, Any],
        tokenizer: Any,
        identity: TowerIdentity,
        image_mean: tuple[float, float, float],
        image_std: tuple[float, float, float],
        merges_file: Path | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.name = name
        self.model_cfg = deepcopy(dict(model_cfg))
        self.tokenizer = tokenizer
        self.identity = identity
        self.merges_file = merges_file
        self.image_mean = image_mean
        self.image_std = image_std
        self._trunk: Trunk | None = None
        self.embed_dim = self.trunk.embed_dim
        self.patch_size = self.trunk.patch_size
        rows, cols = self.trunk.native_grid
        self.image_size = (rows * self.patch_size, cols * self.patch_size)

    @property
    def trunk(self) -> Trunk:
        """The view of the vision tower; it follows the modules through copies and moves between devices."""
        if self._trunk is None or self._trunk.tower is not self.clip.visual:
            checkpointing = self._trunk.grad_checkpointing if self._trunk is not None else False
            self._trunk = view_trunk(self.clip.visual)
            self._trunk.grad_checkpointing = checkpointing
        return self._trunk

    @property
    def num_taps(self) -> int:
        """How many taps there are: blocks of a transformer, stages of a convolutional tower."""
        return len(self.trunk.stage_strides) or self.trunk.depth

    def require_transformer(self, purpose: str) -> None:
        """Refuses a convolutional tower.

        Raises:
            ValueError: It is one.
        """
        if self.trunk.pools_by_attention:
            raise ValueError(f"{purpose} needs a vision transformer, such as ViT-B-16; {self.name} is a ResNet")

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def forward(self, images_B3HW: Tensor, readout: str | Readout = "value") -> Tensor:
        """The dense map; so that a wrapper for many GPUs sees the path that is trained."""
        return self.dense_map(images_B3HW, readout=readout)

    def encode_image(self, images_B3HW: Tensor, *, normalize: bool = True) -> Tensor:
        """Embeds whole images by the class token, as the stock model does, at any size.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch.
            normalize: Whether to return unit vectors.

        Returns:
            Embeddings (B, D).

        Raises:
            ValueError: A side is not a multiple of the patch.
        """
        pooled = self.trunk.pool_class_token(self._before_last_block(images_B3HW))
        return F.normalize(pooled, dim=-1) if normalize else pooled

    def encode_text(self, texts: ListLike[str], *, normalize: bool = True) -> Tensor:
        """Embeds texts.

        Args:
            texts: One string a row.
            normalize: Whether to return unit vectors.

        Returns:
            Embeddings (K, D).

        Raises:
            ValueError: The checkpoint held no text tower, or `texts` is one string instead of a list.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts must be a list of strings, got the single string {texts!r}; wrap it in a list")
        if self.identity.text is None:
            raise ValueError(
                f"the checkpoint {self.identity.image!r} held no text tower, so texts cannot be embedded; load it with "
                "text_from=... naming the release whose text tower it was trained beside"
            )
        tokens = self.tokenizer(list(texts)).to(self.device)
        embeddings: Tensor = self.clip.encode_text(tokens)  # type: ignore[operator]
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def dense_map(self, images_B3HW: Tensor, *, readout: str | Readout = "value", normalize: bool = True) -> Tensor:
        """Embeds every patch in the joint space.

        Source: CLIPSelf (arXiv:2310.01403), Sec. 3.1 for the default readout.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch.
            readout: A row of `READOUTS`, or a `Readout`.
            normalize: Whether to return unit vectors along D.

        Returns:
            Dense map (B, D, Y, X) with Y = H / patch, X = W / patch.

        Raises:
            ValueError: A side is not a multiple of the patch, or the readout is unknown.
        """
        chosen = find_readout(readout)
        return self._read_map(self._before_last_block(images_B3HW), chosen, normalize=normalize)

    def image_and_map(
        self, images_B3HW: Tensor, *, readout: str | Readout = "value", normalize: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Image embeddings (B, D) and dense map (B, D, Y, X) for little more than the price of one.

        Both are those of `encode_image` and `dense_map`, which share all blocks but the last.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch.
            readout: A row of `READOUTS`, or a `Readout`.
            normalize: Whether to return unit vectors.

        Raises:
            ValueError: A side is not a multiple of the patch, or the readout is unknown.
        """
        chosen = find_readout(readout)
        sequence = self._before_last_block(images_B3HW)
        pooled = self.trunk.pool_class_token(sequence)
        return F.normalize(pooled, dim=-1) if normalize else pooled, self._read_map(
            sequence, chosen, normalize=normalize
        )

    def _before_last_block(self, images_B3HW: Tensor) -> Sequence:
        trunk = self.trunk
        return trunk.forward_blocks(trunk.embed(images_B3HW), list(trunk.blocks)[:-1])

    def _read_map(self, sequence: Sequence, readout: Readout, *, normalize: bool) -> Tensor:
        patches_BPC = read_last_block(self.trunk, sequence, readout=readout)[:, 1:]
        patches_BPD = self.trunk.head(patches_BPC)
        return to_map(F.normalize(patches_BPD, dim=-1) if normalize else patches_BPD, sequence.grid)

    def taps(self, images_B3HW: Tensor, blocks: Iterable[int], *, readout: str | Readout = "value") -> list[Tensor]:
        """Hands out the patch tokens after chosen blocks; the last block runs as the readout says.

        Source: F-ViT (CLIPSelf, detection), whose last tap is the value path ahead of the final norm.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch.
            blocks: 0-based indices, ascending; of the stages for a convolutional tower.
            readout: How the last block runs if it is among them; "qk" is the ordinary attention.

        Returns:
            One map (B, C, Y, X) for each index; stages of a convolutional tower have their own sizes and channels.

        Raises:
            ValueError: An index is outside the trunk or they do not ascend.
        """
        trunk, wanted = self.trunk, list(blocks)
        if wanted != sorted(set(wanted)) or not wanted or wanted[0] < 0 or wanted[-1] >= self.num_taps:
            raise ValueError(f"taps {wanted} must ascend within 0..{self.num_taps - 1}, the blocks of this trunk")
        if trunk.stage_strides:
            stages = trunk.stages(images_B3HW)
            return [stages[index] for index in wanted]
        sequence, maps = trunk.embed(images_B3HW), []
        for index, block in enumerate(list(trunk.blocks)[: wanted[-1] + 1]):
            last = index == trunk.depth - 1
            tokens = (
                read_last_block(trunk, sequence, readout=find_readout(readout))
                if last
                else trunk.forward_block(block, sequence)
            )
            sequence = sequence.with_tokens(tokens)
            if index in wanted:
                maps.append(to_map(tokens[:, 1:], sequence.grid))
        return maps

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each block in the backward pass: less memory, one more forward pass."""
        self.trunk.grad_checkpointing = enable

    def preprocess(self, image: Picture, *, size: tuple[int, int] | int | None = None) -> Tensor:
        """Resizes a picture to a size in pixels (bicubic, antialiased) and normalises it for this model.

        Args:
            image: A file, a PIL image of any mode, an array or a tensor; see `read_image`.
            size: Height and width wanted, one number for both; None keeps the picture's own size rounded to whole
                patches.

        Returns:
            Image (3, H, W).

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no picture, or is damaged.
        """
        rgb, patch = read_image(image), self.patch_size
        if size is None:
            size = (max(1, round(rgb.height / patch)) * patch, max(1, round(rgb.width / patch)) * patch)
        height, width = (size, size) if isinstance(size, int) else size
        pixels = torch.frombuffer(bytearray(rgb.resize((width, height), resample=3).tobytes()), dtype=torch.uint8)
        scaled = pixels.reshape(height, width, 3).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.image_mean), torch.tensor(self.image_std)
        return ((scaled - mean[:, None, None]) / std[:, None, None]).to(self.device)

    def weights_hash(self, part: str = "all") -> str:
        """A short digest of the weights, for cache keys and model cards.

        Args:
            part: "image", "text" (everything but the image tower) or "all".

        Returns:
            16 hexadecimal digits.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.clip.state_dict().items()):
            if part != "all" and name.startswith("visual.") != (part == "image"):
                continue
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()[:16]

    def copy(self, *, image_identity: str | None = None) -> "DenseCLIP":
        """An independent copy of both towers, for instance a student that starts at its teacher."""
        twin = deepcopy(self)
        twin._trunk = None
        twin.set_grad_checkpointing(self.trunk.grad_checkpointing)
        if image_identity is not None:
            twin.identity = replace(twin.identity, image=image_identity)
        return twin


def to_map(patches_BPC: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, Y * X, C), row by row -> (B, C, Y, X)."""
    return patches_BPC.mT.reshape(patches_BPC.shape[0], -1, *grid)


def view_trunk(visual: Any) -> Trunk:
    """The view that fits a stock vision tower.

    Raises:
        ValueError: There is no view of this family.
    """
    tower = visual.trunk if isinstance(visual, TimmModel) else visual
    for stock, view in TRUNKS.items():
        if isinstance(tower, stock):
            return view(visual)
    families = ", ".join(f"{stock.__module__}.{stock.__name__}" for stock in TRUNKS)
    raise ValueError(f"{type(tower).__name__} has no dense readout; the families that have one: {families}")
