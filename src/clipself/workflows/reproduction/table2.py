"""Table 2: regions of COCO panoptic val2017 by the dense map, mean class accuracy."""

from typing import Final

from clipself.workflows.reproduction.row import EVA, From, Row, Step, Table

SIDES: Final = {"b16": 1024, "l14": 896}
"""Side of the square input, in pixels."""


def _regions(name: str, title: str, *, tower: str, weights: str) -> Row:
    return Row(
        name=f"table2/{name}",
        title=title,
        measure=Step(
            command="evaluate regions",
            settings={
                "annotations": From("data", "coco-panoptic"),
                "images": From("data", "coco-val2017"),
                "model": (EVA[tower],),
                "pretrained": From("weights", weights),
                # The released refined towers hold no text tower; it is that of the original, which never learned.
                "text_from": None if weights == f"eva-{tower}" else From("weights", f"eva-{tower}"),
                "image_size": SIDES[tower],
                "modes": ("boxes", "thing_masks", "stuff_masks"),
                "readout": "value",
                "templates": "detection",
            },
        ),
        also=(From("data", "coco-panoptic-png"),),
    )


def _tower(tower: str, title: str) -> tuple[Row, ...]:
    name = f"eva-{tower}"
    return (
        _regions(name, f"{title}, original", tower=tower, weights=name),
        *(
            _regions(f"{name}-{way}", f"{title}, {said}", tower=tower, weights=f"{name}-{way}")
            for way, said in (
                ("regionclip", "RegionCLIP's pairs"),
                ("proposals", "CLIPSelf, region proposals"),
                ("patches", "CLIPSelf, image patches"),
            )
        ),
    )


TABLE2: Final = Table(
    title="Regions by the dense map, COCO panoptic val2017, mean class accuracy",
    columns={
        "boxes": "boxes top-1", "boxes5": "boxes top-5", "things": "thing masks top-1", "things5": "thing masks top-5",
        "stuff": "stuff masks top-1", "stuff5": "stuff masks top-5",
    },
    rows=(*_tower("b16", "EVA-CLIP ViT-B/16"), *_tower("l14", "EVA-CLIP ViT-L/14")),
)  # fmt: skip
