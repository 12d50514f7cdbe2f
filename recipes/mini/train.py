"""Rebuilds clipself-mini-photos from its inputs; every stage continues where it was stopped.

Usage: python recipes/mini/train.py --data DATA --work WORK [--out FOLDER] [--start FOLDER]

DATA holds `pretrain_images/` and, if it is there, `photo_pool/` (tar shards with `index.tsv`; the pool's captions and
boxes), `coco_sample/` (train images and captions) and `text_embeddings/` (lists of class names). WordNet's nouns are
read from Debian's `wordnet-base`; the teachers are the optional packages `clipself[mini]`. Hours on two cores from
nothing; `--start` takes up the towers of an earlier export, `measure.py` prints the figures of the model card.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cache import build_cache
from export import PACKAGE, export
from image_tower import STEPS as IMAGE_STEPS
from image_tower import train_image_tower
from phrases import build_phrases
from start import TOWERS, start_from
from text_tower import STEPS as TEXT_STEPS
from text_tower import train_text_tower


def rebuild(
    data: Path,
    work: Path,
    out: Path,
    *,
    image_steps: int = IMAGE_STEPS,
    text_steps: int = TEXT_STEPS,
    start: Path | None = None,
    start_towers: Sequence[str] = TOWERS,
    limit: int | None = None,
    fresh: bool = False,
    batch_size: int = 64,
    lr: float = 7e-4,
    device: str = "cpu",
    workers: int = 2,
) -> Path:
    """Phrases, stem features unless crops are fresh in every step, image tower, text tower, export."""
    work.mkdir(parents=True, exist_ok=True)
    small = {} if limit is None else {"nouns": limit, "meanings": limit}
    build_phrases(data, work, **small)
    if start is not None:
        start_from(start, work, towers=start_towers)
    if not fresh:
        build_cache(data, work / "cache", limit=limit)
    held_out = 1024 if limit is None else max(1, limit // 8)
    train_image_tower(
        data, work, steps=image_steps, held_out=held_out, batch_size=batch_size, lr=lr, fresh=fresh, device=device,
        workers=workers,
    )  # fmt: skip
    train_text_tower(work, steps=text_steps, device=device)
    return export(work, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    parser.add_argument("--image-steps", type=int, default=IMAGE_STEPS)
    parser.add_argument("--text-steps", type=int, default=TEXT_STEPS)
    parser.add_argument("--start", type=Path, help="earlier export whose towers go on learning")
    parser.add_argument("--start-towers", nargs="+", choices=TOWERS, default=TOWERS, help="which of its towers")
    parser.add_argument("--limit", type=int, help="crops and phrases of a trial run")
    parser.add_argument("--fresh", action="store_true", help="cut crops anew in every epoch; for a GPU and many cores")
    parser.add_argument("--batch-size", type=int, default=64, help="crops in a step of the image tower")
    parser.add_argument("--lr", type=float, default=7e-4, help="peak learning rate of the image tower")
    parser.add_argument("--device", default="cpu", help="where the towers learn")
    parser.add_argument("--workers", type=int, default=2, help="processes that cut fresh crops")
    options = parser.parse_args()
    print(
        rebuild(
            options.data,
            options.work,
            options.out,
            image_steps=options.image_steps,
            text_steps=options.text_steps,
            start=options.start,
            start_towers=options.start_towers,
            limit=options.limit,
            fresh=options.fresh,
            batch_size=options.batch_size,
            lr=options.lr,
            device=options.device,
            workers=options.workers,
        )
    )
