"""Heads trained on a CLIP: one folder with their weights and a card that says which CLIP they stand on.

Every family keeps its trained heads so. The CLIP itself is not copied: the card names it, by a path as seen from the
folder where it is one, and holds a digest of the weights that the heads were trained on.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from safetensors.torch import save
from torch import Tensor, nn

from clipself.backbones.clip_reference import CLIP_KEYS, find_clip, name_clip
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.fast_init import plain_numbers
from clipself.backbones.packaged_heads import PACKAGED_HEADS, heads_folder
from clipself.backbones.strict import check_finite, check_fit, within_budget
from clipself.backbones.weights import first_line, read_state_dict
from clipself.cards import read_card, read_settings
from clipself.files import write_bytes, write_json

T = TypeVar("T")

FORMAT: Final = "clipself heads 1"
PARTS: Final = ("image", "text", "all")
LONGEST: Final = 4096
"""Characters of a path; longer ones are no paths anywhere."""
WRONG_SETTINGS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What building a model from edited settings may end in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadKind:
    """How the folder of one kind of heads looks.

    Attributes:
        name: "detector", "segmenter", ...; written into the card.
        stem: The files are `STEM.safetensors` and `STEM.json`.
        written_by: What writes such a folder, for messages.
        clip_part: Part of the CLIP that the digest is of: "image" or "all".
        old_keys: Key in the cards of earlier versions -> key today, ahead of which the others are read; a dot goes
            into a table.
    """

    name: str
    stem: str
    written_by: str
    clip_part: str = "image"
    old_keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """Name of the file of tensors."""
        return f"{self.stem}.safetensors"

    @property
    def card(self) -> str:
        """Name of the card."""
        return f"{self.stem}.json"

    def is_in(self, folder: str | Path) -> bool:
        """Whether a folder holds heads of this kind."""
        return (heads_folder(folder) / self.card).is_file()


def save_heads(
    folder: str | Path,
    kind: HeadKind,
    tensors: Mapping[str, Tensor],
    *,
    model: str | Path,
    pretrained: str | Path | None = None,
    text_from: str | Path | None = None,
    digest: str,
    settings: Any,
    names: Iterable[str] = (),
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes trained heads, each file atomically.

    Args:
        folder: Made when missing.
        kind: How the folder looks.
        tensors: All that was learned.
        model: The CLIP that they stand on, as `load_clip` was given it; paths are written as seen from the folder.
        pretrained: Tag or file of its weights.
        text_from: Tag, file or folder of its text tower, where that is another one.
        digest: `weights_hash(kind.clip_part)` of that CLIP as it was when the training began.
        settings: Dataclass by which the heads are built again.
        names: Class names of the training.
        card: What else the reader should know.

    Raises:
        ValueError: A tensor is not finite.
        OSError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(held, source=f"what was trained for {folder / kind.weights}")
    write_bytes(folder / kind.weights, save(held, metadata={"format": "pt"}))
    write_json(
        folder / kind.card,
        {
            "format": FORMAT,
            "kind": kind.name,
            "about": f"heads trained on the CLIP that is named here; names and shapes of tensors are in {kind.weights}",
            **name_clip(model, pretrained, text_from=text_from, folder=folder),
            "clip_part": kind.clip_part,
            "clip_digest": digest,
            "settings": asdict(settings),
            "names": list(names),
            **(card or {}),
        },
    )
    return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """What `load_heads` found.

    Attributes:
        folder: Where.
        kind: Of which kind.
        card: By today's keys.
        tensors: By name.
        clip: What they stand on.
    """

    folder: Path
    kind: HeadKind
    card: dict[str, Any]
    tensors: dict[str, Tensor]
    clip: DenseCLIP

    @property
    def card_path(self) -> Path:
        """The card's path, for messages."""
        return self.folder / self.kind.card

    def settings(self, kind: type[T], *, forget: Iterable[str] = ()) -> T:
        """The settings as a dataclass.

        Args:
            kind: Its class.
            forget: Settings of earlier versions that are passed over where the class has none of that name.

        Raises:
            ValueError: The card's table does not fit it.
        """
        return read_settings(kind, self.card.get("settings"), where=f"{self.card_path}: settings", forget=forget)

    def facts(self, kind: type[T]) -> T:
        """What the card holds beside the settings, as a dataclass of those keys.

        Raises:
            ValueError: It does not fit.
        """
        held = {one.name: self.card[one.name] for one in fields(kind) if one.name in self.card}  # type: ignore[arg-type]
        return read_settings(kind, held, where=str(self.card_path))

    def names(self, key: str = "names") -> tuple[str, ...]:
        """A list of names in the card.

        Raises:
            ValueError: It is no list of different names.
        """
        held = self.card.get(key)
        if not isinstance(held, list) or not all(isinstance(name, str) and name.strip() for name in held):
            raise ValueError(f"{self.card_path}: {key} is no list of names; was the card edited?")
        if len(set(held)) < len(held):
            raise ValueError(f"{self.card_path}: {key} has {len(held)} names of which {len(set(held))} differ")
        return tuple(held)

    def build(self, make: Callable[[], T]) -> T:
        """Builds what the weights go into, no larger than they are, from settings that may have been edited.

        Raises:
            ValueError: The settings make no model, or one that is far larger than the weights.
        """
        try:
            with plain_numbers(), within_budget(self.tensors, known=self.clip.parameters()):
                return make()
        except WRONG_SETTINGS as error:
            raise ValueError(f"{self.card_path}: its settings make no {self.kind.name} for these weights and this CLIP "
                             f"({type(error).__name__}: {first_line(error)}); was it edited?") from error  # fmt: skip

    def fill(self, module: nn.Module, *, own: Mapping[str, Tensor] | None = None) -> None:
        """Loads all tensors or none.

        Args:
            module: What was built.
            own: The part of its state that the folder keeps; all of it if not given.

        Raises:
            ValueError: Tensors are missing, left over, of another shape, or not finite; the first few are named.
        """
        state = module.state_dict()
        check_fit(
            self.tensors, state if own is None else own, source=str(self.folder / self.kind.weights),
            advice=f"it does not fit its own settings in {self.kind.card}; was it copied in part?",
        )  # fmt: skip
        module.load_state_dict({**state, **self.tensors}, strict=True)


def load_heads(folder: str | Path, kind: HeadKind, *, clip: DenseCLIP | None = None, device: Any = "cpu") -> Heads:
    """Reads a folder of heads and the CLIP that they stand on; the weights are not in a model yet.

    Args:
        folder: Written by `save_heads`, or by an earlier version; or the name of packaged heads.
        kind: What it should hold.
        clip: The CLIP where it is loaded already; else the one named in the card is loaded.
        device: Where a loaded one goes.

    Raises:
        FileNotFoundError: There are no such heads in the folder, or their CLIP has moved.
        ValueError: A file is damaged, or the CLIP is not the one of the training.
    """
    folder = heads_folder(folder)
    if not (folder / kind.card).is_file() or not (folder / kind.weights).is_file():
        raise FileNotFoundError(
            f"no {kind.card} with {kind.weights} in {folder}; pass a folder that {kind.written_by} writes, or one of "
            f"the packaged heads {list(PACKAGED_HEADS)}"
        )
    card = read_head_card(folder, kind)
    tensors = read_state_dict(folder / kind.weights)
    clip = find_clip(card, folder=folder, digest=card["clip_digest"], part=card["clip_part"], clip=clip, device=device)
    return Heads(folder=folder, kind=kind, card=card, tensors=tensors, clip=clip)


def read_head_card(folder: str | Path, kind: HeadKind) -> dict[str, Any]:
    """A folder's card by today's keys, whichever version wrote it.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no card of this kind.
    """
    path = heads_folder(folder) / kind.card
    held = read_card(path)
    if held.get("format") != FORMAT:
        held = _renew(held, kind, path)
    if held.get("kind") != kind.name:
        raise ValueError(f"{path} is the card of a {held.get('kind')!r:.40}, expected a {kind.name}")
    _check_reference(held, path)
    return held


def _renew(held: dict[str, Any], kind: HeadKind, path: Path) -> dict[str, Any]:
    renewed: dict[str, Any] = {"kind": kind.name, "clip_part": kind.clip_part}
    for old, new in kind.old_keys.items():
        value: Any = held
        for key in old.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None and old != new and old.split(".")[0] not in held:
            raise ValueError(f"{path} is no card of a {kind.name}: it has neither format {FORMAT!r} nor {old!r}")
        renewed[new] = value
    taken = {old.split(".")[0] for old in kind.old_keys}
    return {**{key: value for key, value in held.items() if key not in taken}, **renewed, "format": FORMAT}


def _check_reference(card: Mapping[str, Any], path: Path) -> None:
    for key in (*CLIP_KEYS, "clip_digest"):
        held = card.get(key)
        if held is None and key in ("pretrained", "text_from"):
            continue
        if not (isinstance(held, str) and held.strip() and held.isprintable() and len(held) < LONGEST):
            raise ValueError(f"{path}: {key} is {repr(held)[:60]}, expected a name or a path; was the card edited?")
    if card.get("clip_part") not in PARTS:
        raise ValueError(f"{path}: clip_part is {repr(card.get('clip_part'))[:60]}, expected one of {list(PARTS)}")
