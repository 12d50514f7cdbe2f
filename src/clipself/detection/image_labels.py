"""Image-labelled pictures beside those with boxes, for any detector that learns from both."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary, make_vocabulary
from clipself.data.detection import DetectionDataset
from clipself.data.image_labels import BoxesThenLabels, ImageLabelDataset, ImageLabels, read_image_labels
from clipself.data.mosaic import MosaicDataset
from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.two_stage.image_labels import ImageLabelTerms, LearnsFromImageLabels
from clipself.detection.protocol import DetectorModel
from clipself.engine.loader import SecondKind
from clipself.text.names import listed
from clipself.text.templates import spoken_name

log = logging.getLogger(__name__)


def open_image_labels(config: DetectionTrainConfig, known: Sequence[str]) -> ImageLabels | None:
    """The pictures that a run's settings name; None where they name none.

    Args:
        config: Of the run.
        known: Names of training.

    Raises:
        FileNotFoundError: A file or picture is missing.
        ValueError: The labels cannot be read, or no picture has one.
    """
    if config.image_labels is None:
        return None
    only = listed(config.image_label_names)
    held = read_image_labels(config.image_labels, config.image_label_images, known=known, only=only)
    log.info("image labels of %s: %s", held.source, held.describe(known))
    return held


def add_image_labels(
    boxed: DetectionDataset | MosaicDataset,
    labels: ImageLabels,
    detector: DetectorModel,
    config: DetectionTrainConfig,
) -> tuple[BoxesThenLabels, SecondKind]:
    """Tells the detector what the labels stand for, and puts their pictures behind those with boxes.

    Args:
        boxed: Pictures with boxes.
        labels: Pictures with labels.
        detector: Which learns from both.
        config: Of the run.

    Returns:
        Both data sets as one, and how batches of the second kind are made.

    Raises:
        ValueError: The detector has no loss for image labels.
    """
    if not isinstance(detector, LearnsFromImageLabels):
        raise ValueError(
            f"the detector {config.detector.method} has no loss for image labels; leave image_labels out, or choose "
            "one that has proposals: detic, fvit, fvlm, vild, baron"
        )
    if config.image_label_captions and not labels.captions:
        raise ValueError(f"image_label_captions needs captions, and {labels.source} holds none; pass COCO's captions")
    if config.image_label_captions and not getattr(detector, "learns_captions", False):
        raise ValueError(f"this detector {config.detector.method} learns no captions; leave image_label_captions out")
    vocabulary = with_labels(detector.clip, detector.vocabulary, labels.names, spoken=config.detector.spoken)
    terms = ImageLabelTerms(
        vocabulary=vocabulary, rule=config.image_label_loss, weight=config.image_label_weight,
        proposals=config.image_label_proposals, captions=config.image_label_captions,
        caption_negatives=config.image_label_caption_negatives,
    )  # fmt: skip
    detector.learn_image_labels(terms)
    framing = detector.label_framing(share=config.image_label_scale, scales=config.scales, flip=config.flip)
    place = {spoken_name(name): column for column, name in enumerate(vocabulary.names)}
    columns = [place[spoken_name(name)] for name in labels.names]
    dataset = BoxesThenLabels(boxed, ImageLabelDataset(labels, columns, framing, seed=config.seed))
    batch = config.image_label_batch or max(1, round(config.batch_size * config.image_label_ratio))
    return dataset, SecondKind(length=len(labels), ratio=config.image_label_ratio, batch_size=batch)


def with_labels(
    clip: DenseCLIP, training: EmbeddedVocabulary, names: Sequence[str], *, spoken: Mapping[str, Any]
) -> EmbeddedVocabulary:
    """The names of training and behind them those that only labels have; what may be told apart counts as "base".

    Args:
        clip: Whose text tower speaks.
        training: Of the boxes.
        names: Of the labels.
        spoken: How the detector says names; see `MethodSettings.spoken`.
    """
    known, labelled = {spoken_name(name) for name in training.names}, {spoken_name(name) for name in names}
    more = [name for name in names if spoken_name(name) not in known]
    wanted = [*training.base, *(name for name in training.novel if spoken_name(name) in labelled), *more]
    joined: EmbeddedVocabulary = make_vocabulary(clip, [*training.names, *more], base=wanted, **spoken)
    return joined
