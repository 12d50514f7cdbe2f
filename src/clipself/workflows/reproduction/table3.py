"""Tables 3a and 3b: open-vocabulary detection on OV-COCO and OV-LVIS."""

from collections.abc import Mapping
from typing import Final

from clipself.workflows.reproduction.row import From, Row, Step, Table

WAYS: Final = {
    "regionclip": "RegionCLIP's pairs", "proposals": "CLIPSelf, region proposals", "patches": "CLIPSelf, image patches",
}  # fmt: skip
TITLES: Final = {"b16": "F-ViT, EVA-CLIP ViT-B/16", "l14": "F-ViT, EVA-CLIP ViT-L/14"}
"""Tower -> what the paper calls its detector."""

OTHER_FRAMEWORK: Final = "its weights are released for TensorFlow or JAX alone, and none of our importers reads them"
WRITTEN_HERE: Final = "what is here is its method ({0}), trained by `clipself detect train`"


def _coco(name: str, title: str, checkpoint: From, *, note: str = "") -> Row:
    settings = {
        "checkpoint": checkpoint, "annotations": From("data", "ov-coco"), "images": From("data", "coco-val2017"),
        "split": "ov-coco",
    }  # fmt: skip
    return Row(
        name=f"table3a/{name}", title=title, measure=Step(command="detect evaluate", settings=settings), note=note
    )


def _lvis(name: str, title: str, checkpoint: From, *, note: str = "") -> Row:
    settings = {
        "checkpoint": checkpoint, "annotations": From("data", "lvis-val"), "images": From("data", "lvis-images"),
        "split": "ov-lvis", "metric": "lvis",
    }  # fmt: skip
    return Row(
        name=f"table3b/{name}", title=title, measure=Step(command="detect evaluate", settings=settings), note=note
    )


def _made(name: str) -> From:
    return From("made", name)


def _fvit_coco(tower: str) -> tuple[Row, ...]:
    untrained = _coco(f"fvit-{tower}", f"{TITLES[tower]}, original", From("weights", f"fvit-coco-{tower}"))
    rows = [
        _coco(f"fvit-{tower}-{way}", f"{TITLES[tower]}, {said}", _made(f"fvit-coco-{tower}-{way}"))
        for way, said in WAYS.items()
    ]
    return (untrained, *rows)


def _fvit_lvis(tower: str) -> tuple[Row, ...]:
    return (
        _lvis(f"fvit-{tower}", f"{TITLES[tower]}, original", From("weights", f"fvit-lvis-{tower}")),
        _lvis(f"fvit-{tower}-patches", f"{TITLES[tower]}, {WAYS['patches']}", _made(f"fvit-lvis-{tower}-patches")),
    )


def _no(table: str, name: str, title: str, why: str) -> Row:
    return Row(name=f"{table}/{name}", title=title, cannot=why)


BARON: Final = "its weights are for MMDetection 3, and no importer of ours reads them; " + WRITTEN_HERE.format(
    "small-baron"
)

TABLE3A: Final = Table(
    title="OV-COCO, box AP50",
    columns={"novel": "AP50 novel", "base": "AP50 base", "all": "AP50 all"},
    rows=(
        _no("table3a", "vild", "ViLD, RN50", f"{OTHER_FRAMEWORK}; {WRITTEN_HERE.format('small-vild')}"),
        _coco("detic", "Detic, RN50", _made("detic-coco")),
        _no("table3a", "fvlm", "F-VLM, RN50", f"{OTHER_FRAMEWORK}; {WRITTEN_HERE.format('ov-coco-fvlm-rn50')}"),
        _coco("ovdetr", "OV-DETR, RN50", _made("ovdetr-coco")),
        _no("table3a", "promptovd", "PromptOVD, ViT-B/16", f"neither code nor weights were released; "
            f"{WRITTEN_HERE.format('ov-coco-promptovd, as we read the paper')}"),
        _no("table3a", "rovit", "RO-ViT, ViT-L/16", f"{OTHER_FRAMEWORK}, and its pre-training cannot be repeated"),
        _no("table3a", "baron", "BARON-KD, RN50", BARON),
        _no("table3a", "cfm-vit", "CFM-ViT, ViT-L/16", f"{OTHER_FRAMEWORK}, and its pre-training cannot be repeated"),
        _coco("cora-rn50", "CORA, RN50", _made("cora-coco-rn50")),
        _coco("cora-rn50x4", "CORA, RN50x4", _made("cora-coco-rn50x4")),
        _no("table3a", "cora-plus", "CORA+, RN50x4", "neither its code nor its weights were released"),
        *_fvit_coco("b16"),
        *_fvit_coco("l14"),
    ),
)  # fmt: skip

TABLE3B: Final = Table(
    title="OV-LVIS, mask AP",
    columns={"rare": "APr", "common": "APc", "frequent": "APf", "ap": "AP"},
    rows=(
        _no("table3b", "ovdetr", "OV-DETR, RN50", "its weights on LVIS were never released"),
        _no("table3b", "fvlm-rn50", "F-VLM, RN50", OTHER_FRAMEWORK),
        _no("table3b", "baron", "BARON-KD, RN50", BARON),
        _no("table3b", "promptovd", "PromptOVD, ViT-B/16", "neither code nor weights were released"),
        _lvis("detic-r50", "Detic, RN50", _made("detic-lvis-r50")),
        _no("table3b", "owl-vit", "OWL-ViT, ViT-L/14 (box AP)", "the model of this row, trained on LVIS's base classes "
            "alone, was never released; the released one saw Objects365 and Visual Genome (`detect evaluate "
            "--checkpoint hf:google/owlvit-large-patch14`)"),
        _no("table3b", "cora-plus", "CORA+, RN50x4 (box AP)", "neither its code nor its weights were released"),
        _no("table3b", "rovit", "RO-ViT, ViT-L/16", f"{OTHER_FRAMEWORK}, and its pre-training cannot be repeated"),
        _no("table3b", "fvlm-rn50x64", "F-VLM, RN50x64", OTHER_FRAMEWORK),
        _lvis("detic-swin-b", "Detic, Swin-B", _made("detic-lvis-swin-b")),
        _no("table3b", "cfm-vit", "CFM-ViT, ViT-L/16", f"{OTHER_FRAMEWORK}, and its pre-training cannot be repeated"),
        *_fvit_lvis("b16"),
        *_fvit_lvis("l14"),
    ),
)  # fmt: skip


def _import(weights: str, recipe: str, pretrained: str | None) -> Step:
    """The CLIP that speaks the names; none where the released file holds it."""
    settings = {
        "weights": From("weights", weights), "recipe": recipe,
        "pretrained": None if pretrained is None else From("weights", pretrained),
    }  # fmt: skip
    return Step(command="detect import", settings=settings)


MADE3: Final[Mapping[str, Step]] = {
    **{
        f"fvit-coco-{tower}-{way}": _import(f"fvit-coco-{tower}-{way}", f"ov-coco-{tower}", f"eva-{tower}")
        for tower in TITLES
        for way in WAYS
    },
    **{
        f"fvit-lvis-{tower}-patches": _import(f"fvit-lvis-{tower}-patches", f"ov-lvis-{tower}", f"eva-{tower}")
        for tower in TITLES
    },
    "detic-coco": _import("detic-coco", "ov-coco-detic", "openai-b32"),
    "ovdetr-coco": _import("ovdetr-coco", "ov-coco-ovdetr", "openai-b32"),
    "cora-coco-rn50": _import("cora-coco-rn50", "ov-coco-cora-rn50", None),
    "cora-coco-rn50x4": _import("cora-coco-rn50x4", "ov-coco-cora-rn50x4", None),
    "detic-lvis-r50": _import("detic-lvis-r50", "ov-lvis-detic-r50", "openai-b32"),
    "detic-lvis-swin-b": _import("detic-lvis-swin-b", "ov-lvis-detic-swin-b", "openai-b32"),
}
"""Imported detectors."""
