"""What detectors that come through transformers share: they look for names, and have no settings and no proposals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from clipself.backbones.devices import pick_device
from clipself.data.images import Picture
from clipself.detection.protocol import Proposals


class HubDetector:
    """A zero-shot detector of transformers.

    Args:
        name: A checkpoint, or a folder.
        device: cpu, cuda, mps, or auto.
        model: A loaded model instead, with its `processor`.
        processor: Of that model.

    Attributes:
        kind: How messages name it.
        extra: What installs transformers for it.

    Raises:
        ImportError: transformers is not installed.
    """

    kind: ClassVar[str]
    extra: ClassVar[str]

    def __init__(
        self, name: str | Path = "", *, device: str = "auto", model: Any = None, processor: Any = None
    ) -> None:
        if model is None:
            try:
                from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor
            except ImportError as error:
                raise ImportError(f"{self.kind} needs transformers; pip install 'clipself[{self.extra}]'") from error
            auto_model: Any = AutoModelForZeroShotObjectDetection
            auto_processor: Any = AutoProcessor
            model, processor = auto_model.from_pretrained(str(name)), auto_processor.from_pretrained(str(name))
        self.model, self.processor = model.to(pick_device(device)).eval(), processor
        self.trained_names: Sequence[str] = ()
        self.names: tuple[str, ...] = ()

    def use(self, names: Sequence[str]) -> None:
        """Looks for these names from now on.

        Raises:
            ValueError: There are none.
        """
        if not names:
            raise ValueError("there are no names to look for; pass at least one, such as names=['a cat']")
        self.names = tuple(names)

    def change_scoring(self, **changes: Any) -> None:
        """It has no settings.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.kind} has no settings that could be changed, such as {', '.join(changes)}")

    def propose(self, image: Picture, *, most: int | None = None) -> Proposals:
        """It looks for names alone.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{self.kind} looks for names and has no class-free proposals; use a detector of `detect train`"
        )
