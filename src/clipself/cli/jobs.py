"""Jobs that join two public functions, or turn options into their arguments."""

from pathlib import Path
from typing import Any


def quickstart(**options: Any) -> None:
    """Runs it; the result is printed on the way."""
    from clipself.workflows.quickstart import quickstart as run

    run(**options)


def models(*, names: tuple[str, ...], json: bool) -> str:
    """What works with which model, as a table or JSON."""
    from clipself.workflows.models import list_models, models_as_json, models_as_table

    rows = list_models(names, progress=True)
    return models_as_json(rows) if json else models_as_table(rows)


def scenes(*, out: Path, **options: Any) -> Path:
    """Writes them and says where."""
    from clipself.data.scenes.export import write_scenes

    return write_scenes(out, **options)


def prepare(*, archive: str, root: Path, out: Path, partial_archive: bool) -> Path:
    """Converts an archive and says where."""
    from clipself.data.prepare import prepare as run

    return run(archive, root, out, partial_archive=partial_archive)


def split(*, annotations: Path, out: Path, part: str, split: str | None, base: Any, novel: Any) -> str:
    """Writes the split and says what is in it."""
    from clipself.data.ov_split import write_split
    from clipself.text.names import listed

    own = base is not None or novel is not None
    path, classes = write_split(
        annotations, out, train=part == "train", split=split or (None if own else "ov-coco"), base=listed(base),
        novel=listed(novel),
    )  # fmt: skip
    return f"{path}: {len(classes.base)} base and {len(classes.novel)} novel classes"


def import_detector(**options: Any) -> str:
    """Writes a released checkpoint as a folder and says what it knows."""
    from clipself.workflows.imports import import_detector as run

    folder, classes = run(**options)
    return f"{folder}: {len(classes.base)} base and {len(classes.novel)} novel classes"


def import_segmenter(**options: Any) -> str:
    """Writes a released CAT-Seg or SAN as a folder and says what it knows."""
    from clipself.workflows.imports import import_segmenter as run

    folder, known = run(**options)
    return f"{folder}: {known} classes"


def import_masks(**options: Any) -> Path:
    """Writes a released FC-CLIP or ODISE as a folder and says where."""
    from clipself.workflows.imports import import_masks as run

    return run(**options)


def tell_proposals(written: tuple[Path, Path]) -> str:
    """Where the boxes are and how to distil on them."""
    boxes, images = written
    return (
        f"{boxes}\nnext: clipself distill --regions proposals --annotations {images} --proposals {boxes} "
        "--data FOLDER --out RUN"
    )


def tell_detections(result: Any) -> str:
    """How much was found of what, and where it is written."""
    from clipself.detection.predict import summarize

    return f"{summarize(result.found)}\n{result.summary}"


def reproduce(config: Any) -> int:
    """Prints the report; the exit code is 1 where a row ended in an error."""
    from clipself.text.printable import printable
    from clipself.workflows.reproduction.run import reproduce as run

    result = run(config)
    print(printable(result if isinstance(result, str) else result.to_table()))
    return 0 if isinstance(result, str) or not result.failed else 1


def parity(*, manifests: tuple[Path, ...], json: Path | None) -> int:
    """Prints a table for each manifest; the exit code is 1 where a number is off."""
    from clipself.conformance.report import to_json
    from clipself.conformance.run import parity as run
    from clipself.files import write_text

    if not manifests:
        raise ValueError(
            "there is nothing to check; name at least one manifest, such as tests/golden/clipself_step.json"
        )
    reports = run(manifests)
    if json is not None:
        write_text(json, to_json(reports) + "\n")
    return 0 if all(report.passed for report in reports) else 1
