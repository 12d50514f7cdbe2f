"""Swin transformers as a detector's trunk."""

from clipself.backbones.swin import SwinMaps
from clipself.detection.detectors.trunk import RANDOM, DetectorTrunk


class SwinTrunk(SwinMaps, DetectorTrunk):
    """`SwinMaps` that starts as detectors do."""

    def start_from(self, weights: str | None) -> None:
        """Takes the file of a released classifier, such as the one trained on ImageNet-22k; the output norms are new.

        Raises:
            ValueError: The file does not fit, or there is none.
            FileNotFoundError: There is no such file.
        """
        if weights is None:
            raise ValueError(
                "a Swin transformer does not learn detection from nothing; pass trunk_weights=swin_base_22k.pth (a "
                f"released classifier's file), or {RANDOM!r} if that is meant"
            )
        if weights != RANDOM:
            super().start_from(weights)
