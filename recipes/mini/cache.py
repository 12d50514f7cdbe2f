"""What the frozen parts say about every crop, computed once: stem features and the ImageNet network's classes."""

from pathlib import Path

import numpy as np
import torch
from crops import batches, plan
from teachers import imagenet_network
from tqdm import tqdm

from clipself.backbones.mini_tower import STEM_CHANNELS, STEM_STAGES
from clipself.engine.precision import make_precision

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
    network = imagenet_network().to(memory_format=torch.channels_last)
    progress = tqdm(total=len(rows), initial=start, desc="reading crops", unit="crop")
    done = start
    for pixels, index in batches(data, rows[start:], batch_size=batch_size):
        features, classes = _read(network, pixels.to(memory_format=torch.channels_last))
        place = slice(done, done + len(index))
        stores["features"][place], stores["classes"][place] = features, classes
        done += len(index)
        (work / "done.txt").write_text(str(done))
        progress.update(len(index))
    return work


@torch.no_grad()
def _read(network: torch.nn.Module, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    with make_precision("auto", torch.device("cpu")).autocast():
        stem = network.blocks[:STEM_STAGES](network.bn1(network.conv_stem(pixels)))
        top = network.bn2(network.conv_head(network.blocks[STEM_STAGES:](stem)))
        logits = network.classifier(network.global_pool(top))
    return stem.float().half().numpy(), logits.float().softmax(-1).half().numpy()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    build_cache(options.data, options.work, limit=options.limit)
