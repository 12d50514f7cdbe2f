"""True boxes named by a frozen CLIP, picture by picture."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.detection import CocoDetection, DetectionSample, collate_detection
from clipself.data.images import read_image
from clipself.data.jitter import Framing
from clipself.data.limit import first_of
from clipself.data.preprocess import Preprocess
from clipself.data.short_side import ShortSide
from clipself.data.workers import leave_stopping_to_the_run, plain_errors
from clipself.detection.region_prompt.config import RegionSettings
from clipself.detection.region_prompt.loss import region_logits
from clipself.detection.region_prompt.regions import ClipRegions
from clipself.engine.share import Share
from clipself.ops.boxes import normalize_boxes
from clipself.structures import DetectionBatch


class WholePictures(Dataset[DetectionSample]):
    """Pictures as they are seen at test, with all of their boxes.

    Args:
        source: Pictures and boxes.
        framing: How they are seen.
    """

    def __init__(self, source: CocoDetection, framing: Framing) -> None:
        self.source, self.framing = source, framing

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> DetectionSample:
        image = read_image(self.source.paths[index])
        self.source.check_size(index, (image.height, image.width), image=image)
        framed = self.framing.test(image)
        return DetectionSample(
            image_3HW=self.framing.pixels(framed), size=(framed.image.height, framed.image.width),
            boxes=framed.boxes(self.source.boxes(index)), labels=self.source.labels(index), masks=None,
            negatives=self.source.negatives(index), name=self.source.names[index], row=index,
        )  # fmt: skip


def framing_of(
    settings: RegionSettings, clip: DenseCLIP, *, sides: tuple[int, ...] = (), flip: float = 0.0, crop: float = 0.0
) -> ShortSide:
    """Pictures by their short side; what is given beside the settings is of training."""
    pixels = Preprocess(mean=clip.image_mean, std=clip.image_std)
    return ShortSide(
        side=settings.short_side, longest=settings.longest_side, preprocess=pixels, sides=sides, flip=flip, crop=crop
    )


def shares_of(batch: DetectionBatch) -> list[Tensor]:
    """Boxes of each picture, `xyxy` in [0, 1] of its own pixels."""
    return [normalize_boxes(boxes.float(), size=size) for boxes, size in zip(batch.boxes, batch.sizes, strict=True)]


@torch.no_grad()
def classify_boxes(
    regions: ClipRegions,
    texts_KD: Tensor,
    source: CocoDetection,
    framing: Framing,
    *,
    temperature: float,
    batch_size: int,
    workers: int = 0,
    share: Share | None = None,
    limit: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """The place of each picture and its boxes' logits (r, K), one picture after another.

    Args:
        regions: The CLIP.
        texts_KD: Unit embeddings of the names.
        source: Pictures and boxes.
        framing: How pictures are seen.
        temperature: Factor of the cosine.
        batch_size: Pictures at once; they are padded to the largest, which the CLIP sees a little.
        workers: Processes that read pictures.
        share: Cuts the batches among the processes of a run.
        limit: First pictures only.
    """
    pictures, device = WholePictures(source, framing), regions.clip.device
    count = first_of(len(pictures), limit)
    batches = [range(start, min(count, start + batch_size)) for start in range(0, count, batch_size)]

    def look_at(indices: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Tensor]]]:
        loader: DataLoader[DetectionSample] = DataLoader(
            pictures, batch_sampler=[list(batches[index]) for index in indices], num_workers=workers,
            collate_fn=collate_detection, worker_init_fn=leave_stopping_to_the_run,
        )  # fmt: skip
        for batch in plain_errors(loader):
            held: DetectionBatch = batch.to(device)
            maps = regions.read(held.images_B3HW, held.sizes)
            logits_RK = region_logits(regions.embed(maps, shares_of(held)), texts_KD, temperature=temperature)
            counts = [len(labels) for labels in held.labels]
            yield held.rows, [one.clone() for one in torch.split(logits_RK.cpu(), counts)]

    for rows, found in (share or Share()).of(len(batches), look_at):
        yield from zip(rows, found, strict=True)
