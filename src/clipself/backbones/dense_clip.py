"""One CLIP with a dense side: image, text, dense map and taps over a stock open_clip model."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clipself.backbones.guides import Guide
from clipself.backbones.memory import ReadMemory
from clipself.backbones.pixels import as_shown, fit_size, normalise
from clipself.backbones.reading import read_images
from clipself.backbones.readouts import Readout, find_readout
from clipself.backbones.strict import digest_tensors
from clipself.backbones.tokens import cut_sentences, ready_rows, told_cut
from clipself.backbones.trunk import ClipReading, Trunk
from clipself.backbones.trunks import view_trunk
from clipself.data.images import Picture, read_image
from clipself.ops.boxes import check_boxes, normalize_boxes
from clipself.ops.pooling import pool_boxes
from clipself.renamed import old_names, warn_renamed
from clipself.text.names import in_order

__getattr__ = old_names(__name__)


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
        clip: `open_clip.CLIP` or `CustomTextCLIP`; its parameters are frozen until somebody chooses which learn.
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

    gates: nn.Parameter | None
    """Weights (K, h) by which "value" reads the last K blocks; see `backbones.gates.set_gates`."""

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
        self.clip = clip.requires_grad_(False)
        self.name = name
        self.model_cfg = deepcopy(dict(model_cfg))
        self.tokenizer = tokenizer
        self.identity = identity
        self.merges_file = merges_file
        self.image_mean = image_mean
        self.image_std = image_std
        self.register_parameter("gates", None)
        self._trunk: Trunk | None = None
        self._set: tuple[ReadMemory, Tensor] | None = None
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
        self._trunk.gates = self.gates
        return self._trunk

    @property
    def num_taps(self) -> int:
        """How many stages can be tapped: blocks of a transformer, stages of a convolutional tower."""
        return len(self.trunk.stages)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def forward(self, images_B3HW: Tensor, readout: str | Readout = "value") -> Tensor:
        """The dense map; so that a wrapper for many GPUs sees the path that is trained."""
        return self.dense_map(images_B3HW, readout=readout)

    def read(
        self,
        images_B3HW: Tensor,
        *,
        taps: Iterable[int] = (),
        dense: bool = False,
        pooled: bool = False,
        readout: str | Readout = "value",
        guide: Tensor | Guide | str | None = None,
        regions: Tensor | None = None,
        normalize: bool = True,
    ) -> ClipReading:
        """One pass of the image tower that gives all that is asked for; what is shared is computed once.

        Source: CLIPSelf (arXiv:2310.01403), Sec. 3.1 for the default readout; F-ViT (CLIPSelf, detection) for the taps,
        whose last one is the last block as the readout runs it, ahead of the final norm.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch; brought to the dtype of the weights.
            taps: 0-based indices of `trunk.stages`, ascending; -1 is what enters the first block of a transformer.
            dense: Whether to embed every patch in the joint space.
            pooled: Whether to embed whole images, as the stock model does, at any size.
            readout: A row of `READOUTS`, with options after a colon ("naclip:std=3"), or a `Readout`; "qk" is the
                ordinary attention.
            guide: For readouts that are guided: another model, by a name that `find_guide` knows or as it gives it, or
                its features (B, C, y, x) of these images; the readout's own if not given.
            regions: Number of the region of every pixel (B, H, W), -1 outside all, for readouts that keep to regions.
            normalize: Whether dense map and image embeddings are unit vectors.

        Raises:
            ValueError: A side is not a multiple of the patch, a pixel is far from a normalised one or not finite, the
                readout is unknown or not one of this tower, or a tap is outside the trunk.
        """
        trunk, wanted = self.trunk, tuple(taps)
        last = len(trunk.stages) - 1
        if list(wanted) != sorted(set(wanted)) or (wanted and not trunk.first_tap <= wanted[0] <= wanted[-1] <= last):
            raise ValueError(f"taps {list(wanted)} must ascend within 0..{last}, the stages of this trunk")
        if not (wanted or dense or pooled):
            raise ValueError("nothing was asked for; pass taps=, dense=True or pooled=True")
        images_B3HW = as_shown(images_B3HW, trunk, std=self.image_std)
        read = read_images(
            self, images_B3HW, taps=wanted, dense=dense, pooled=pooled, readout=find_readout(readout), guide=guide,
            regions_BHW=regions,
        )  # fmt: skip
        if not normalize:
            return read
        return replace(
            read,
            dense=None if read.dense is None else F.normalize(read.dense, dim=1),
            pooled=None if read.pooled is None else F.normalize(read.pooled, dim=-1),
        )

    def encode_image(self, images_B3HW: Tensor, *, normalize: bool = True) -> Tensor:
        """Image embeddings (B, D), by the tower's own pooling; see `read`."""
        pooled = self.read(images_B3HW, pooled=True, normalize=normalize).pooled
        assert pooled is not None
        return pooled

    def dense_map(
        self,
        images_B3HW: Tensor,
        *,
        readout: str | Readout = "value",
        guide: Tensor | Guide | str | None = None,
        regions: Tensor | None = None,
        normalize: bool = True,
    ) -> Tensor:
        """Dense map (B, D, Y, X), Y = H / patch, X = W / patch; on the guide's grid where there is one; see `read`.

        Without a gradient unless parameters learn or the images ask for one, so that `.numpy()` works.
        """
        dense = self.read(
            images_B3HW, dense=True, readout=readout, guide=guide, regions=regions, normalize=normalize
        ).dense
        assert dense is not None
        return dense

    def taps(self, images_B3HW: Tensor, blocks: Iterable[int], *, readout: str | Readout = "value") -> list[Tensor]:
        """One map (B, C, Y, X) for each index of `trunk.stages`; see `read`."""
        return list(self.read(images_B3HW, taps=blocks, readout=readout).taps)

    def embed_boxes(self, images_B3HW: Tensor, boxes: Sequence[Tensor], *, readout: str | Readout = "value") -> Tensor:
        """Region embeddings (R, D) of unit length: the dense map pooled over boxes, see `pool_boxes`.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch.
            boxes: For each image its boxes (r, 4), `xyxy` in pixels of these images.
            readout: See `read`.

        Raises:
            ValueError: There is not one set of boxes an image, or one is not (r, 4) or no two corners in pixels.
        """
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        boxes = [torch.as_tensor(one) for one in boxes]  # of numpy or plain lists too
        for index, one in enumerate(boxes):
            check_boxes(one.float(), size=size, source=f"boxes of image {index}")
            if len(one) and float(one.max()) <= 1:
                raise ValueError(f"boxes of image {index} lie within its first pixel; are they shares? expected pixels")
        dense = self.dense_map(images_B3HW, readout=readout)
        return F.normalize(pool_boxes(dense, [normalize_boxes(one.float(), size=size) for one in boxes]), dim=-1)

    @torch.no_grad()
    def set_image(self, image: Picture, *, size: tuple[int, int] | int | None = None) -> None:
        """Takes a picture, for as many questions as there are; `query` answers them. The image tower looks once.

        Args:
            image: See `preprocess`.
            size: Height and width that the model sees, see `preprocess`.
        """
        self._set = ReadMemory(self), self.preprocess(image, size=size)[None]

    @torch.no_grad()
    def query(self, texts: Sequence[str] | Tensor | NDArray[Any], *, readout: str | Readout = "value") -> Tensor:
        """How near each patch of the picture that was set is to each text.

        Args:
            texts: Phrases, or unit rows (K, D) of them, such as `embed_names(...).rows_SD` or an array.
            readout: See `read`; each is read once.

        Returns:
            Cosines (K, Y, X), in the grid of the dense map.

        Raises:
            ValueError: No picture was set, or a text cannot be embedded.
        """
        if self._set is None:
            raise ValueError("there is no picture to look at; call set_image first, or dense_map")
        memory, image_13HW = self._set
        ready = ready_rows(texts, width=self.embed_dim)
        rows_KD = self.encode_text(cast(Sequence[str], texts)) if ready is None else ready
        with memory:
            dense_1DYX = self.dense_map(image_13HW, readout=readout)
        return torch.einsum("dyx,kd->kyx", dense_1DYX[0], rows_KD.to(dense_1DYX))

    def image_and_map(
        self, images_B3HW: Tensor, *, readout: str | Readout = "value", normalize: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The old name of `read(images, pooled=True, dense=True)`."""
        warn_renamed("DenseCLIP.image_and_map", "DenseCLIP.read(images, pooled=True, dense=True)")
        read = self.read(images_B3HW, dense=True, pooled=True, readout=readout, normalize=normalize)
        assert read.pooled is not None
        assert read.dense is not None
        return read.pooled, read.dense

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True, longest: int | None = None) -> Tensor:
        """Embeds texts.

        Args:
            texts: One string a row.
            normalize: Whether to return unit vectors.
            longest: Tokens after which a text is cut, ends included; the tokenizer's limit if not given.

        Returns:
            Embeddings (K, D).

        Raises:
            ValueError: The checkpoint held no text tower, or `texts` is one string instead of a list.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts must be a list of strings, got the single string {texts!r}; wrap it in a list")
        texts = in_order(texts) if isinstance(texts, Iterable) else [texts]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"texts must be a list of strings, got {texts!r:.60}")
        if self.identity.text is None:
            raise ValueError(
                f"the checkpoint {self.identity.image!r} held no text tower, so texts cannot be embedded; load it with "
                "text_from=... naming the release whose text tower it was trained beside"
            )
        tokens = told_cut(texts, self.tokenizer(texts), self.tokenizer).to(self.device)
        if longest is not None:
            tokens = cut_sentences(tokens, longest)
        embeddings: Tensor = self.clip.encode_text(tokens, normalize=False)  # type: ignore[operator]
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def train(self, mode: bool = True) -> "DenseCLIP":
        """Batch norms keep the statistics of pre-training: what learns must not depend on how a batch is cut."""
        super().train(mode)
        for module in self.clip.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

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
            ValueError: It is no picture, or is damaged; or the size is none.
        """
        rgb = read_image(image)
        size = fit_size((rgb.height, rgb.width), size, patch=self.patch_size)
        return normalise(rgb, size=size, mean=self.image_mean, std=self.image_std).to(self.device)

    def weights_hash(self, part: str = "all") -> str:
        """A short digest of the weights, for model cards; keys of caches want `activation.computation_hash`.

        Args:
            part: "image", "text" (everything but the image tower) or "all".

        Returns:
            16 hexadecimal digits.
        """
        state = {**self.clip.state_dict(), **({} if self.gates is None else {"visual.gates": self.gates})}
        chosen = (name for name in state if part == "all" or name.startswith("visual.") == (part == "image"))
        return digest_tensors({name: state[name] for name in chosen})

    def copy(self, *, image_identity: str | None = None) -> "DenseCLIP":
        """An independent copy of both towers, for instance a student that starts at its teacher."""
        twin = deepcopy(self)
        twin._trunk, twin._set = None, None
        twin.set_grad_checkpointing(self.trunk.grad_checkpointing)
        if image_identity is not None:
            twin.identity = replace(twin.identity, image=image_identity)
        return twin
