"""Labels a folder by names, then trains torchvision's Faster R-CNN on the labels: a small detector that needs no CLIP.

    python examples/label_then_train.py                                                    # on a few generated scenes
    python examples/label_then_train.py --images photos --names cat dog --epochs 10

With `--truth` and `--truth-images` AP50 is told; `--annotations` are labels that are there already.
"""

import json
from pathlib import Path
from typing import Any

import torch
import tyro
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import CocoDetection
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, box_convert
from torchvision.transforms.functional import to_tensor

import clipself
from clipself.data.scenes import write_scenes
from clipself.metrics import coco_ap


def make_detector(num_names: int, side: int) -> FasterRCNN:
    """On the ImageNet features that the packaged CLIP begins with, which stay as they are; class 0 has no name."""
    clip: Any = clipself.load_clip("clipself-mini", device="cpu")
    stem = clip.clip.visual.trunk.patch_embed.backbone  # stride 16, 112 channels
    backbone: Any = nn.Sequential(stem, nn.Conv2d(112, 192, 3, padding=1), nn.ReLU())
    backbone.out_channels = 192
    return FasterRCNN(
        backbone, min_size=side, image_mean=clip.image_mean, image_std=clip.image_std,
        rpn_anchor_generator=AnchorGenerator(((32, 64, 128),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(192 * 7 * 7, 256), box_predictor=FastRCNNPredictor(256, num_names + 1),
        rpn_pre_nms_top_n_train=500, rpn_post_nms_top_n_train=200, box_batch_size_per_image=64,
    )  # fmt: skip


def example_of(held: tuple[Image.Image, list[dict[str, Any]]], labels: dict[int, int]) -> tuple[Tensor, dict[str, Any]]:
    """One picture of a COCO file as torchvision's detectors take it, mirrored in half of all cases."""
    image, rows = held
    pixels, boxes = to_tensor(image), torch.tensor([row["bbox"] for row in rows]).reshape(-1, 4)
    if torch.rand(()) < 0.5:
        pixels, boxes[:, 0] = pixels.flip(-1), image.width - boxes[:, 0] - boxes[:, 2]
    named = torch.tensor([labels[row["category_id"]] for row in rows], dtype=torch.long)
    return pixels, {"boxes": box_convert(boxes, "xywh", "xyxy"), "labels": named}


def main(
    *, images: Path | None = None, names: tuple[str, ...] = (), threshold: float = 0.1, annotations: Path | None = None,
    truth: Path | None = None, truth_images: Path | None = None, epochs: int = 1, batch_size: int = 4, lr: float = 1e-3,
    side: int = 320, out: Path = Path("runs/label_then_train"),
) -> float | None:  # fmt: skip
    """Labels, trains, scores."""
    torch.manual_seed(0)
    if images is None:
        scenes = write_scenes(out / "scenes", train=12, val=4)
        images, truth, truth_images = scenes / "train", scenes / "annotations/instances_val.json", scenes / "val"
    if annotations is None:
        result = clipself.label(images=images, names=names, threshold=threshold, out=out / "labels")
        print(result.to_table())
        annotations = result.written["coco"]
    data = CocoDetection(str(images), str(annotations))
    classes = [data.coco.cats[key]["name"] for key in sorted(data.coco.cats)]
    labels = {key: place for place, key in enumerate(sorted(data.coco.cats), start=1)}

    detector = make_detector(len(classes), side).train()
    steps = epochs * -(-len(data) // batch_size)
    optimizer = torch.optim.AdamW([each for each in detector.parameters() if each.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
    for epoch in range(epochs):
        order = torch.randperm(len(data)).tolist()
        for start in range(0, len(order), batch_size):
            batch = [example_of(data[place], labels) for place in order[start : start + batch_size]]
            loss = torch.stack(list(detector(*map(list, zip(*batch, strict=True))).values())).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", flush=True)
    torch.save({"names": classes, "weights": detector.state_dict()}, out / "detector.pt")
    if truth is None or truth_images is None:
        return None
    return score(detector.eval(), classes, truth, truth_images)


@torch.no_grad()
def score(detector: FasterRCNN, classes: list[str], truth: Path, images: Path) -> float:
    """AP50 in percent against true boxes, by pycocotools."""
    data, rows = CocoDetection(str(images), str(truth)), list[dict[str, Any]]()
    ids = {each["name"]: key for key, each in data.coco.cats.items()}
    for place in range(len(data)):
        (found,) = detector([to_tensor(data[place][0])])
        boxes, kinds = box_convert(found["boxes"], "xyxy", "xywh").tolist(), found["labels"].tolist()
        for box, kind, sure in zip(boxes, kinds, found["scores"].tolist(), strict=True):
            if (category := ids.get(classes[kind - 1])) is not None:
                rows.append({"image_id": data.ids[place], "category_id": category, "bbox": box, "score": sure})
    ap50 = 100 * coco_ap(json.loads(truth.read_text()), rows).summary["AP50"]
    print(f"AP50 {ap50:.1f} on {len(data)} pictures")
    return ap50


if __name__ == "__main__":
    tyro.cli(main)
