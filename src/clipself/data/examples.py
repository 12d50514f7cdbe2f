"""Examples of things as they lie on disk: a folder a thing, or labelled regions of any pictures."""

from pathlib import Path
from typing import Any

from clipself.data.coco.instances import read_instances
from clipself.data.images import Example, find_pictures
from clipself.data.sources import check_images_exist


def read_examples(source: str | Path, images: str | Path | None = None) -> dict[str, list[Example]]:
    """Lists examples by the names of their things.

    Args:
        source: A folder that holds a folder for each thing, called as the thing is, with pictures that show it closely
            cut. Or, with `images`, labelled boxes or masks: a COCO file, or what else `--annotations` takes.
        images: Folder of the pictures of labels.

    Raises:
        FileNotFoundError: There is no such folder or file, one of the folders in it holds no pictures, or a picture of
            the labels is missing.
        ValueError: There are no folders in it, or labels cannot be meant.
    """
    source = Path(source)
    if images is not None:
        return _read_labels(source, Path(images))
    if source.is_file():
        raise ValueError(f"{source} is a file of labels; pass the folder of its pictures too, as example_images")
    if not source.is_dir():
        raise FileNotFoundError(f"no folder of examples at {source}; check the path")
    things = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not things:
        raise ValueError(
            f"{source} holds no folders; lay the pictures of each thing into one that is called as the thing is, such "
            f"as {source / 'mug' / '1.jpg'}"
        )
    return {path.name: [Example(picture=one) for one in find_pictures(path).paths] for path in things}


def examples_of(source: Path | None, images: Path | None) -> dict[str, list[Example]] | None:
    """The examples that settings name; None where they name none.

    Raises:
        ValueError: There are pictures of labels without the labels.
        FileNotFoundError: Something is missing; see `read_examples`.
    """
    if source is None and images is not None:
        raise ValueError("example_images are the pictures of examples, which are not given; pass examples too")
    return None if source is None else read_examples(source, images)


def _read_labels(source: Path, images: Path) -> dict[str, list[Example]]:
    table = read_instances(source, masks=True, images=images)
    table.report.tell()
    usable = table.fit_N & ~table.crowd_N
    found: dict[str, list[Example]] = {}
    paths = []
    for image, rows in zip(table.images, table.rows_by_image(usable), strict=True):
        regions: dict[str, list[tuple[Any, Any]]] = {}
        for row in rows.tolist():
            x, y, width, height = table.boxes_N4[row].tolist()
            mask = None
            if table.segments is not None and table.segments.has_mask_N[row] and image.size is not None:
                mask = table.segments.encode(row, image.size)
            name = table.categories[int(table.category_N[row])].name
            regions.setdefault(name, []).append(((x, y, x + width, y + height), mask))
        for name, some in regions.items():
            boxes, masks = zip(*some, strict=True)
            found.setdefault(name, []).append(Example(picture=images / image.file, boxes=boxes, masks=masks))
        paths += [images / image.file] if regions else []
    if not found:
        raise ValueError(f"{source} holds no boxes that could be examples")
    check_images_exist(paths, source=str(source))
    return found
