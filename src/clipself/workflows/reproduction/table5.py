"""Table 5: open-vocabulary panoptic segmentation on ADE20K."""

from collections.abc import Mapping
from typing import Any, Final

from clipself.workflows.reproduction.row import From, Row, Step, Table

OPENAI: Final = "ViT-L-14-336-quickgelu"
RERUN: Final = "the paper compares with its own run of ODISE, whose figures differ from the release's that stand here"


def _row(name: str, title: str, *, note: str, **judged: Any) -> Row:
    settings = {
        "checkpoint": From("made", "odise"), "annotations": From("data", "ade20k-panoptic"),
        "images": From("data", "ade20k-images"), "scores": ("both-odise",), **judged,
    }  # fmt: skip
    return Row(
        name=f"table5/{name}", title=title, measure=Step(command="panoptic evaluate", settings=settings),
        also=(From("data", "ade20k-panoptic-png"),), note=note,
    )  # fmt: skip


TABLE5: Final = Table(
    title="Panoptic segmentation, ADE20K",
    columns={"pq": "PQ", "map": "mAP", "miou": "mIoU"},
    rows=(
        _row(
            "odise", "ODISE, ViT-L/14", note=f"needs the extra `diffusion`; {RERUN}",
            model=(OPENAI,), pretrained=From("weights", "openai-l14-336"),
            judge={"by": "tokens", "image_size": 336, "templates": "simple"},
        ),
        _row(
            "odise-clipself", "ODISE, ViT-L/14, CLIPSelf",
            note="needs the extra `diffusion`; side and sentences of the judge were not published, these are ours",
            model=(From("weights", "openai-l14-336-clipself"),),
            judge={"by": "masks", "image_size": 672, "templates": "simple"},
        ),
    ),
)  # fmt: skip

MADE5: Final[Mapping[str, Step]] = {
    "odise": Step(
        command="panoptic import",
        settings={
            "weights": From("weights", "odise-label"), "system": "odise", "model": OPENAI,
            "pretrained": From("weights", "openai-l14-336"), "diffusion": From("weights", "stable-diffusion"),
        },
    ),
}  # fmt: skip
"""The imported generator."""
