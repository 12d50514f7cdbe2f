"""Every training at toy size, a row each: `tests/test_families.py` tests on all of them what they all promise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import timm
import torch
from safetensors.torch import load_file
from tests.support.diffusion import write_tiny_diffusion
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from tests.support.toys.detr import ToyDetr, ToyDetrSettings
from timm.models import save_for_hf
from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.data.images import read_image
from clipself.data.scenes.export import write_scenes
from clipself.detection.detectors.table import DETECTORS, DetectorType
from clipself.engine.result import TrainResult

COMMON: Final[Mapping[str, Any]] = {
    "model": "clip", "max_steps": 4, "batch_size": 4, "workers": 0, "precision": "fp32", "device": "cpu",
    "save_every": 2, "lr": 1e-3, "warmup_steps": 0, "clip_norm": 1.0, "flip": 0.5,
    "eps": 1e-3,  # a small one blows the last bits of tiny gradients up to whole steps of AdamW
}  # fmt: skip
INSTANCES: Final = "scenes/annotations/instances_{}.json"
CAPTIONS: Final = "scenes/annotations/captions_{}.json"
PANOPTIC: Final = "scenes/annotations/panoptic_{}.json"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One training.

    Attributes:
        module: Where its public function lives.
        function: Its name.
        command: What the command line calls it.
        required: What every run must be given beside `out`, as text that stands for paths.
        options: The toy's sizes.
        weights: Files below the run's folder that hold what was trained.
        labels: Annotations and pictures for an evaluation inside the run.
        read: Loads what the run has saved and returns numbers that it makes of a picture.
        recipe: None takes the first.
        whole_batches: Whether images of a micro-batch learn from one another, as under batch norm: then accumulated
            micro-batches are not one batch.
        needs: Module of an optional library that it stands on.
        learns_text: Whether the text tower learns too.
    """

    module: str
    function: str
    command: str
    required: Mapping[str, str]
    options: Mapping[str, Any]
    weights: tuple[str, ...]
    labels: tuple[str, str]
    read: Callable[[Path, Path], Tensor]
    recipe: str | None = None
    whole_batches: bool = False
    needs: str = ""
    learns_text: bool = False

    def train(self, out: Path | str, **changes: Any) -> TrainResult:
        """Trains in the present folder; changes are settings, or callbacks."""
        function: Callable[..., TrainResult] = getattr(import_module(self.module), self.function)
        settings = {**self.required, **COMMON, **self.options, **changes}
        return function(out=out, recipe=self.recipe, **settings)

    def resume(self, out: Path) -> TrainResult:
        """Goes on with a run of which only the folder is known."""
        function: Callable[..., TrainResult] = getattr(import_module(self.module), self.function)
        return function(out=out, resume=True)

    def weights_of(self, out: Path) -> dict[str, Tensor]:
        """Everything that was saved, by file and name."""
        return {f"{file}/{name}": value for file in self.weights for name, value in load_file(out / file).items()}


def write_guide(folder: Path) -> None:
    """A vision transformer of timm's, as timm saves it, for what is guided by another model."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        save_for_hf(timm.create_model("vit_tiny_patch16_224", num_classes=0, **sizes), folder, model_args=sizes)


def write_place(folder: Path) -> Path:
    """Scenes and a tiny CLIP of four blocks, in a folder where all families train."""
    write_scenes(folder / "scenes", train=8, val=2, size=(64, 64))
    save_clip(tiny_openai_clip(layers=4), folder / "clip")
    if find_spec("diffusers") is not None:
        write_tiny_diffusion(folder / "clip" / "diffusion")  # what moves with the CLIP moves with it
    save_clip(tiny_resnet_clip(), folder / "clip" / "resnet")  # so do these
    write_guide(folder / "clip" / "guide")
    return folder


def _read_student(run: Path, picture: Path) -> Tensor:
    from clipself.backbones.loading import load_clip

    clip = load_clip(str(run / "student"), device="cpu")
    with torch.no_grad():
        return clip.dense_map(clip.preprocess(picture, size=64)[None])


def _read_clip(run: Path, picture: Path) -> Tensor:
    from clipself.backbones.loading import load_clip

    clip = load_clip(str(run / "clip"), device="cpu")
    with torch.no_grad():
        return clip.encode_image(clip.preprocess(picture, size=32)[None]) @ clip.encode_text(["a dog"]).mT


def _read_detector(run: Path, picture: Path) -> Tensor:
    from clipself.detection.detector import Detector

    (found,) = Detector.from_checkpoint(run, device="cpu").predict(picture)
    return torch.cat([found.boxes, found.scores[:, None]], dim=1)


def _read_segmenter(run: Path, picture: Path) -> Tensor:
    from clipself.segmentation.checkpoint import load_segmenter
    from clipself.segmentation.segmenters import segmenter_of

    model, card = load_segmenter(run, device="cpu")
    found = segmenter_of(model, card["names"], crop=card["crop"]).segment(picture)
    assert found.scores_HW is not None
    return torch.stack([found.labels_HW.float(), found.scores_HW])


def _read_masks(run: Path, picture: Path) -> Tensor:
    from clipself.panoptic.generators.own import load_own_masks

    found = load_own_masks(run, device="cpu")(read_image(picture), file="", names=["dog", "sky"])
    assert found.logits_QK is not None
    return torch.cat([found.masks_QYX.flatten(), found.logits_QK.flatten(), found.void_Q])


def _read_prompt(run: Path, picture: Path) -> Tensor:
    from clipself.detection.region_prompt.train import open_prompt

    regions = open_prompt(run)
    maps = regions.read(regions.clip.preprocess(picture, size=64)[None], [(64, 64)])
    return regions.embed(maps, [torch.tensor([[0.1, 0.2, 0.7, 0.9]])])


_DISTILL: Final[Mapping[str, Any]] = {
    "module": "clipself.distillation.train", "function": "distill", "command": "distill",
    "weights": ("student/open_clip_model.safetensors", "blended/open_clip_model.safetensors"),
    "labels": (PANOPTIC.format("val"), "scenes/val"), "read": _read_student,
}  # fmt: skip


def _distill(method: Mapping[str, Any], **options: Any) -> Family:
    options = {"image_size": 64, "max_regions": 4, "method": method, "keep_image": 0.0, **options}
    return Family(**_DISTILL, required={"data": "scenes/train"}, options=options)


_SEGMENT: Final[Mapping[str, Any]] = {
    "module": "clipself.segmentation.train", "function": "train_segmenter", "command": "segment train",
    "required": {"annotations": PANOPTIC.format("train"), "images": "scenes/train"},
    "weights": ("segmenter.safetensors",), "labels": (PANOPTIC.format("val"), "scenes/val"), "read": _read_segmenter,
}  # fmt: skip


def _masks(
    *,
    recipe: str | None = None,
    needs: str = "",
    whole_batches: bool = False,
    required: Mapping[str, str] | None = None,
    **generator: Any,
) -> Family:
    sizes = {
        "image_size": 64, "channels": 32, "pixel_hidden": 32, "layers": 2, "hidden": 32, "queries": 6, "heads": 2,
    }  # fmt: skip
    return Family(
        module="clipself.panoptic.train", function="train_panoptic", command="panoptic train",
        required={"annotations": PANOPTIC.format("train"), "images": "scenes/train", **(required or {})},
        options={"generator": {**sizes, **generator}, "loss": {"num_points": 64}},
        weights=("mask_model.safetensors",), labels=(PANOPTIC.format("val"), "scenes/val"), read=_read_masks,
        recipe=recipe, whole_batches=whole_batches, needs=needs,
    )  # fmt: skip


DETECTORS["toy-detr"] = DetectorType(settings=ToyDetrSettings, build=ToyDetr)  # a detector is one file and this line


def _detector(
    method: str, *, recipe: str | None = None, whole_batches: bool = False, side: str = "image_size", **settings: Any
) -> Family:
    return Family(
        module="clipself.detection.train", function="train_detector", command="detect train",
        required={"annotations": INSTANCES.format("train"), "images": "scenes/train"},
        options={"scales": (0.8, 1.25), "detector": {"method": method, side: 32, **settings}},
        weights=("detector.safetensors",), labels=(INSTANCES.format("val"), "scenes/val"), read=_read_detector,
        recipe=recipe, whole_batches=whole_batches,
    )  # fmt: skip


_TWO_STAGE: Final[Mapping[str, Any]] = {
    "pixels": "clip", "taps": (0, 1, 2, 3), "channels": 16, "norm": "group", "rpn_convs": 1, "box_convs": 1,
    "box_layers": 1, "box_width": 32, "anchor_scale": 4.0, "score_threshold": 0.0,
    # Every proposal is sampled: of a part of them, two whose scores differ in the last bits would decide which.
    "proposals_before": 2000, "proposals_after": 2000, "roi_samples": 8000,
}  # fmt: skip

_ROVIT: Final[Mapping[str, Any]] = {
    "windows": 2, "channels": 16, "rpn_convs": 1, "box_convs": 1, "box_width": 32, "anchor_scale": 4.0,
    "score_threshold": 0.0,
    # All anchors and proposals are sampled; see above.
    "rpn_samples": 20000, "proposals_before": 2000, "proposals_after": 2000, "roi_samples": 8000,
}  # fmt: skip
_PLAIN: Final[Mapping[str, Any]] = {
    "vit": "plain", "width": 32, "layers": 4, "heads": 2, "patch": 8, "table": 4, "shift": 1,
}  # fmt: skip

_C4: Final[Mapping[str, Any]] = {
    "heads": "c4", "proposals_before": 400, "proposals_after": 400, "roi_samples": 8000, "score_threshold": 0.0,
    "c4": {
        "trunk_weights": "random", "stem_width": 8, "width": 16, "bottleneck": 8, "anchor_sides": (16.0, 32.0),
        "bins": 6, "short_side": 48, "longest": 64, "proposals_before": 400, "proposals_after": 400,
        "pixel_std": (60.0, 60.0, 60.0),
    },
}  # fmt: skip

_CENTERNET: Final[Mapping[str, Any]] = {
    **_TWO_STAGE, "heads": "centernet", "channels": 48,
    "cascade": {"trunk": "clip", "width": 32, "mask_width": 8, "short_side": 24, "longest": 32},
}  # fmt: skip


def _at_one_size(family: Family) -> Family:
    """Pictures that are not jittered: those of a smaller batch are padded to less, and padding has anchors too."""
    return replace(family, options={**family.options, "scales": (1.0, 1.0)})


def _with_labels(family: Family) -> Family:
    """Half of its steps see pictures of which the classes alone are known."""
    labels = {"image_labels": INSTANCES.format("train"), "image_label_images": "scenes/train"}
    return replace(family, options={**family.options, **labels, "image_label_ratio": 1.0, "image_label_weight": 1.0})


def _with_captions(family: Family) -> Family:
    """The same with what people said of them; captions of all pictures of a step are compared."""
    labels = {"image_labels": CAPTIONS.format("train"), "image_label_images": "scenes/train"}
    return replace(family, options={**family.options, **labels, "image_label_ratio": 1.0, "image_label_captions": 1.0})


def _pretrain(**options: Any) -> Family:
    return Family(
        module="clipself.pretraining.train", function="pretrain", command="pretrain",
        required={"annotations": CAPTIONS.format("train"), "images": "scenes/train"}, options=options,
        weights=("clip/open_clip_model.safetensors",), labels=(CAPTIONS.format("val"), "scenes/val"), read=_read_clip,
        whole_batches=True, learns_text=True,
    )  # fmt: skip


FAMILIES: Final[Mapping[str, Family]] = {
    "pretrain": _pretrain(),
    "pretrain-rovit": _pretrain(contrast="focal", cropped_positions=True),
    "pretrain-cfm": _pretrain(hidden=0.75, position_drop=0.5, decoder_width=32),
    "distill-patches": Family(
        **_DISTILL, required={"data": "scenes/train"}, options={"image_size": 64, "max_regions": 4, "keep_image": 0.0},
    ),
    "distill-keep": Family(
        **_DISTILL, required={"data": "scenes/train"},
        options={"image_size": 64, "max_regions": 4, "keep_image": 2.0, "keep_crops": 0.5},
    ),
    "distill-proposals": Family(
        **_DISTILL, required={"data": "scenes/train"},
        options={"image_size": 64, "max_regions": 4, "regions": "proposals", "annotations": INSTANCES.format("train")},
    ),
    "distill-declip": _distill({"method": "declip", "context": "queries+keys"}),
    "distill-declip-guide": _distill(
        {"method": "declip", "guide": "clip/guide", "context_weight": 0.5}, keep_image=1.0, readout="qq"
    ),
    "distill-denserc": replace(
        _distill({"method": "denserc", "blocks": 3}, keep_image=1.0),
        weights=(*_DISTILL["weights"], "student/value_gates.safetensors"),
    ),
    "distill-regionclip": _distill(
        {"method": "regionclip", "names": ("coco_80", "a lamp"), "columns": 20, "crops_weight": 0.5}, keep_image=1.0
    ),
    "catseg": Family(
        **_SEGMENT, recipe="small-catseg",
        options={"crop": 64, "shortest": [64], "segmenter": {
            "image_size": 64, "hidden": 16, "classes_per_step": 40, "train_clip": "queries-values",
        }},
    ),
    "san": Family(
        **_SEGMENT, recipe="small-san",
        options={"crop": 64, "shortest": [64], "segmenter": {
            "side_width": 40, "queries": 6, "num_points": 64, "learn_positions": True,
        }},
    ),
    "panoptic": _masks(),
    "odise": _masks(
        recipe="small-odise", needs="diffusers", features="diffusion:clip/diffusion",
        diffusion={"projection": 128, "crop": 128}, image_size=128,
    ),
    "odise-captions": _masks(
        recipe="small-odise-caption", whole_batches=True, required={"captions": CAPTIONS.format("train")},
    ),
    "fvit": _detector("fvit", **_TWO_STAGE),
    "fvit-batch-norm": _detector("fvit", **{**_TWO_STAGE, "norm": "batch"}, whole_batches=True),
    "fvit-masks": _detector("fvit", **{**_TWO_STAGE, "norm": "batch"}, mask_convs=1, whole_batches=True),
    "fvlm": _detector("fvlm", **_TWO_STAGE, recipe="small-fvlm"),
    "vild": _detector("vild", **_TWO_STAGE, recipe="small-vild", distill_regions=3),
    "baron": _detector("baron", **_TWO_STAGE, recipe="small-baron", words=2, whole_batches=True),
    "owl": _detector(
        "owl", recipe="small-owl", towers="both", text_lr_scale=0.5, layer_drop=0.2, objectness=True, queries=12,
        negatives=4, text_tokens=12,
    ),
    "owl-dense": _detector("owl", recipe="small-owl", towers="none", features="dense", max_detections=20),
    "ovdetr": _detector(
        "ovdetr", recipe="small-ovdetr", image_size=64, taps=(1, 2, 3), channels=32, heads=4, encoder_layers=1,
        decoder_layers=2, hidden=32, queries=6, most_conditions=3, least_conditions=2, least_crop=4, crops_of_class=4,
    ),
    "rovit": _detector("rovit", recipe="small-rovit", **_ROVIT, whole_batches=True),
    "cfm": _detector("rovit", recipe="small-cfm", **_ROVIT, mask_convs=1, whole_batches=True),
    "rovit-plain": _detector("rovit", recipe="small-rovit", **_ROVIT, **_PLAIN, whole_batches=True),
    "cora": _detector(
        "cora", recipe="small-cora", whole_batches=True, side="short_side", longest_side=64, short_sides=[32], width=16,
        hidden=16, heads=2, encoder_layers=1, decoder_layers=2, queries=20, bottleneck=8, score_threshold=0.0,
        split_classes=0.5,
    ),
    "promptovd": _detector(
        "promptovd", recipe="small-promptovd", image_size=64, taps=(1, 2, 3), channels=32, heads=4, encoder_layers=1,
        decoder_layers=2, hidden=32, queries=6, prompts=8, rois=4,
    ),
    "region-prompt": Family(
        module="clipself.detection.region_prompt.train", function="train_prompt", command="detect prompt",
        required={"annotations": INSTANCES.format("train"), "images": "scenes/train"},
        options={
            "model": "clip/resnet", "pretrained": None, "split": None, "drop_epochs": (), "short_sides": (64,),
            "regions": {"templates": "simple", "short_side": 64, "longest_side": 96}, "crop": 0.0,
        },
        weights=("prompt.safetensors",), labels=(INSTANCES.format("val"), "scenes/val"), read=_read_prompt,
    ),
    "toy-detr": _detector("toy-detr"),
    "detic": _detector("detic", **_TWO_STAGE),
    "detic-image-labels": _with_labels(_detector("detic", **_TWO_STAGE)),
    "detic-captions": _with_captions(_detector("detic", **_TWO_STAGE, whole_batches=True)),
    "fvit-image-labels": _with_labels(_detector("fvit", **_TWO_STAGE)),
    "detic-c4": _at_one_size(_detector("detic", **_C4)),
    "detic-c4-image-labels": _with_labels(_at_one_size(_detector("detic", **_C4))),
    "detic-centernet": _at_one_size(_detector("detic", **_CENTERNET, mask_convs=1, federated_classes=3)),
    "detic-centernet-image-labels": _with_labels(_at_one_size(_detector("detic", **_CENTERNET))),
}  # fmt: skip
