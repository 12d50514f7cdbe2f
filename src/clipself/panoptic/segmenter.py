"""The whole path: masks from a generator, names from a CLIP, one answer in three forms."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.packaged import REFINED
from clipself.choices import pick
from clipself.data.images import Examples, Picture, read_image
from clipself.panoptic.generators.mask_set import MaskGenerator, MaskSet
from clipself.panoptic.generators.table import generator_of
from clipself.panoptic.judge import ClipJudge, open_judge
from clipself.panoptic.mixture import MIXTURES, Mixture, mix_scores, seen_by
from clipself.panoptic.settings import JudgeSettings, Rules, check_sources
from clipself.panoptic.to_maps import Segmented, finish, resize_masks, to_picture_size, working_size
from clipself.text.names import Names, class_names, parse_names
from clipself.text.vocabulary import Vocabulary


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

        segmenter = PanopticSegmenter.from_checkpoint("runs/masks", clip="runs/refined/blended")
        segmenter.use("cat, dog, grass", stuff="grass")
        found = segmenter("garden.jpg").panoptic
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
        names: Names | None = None,
        is_thing: Sequence[bool] | None = None,
        *,
        stuff: Names = (),
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

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path | None = None,
        *,
        masks: str | Path | None = None,
        clip: DenseCLIP | str = REFINED,
        judge: JudgeSettings | None = None,
        scores: str | Mixture = "clip",
        rules: Rules | None = None,
        device: str = "auto",
    ) -> "PanopticSegmenter":
        """Opens a trained mask generator, or stored masks, and a CLIP.

        Args:
            checkpoint: A folder that `clipself panoptic train` wrote, or "hf:NAME" for a checkpoint of transformers;
                the packaged "clipself-mini-masks" where there are no masks either.
            masks: A JSON or folder of masks made elsewhere, in its place.
            clip: The CLIP that judges: a loaded one, an open_clip name, "clipself-mini", or an export folder.
            judge: How it judges.
            scores: Row of `MIXTURES`, or a `Mixture`.
            rules: Thresholds.
            device: cpu, cuda, mps, or auto for the best there is.

        Raises:
            FileNotFoundError: There is nothing at a path.
            ValueError: Masks come from two places, or what is there does not fit.
        """
        check_sources(checkpoint, masks)
        where = clip.device if isinstance(clip, DenseCLIP) else pick_device(device)
        generator = generator_of(None if checkpoint is None else str(checkpoint), masks, device=where)
        if isinstance(clip, DenseCLIP):
            opened = ClipJudge(clip, **asdict(judge or JudgeSettings()))
        else:
            opened = open_judge(clip, settings=judge, device=where)
        return cls(generator, opened, scores=scores, rules=rules)

    def use(
        self,
        names: Names = (),
        is_thing: Sequence[bool] | None = None,
        *,
        stuff: Names = (),
        examples: Examples | None = None,
    ) -> None:
        """Looks for these names from now on; what is known of the current picture stays.

        Args:
            names: A list with one string a class, in which commas separate synonyms; or words as they are typed: "cat,
                dog", "cat, kitten; dog", a text file, a packaged vocabulary, which knows its stuff.
            is_thing: For each name whether it is a thing; takes the place of `stuff`.
            stuff: Those that are uncountable, likewise; one that `names` lacks is looked for too.
            examples: What is named by pictures of it, or by regions of pictures, beside `names` or in place of their
                words: things, unless `stuff` names them. A generator's own scores go by the words.

        Raises:
            ValueError: There are no names, one is there twice, or there is not one kind for each.
        """
        if examples:
            names = _with_shown(names, list(examples))
        vocabulary = parse_names(_as_listed(names, is_thing=True), stuff=_as_listed(stuff, is_thing=False))
        kinds = list(vocabulary.is_thing if is_thing is None else is_thing)
        if len(kinds) != len(vocabulary):
            count = len(vocabulary)
            raise ValueError(f"{count} names and {len(kinds)} kinds do not belong together; give one kind a name")
        self.judge.use(vocabulary.names, examples=examples)
        self.names, self.is_thing = list(vocabulary.names), kinds
        self.seen = seen_by(self.generator, vocabulary.names)

    def set_image(self, picture: Picture, *, file: str | None = None) -> None:
        """Finds the masks of a picture, and what the CLIP sees under them; `segment` then answers.

        Args:
            picture: A file, an opened picture, an array or a tensor, as `read_image` takes it.
            file: Its file, by which stored masks are found; where the picture is one, it is that.

        Raises:
            ValueError: The picture is damaged, or its masks do not fit it.
        """
        if file is None:
            file = str(picture) if isinstance(picture, str | os.PathLike) else ""
        picture = read_image(picture)
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
        size = (view.picture.height, view.picture.width)
        masks = resize_masks(view.masks.masks_QYX, working_size(size, longest=self.rules.longest))
        found = finish(
            log_scores, masks.to(log_scores.device), names=self.names, is_thing=self.is_thing, rules=self.rules
        )
        return to_picture_size(found, size)

    def __call__(self, picture: Picture, *, file: str | None = None) -> Segmented:
        """Segments one picture; see `set_image` and `segment`."""
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


def _with_shown(names: Names, shown: Sequence[str]) -> Vocabulary:
    """Names that are typed, then those that are only shown, which are things."""
    if not names:
        return Vocabulary.of(shown)
    typed = parse_names(_as_listed(names, is_thing=True))
    rest = [name for name in shown if name not in typed.names]
    return typed + Vocabulary.of(rest) if rest else typed


def _as_listed(names: Names, *, is_thing: bool) -> Names:
    """A list is one class a string, whatever commas are in it; what was typed is read by the grammar of names."""
    if isinstance(names, str | Path | Vocabulary) or not names or any(isinstance(name, Path) for name in names):
        return names
    return Vocabulary.of(class_names(names), is_thing=is_thing)
