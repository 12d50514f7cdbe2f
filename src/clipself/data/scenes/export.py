"""Scenes as a data set in memory, or on disk in COCO's published formats."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from tqdm import tqdm

from clipself.data.coco.report import drawn_scenes
from clipself.data.coco.write import category_rows, image_row
from clipself.data.images import segment_colours
from clipself.data.labelled import LabelledImage
from clipself.data.scenes.art import NOVEL, THINGS
from clipself.data.scenes.draw import CLASSES, Scene, SceneMaker
from clipself.data.sources import read_json
from clipself.files import Together, write_json, write_text
from clipself.ops.run_lengths import encode_mask

CARD: Final = "scenes.json"
"""Settings of the scenes in a folder."""


class SceneImages:
    """Labelled scenes for evaluation, drawn when they are asked for; see `data.labelled.LabelledImages`.

    Args:
        maker: Draws the scenes.
        count: How many there are.
    """

    def __init__(self, maker: SceneMaker, count: int) -> None:
        self.maker, self.count, self.report = maker, count, drawn_scenes(count)
        self.class_names = list(CLASSES)
        self.class_ids: list[int | str] = list(range(1, len(CLASSES) + 1))
        self.class_is_thing = [name in THINGS for name in CLASSES]

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> LabelledImage:
        """Scene `index` with boxes and masks of its segments."""
        scene = self.maker(index)
        ids = torch.from_numpy(scene.panoptic_HW)
        return LabelledImage(
            scene.image,
            torch.tensor([segment.box for segment in scene.segments], dtype=torch.float32),
            torch.stack([ids == segment.id for segment in scene.segments]),
            torch.tensor([CLASSES.index(segment.name) for segment in scene.segments]),
            torch.tensor([segment.is_thing for segment in scene.segments]),
            f"scene {index}",
        )


def write_scenes(
    folder: str | Path, *, train: int = 400, val: int = 100, size: tuple[int, int] = (320, 320), seed: int = 0
) -> Path:
    """Writes scenes as a COCO data set: images, instances, panoptic JSON and PNGs, lists of names.

    A stopped call goes on where it is repeated: pictures that are there already are drawn only in memory. The
    annotation files come last, so that a data set with annotations is complete.

    Args:
        folder: Made when missing.
        train: Scenes of the training half.
        val: Scenes of the held-out half.
        size: Height and width in pixels.
        seed: Other seeds are other worlds.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other scenes, or something else.
        OSError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    begin_folder(folder, {"train": train, "val": val, "size": list(size), "seed": seed})
    for split, count in (("train", train), ("val", val)):
        maker = SceneMaker(size=size, seed=f"{split}/{seed}")
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / f"panoptic_{split}").mkdir(parents=True, exist_ok=True)
        scenes = (maker(index) for index in range(count))
        with Together() as files:
            rows = [_write_scene(folder, split, index, scene, files) for index, scene in
                    enumerate(tqdm(scenes, total=count, desc=f"{split} scenes"))]  # fmt: skip
        _write_annotations(folder, split, rows, size)
    base = [name for name in THINGS if name not in NOVEL]
    for name, names in (("names", CLASSES), ("base", base), ("novel", NOVEL)):
        write_text(folder / f"{name}.txt", "\n".join(names) + "\n")
    return folder


def begin_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Leaves a card of the settings; scenes of other settings are never mixed in.

    Raises:
        FileExistsError: The folder holds scenes of other settings, or files without a card.
    """
    card = folder / CARD
    if card.is_file():
        held = read_json(card)
        if held != settings:
            raise FileExistsError(
                f"{folder} holds scenes of {held}, not of {settings}; choose another folder or delete it"
            )
    elif any((folder / part).exists() for part in ("train", "val", "annotations")):
        raise FileExistsError(f"{folder} holds a data set without {CARD}; choose another folder or delete it")
    write_json(card, settings)


def _write_scene(folder: Path, split: str, index: int, scene: Scene, files: Together) -> list[dict[str, Any]]:
    """Writes picture and segment ids; returns the instances with what the annotation files need."""
    picture = folder / split / f"{index:06d}.jpg"
    if not picture.exists():
        files.write(picture, lambda part: scene.image.save(part, format="JPEG", quality=92))
    ids = scene.panoptic_HW
    Image.fromarray(segment_colours(ids)).save(folder / "annotations" / f"panoptic_{split}" / f"{index:06d}.png")
    rows = []
    for segment in scene.segments:
        left, top, right, bottom = segment.box
        rows.append(
            {
                "image_id": index + 1,
                "segment_id": segment.id,
                "category_id": CLASSES.index(segment.name) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": segment.area,
                "iscrowd": 0,
                "isthing": int(segment.is_thing),
                "segmentation": encode_mask(ids == segment.id),
            }
        )
    return rows


def _write_annotations(folder: Path, split: str, rows: Sequence[list[dict[str, Any]]], size: tuple[int, int]) -> None:
    categories = category_rows(CLASSES, is_thing=[name in THINGS for name in CLASSES])
    images = [image_row(index + 1, f"{index:06d}.jpg", size) for index in range(len(rows))]
    things = [row for image in rows for row in image if row["isthing"]]
    kept = ("image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
    instances = [{"id": place + 1, **{key: row[key] for key in kept}} for place, row in enumerate(things)]
    panoptic = [
        {
            "image_id": index + 1,
            "file_name": f"{index:06d}.png",
            "segments_info": [
                {"id": row["segment_id"], **{key: row[key] for key in ("category_id", "bbox", "area", "iscrowd")}}
                for row in image
            ],
        }
        for index, image in enumerate(rows)
    ]
    things_only = [category for category in categories if category["isthing"]]
    annotations = folder / "annotations"
    write_json(
        annotations / f"instances_{split}.json",
        {"images": images, "annotations": instances, "categories": things_only},
    )
    write_json(
        annotations / f"panoptic_{split}.json", {"images": images, "annotations": panoptic, "categories": categories}
    )
    captions = [
        {
            "id": index + 1,
            "image_id": index + 1,
            "caption": caption_of(CLASSES[row["category_id"] - 1] for row in image),
        }
        for index, image in enumerate(rows)
    ]
    write_json(annotations / f"captions_{split}.json", {"images": images, "annotations": captions})


def caption_of(names: Iterable[str]) -> str:
    """What stands in a scene, each thing once: "a picture of a lawn, a dog and a kite"."""
    said = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in dict.fromkeys(names)]
    return f"a picture of {' and '.join([', '.join(said[:-1]), said[-1]] if len(said) > 1 else said)}"
