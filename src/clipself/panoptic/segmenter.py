"""The whole path: masks from a generator, names from a CLIP, one answer in three forms."""

from collections.abc import Sequence

import torch
from PIL import Image

from clipself.choices import pick
from clipself.panoptic.generators.mask_set import MaskGenerator
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.mixture import MIXTURES, Mixture, mix_scores, seen_by
from clipself.panoptic.to_maps import Rules, Segmented, at_picture_size, finish


class PanopticSegmenter:
    """Segments pictures by names that are given at run time.

    Four lines to a panoptic map::

        clip = load_clip("runs/refined/blended")
        judge = ClipJudge(clip, ["cat", "dog", "grass"])
        segmenter = PanopticSegmenter(FileMasks("sam.json"), judge, ["cat", "dog", "grass"], [True, True, False])
        found = segmenter(picture, file="cat.jpg").panoptic

    Args:
        generator: Where masks come from.
        judge: The CLIP's opinion, made for the same names.
        names: One string a class; commas separate synonyms.
        is_thing: For each class whether it is a thing.
        scores: Row of `MIXTURES`, or a `Mixture`.
        rules: Thresholds.

    Raises:
        ValueError: Names, kinds and judge do not belong together, or the mixture is unknown.
    """

    def __init__(
        self,
        generator: MaskGenerator,
        judge: ClipJudge,
        names: Sequence[str],
        is_thing: Sequence[bool],
        *,
        scores: str | Mixture = "clip",
        rules: Rules | None = None,
    ) -> None:
        if not len(names) == len(is_thing) == len(judge.text.counts):
            raise ValueError(
                f"{len(names)} names, {len(is_thing)} kinds and a judge of {len(judge.text.counts)} classes do not "
                "belong together; make all three from one list"
            )
        self.generator, self.judge, self.names, self.is_thing = generator, judge, list(names), list(is_thing)
        self.mixture = scores if isinstance(scores, Mixture) else pick(MIXTURES, scores, what="mixture of scores")
        self.rules = rules or Rules()
        self.seen = seen_by(generator, names)

    @torch.no_grad()
    def __call__(self, picture: Image.Image, *, file: str = "") -> Segmented:
        """Segments one picture.

        Args:
            picture: RGB picture.
            file: Its file; masks from files are found by it.
        """
        masks = self.generator(picture, file=file, names=self.names)
        judged = self.judge(picture, masks.masks_QYX)
        log_scores = mix_scores(masks, judged, mixture=self.mixture, seen=self.seen)
        full = at_picture_size(masks.masks_QYX.to(log_scores.device), picture)
        return finish(log_scores, full, is_thing=self.is_thing, rules=self.rules)
