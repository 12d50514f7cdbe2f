"""What a detector's prediction costs over its own backbone with torchvision's heads in the place of ours.

Both sides run the same frozen CLIP, taps and pyramid, to the same number of proposals. Over them stand torchvision's
`RPNHead`, `MultiScaleRoIAlign`, `FastRCNNConvFCHead` and `FastRCNNPredictor`, as deep and wide as ours and with its own
post-processing, or our heads with the cosine classes and the frozen CLIP's second opinion. Random weights, but for the
packaged detector. Median processor seconds (all threads together), interleaved.

Usage: python benchmarks/detection_heads.py --times 5
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

import clipself
from clipself.data.images import read_image
from clipself.detection.detector import Detector
from clipself.detection.detectors.two_stage.model import BINS, TwoStage
from clipself.detection.detectors.two_stage.proposals_network import RATIOS
from clipself.layers.norms import NORMS
from detection import make_detector
from figures import Figures, add_json, headline, interleaved

PICTURE = Path(clipself.__file__).parent / "data" / "photos" / "cat.jpg"


class Backbone(nn.Module):
    """A detector's frozen CLIP, taps and pyramid, as torchvision wants them."""

    def __init__(self, detector: TwoStage) -> None:
        super().__init__()
        self.parts = [detector.backbone, detector.taps, detector.pyramid]  # a list: they stay the detector's own
        self.out_channels = detector.settings.channels

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Levels by name, finest first."""
        backbone, taps, pyramid = self.parts
        return {str(place): level for place, level in enumerate(pyramid(taps(backbone(images_B3HW, dense=False).taps)))}


def with_torchvision(detector: TwoStage, side: int) -> FasterRCNN:
    """The same backbone under torchvision's heads."""
    settings, strides = detector.settings, detector.strides
    sides = tuple((settings.anchor_scale * stride,) for stride in (*strides, 2 * strides[-1]))
    channels, width = settings.channels, settings.box_width or detector.clip.embed_dim
    names = len(detector.vocabulary.names)
    box_head = FastRCNNConvFCHead(
        (channels, BINS, BINS), [channels] * settings.box_convs, [width] * max(1, settings.box_layers),
        norm_layer=None if settings.norm == "none" else NORMS[settings.norm],
    )  # fmt: skip
    return FasterRCNN(
        Backbone(detector), min_size=side, max_size=side, image_mean=[0.0] * 3, image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(sides, (RATIOS,) * len(sides)),
        rpn_head=RPNHead(channels, len(RATIOS), conv_depth=max(1, settings.rpn_convs)),
        rpn_pre_nms_top_n_test=settings.proposals_before, rpn_post_nms_top_n_test=settings.proposals_after,
        rpn_nms_thresh=settings.proposal_nms,
        box_roi_pool=MultiScaleRoIAlign([str(place) for place in range(len(strides))], BINS, 2),
        box_head=box_head, box_predictor=FastRCNNPredictor(width, names + 1), box_nms_thresh=settings.nms,
        box_detections_per_img=settings.max_detections,
    ).eval()  # fmt: skip


def main() -> None:
    """Prints a row for each detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--detectors", nargs="+", default=["packaged", "small-vild", "small-detic", "ov-coco-b16"])
    parser.add_argument("--profile", action="store_true", help="print what the heads of each spend their time on")
    add_json(parser)
    options = parser.parse_args()
    figures = Figures(options.json)
    print(f"{headline()}, {options.size} px, 65 names")
    for name in options.detectors:
        detector = _detector(name, options.size)
        size = detector.settings.image_size
        framed = detector.framing().test(read_image(PICTURE))
        pixels = detector.framing().pixels(framed)[None]
        sizes = [(framed.image.height, framed.image.width)]
        reference = with_torchvision(detector, size)
        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda: detector.detect(pixels, sizes),  # noqa: B023
            "reference": lambda: _found(reference, pixels[0]),  # noqa: B023
            "backbone": lambda: _found(reference.backbone, pixels),  # noqa: B023
        }
        best = interleaved(sides, rounds=options.times)
        heads = (best["ours"] - best["backbone"]) / (best["reference"] - best["backbone"])
        print(f"{name:14} {best['ours']:6.2f} s   backbone {best['backbone']:6.2f} s   with torchvision's heads "
              f"{best['reference']:6.2f} s   {best['ours'] / best['reference']:5.2f} x, heads alone {heads:5.2f} x",
              flush=True)  # fmt: skip
        figures.note(f"{name}, {size} px: prediction over the same with torchvision's heads",
                     best["ours"] / best["reference"], "x")  # fmt: skip
        if options.profile:
            _profile(sides["ours"])


@torch.no_grad()
def _found(model: nn.Module, pixels: Tensor) -> Any:
    return model([pixels]) if isinstance(model, FasterRCNN) else model(pixels)


def _profile(work: Callable[[], Any]) -> None:
    with torch.profiler.profile() as profiler:
        work()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40))


def _detector(name: str, size: int) -> TwoStage:
    if name == "packaged":
        model: Any = Detector.from_checkpoint(device="cpu").model
    else:
        published = name.startswith("ov-")
        clip, pretrained = ("EVA02-B-16", "random") if published else ("clipself-mini", None)
        model = make_detector(name, clip, pretrained, size)
    assert isinstance(model, TwoStage)
    return model.eval()


if __name__ == "__main__":
    main()
