"""The whole path: masks from a generator, names from a CLIP, one answer in three forms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from clipself.choices import pick
from clipself.panoptic.generators.mask_set import MaskGenerator, MaskSet
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.mixture import MIXTURES, Mixture, mix_scores, seen_by
from clipself.panoptic.settings import Rules
from clipself.panoptic.to_maps import Segmented, at_picture_size, finish


@dataclass(frozen=True, slots=True)
class _View:
    """What was computed for one picture; the masks' scores belong to `names`."""

    picture: Image.Image
    file: str
    masks: MaskSet
    names: tuple[str, ...]
    embeddings_QD: Tensor | None


class PanopticSegmenter:
    """Segments pictures by names that are given at run time.

    A picture is looked at once and may be asked often::

        segmenter = PanopticSegmenter(FileMasks("sam.json"), ClipJudge(load_clip("runs/refined/blended")))
        segmenter.use(["cat", "dog", "grass"], stuff=["grass"])
        found = segmenter(picture, file="cat.jpg").panoptic
        segmenter.use(["animal", "lawn, grass"], stuff=["lawn, grass"])
        again = segmenter.segment().panoptic  # neither masks nor image tower run again

    Args:
        generator: Where masks come from.
        judge: The CLIP's opinion.
        names: What to look for, see `use`; may come later.
        is_thing: For each name whether it is a thing; takes the place of `stuff`.
        stuff: The uncountable ones, such as grass and sky.
        scores: Row of `MIXTURES`, or a `Mixture`.
        rules: Thresholds.

    Raises:
        ValueError: Names and kinds do not belong together, or the mixture is unknown.
    """

    def __init__(
        self,
        generator: MaskGenerator,
        judge: ClipJudge,
        names: Sequence[str] | None = None,
        is_thing: Sequence[bool] | None = None,
        *,
        stuff: Sequence[str] = (),
        scores: str | Mixture = "clip",
        rules: Rules | None = None,
    ) -> None:
        self.generator, self.judge = generator, judge
        self.mixture = scores if isinstance(scores, Mixture) else pick(MIXTURES, scores, what="mixture of scores")
        self.rules = rules or Rules()
        self.names, self.is_thing, self.seen = list[str](), list[bool](), list[bool]()
        self._view: _View | None = None
        if names is not None:
            self.use(names, is_thing, stuff=stuff)

    def use(self, names: Sequence[str], is_thing: Sequence[bool] | None = None, *, stuff: Sequence[str] = ()) -> None:
        """Looks for these names from now on; what is known of the current picture stays.

        Args:
            names: One string a class; commas separate synonyms.
            is_thing: For each name whether it is a thing; takes the place of `stuff`.
            stuff: Those that are uncountable; one that `names` lacks is added.

        Raises:
            ValueError: There are no names, one is there twice, or there is not one kind for each.
        """
        names = [*names, *(name for name in stuff if name not in names)]
        kinds = [name not in stuff for name in names] if is_thing is None else list(is_thing)
        if len(kinds) != len(names):
            raise ValueError(
                f"{len(names)} names and {len(kinds)} kinds do not belong together; make both from one list"
            )
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice; every class needs its own name")
        self.judge.use(names)
        self.names, self.is_thing, self.seen = names, kinds, seen_by(self.generator, names)

    def set_image(self, picture: Image.Image, *, file: str = "") -> None:
        """Finds the masks of a picture, and what the CLIP sees under them; `segment` then answers.

        Args:
            picture: RGB picture.
            file: Its file; masks from files are found by it.
        """
        masks = self.generator(picture, file=file, names=self.names)
        embeddings = self.judge.embed(picture, masks.masks_QYX) if self.mixture.needs_clip else None
        self._view = _View(picture, file, masks, tuple(self.names), embeddings)

    @torch.no_grad()
    def segment(self) -> Segmented:
        """The answer for the picture that was set, by the names used last.

        Raises:
            ValueError: There is no picture, there are no names, or the masks lack scores that the mixture wants.
        """
        if self._view is None or not self.names:
            raise ValueError("segment needs a picture, by set_image(picture), and names, by use(names)")
        view = self._ask_again(self._view)
        judged = None if view.embeddings_QD is None else self.judge.classify(view.embeddings_QD)
        log_scores = mix_scores(view.masks, judged, mixture=self.mixture, seen=self.seen)
        full = at_picture_size(view.masks.masks_QYX.to(log_scores.device), view.picture)
        return finish(log_scores, full, names=self.names, is_thing=self.is_thing, rules=self.rules)

    def __call__(self, picture: Image.Image, *, file: str = "") -> Segmented:
        """Segments one picture.

        Args:
            picture: RGB picture.
            file: Its file; masks from files are found by it.
        """
        self.set_image(picture, file=file)
        return self.segment()

    def _ask_again(self, view: _View) -> _View:
        """The view with the generator's scores of the names used last."""
        names = tuple(self.names)
        if view.names == names or not self.generator.trained_names:
            return view
        if view.masks.rescore is None:
            self.set_image(view.picture, file=view.file)
        else:
            self._view = replace(view, masks=view.masks.rescore(names), names=names)
        assert self._view is not None
        return self._view
