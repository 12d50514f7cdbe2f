"""Refines a CLIP on a folder of photographs, without labels, and compares before and after on photographs held out.

    python examples/distil_my_photos.py                                       # the packaged photographs, a few steps
    python examples/distil_my_photos.py --images photos --steps 500 --batch-size 8

Told is how well each region of the dense map agrees with what the original CLIP says of the crop of that region: the
mean cosine over a grid, which needs no labels. A picture of both maps' groups is drawn beside it.
"""

from pathlib import Path

import torch
import tyro
from torch import Tensor

import clipself
from clipself.data.images import find_pictures, read_image
from clipself.data.photographs import PHOTOS
from clipself.ops.patches import fit_longest


def grid_boxes(height: int, width: int, cells: int) -> Tensor:
    """Boxes (cells * cells, 4) of a regular grid, `xyxy` in pixels."""
    rows, cols = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    corners = torch.stack([cols, rows, cols + 1, rows + 1], dim=-1).reshape(-1, 4)
    return corners * torch.tensor([width, height, width, height]) / cells


@torch.no_grad()
def agreement(student: clipself.DenseCLIP, teacher: clipself.DenseCLIP, paths: list[Path], side: int) -> float:
    """Mean cosine between regions of the student's dense map and the teacher's view of their crops."""
    cosines = []
    for path in paths:
        picture = read_image(path)
        height, width = fit_longest((picture.height, picture.width), longest=side, patch=student.patch_size)
        resized = picture.resize((width, height))
        boxes = grid_boxes(height, width, cells=3)
        regions = student.embed_boxes(student.preprocess(resized)[None], [boxes])
        crops = [resized.crop((box[0], box[1], box[2], box[3])) for box in boxes.round().int().tolist()]
        seen = teacher.encode_image(torch.stack([teacher.preprocess(crop, size=teacher.image_size) for crop in crops]))
        cosines.append((regions * seen).sum(-1))
    return float(torch.cat(cosines).mean())


def main(
    *, images: Path | None = None, model: str = "clipself-mini", steps: int = 10, batch_size: int = 2, side: int = 160,
    held_out: int = 2, workers: int = 0, out: Path = Path("runs/my_photos"),
) -> tuple[float, float]:  # fmt: skip
    """Distils, then compares."""
    paths = find_pictures(next(iter(PHOTOS.values())).parent if images is None else images).paths
    kept, learnt = paths[:held_out], paths[held_out:]
    folder = out / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(learnt):
        link = folder / f"{number:06d}{path.suffix}"
        if not link.exists():
            link.symlink_to(path.absolute())
    result = clipself.distill(
        data=folder, model=model, out=out / "run", max_steps=steps, batch_size=batch_size, image_size=side,
        max_split=4, workers=workers, overwrite=True,
    )  # fmt: skip
    print(result.to_table())
    teacher = clipself.load_clip(model)
    before = agreement(teacher, teacher, kept, side)
    after = agreement(clipself.load_clip(result.blended), teacher, kept, side)
    print(f"held-out regions agree with their crops: {before:.3f} before, {after:.3f} after")
    print(clipself.show_kmeans(kept, model=model, refined=result.blended, out=out / "kmeans.png", image_size=side))
    return before, after


if __name__ == "__main__":
    tyro.cli(main)
