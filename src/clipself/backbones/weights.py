"""Files of tensors, out of many trainers and libraries, without running any code in them."""

import logging
import re
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from clipself.files import no_file, read_json
from clipself.renamed import old_names

__getattr__ = old_names(__name__)

log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

MODEL_KEYS: Final = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "student", "net", "network", "clip", "weights",
    "params", "state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model", "shadow", "teacher", "state",
)  # fmt: skip
"""Under which trainers put the weights of their model, the likelier first."""

COUNTERS: Final = ("n_averaged",)
"""What averaging wrappers keep beside the weights."""

FILES: Final = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
"""Names of weights in a model's folder, ours and those of the hub."""

WRAPPER: Final = re.compile(r"(?<![^.])(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What compilers, sharding and checkpointing put into names; "module." is only cut where all have it."""

READABLE: Final = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Number formats of weights."""


def read_state_dict(path: str | Path, *, prefer: str | None = None) -> StateDict:
    """Reads tensors from safetensors, or from a PyTorch file without running any code in it.

    Training checkpoints are unwrapped ("state_dict", "model", ..., nested), and what wrappers put before every name
    ("module.", "_orig_mod.") is cut off.

    Args:
        path: A file of safetensors or of torch.save, whatever its suffix, the `.index.json` of a model in several
            files, or a folder that holds one of them by the name that open_clip, transformers or we give it.
        prefer: Entry of a training checkpoint that is taken ahead of others, where it is there.

    Returns:
        Tensors by the names in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, is a TorchScript archive, would need code to be run, or holds no tensors.
    """
    path = weights_in(path)
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    try:
        held = load_file(path) if _is_safetensors(path) else _load_torch(path)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(no_file(path) or f"{path} cannot be read as plain tensors: {_why(error)}") from error
    return _unwrap(held, path, prefer)


def weights_in(path: str | Path) -> Path:
    """The file of weights that a path means: itself, or the one in a folder.

    Raises:
        FileNotFoundError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in FILES if (path / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(f"no weights in {path}; they are looked for as {', '.join(FILES)}")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; check the path")
    return path


def _is_safetensors(path: Path) -> bool:
    """By what it begins with, whatever its suffix says: the length of a table in JSON, then the table."""
    with path.open("rb") as stream:
        begun = stream.read(9)
    return begun[8:] == b"{" and int.from_bytes(begun[:8], "little") < path.stat().st_size


def _load_torch(path: Path) -> Any:
    with path.open("rb") as stream, torch.serialization.safe_globals([*_plain_types()]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols and sparse tensors; told below where they fail
        return torch.load(stream, map_location="cpu", weights_only=True)  # of a path, torch would go by the suffix


class _PassedOver:
    """Stands for plain data beside the weights that nobody asks for: its values are dropped."""

    def __init__(self, *values: Any) -> None:
        del values

    def __setstate__(self, state: Any) -> None:
        del state


def _plain_types() -> Iterator[Any]:
    """Types beside tensors that are plain data, which trainers leave about: NumPy's numbers, arrays, paths, times."""
    for room in ("numpy._core.multiarray", "numpy.core.multiarray"):
        yield _number, f"{room}.scalar"
        yield _PassedOver, f"{room}._reconstruct"
    for room in ("pathlib", "pathlib._local"):
        yield from ((_PassedOver, f"{room}.{kind}Path") for kind in ("Posix", "Windows", "PurePosix", "PureWindows"))
    yield from ((_PassedOver, f"datetime.{kind}") for kind in ("datetime", "date", "time", "timedelta", "timezone"))
    yield _PassedOver, "numpy.ndarray"
    yield np.dtype
    yield from {type(np.dtype(code)) for code in "?bhilqBHILQefdgOSUMm"}
    yield Namespace


def _number(kind: np.dtype[Any], data: bytes | str) -> Any:
    if kind.kind not in "biuf":
        raise ValueError(f"a NumPy value of type {kind} is no number")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind)[0]


def _why(error: Exception) -> str:
    text = str(error)
    culprit = re.search(r"(?:GLOBAL|[Uu]nsupported (?:class|global):?)\s+([\w.]+\.\w+)", text)
    if culprit:
        return (
            f"it holds {culprit[1]}, which is pickled code and never run, beside the weights; where it was made, save "
            "the weights alone: torch.save(model.state_dict(), ...) or safetensors"
        )
    if "TorchScript" in text or "torch.jit" in text:
        return (
            "it is a TorchScript archive, whose code is never run; where it can be trusted, save "
            "torch.jit.load(FILE).state_dict() with torch.save, or take the release by its tag (pretrained='openai')"
        )
    if "Unsupported operand" in text:
        return (
            "it was written with a pickle protocol that torch's safe reader does not know; save its state_dict again "
            "by torch.save without pickle_protocol, or as safetensors"
        )
    return (
        f"{first_line(error)}; the file may be cut short or damaged, or hold pickled code, which is never run: copy it "
        "again, or export its state_dict as safetensors or with torch.save"
    )


def first_line(error: BaseException) -> str:
    """What an error says first, short enough for a sentence and without what steers a terminal."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    text = "".join(letter if letter.isprintable() else " " for letter in lines[0]) if lines else ""
    return text[:160] or type(error).__name__


def _read_shards(index: Path) -> StateDict:
    try:
        rows = read_json(index)["weight_map"]
        names = sorted(set(rows.values()))
        if not names or any(Path(name).name != name or name.endswith(".json") for name in names):
            raise ValueError("its weight_map does not name files beside it")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{index} is no index of a model in several files ({first_line(error)})") from error
    return {name: tensor for part in names for name, tensor in read_state_dict(index.with_name(part)).items()}


def _has_axes(value: Any) -> bool:
    """Whether it may be a weight; a step or an epoch is a tensor of one number."""
    return isinstance(value, Tensor) and value.ndim > 0


def _count_tensors(held: Any) -> int:
    """Tensors that may be weights in a table, and in those of its tables that may be a model."""
    if not isinstance(held, Mapping):
        return 0
    return sum(map(_has_axes, held.values())) + sum(_count_tensors(held.get(key)) for key in MODEL_KEYS)


def _unwrap(held: Any, path: Path, prefer: str | None) -> StateDict:
    while isinstance(held, Mapping):
        keys = MODEL_KEYS if prefer is None else (prefer, *MODEL_KEYS)
        inner = [key for key in dict.fromkeys(keys) if isinstance(held.get(key), Mapping) and held[key]]
        # A few tensors may stand beside the model: the generator's state, embeddings of names, weights of classes.
        beside = sum(map(_has_axes, held.values()))
        if not inner or (beside and _count_tensors(held[inner[0]]) <= beside):
            break
        if len(inner) > 1:
            log.info("%s holds %s; the weights under %r are taken", path, inner, inner[0])
        held = held[inner[0]]
    if not isinstance(held, Mapping):
        raise ValueError(
            f"{path} holds a {type(held).__name__}, not a table of tensors; save model.state_dict() instead"
        )
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor) and name not in COUNTERS}
    if not tensors:
        if any(isinstance(value, _PassedOver) for value in held.values()):
            raise ValueError(f"{path} holds arrays of NumPy, no tensors; save torch.from_numpy(...) of each")
        raise ValueError(f"{path} holds no tensors; its first entries are {sorted(map(str, held))[:5]}")
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise ValueError(
                f"{path}: {name} has a shape but no numbers (it is on the device 'meta'); save the model where its "
                "weights are gathered, not while they are sharded or offloaded"
            )
        if tensor.layout != torch.strided or (tensor.is_floating_point() and tensor.dtype not in READABLE):
            raise ValueError(
                f"{path}: {name} is stored as {tensor.dtype}, {tensor.layout}; weights are read in "
                f"{', '.join(str(one).removeprefix('torch.') for one in READABLE)}"
            )
    tensors = {WRAPPER.sub("", name): tensor for name, tensor in tensors.items()}
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors
