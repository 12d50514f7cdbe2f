"""Processor seconds an image beside torchvision's Faster R-CNN, training and predicting, and memory over many images.

Random weights throughout: only time and memory are looked at. `fasterrcnn_resnet50_fpn_v2` trains its whole network
(ResNet-50, four convolutions and a layer in the box head); F-ViT trains its heads on a frozen tower, at the published
constants of OV-COCO with EVA-02 CLIP B/16, or at those of the small recipe with the packaged model. The best of several
steps, interleaved.

Usage: python benchmarks/detection.py --size 640 --steps 3
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from clipself.backbones.loading import load_clip
from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.table import build_detector
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.recipes import detect_recipe
from clipself.engine.distributed import World
from clipself.engine.step import Step
from clipself.structures import DetectionBatch
from clipself.text.vocabulary import load_vocabulary
from figures import Figures, add_json, headline

Work = Callable[[], Any]


def make_batch(images: int, size: int) -> DetectionBatch:
    """Noise with seven boxes an image, COCO's mean."""
    generator = torch.Generator().manual_seed(0)
    boxes = []
    for _ in range(images):
        corner = torch.rand(7, 2, generator=generator) * size * 0.6
        boxes.append(torch.cat([corner, corner + 16 + torch.rand(7, 2, generator=generator) * size * 0.35], dim=1))
    return DetectionBatch(
        images_B3HW=torch.randn(images, 3, size, size, generator=generator), sizes=((size, size),) * images,
        boxes=tuple(boxes), labels=tuple(torch.randint(0, 40, (7,), generator=generator) for _ in range(images)),
        masks=None, names=tuple(f"noise {place}" for place in range(images)),
    )  # fmt: skip


def torchvision_work(batch: DetectionBatch, size: int) -> tuple[Work, Work, Any]:
    """A training step and a prediction of the reference."""
    model = fasterrcnn_resnet50_fpn_v2(
        weights=None,
        weights_backbone=None,
        num_classes=66,
        min_size=size,
        max_size=size,
    )
    targets = [{"boxes": boxes, "labels": labels + 1} for boxes, labels in zip(batch.boxes, batch.labels, strict=True)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    pixels = [image.sigmoid() for image in batch.images_B3HW]

    def train() -> None:
        losses: dict[str, Tensor] = model.train()(pixels, targets)
        _step(optimizer, torch.stack(list(losses.values())).sum())

    def predict() -> Any:
        with torch.no_grad():
            return model.eval()(pixels[:1])

    return train, predict, model


def our_work(batch: DetectionBatch, detector: TwoStage) -> tuple[Work, Work, Any]:
    """A training step and a prediction of F-ViT."""
    counts = {name: torch.as_tensor(count) for name, count in detector.counts(batch).items()}
    step = Step(number=0, seed=0, totals=counts, world=World(rank=0, size=1, device=torch.device("cpu")))
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=1e-6)

    def train() -> None:
        losses: dict[str, Tensor] = detector.train()(batch, step)
        _step(optimizer, torch.stack(list(losses.values())).sum())

    def predict() -> Any:
        return detector.eval().detect(batch.images_B3HW[:1], batch.sizes[:1])

    return train, predict, detector


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def make_detector(recipe: str, model: str, pretrained: str | None, size: int) -> TwoStage:
    """A recipe's detector with random heads and random text embeddings."""
    settings = detect_recipe(recipe).detector.changed({"image_size": size})
    clip = load_clip(model, pretrained)
    vocab = load_vocabulary("ov_coco_65")
    texts = torch.randn(66, clip.embed_dim, generator=torch.Generator().manual_seed(0))
    texts = torch.nn.functional.normalize(texts, dim=1)
    vocabulary = make_vocabulary(clip, vocab.names, base=vocab.names, texts_KD=texts)
    detector = build_detector(clip, settings, vocabulary)
    assert isinstance(detector, TwoStage)
    return detector


def seconds(work: Work) -> float:
    """Processor seconds of one call, all threads together: other work on the machine does not count."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def megabytes() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--memory-images", type=int, default=40)
    add_json(parser)
    options = parser.parse_args()
    figures = Figures(options.json)
    print(f"{headline()}, {options.size} px, batch {options.batch} in training, 1 in prediction")
    batch = make_batch(options.batch, options.size)
    works = {
        "fasterrcnn_resnet50_fpn_v2": torchvision_work(batch, options.size),
        "F-ViT, EVA-02 B/16, published heads": our_work(
            batch, make_detector("ov-coco-b16", "EVA02-B-16", "random", options.size)
        ),
        "F-ViT, clipself-mini, small heads": our_work(
            batch, make_detector("small", "clipself-mini", None, options.size)
        ),
    }
    best = {name: [float("inf"), float("inf")] for name in works}
    for _ in range(options.steps):
        for name, (train, predict, _) in works.items():
            best[name][0] = min(best[name][0], seconds(train) / options.batch)
            best[name][1] = min(best[name][1], seconds(predict))
    for name, (train_s, predict_s) in best.items():
        millions = sum(p.numel() for p in works[name][2].parameters() if p.requires_grad) / 1e6
        print(f"{name:38} training {train_s:6.2f} s/image   prediction {predict_s:6.2f} s/image   "
              f"{millions:5.1f} M parameters learn")  # fmt: skip
        figures.note(f"{name}, {options.size} px: training of an image", train_s, "s")
        figures.note(f"{name}, {options.size} px: prediction of an image", predict_s, "s")
    _, predict, _ = works["F-ViT, clipself-mini, small heads"]
    marks = []
    for done in range(1, options.memory_images + 1):
        predict()
        if done in (10, options.memory_images):
            marks.append((done, megabytes()))
    if len(marks) == 2:
        figures.note("peak memory after all predictions over that after ten", marks[1][1] / marks[0][1], "x")
    print("peak memory after predictions: " + ", ".join(f"{done}: {held:.0f} MiB" for done, held in marks))


if __name__ == "__main__":
    main()
