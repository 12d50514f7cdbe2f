"""F-VLM: the frozen CLIP decides on novel classes, its background does not count."""

from clipself.detection.two_stage import TwoStage


class FVLM(TwoStage):
    """Source: F-VLM (arXiv:2209.15639): on a ResNet's stages and attention pool, or on a transformer's dense map.

    Trained as F-ViT is; what differs is the fusion: exponents .35 and .65, the background is the detector's alone, rows
    sum to 1. All of it is `fusion="fvlm"` in the settings of its recipe.
    """
