"""Memory and time to the first batch over made-up indexes of many pictures in tar shards.

    python benchmarks/shard_index.py --names 100 10000 1000000 10000000 --json FILE

No picture is made: indexes are written as they would be for real shards, and a batch is that of names. Each size is
measured in a process of its own. "own" is memory that the process alone needs beyond the imports; pages of the index
are the system's to keep or drop, and count in the "peak" of the whole process, imports included. "resumed" is the first
batch of a run that goes on in the middle of its third epoch.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from clipself.data.images import shards
from clipself.data.images.shard_files import cached_index
from clipself.engine.sampler import EpochSampler
from clipself.engine.task import digest_of
from figures import Figures, add_json

COLUMNS = ("names", "index_s", "open_s", "digest_s", "first_batch_s", "resumed_s", "own_mb", "peak_mb")
BATCH = 64


def measure(names: int, each: int) -> dict[str, float]:
    """Seconds from opening `names` pictures, `each` a shard, to the first batch, and megabytes of memory."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPSELF_CACHE"] = folder
        return {"names": names, **_measure(names, min(each, names), Path(folder))}


def _measure(names: int, each: int, folder: Path) -> dict[str, float]:
    rows = np.zeros(each, dtype=[("name", "S16"), ("offset", "<u8"), ("size", "<u8")])
    rows["name"] = [f"{number:09d}.jpg".encode() for number in range(each)]
    paths = [folder / f"{number:06d}.tar" for number in range(names // each)]
    begun = time.perf_counter()
    for path in paths:
        path.touch()
        cached_index(path, "pictures by name", lambda shard: rows)
    written, before = time.perf_counter() - begun, private()
    begun = time.perf_counter()
    pictures = shards.ShardPictures(paths)
    opened = time.perf_counter() - begun
    digest_of(pictures.names)
    told = time.perf_counter() - begun
    draw(pictures, 0)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    draw(pictures, 5 * len(pictures) // (2 * BATCH))
    resumed = time.perf_counter() - begun
    return {"index_s": written, "open_s": opened, "digest_s": told - opened, "first_batch_s": first,
            "resumed_s": resumed, "own_mb": private() - before,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip


def draw(pictures: shards.ShardPictures, start: int) -> None:
    """Names a batch of pictures."""
    batch = next(iter(EpochSampler(len(pictures), batch_size=BATCH, start_batch=start)))
    assert len({str(pictures[index]) for _, index in batch}) == BATCH


def private() -> float:
    """Megabytes that this process does not share with files."""
    held = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(held["RssAnon"].split()[0]) / 1024


def main() -> None:
    """Prints a row a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, nargs="+", default=[100, 10_000, 1_000_000, 10_000_000])
    parser.add_argument("--each", type=int, default=10_000, help="pictures of a shard")
    add_json(parser)
    given = parser.parse_args()
    figures = Figures(given.json)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as alone:
        found = [alone.apply(measure, (names, given.each)) for names in given.names]
    print(" ".join(f"{column:>13}" for column in COLUMNS))
    for row in found:
        print(f"{row['names']:>13}", *(f"{row[column]:>13.2f}" for column in COLUMNS[1:]))
        for column in COLUMNS[1:]:
            what, unit = column.rsplit("_", 1)
            figures.note(f"{row['names']} names: {what.replace('_', ' ')}", row[column], {"mb": "MB"}.get(unit, unit))


if __name__ == "__main__":
    main()
