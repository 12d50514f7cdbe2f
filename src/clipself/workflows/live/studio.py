"""The models behind the page: each looks at a picture once and answers for any names."""

from collections.abc import Sequence
from functools import lru_cache
from threading import RLock
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipself.backbones.memory import ReadMemory
from clipself.backbones.text import embed_names
from clipself.data.images import read_image
from clipself.detection.detector import Detector, open_detector
from clipself.panoptic.generators.table import PACKAGED_MASKS, generator_of
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.segmenter import PanopticSegmenter
from clipself.segmentation.predict import open_segmenter
from clipself.segmentation.segmenter import Segmenter
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.structures import Detections, Panoptic, Segmentation
from clipself.text.names import parse_names, split_word
from clipself.text.vocabulary import VOCABULARIES, Vocabulary, load_vocabulary
from clipself.workflows.labelling.labellers import PACKAGED, task_of_checkpoint
from clipself.workflows.live.config import DemoConfig
from clipself.workflows.show import Column, dense_of, load_columns

LONGEST: Final = 1024
"""Longest side of a picture, in pixels; a larger one is made smaller, so that answers stay quick."""
MOST_NAMES: Final = 200
"""Names that are looked for at once."""
TEMPLATES: Final = "simple"
"""Sentences around names: few, so that a new name is embedded while it is typed."""
PICTURES_KEPT: Final = 8
"""Pictures that are not read from their files again."""
ROWS_KEPT: Final = 10_000
"""Embedded names in memory."""

Maps = list[tuple[str, NDArray[np.float32]]]
"""Title of a model and an array of it."""


class Studio:
    """Models that several pages ask at once: one question is answered after another.

    Each keeps the picture that it was asked about last, so that other names cost the heads alone.

    Args:
        config: Which models.

    Raises:
        ValueError: Two checkpoints are of one kind, or a model does not fit.
        FileNotFoundError: A model is missing.
    """

    def __init__(self, config: DemoConfig) -> None:
        self.columns, side = load_columns(
            config.model, config.pretrained, config.refined, readout=config.readout, device=config.device
        )
        self.side = config.image_size or side
        last, given = self.columns[-1], _by_task(config.checkpoint)
        self.detector = open_detector(given.get("detect", PACKAGED), device=config.device)
        self.segmenter: Segmenter = (
            open_segmenter(given["segment"], device=config.device)
            if "segment" in given
            else TrainingFree(last.clip, ["thing"], TrainingFreeSettings(readout=last.readout, templates=TEMPLATES))
        )
        generator = generator_of(given.get("panoptic", PACKAGED_MASKS), None, device=last.clip.device)
        judge = ClipJudge(last.clip, image_size=self.side, readout=last.readout, templates=TEMPLATES)
        self.panoptic = PanopticSegmenter(generator, judge, scores="both" if generator.trained_names else "clip")
        self.packaged = tuple({"detect", "panoptic"} - set(given))
        self._memories = {id(column.clip): ReadMemory(column.clip) for column in self.columns}
        self._rows: dict[tuple[int, str], Tensor] = {}
        self._looked_at: dict[int, Image.Image] = {}
        self._lock = RLock()
        self.look = lru_cache(PICTURES_KEPT)(_read)

    def dense(self, image: Image.Image, columns: Sequence[Column] = ()) -> Maps:
        """The dense map (D, Y, X) of each model; a picture that was just read is not read again.

        Args:
            image: RGB picture.
            columns: Models and readouts; those of the page if not given.
        """
        found = []
        with self._lock:
            for column in columns or self.columns:
                with torch.no_grad(), self._memories[id(column.clip)]:
                    found.append((column.title, dense_of(column, image, self.side)))
        return found

    def near(self, image: Image.Image, names: Sequence[str], columns: Sequence[Column] = ()) -> Maps:
        """The cosine of each patch with each name (K, Y, X), of each model."""
        with self._lock:
            rows = [self._embed(column, names) for column in columns or self.columns]
            maps = self.dense(image, columns)
        return [
            (title, np.einsum("dyx,kd->kyx", dense_DYX, rows_KD))
            for (title, dense_DYX), rows_KD in zip(maps, rows, strict=True)
        ]

    def detect(self, image: Image.Image, names: Sequence[str], *, threshold: float) -> Detections:
        """The boxes of a picture."""
        with self._lock:
            if not isinstance(self.detector, Detector):  # of transformers: it reads text and picture together
                return next(iter(self.detector.stream([image], names, threshold=threshold)))
            self._turn_to(self.detector, image)
            return self.detector.detect(names, threshold=threshold)

    def segment(self, image: Image.Image, names: Sequence[str]) -> Segmentation:
        """The class of every pixel."""
        with self._lock:
            if tuple(names) != self.segmenter.names:
                self.segmenter.use(names)
            self._turn_to(self.segmenter, image)
            return self.segmenter.segment()

    def segment_all(self, image: Image.Image, names: Vocabulary) -> Panoptic:
        """Things and stuff of a picture."""
        with self._lock:
            self.panoptic.use(names)
            self._turn_to(self.panoptic, image)
            return self.panoptic.segment().panoptic

    def _turn_to(self, model: Any, image: Image.Image) -> None:
        if self._looked_at.get(id(model)) is not image:
            model.set_image(image)
            self._looked_at[id(model)] = image

    def _embed(self, column: Column, names: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows (K, D); only names that were never asked for are embedded."""
        clip = column.clip
        new = [name for name in dict.fromkeys(names) if (id(clip), name) not in self._rows]
        if new:
            if len(self._rows) > ROWS_KEPT:
                self._rows.clear()
                new = list(names)
            text = embed_names(clip, new, templates=TEMPLATES, cache=False)
            self._rows |= {(id(clip), name): row for name, row in zip(new, text.rows_SD.cpu(), strict=True)}
        rows_KD: NDArray[np.float32] = torch.stack([self._rows[id(clip), name] for name in names]).numpy()
        return rows_KD


def _by_task(checkpoints: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for checkpoint in checkpoints:
        task = task_of_checkpoint(checkpoint)
        if task in found:
            raise ValueError(f"{found[task]} and {checkpoint} are both for the tab {task!r}; name one of them")
        found[task] = checkpoint
    return found


def _read(file: str) -> Image.Image:
    image = read_image(file)
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


def read_typed(names: str, stuff: str = "") -> Vocabulary:
    """Names as somebody types them into a page: words, or a packaged vocabulary; no file of this machine is read.

    Args:
        names: Between commas, or between semicolons where commas separate synonyms.
        stuff: Those that are uncountable, likewise.

    Raises:
        ValueError: There are none, too many, or one is there twice.
    """
    kinds = [_vocabulary(text, is_thing=is_thing) for text, is_thing in ((names, True), (stuff, False))]
    if not any(kinds):
        raise ValueError("there are no names to look for; type at least one, such as: cat, cup")
    things, masses = kinds
    found = parse_names(things or (), stuff=masses or ())
    if len(found) > MOST_NAMES:
        raise ValueError(f"{len(found)} names are too many for a page that answers at once; {MOST_NAMES} are the most")
    return found


def _vocabulary(text: str, *, is_thing: bool) -> Vocabulary | None:
    if text.strip() in VOCABULARIES:
        return load_vocabulary(text.strip())
    words = split_word(text)
    return Vocabulary.of(words, is_thing=is_thing) if words else None
