"""What the frozen parts say about every crop, computed once: stem features and the ImageNet network's classes."""

from pathlib import Path

import numpy as np
import torch
from crops import batches, plan
from teachers import imagenet_network
from torch import nn
from tqdm import tqdm

from clipself.backbones.mini_tower import STEM_CHANNELS, STEM_STAGES, fold_norms

GRID, CLASSES = 10, 1000


def build_cache(data: Path, work: Path, *, limit: int | None = None, batch_size: int = 64) -> Path:
    """Fills `features.npy` (N, 112, 10, 10) and `classes.npy` (N, 1000) in float16; continues where it was stopped.

    Both teachers' passes share the stem, so each crop is decoded and read once whatever the number of epochs.
    """
    rows = plan(data)[:limit]
    work.mkdir(parents=True, exist_ok=True)
    shapes = {"features": (len(rows), STEM_CHANNELS, GRID, GRID), "classes": (len(rows), CLASSES)}
    fresh = not (work / "done.txt").exists()
    stores = {
        name: np.lib.format.open_memmap(
            work / f"{name}.npy", mode="w+" if fresh else "r+", dtype=np.float16, shape=shape if fresh else None
        )
        for name, shape in shapes.items()
    }
    start = 0 if fresh else int((work / "done.txt").read_text())
    network = imagenet_network()
    parts = [nn.Sequential(network.conv_stem, network.bn1, network.blocks[:STEM_STAGES]),
             nn.Sequential(network.blocks[STEM_STAGES:], network.conv_head, network.bn2)]  # fmt: skip
    stem, top = (fold_norms(part).to(memory_format=torch.channels_last) for part in parts)
    head = nn.Sequential(network.global_pool, network.classifier)
    progress = tqdm(total=len(rows), initial=start, desc="reading crops", unit="crop")
    done = start
    for pixels, index in batches(data, rows[start:], batch_size=batch_size):
        with torch.no_grad():
            stems = stem(pixels.to(memory_format=torch.channels_last))
            probabilities = head(top(stems)).softmax(-1)
        place = slice(done, done + len(index))
        stores["features"][place], stores["classes"][place] = stems.numpy(), probabilities.numpy()
        done += len(index)
        (work / "done.txt").write_text(str(done))
        progress.update(len(index))
    return work


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    build_cache(options.data, options.work, limit=options.limit)
