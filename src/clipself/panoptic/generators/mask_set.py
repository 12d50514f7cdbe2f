"""What every mask generator answers, and how it is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL import Image
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSet:
    """What a generator says about one picture.

    Attributes:
        masks_QYX: Mask logits of the whole picture, without padding, at any resolution.
        void_Q: Probability that a mask is "no object".
        logits_QK: Class logits of the names asked for; None where the generator does not know them.
        rescore: The same masks for other names; None where the generator has to look at the picture again, unless it
            knows no classes at all.
    """

    masks_QYX: Tensor
    void_Q: Tensor
    logits_QK: Tensor | None = None
    rescore: "Callable[[Sequence[str]], MaskSet] | None" = None

    def __post_init__(self) -> None:
        counts = {len(self.masks_QYX), len(self.void_Q)} | (
            {len(self.logits_QK)} if self.logits_QK is not None else set()
        )
        if self.masks_QYX.ndim != 3 or len(counts) != 1:
            raise ValueError(
                f"masks {tuple(self.masks_QYX.shape)}, void {tuple(self.void_Q.shape)} and logits do not belong "
                "together; expected (Q, Y, X), (Q,) and (Q, K)"
            )


class MaskGenerator(Protocol):
    """Finds masks in a picture; may or may not know classes."""

    @property
    def trained_names(self) -> Sequence[str]:
        """Names that it has seen in training, synonyms joined by commas; empty for class-free masks."""

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """Finds masks.

        Args:
            picture: RGB picture.
            file: Its file, by which stored masks are found.
            names: Classes that are looked for; a generator must not remember those of an earlier call.
        """


@runtime_checkable
class StoredMasks(Protocol):
    """A generator that knows ahead which pictures it has masks for."""

    def expect(self, files: Sequence[str], ids: Sequence[int | str] = ()) -> int:
        """Looks for the masks of all pictures that will be asked for.

        Args:
            files: Their files.
            ids: Their ids in the COCO file that lists them, where one does.

        Returns:
            For how many there are some.

        Raises:
            ValueError: It is not clear whose masks some are.
        """
