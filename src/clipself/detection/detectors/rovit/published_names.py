"""The parameter tree of DITO's released detector, RO-ViT's successor, by our names; and Flax' layouts as torch's."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.backbones.strict import check_fit
from clipself.backbones.weights import read_state_dict

HEADS: Final = "task_heads_0."
PYRAMID, PROPOSALS = f"{HEADS}feature_pyramid_fn.", f"{HEADS}region_proposal_head_fn."
BOXES, MASKS = f"{HEADS}fastrcnn_head_fn.", f"{HEADS}maskrcnn_head_fn."
TEMPERATURE: Final = f"{HEADS}temperature"
DELTAS: Final = f"{BOXES}box-predict"
"""Its rows are dy dx dh dw; ours are dx dy dw dh."""


def vit_names(depth: int) -> dict[str, str]:
    """Our names of `PlainViT` -> the published ones."""
    names = {"positional_embedding": "vision_model.positional_embedding"}
    names |= _layer("conv1", "vision_model.conv1") | _norm("ln_post", "vision_model.ln_post")
    for index in range(depth):
        block = f"transformer.resblocks.{index}"
        for norm in ("ln_1", "ln_2"):
            names |= _norm(f"{block}.{norm}", f"vision_model.{block}.{norm}")
        for layer in ("attn.query", "attn.key", "attn.value", "attn.out", "mlp.c_fc", "mlp.c_proj"):
            names |= _layer(f"{block}.{layer}", f"vision_model.{block}.{layer}")
    return names


def pyramid_names(levels: tuple[int, int] = (2, 5)) -> dict[str, str]:
    """Our names of `PlainPyramid` -> the published ones, which number layers by kind in the order of their calls."""
    names: dict[str, str] = {}
    upsampled = 0
    for place, level in enumerate(range(levels[0], levels[1] + 1)):
        ups = {2: ("0", "3"), 3: ("",)}.get(level, ())
        for own in ups:
            ours = f"rescale.{place}.{own}.weight" if own else f"rescale.{place}.weight"
            names[ours] = f"{PYRAMID}ConvTranspose_{upsampled}.kernel"
            upsampled += 1
        if level == 2:
            names |= _norm(f"rescale.{place}.1", f"{PYRAMID}simfpn-l2-ln-d2")
        for half in (0, 1):
            names[f"output.{place}.{2 * half}.weight"] = f"{PYRAMID}Conv_{2 * place + half}.kernel"
            names |= _norm(f"output.{place}.{2 * half + 1}", f"{PYRAMID}simfpn-l{level}-ln-out-{half + 1}")
    return names


def proposal_names(convs: int, levels: tuple[int, int] = (2, 5)) -> dict[str, str]:
    """Our names of `CentrenessHead` -> the published ones; what is called "bn" there is a layer norm."""
    names = _layer("centreness", f"{PROPOSALS}rpn-class") | _layer("sides", f"{PROPOSALS}rpn-box")
    for conv in range(convs):
        names |= _layer(f"convs.{conv}", f"{PROPOSALS}rpn{_numbered(conv)}")
        for place, level in enumerate(range(levels[0], levels[1] + 1)):
            theirs = f"{PROPOSALS}SubRpnHead_{place}.rpn-l{level}-bn{_numbered(conv)}"
            names |= _norm(f"norms.{place}.{conv}", theirs)
    return names


def box_names(convs: int, layers: int) -> dict[str, str]:
    """Our names of `CosineBoxHead` -> the published ones."""
    names = {"embed.weight": f"{BOXES}class-predict.kernel", **_layer("deltas", DELTAS)}
    for conv in range(convs):
        names |= _layer(f"convs.{conv}.0", f"{BOXES}conv_{conv}") | _norm(f"convs.{conv}.1", f"{BOXES}conv_{conv}_bn")
    for place in range(layers):
        names |= _layer(f"layers.{place}.0", f"{BOXES}fc{6 + place}")
        names |= _norm(f"layers.{place}.1", f"{BOXES}fc{6 + place}_bn")
    return names


def _layer(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.weight": f"{theirs}.kernel", f"{ours}.bias": f"{theirs}.bias"}


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.weight": f"{theirs}.scale", f"{ours}.bias": f"{theirs}.bias"}


def _numbered(place: int) -> str:
    return f"-{place}" if place else ""


def rename(state: Mapping[str, Tensor], names: Mapping[str, str], *, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of one part under our names; those that the file lacks are left to who loads them strictly.

    Args:
        state: Tensors in torch's layout by published names.
        names: Our names -> theirs.
        prefix: What stands ahead of ours.
    """
    return {
        f"{prefix}{ours}": state[theirs][[1, 0, 3, 2]] if theirs.startswith(DELTAS) else state[theirs]
        for ours, theirs in names.items()
        if theirs in state
    }


def read_plain_vit(path: Path, *, depth: int, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `PlainViT` from a file by the published names, strictly; heads in the file are left out.

    Args:
        path: See `read_tree`.
        depth: Blocks.
        own: The module's own tensors.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
        FileNotFoundError: There is no such file.
    """
    tree = {name: value for name, value in read_tree(path).items() if not name.startswith(HEADS)}
    names = vit_names(depth)
    left_over = sorted(set(tree) - set(names.values()))
    state = {**rename(tree, names), **{name: tree[name] for name in left_over}}
    check_fit(state, own, source=str(path), advice="choose width, layers, heads, patch and table of the file")
    return state


def read_tree(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file in torch's layout by its published name, "." between the levels.

    Args:
        path: An .npz of Flax' arrays, named by their places in the tree with "/" or "." between them; or a
            .safetensors in torch's layout already.

    Raises:
        ValueError: It is neither.
        FileNotFoundError: There is no such file.
    """
    if path.suffix != ".npz":
        return read_state_dict(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; check the path")
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name.replace("/", ".").removeprefix("params."): held[name] for name in held.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as arrays ({error}); write it again with numpy.savez") from error
    return {name: to_torch(name, np.asarray(values, dtype=np.float32)) for name, values in arrays.items()}


def to_torch(name: str, values: NDArray[np.float32]) -> Tensor:
    """One array in Flax' layout as torch lays it out.

    Flax keeps inputs ahead of outputs, attention by heads, and does not flip the kernel of a transposed convolution.

    Args:
        name: Published name, which tells the kind of layer.
        values: The array.

    Raises:
        ValueError: The kind of layer has no array of this rank.
    """
    array, layer, kind = torch.from_numpy(np.ascontiguousarray(values)), name.split(".")[-2:-1], name.rsplit(".", 1)[-1]
    if kind != "kernel":
        return array.flatten() if kind == "bias" else array
    if array.ndim == 4:
        if layer[0].startswith("ConvTranspose"):
            return array.flip(0, 1).permute(2, 3, 0, 1).contiguous()
        return array.permute(3, 2, 0, 1).contiguous()
    if array.ndim == 3:
        flat = array.flatten(0, 1) if layer == ["out"] else array.flatten(1)
        return flat.mT.contiguous()
    if array.ndim == 2:
        return array.mT.contiguous()
    raise ValueError(f"{name} has {array.ndim} axes; the kernels of DITO's tree have two to four")
