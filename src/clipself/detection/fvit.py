"""F-ViT: the paper's detector."""

from clipself.detection.two_stage import TwoStage


class FViT(TwoStage):
    """Source: CLIPSelf (arXiv:2310.01403), Sec. 4.2.

    The shared detector as it is: learned cosine classes for what training saw, the frozen CLIP's dense map for what it
    did not, fused as p^(1-w) q^w.
    """
