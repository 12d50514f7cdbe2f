"""A CLIP out of the tensors of a published segmenter: its sizes are read from them, loading is strict."""

from collections.abc import Mapping

from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_config
from clipself.backbones.sizes import config_of_tensors
from clipself.backbones.strict import check_fit


def clip_of_tensors(state: Mapping[str, Tensor], *, name: str, source: str, heads: int | None = None) -> DenseCLIP:
    """An OpenAI-style CLIP whose sizes are read from its tensors; the text tower may be absent.

    Args:
        state: Tensors by OpenAI's names ("visual.conv1.weight", "token_embedding.weight").
        name: What the CLIP is called.
        source: Where they come from, for messages.
        heads: Attention heads of the image tower; as many as are of width 64 if not given, as in every release.

    Raises:
        ValueError: Tensors are missing or do not fit.
    """
    config = config_of_tensors(state, source=source, quick_gelu=True, heads=heads)
    return clip_from_config(name, config, state, source=source)


def load_all(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads every tensor or none.

    Raises:
        ValueError: Names or shapes differ, or a number is not finite; the message names the first few.
    """
    advice = f"choose the {type(module).__name__} that the file was made for"
    check_fit(state, module.state_dict(), source=source, advice=advice)
    module.load_state_dict(dict(state), strict=True)
