"""The cost aggregator of CAT-Seg: cosines between patches and classes, refined over space and over classes.

Source: CAT-Seg (arXiv:2303.11797), Sec. 3.2-3.4, with the published parameter names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.choices import pick
from clipself.layers.guided_window import GuidedWindowBlock
from clipself.layers.linear_attention import LinearAttention, Padding, SoftmaxAttention
from clipself.layers.upsampling import GuidedUpsample
from clipself.ops.axes import pieces, unfold_axis
from clipself.segmentation.catseg.settings import AggregatorSettings

LEFT_OUT = -100.0
"""Logit of a class that the cap has left out."""

CLASS_ATTENTIONS: Final[Mapping[str, type[LinearAttention | SoftmaxAttention]]] = {
    "linear": LinearAttention,
    "full": SoftmaxAttention,
}
"""How the classes of a place look at each other."""

CLASSES_IN_CACHE = 8
"""Classes whose maps pass together through the steps that treat them apart on a CPU: more of them leave its cache."""


class SpatialStep(nn.Module):
    """Each class's map by itself: two Swin blocks guided by the image."""

    def __init__(self, settings: AggregatorSettings) -> None:
        super().__init__()
        shared = {
            "channels": settings.hidden,
            "guidance_channels": settings.guidance_projected or settings.projected,
            "heads": settings.heads,
            "window": settings.window,
        }
        self.block_1 = GuidedWindowBlock(**shared, shift=0)
        self.block_2 = GuidedWindowBlock(**shared, shift=settings.window // 2)
        self.guidance_norm = nn.LayerNorm(shared["guidance_channels"])

    def forward(self, cost_BTYXC: Tensor, guidance_BYXG: Tensor) -> Tensor:
        """Refines every class's map, channels last."""
        batch, classes = cost_BTYXC.shape[:2]
        guidance = self.guidance_norm(guidance_BYXG)
        maps = self.block_2(self.block_1(cost_BTYXC.flatten(0, 1), guidance), guidance)
        return unfold_axis(maps, 0, (batch, classes))


class ClassStep(nn.Module):
    """Each place by itself: attention over the classes, guided by their texts."""

    def __init__(self, settings: AggregatorSettings) -> None:
        super().__init__()
        hidden, projected = settings.hidden, settings.projected
        self.pad_classes = settings.pad_classes
        if settings.pad_classes:
            self.padding_tokens = nn.Parameter(torch.zeros(1, 1, hidden))
            self.padding_guidance = nn.Parameter(torch.zeros(1, 1, projected))
        self.norm1 = nn.LayerNorm(hidden)
        self.attention = pick(CLASS_ATTENTIONS, settings.class_attention, what="attention among classes")(
            channels=hidden, guidance_channels=projected, heads=settings.heads
        )
        self.norm2 = nn.LayerNorm(hidden)
        self.MLP = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.ReLU(), nn.Linear(4 * hidden, hidden))

    def forward(self, cost_BTYXC: Tensor, texts_BTG: Tensor, *, pooling: int, rows_at_once: int | None) -> Tensor:
        """Refines every place's classes and adds the result to the map.

        Args:
            cost_BTYXC: Cost embeddings, channels last.
            texts_BTG: Projected texts.
            pooling: Side of the cells that are averaged first; the result is upsampled with aligned corners.
            rows_at_once: Rows of places in one pass; all of them if None.
        """
        rows, cols = cost_BTYXC.shape[2:4]
        pooled = self._pool(cost_BTYXC, pooling)
        mixed = torch.cat([self._mix(strip, texts_BTG) for strip in pieces(pooled, rows_at_once, axis=2)], dim=2)
        if mixed.shape[2:4] == (rows, cols):
            return cost_BTYXC + mixed
        maps = mixed.flatten(0, 1).permute(0, 3, 1, 2)
        resized = F.interpolate(maps, size=(rows, cols), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
        return cost_BTYXC + unfold_axis(resized, 0, cost_BTYXC.shape[:2])

    @staticmethod
    def _pool(cost_BTYXC: Tensor, pooling: int) -> Tensor:
        if pooling == 1:
            return cost_BTYXC
        maps = F.avg_pool2d(cost_BTYXC.flatten(0, 1).permute(0, 3, 1, 2), pooling)
        return unfold_axis(maps.permute(0, 2, 3, 1), 0, cost_BTYXC.shape[:2])

    def _mix(self, cost_BTyxC: Tensor, texts_BTG: Tensor) -> Tensor:
        batch, classes, rows, cols, channels = cost_BTyxC.shape
        places: Tensor = cost_BTyxC.permute(0, 2, 3, 1, 4).reshape(batch * rows * cols, classes, channels)
        places = places + self.attention(self.norm1(places), texts_BTG, padding=self._padding(classes))
        places = places + self.MLP(self.norm2(places))
        return places.reshape(batch, rows, cols, classes, channels).permute(0, 3, 1, 2, 4)

    def _padding(self, classes: int) -> Padding | None:
        exporting = (
            torch.compiler.is_exporting()
        )  # a graph takes any number of classes, and pads by 0 where it is enough
        if not self.pad_classes or (not exporting and classes >= self.pad_classes):
            return None
        count: Any = torch.sym_max(self.pad_classes - classes, 0)
        token = self.norm1(self.padding_tokens)
        return Padding(token_11C=token, guidance_11G=self.padding_guidance, count=count)


class AggregatorLayer(nn.Module):
    """A spatial step, then a class step."""

    def __init__(self, settings: AggregatorSettings) -> None:
        super().__init__()
        self.swin_block = SpatialStep(settings)
        self.attention = ClassStep(settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What is known of the classes ahead of the layers.

    Attributes:
        cosine_BPTYX: Cosines of patches with every sentence.
        texts_BTPD: Text embeddings behind them.
        kept_BT: Index of each class among all; None where none is left out.
        total: Classes before any was left out.
    """

    cosine_BPTYX: Tensor
    texts_BTPD: Tensor
    kept_BT: Tensor | None
    total: int


class CostAggregator(nn.Module):
    """From a dense map and texts to class logits at four times the patch grid.

    Args:
        settings: Sizes.
    """

    def __init__(self, settings: AggregatorSettings) -> None:
        super().__init__()
        self.settings = settings
        hidden, projected = settings.hidden, settings.projected
        self.layers = nn.ModuleList(AggregatorLayer(settings) for _ in range(settings.layers))
        self.conv1 = nn.Conv2d(settings.prompts, hidden, kernel_size=7, padding=3)
        self.guidance_projection = nn.Sequential(
            nn.Conv2d(settings.guidance_channels, settings.guidance_projected or projected, kernel_size=3, padding=1),
            nn.ReLU(),
        )
        self.text_guidance_projection = nn.Sequential(nn.Linear(settings.text_channels, projected), nn.ReLU())
        self.decoder_guidance_projection = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, kept, kernel_size=3, padding=1), nn.ReLU())
            for given, kept in zip(settings.decoder_guidance_channels, settings.decoder_projected, strict=True)
        )
        first, second = settings.decoder_channels
        self.decoder1 = GuidedUpsample(
            channels=hidden, guidance_channels=settings.decoder_projected[0], out_channels=first
        )
        self.decoder2 = GuidedUpsample(
            channels=first, guidance_channels=settings.decoder_projected[1], out_channels=second
        )
        self.head = nn.Conv2d(second, 1, kernel_size=3, padding=1)

    def forward(
        self,
        dense_BDYX: Tensor,
        texts_BTPD: Tensor,
        guidance: Sequence[Tensor],
        *,
        pooling: int = 1,
        class_cap: int | None = None,
        classes_at_once: int | None = None,
    ) -> Tensor:
        """Scores every class.

        Args:
            dense_BDYX: Dense map of any length along D.
            texts_BTPD: Text embeddings: classes, sentences, joint space; B may be 1.
            guidance: Maps at the grid, at twice and at four times the grid.
            pooling: Averaging ahead of the class steps; 2 as trained, 1 as evaluated.
            class_cap: Most classes that are looked at: those of the largest cosine; others get -100. None looks at all.
                The published code caps at `pad_classes` without saying so.
            classes_at_once: Classes in one pass through the steps that treat them apart, so that memory does not grow
                with them; all of them if None.

        Returns:
            Logits (B, T, 4 Y, 4 X).
        """
        if classes_at_once is not None and dense_BDYX.device.type == "cpu":
            classes_at_once = min(classes_at_once, CLASSES_IN_CACHE)
        costs = self.compare(dense_BDYX, texts_BTPD, class_cap=class_cap)
        cost = self.embed(costs, classes_at_once=classes_at_once)
        maps_BYXG = self.guidance_projection(guidance[0]).permute(0, 2, 3, 1)
        texts_BTG = self.project_texts(costs.texts_BTPD)
        for layer in self.layers:
            cost = self.run_spatial(layer, cost, maps_BYXG, classes_at_once=classes_at_once)
            cost = self.run_classes(layer, cost, texts_BTG, pooling=pooling, classes_at_once=classes_at_once)
        logits = self.decode(cost, guidance[1:], classes_at_once=classes_at_once)
        if costs.kept_BT is None:
            return logits
        whole = logits.new_full((len(logits), costs.total, *logits.shape[2:]), LEFT_OUT)
        return whole.scatter(1, costs.kept_BT[:, :, None, None].expand_as(logits), logits)

    def compare(self, dense_BDYX: Tensor, texts_BTPD: Tensor, *, class_cap: int | None = None) -> Costs:
        """Cosines between every patch and every sentence, of all classes or of the nearest ones."""
        total = texts_BTPD.shape[1]
        texts_BTPD = texts_BTPD.expand(dense_BDYX.shape[0], -1, -1, -1)
        unit_map, unit_texts = F.normalize(dense_BDYX, dim=1), F.normalize(texts_BTPD, dim=-1)
        cosine = torch.einsum("bdyx,btpd->bptyx", unit_map, unit_texts)
        if not class_cap or total <= class_cap:
            return Costs(cosine_BPTYX=cosine, texts_BTPD=texts_BTPD, kept_BT=None, total=total)
        kept_BT = cosine.amax((1, 3, 4)).topk(class_cap, dim=1).indices
        texts = texts_BTPD.gather(1, kept_BT[:, :, None, None].expand(-1, -1, *texts_BTPD.shape[2:]))
        places = kept_BT[:, None, :, None, None].expand(-1, cosine.shape[1], -1, *cosine.shape[3:])
        return Costs(cosine_BPTYX=cosine.gather(2, places), texts_BTPD=texts, kept_BT=kept_BT, total=total)

    def project_texts(self, texts_BTPD: Tensor) -> Tensor:
        """Texts averaged over their sentences, normalised, projected: (B, T, G)."""
        out: Tensor = self.text_guidance_projection(F.normalize(texts_BTPD.mean(2), dim=-1))
        return out

    def embed(self, costs: Costs, *, classes_at_once: int | None = None) -> Tensor:
        """A 7 x 7 convolution over each class's cosines: (B, T, Y, X, C), channels last."""
        batch, _, classes = costs.cosine_BPTYX.shape[:3]
        maps = costs.cosine_BPTYX.transpose(1, 2).flatten(0, 1)
        embedded = torch.cat([self.conv1(part) for part in pieces(maps, classes_at_once, axis=0)])
        return unfold_axis(embedded, 0, (batch, classes)).permute(0, 1, 3, 4, 2)

    @staticmethod
    def run_spatial(layer: nn.Module, cost: Tensor, maps_BYXG: Tensor, *, classes_at_once: int | None = None) -> Tensor:
        """The spatial step of a layer."""
        step: SpatialStep = layer.swin_block  # type: ignore[assignment]
        return torch.cat([step(part, maps_BYXG) for part in pieces(cost, classes_at_once, axis=1)], dim=1)

    @staticmethod
    def run_classes(
        layer: nn.Module, cost: Tensor, texts_BTG: Tensor, *, pooling: int, classes_at_once: int | None = None
    ) -> Tensor:
        """The class step of a layer; with a bound on classes it goes row by row of the map."""
        step: ClassStep = layer.attention  # type: ignore[assignment]
        rows = None if classes_at_once is None else max(1, cost.shape[2] * classes_at_once // (4 * cost.shape[1]))
        out: Tensor = step(cost, texts_BTG, pooling=pooling, rows_at_once=rows)
        return out

    def decode(self, cost_BTYXC: Tensor, guidance: Sequence[Tensor], *, classes_at_once: int | None = None) -> Tensor:
        """Two upsampling steps and one logit a cell: (B, T, 4 Y, 4 X)."""
        projected = [project(one) for project, one in zip(self.decoder_guidance_projection, guidance, strict=True)]
        return torch.cat(
            [self._decode_part(part, projected) for part in pieces(cost_BTYXC, classes_at_once, axis=1)], dim=1
        )

    def _decode_part(self, cost_BTYXC: Tensor, projected: Sequence[Tensor]) -> Tensor:
        batch, classes = cost_BTYXC.shape[:2]
        maps = cost_BTYXC.flatten(0, 1).permute(0, 3, 1, 2)
        for decoder, guidance in zip((self.decoder1, self.decoder2), projected, strict=True):
            maps = decoder(maps, guidance)
        logits: Tensor = self.head(maps)[:, 0]
        return unfold_axis(logits, 0, (batch, classes))
