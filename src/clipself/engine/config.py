"""Settings that all trainings share; free of heavy imports so that `--help` is quick."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from clipself.engine.fields import UNSET, fit, kinds_of, plain_values
from clipself.files import is_address

C = TypeVar("C")

FREE: Final = frozenset(
    (
        "out", "resume", "overwrite", "workers", "device", "track", "save_every", "evaluate_every",
        "evaluate_annotations", "evaluate_images", "evaluate_limit", "epochs", "max_steps", "batch_size", "accumulate",
    )
)  # fmt: skip
"""Settings that may change between a run and its continuation: a longer one is a new phase; a step keeps its images."""

MOST_WORKERS: Final = 1024
"""Processes beside one; each takes some 100 MB, and a slip of more would take the machine."""
LARGEST: Final = 2**14
"""Largest side of a picture in pixels, and width or depth of a network, that is not taken for a slip."""

_ABSOLUTE: Final = re.compile(r"((?:[^/]*[:@])?)(/.*)")
"""A path, by itself or behind what it is: "/a/b", "diffusion:/a/b", "timm:name@/a/b"."""

_unchecked: ContextVar[bool] = ContextVar("unchecked", default=False)


@contextmanager
def unchecked() -> Iterator[None]:
    """Lets settings be made without a check, for a parser that shows what they raise in its own way; see `checked`."""
    token = _unchecked.set(True)
    try:
        yield
    finally:
        _unchecked.reset(token)


def checked(config: C) -> C:
    """Settings that were made unchecked, made again with their checks, nested ones first.

    Raises:
        ValueError: A value does not fit.
    """
    inner = {
        each.name: checked(value)
        for each in fields(config)  # type: ignore[arg-type]
        if each.init and is_dataclass(value := getattr(config, each.name)) and not isinstance(value, type)
    }
    return replace(config, **inner)  # type: ignore[type-var]


class Settings:
    """Base of a frozen dataclass of settings: values are made to fit their annotations, then each class checks its own.

    A class of settings writes a method `check` without calling its parent's: all of them are called, bases first.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        if _unchecked.get():
            return
        for name, kind in kinds_of(type(self)).items():
            object.__setattr__(self, name, fit(getattr(self, name), kind, name))
        for owner in reversed(type(self).__mro__):
            if "check" in vars(owner):
                vars(owner)["check"](self)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return plain_values(self)

    def check_counts(self, *names: str) -> None:
        """Refuses whole numbers below 1; None passes.

        Raises:
            ValueError: One of them is.
        """
        for name, value in self._numbers(names):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")

    def check_sizes(self, *names: str) -> None:
        """Refuses sides of pictures in pixels, and widths and depths of networks, that no memory holds; None passes.

        Raises:
            ValueError: One of them is below 1 or above `LARGEST`.
        """
        for name, value in self._numbers(names):
            if not 1 <= value <= LARGEST:
                raise ValueError(f"{name}={value} must be at least 1 and at most {LARGEST}")

    def check_not_negative(self, *names: str) -> None:
        """Refuses numbers below 0 or not finite; None passes.

        Raises:
            ValueError: One of them is.
        """
        for name, value in self._numbers(names):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value} must be a number of at least 0")

    def check_positive(self, *names: str) -> None:
        """Refuses numbers that are not finite and above 0; None passes.

        Raises:
            ValueError: One of them is.
        """
        for name, value in self._numbers(names):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value} must be a number above 0")

    def check_finite(self, *names: str) -> None:
        """Refuses numbers that are not finite or that only a slip reaches, of either sign; None passes.

        Raises:
            ValueError: One of them is.
        """
        for name, value in self._numbers(names):
            if not abs(value) <= 1e6:
                raise ValueError(f"{name}={value} must be a number between -1e6 and 1e6")

    def check_at_most(self, most: float, *names: str) -> None:
        """Refuses numbers above a bound that only a slip passes; None passes.

        Raises:
            ValueError: One of them is.
        """
        for name, value in self._numbers(names):
            if value > most:
                raise ValueError(f"{name}={value} must be at most {most:g}")

    def check_shares(self, *names: str) -> None:
        """Refuses numbers outside [0, 1]; None passes.

        Raises:
            ValueError: One of them is.
        """
        for name, value in self._numbers(names):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value} is not in [0, 1]")

    def _numbers(self, names: Iterable[str]) -> Iterator[tuple[str, float]]:
        for name in names:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None:
                    yield name, number


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig(Settings):
    """What every training can be told."""

    out: Path
    """Folder of the run: settings, log, metrics, training state, and what was trained."""
    model: str = "clipself-mini"
    """The CLIP: open_clip name, "clipself-mini", or an export folder such as a refined one."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    epochs: float = 6.0
    """Passes over the images."""
    max_steps: int | None = None
    """Optimizer steps; takes the place of `epochs`."""
    batch_size: int = 4
    """Images of one process in a micro-batch."""
    accumulate: int = 1
    """Micro-batches of one optimizer step."""
    flip: float = 0.5
    """Probability of a mirrored image."""
    optimizer: Literal["adamw", "adamw-fused", "sgd"] = "adamw"
    """What takes the steps; SGD has `momentum`, AdamW `betas` and `eps`; the fused one is quicker, rounds otherwise."""
    lr: float = 2e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "cosine-through", "constant", "poly"] = "cosine"
    """What follows the warm-up; the cosine is counted from its end, or through it from the first step on."""
    drop_epochs: tuple[float, ...] = ()
    """Epochs at which a constant rate falls to a tenth."""
    drop_steps: tuple[int, ...] = ()
    """Steps at which it does, in place of epochs."""
    warmup_steps: int = 100
    """Steps of the linear ramp; at most a tenth of the run is used."""
    exact_warmup: bool = False
    """Take `warmup_steps` as it is, however short the run."""
    warmup_start: float | None = None
    """Share of the rate at the first step, from which the ramp rises; one step of the ramp if not given."""
    weight_decay: float = 0.05
    """Decay of what decays; each training says what does."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    momentum: float = 0.9
    """Of SGD."""
    clip_norm: float | None = 1.0
    """Largest norm of all gradients; unlimited if not given."""
    clip_each: float | None = None
    """Largest norm of the gradient of each picture, which are clipped ahead of their sum; unlimited if not given."""
    clip_value: float | None = None
    """Largest value of each gradient; unlimited if not given."""
    ema: float | None = None
    """Decay of a moving average of the weights that learn, evaluated and saved in their place; none if not given."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto is bf16 where the device multiplies it faster, else fp32."""
    compile: bool = False
    """Compile what learns with torch.compile."""
    workers: int = 2
    """Processes that make batches; they change nothing but speed."""
    seed: int = 0
    """Seed of every draw: order, samples, new weights, points of a loss. Above a million images the order is a keyed
    permutation, of which no list is held."""
    save_every: int = 200
    """Steps between training states; 0 saves only at the end."""
    evaluate_every: int = 0
    """Steps between evaluations; 0 for none."""
    evaluate_annotations: Path | None = None
    """Labelled data for those evaluations."""
    evaluate_images: Path | None = None
    """Folder of its pictures."""
    evaluate_limit: int | None = None
    """First pictures of it only."""
    track: tuple[Literal["csv", "mlflow", "tensorboard", "wandb"], ...] = ()
    """Trackers that get the numbers of metrics.jsonl too."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    resume: bool | Literal["auto"] = False
    """Continue the run in `out` where its last saved state ends; its settings are taken from there. "auto" starts one
    where there is none yet: the same command begins, goes on, and has nothing to do once all is done."""
    overwrite: bool = False
    """Start anew in a folder that already holds a run, which is kept until the new one has saved a state."""

    def check(self) -> None:
        """Refuses what no run can mean.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_counts("batch_size", "accumulate", "max_steps", "evaluate_limit")
        self.check_not_negative(
            "drop_epochs",
            "drop_steps",
            "warmup_steps",
            "workers",
            "save_every",
            "evaluate_every",
            "weight_decay",
            "seed",
        )
        self.check_positive("lr", "epochs", "eps", "clip_norm", "clip_each", "clip_value")
        self.check_shares("flip", "warmup_start", "ema", "momentum")
        self.check_at_most(1, "eps")
        self.check_at_most(1e3, "lr")
        self.check_at_most(1e6, "epochs")
        self.check_at_most(1e9, "max_steps")
        self.check_at_most(MOST_WORKERS, "workers")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas={self.betas} are not in [0, 1)")
        if self.momentum == 1 or self.ema == 1:
            raise ValueError(f"momentum={self.momentum} and ema={self.ema} must be below 1, or nothing new counts")
        if self.seed >= 2**63:
            raise ValueError(f"seed={self.seed} must be below 2**63")
        if (self.drop_epochs or self.drop_steps) and self.schedule != "constant":
            name = "drop_epochs" if self.drop_epochs else "drop_steps"
            raise ValueError(f"{name} belong to schedule='constant', not to {self.schedule!r}")
        if self.drop_epochs and self.drop_steps:
            raise ValueError("drop_epochs and drop_steps say the same thing twice; leave one of them out")
        if self.resume and self.overwrite:
            raise ValueError("resume goes on with the run in the folder, overwrite starts it anew; choose one of them")
        if self.evaluate_every and self.evaluate_annotations is None:
            raise ValueError(
                "evaluate_every needs evaluate_annotations and evaluate_images, the folder of its pictures"
            )

    def check_evaluation_images(self) -> None:
        """Refuses evaluations within the run whose labelled data come without the folder of their pictures.

        Raises:
            ValueError: It is missing.
        """
        if self.evaluate_every and self.evaluate_images is None:
            raise ValueError("evaluate_every needs evaluate_annotations and evaluate_images")

    def compared(self) -> dict[str, Any]:
        """The settings that the weights depend on, nested ones with a dot in their names; paths absolute."""
        return {name: value for name, value in flat(located(self)).items() if name.split(".")[0] not in FREE}


def located(config: RunConfig) -> dict[str, Any]:
    """The settings as plain values with absolute paths: they hold from any working directory."""
    values = config.to_json()
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Path) and value is not UNSET and not is_address(value):
            values[field.name] = str(value.absolute())
        elif isinstance(value, str) and field.name in ("model", "pretrained", "text_from") and Path(value).exists():
            values[field.name] = str(Path(value).absolute())
        elif field.name in ("base", "novel", "image_label_names") and value is not None:
            values[field.name] = [str(Path(one).absolute()) if Path(one).is_file() else one for one in value]
        elif hasattr(value, "located"):  # nested settings that name a folder within a text
            values[field.name] = value.located().to_json()
    return values


def shareable(config: Any) -> dict[str, Any]:
    """The settings as plain values for a card that is passed on: of paths the last part alone."""
    values: dict[str, Any] = config.to_json()
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value) and hasattr(value, "to_json"):
            values[field.name] = shareable(value)
        elif isinstance(value, Path):
            values[field.name] = value.name
        elif isinstance(value, tuple):
            values[field.name] = [
                Path(one).name if isinstance(one, str) and Path(one).is_absolute() else plain
                for one, plain in zip(value, values[field.name], strict=True)
            ]
        elif isinstance(value, str) and (found := _ABSOLUTE.match(value)):
            values[field.name] = f"{found[1]}{Path(found[2]).name}"
    return values


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one, names joined by dots; lists for tuples, as JSON returns them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": held for inner, held in flat(value).items()}
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found
