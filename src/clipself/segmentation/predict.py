"""Names every pixel of pictures: `segment predict` as a function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.data.images import read_image, write_index_map
from clipself.data.sources import ImageFolder
from clipself.files import write_json
from clipself.segmentation.checkpoint import SEGMENTER, load_segmenter
from clipself.segmentation.config import SegmentationPredictConfig
from clipself.segmentation.segmenter import Segmenter
from clipself.segmentation.segmenters import segmenter_of
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.text.vocabulary import load_vocabulary
from clipself.viz.segments import draw_panels, write_picture


def predict_segments(config: SegmentationPredictConfig | None = None, /, **options: Any) -> Path:
    """Names every pixel of pictures; writes an overlay with legend, an index PNG and one JSON.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `SegmentationPredictConfig`.

    Returns:
        The JSON: for each picture its classes with their share of the pixels.

    Raises:
        ValueError: There are no names, or a picture or model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = config if config is not None else SegmentationPredictConfig(**options)
    segmenter, paths = _open_segmenter(config), _list_pictures(config.images)
    results = []
    for path in tqdm(paths, unit="image", disable=len(paths) < 2, leave=False):
        image = read_image(path)
        labels = segmenter.label(image).cpu()
        panel = draw_panels(image, {"segments": labels}, segmenter.names, height=min(480, image.height))
        write_picture(config.out / f"{path.stem}.overlay.png", panel)
        write_index_map(config.out / f"{path.stem}.png", labels.numpy())
        counts = labels.flatten().bincount(minlength=len(segmenter.names))
        ranked = sorted(((int(n), index) for index, n in enumerate(counts) if n), reverse=True)
        shares = [
            {"name": segmenter.names[index], "index": index, "share": round(n / labels.numel(), 5)}
            for n, index in ranked
        ]
        results.append({"image": str(path), "map": f"{path.stem}.png", "classes": shares})
    return write_json(config.out / "results.json", {"names": list(segmenter.names), "images": results})


def _list_pictures(images: Sequence[Path]) -> list[Path]:
    if not images:
        raise ValueError("there are no pictures; pass files or folders")
    return [path for one in images for path in (ImageFolder(one).paths if one.is_dir() else [one])]


def _open_segmenter(config: SegmentationPredictConfig) -> Segmenter:
    device = pick_device(config.device)
    names = None if config.names is None else read_names(config.names)
    if SEGMENTER.is_in(config.model):
        model, card = load_segmenter(config.model, device=device)
        return segmenter_of(model, names or card["names"], crop=card["crop"])
    if names is None:
        raise ValueError(f"{config.model} was never trained on names; pass some: --names 'cat, dog, grass'")
    clip: DenseCLIP = load_clip(config.model, config.pretrained, device=device)
    return TrainingFree(clip, names, TrainingFreeSettings(readout=config.readout))


def read_names(names: str) -> list[str]:
    """Names with commas between them, a packaged vocabulary, or a text file of one name a line."""
    if names.endswith(".txt"):
        return list(load_vocabulary(names).names)
    found = [name.strip() for name in names.split(",") if name.strip()]
    if len(found) < 2 and "_" in names:
        return list(load_vocabulary(names).names)
    return found
