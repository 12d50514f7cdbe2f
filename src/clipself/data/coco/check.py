"""`clipself data check`: what a file holds, without a model."""

from pathlib import Path

from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import open_coco
from clipself.data.coco.panoptic import read_panoptic
from clipself.data.coco.report import Notes, ReadReport
from clipself.data.coco.results import read_masks, read_results
from clipself.data.coco.rows import CocoImage, check_picture_size, describe_images, read_images
from clipself.data.coco.segments import pack
from clipself.data.images.read import size_of
from clipself.data.sources import check_images_exist


def check_file(file: str | Path, images: str | Path | None = None, *, segments: str | Path | None = None) -> ReadReport:
    """Reads a COCO-like file of any kind, or labels of another tool, as data sets and evaluators do.

    Args:
        file: Instances, LVIS, panoptic, captions, a list of images, results, proposals or masks; labels of YOLO,
            labelme, Label Studio, CVAT or Pascal VOC.
        images: Folder of the pictures, to look whether they are there and of the listed sizes.
        segments: Folder of the PNGs of a panoptic file; the folder beside it with its name if not given.

    Raises:
        FileNotFoundError: The file, a picture or a PNG is missing.
        ValueError: The file is of no kind that is known, a row of it cannot be meant, or a picture has another size
            than is listed.
    """
    opened = open_coco(file, hook=pack, images=images)
    listed: tuple[CocoImage, ...] = ()
    if opened.kind == "instances":
        table = read_instances(opened, masks=True)
        listed, report = table.images, table.report
    elif opened.kind == "panoptic":
        rows = read_panoptic(opened)
        listed, report = tuple(row.image for row in rows.rows), rows.report
        if images is not None:
            pngs = [rows.folder(segments) / row.file for row in rows.rows]
            check_images_exist(pngs, source=f"{file} (segment PNGs)")
    elif opened.kind in ("captions", "images"):
        notes = Notes()
        listed = read_images(opened, notes)
        report = describe_images(opened, listed, notes)
    elif opened.kind == "results":
        report = read_results(opened)
    else:
        report = read_masks(opened.require("masks", wanted="a COCO-like file")).report
    if images is not None and listed:
        paths = [Path(images) / image.file for image in listed]
        check_images_exist(paths, source=str(file))
        for image, path in zip(listed, paths, strict=True):
            check_picture_size(image, size_of(path), source=str(file))
    return report
