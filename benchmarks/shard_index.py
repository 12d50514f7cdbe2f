"""Memory and time to the first batch over a made-up index of many pictures in tar shards.

    python benchmarks/shard_index.py --names 10000000

No picture is made: indexes are written as they would be for real shards, and the first batch is that of names. "own" is
memory that this process alone needs beyond the imports; pages of the index are the system's to keep or drop.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from clipself.data.images import shards
from clipself.engine.sampler import EpochSampler
from clipself.engine.task import digest_of


def measure(names: int, each: int, folder: Path) -> dict[str, float]:
    """Megabytes and seconds of opening `names` pictures, `each` a shard, and of drawing the first batch."""
    made = shards.cached_index
    rows = np.zeros(each, dtype=[("name", "S16"), ("offset", "<u8"), ("size", "<u8")])
    rows["name"] = [f"{number:09d}.jpg".encode() for number in range(each)]
    paths = [folder / f"{number:06d}.tar" for number in range(names // each)]
    begun = time.perf_counter()
    for path in paths:
        path.touch()
        made(path, "pictures by name", lambda shard: rows)
    written, before = time.perf_counter() - begun, private()
    begun = time.perf_counter()
    pictures = shards.ShardPictures(paths)
    opened = time.perf_counter() - begun
    digest_of(shards.ShardNames(pictures))
    told = time.perf_counter() - begun
    batch = next(iter(EpochSampler(len(pictures), batch_size=64)))
    said = [str(pictures[index]) for _, index in batch]
    first = time.perf_counter() - begun
    assert len(set(said)) == 64
    return {"index_s": written, "open_s": opened, "digest_s": told - opened, "first_batch_s": first,
            "own_mb": private() - before}  # fmt: skip


def private() -> float:
    """Megabytes that this process does not share with files."""
    held = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(held["RssAnon"].split()[0]) / 1024


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=10_000_000)
    parser.add_argument("--each", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPSELF_CACHE"] = folder
        found = measure(given.names, given.each, Path(folder))
    print(f"{given.names} names: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
