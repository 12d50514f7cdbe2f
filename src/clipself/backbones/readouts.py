"""How the last block is turned into a dense map: the published value path and the training-free variants."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from torch import Tensor

from clipself.backbones.gated_values import gated_values
from clipself.backbones.guided_mixes import guided, likeness, regional_likeness, within_regions
from clipself.backbones.mixes import MIXES
from clipself.backbones.mixes import gaussian_window as gaussian_window
from clipself.backbones.mixes import own_value as own_value
from clipself.backbones.readout_context import Attention, Mix
from clipself.backbones.readout_context import ReadoutContext as ReadoutContext
from clipself.backbones.tokens import Tokens, join_heads
from clipself.choices import pick


@dataclass(frozen=True, kw_only=True, slots=True)
class Readout:
    """One way through the last block.

    Attributes:
        mix: A row of `MIXES`, or a function: which tokens share their values.
        residual: Whether the mixed values are added to what entered the block; "class" adds the class token that
            entered to every token instead; "path" takes the mix along all blocks that it looks back at and adds each
            block's to what entered the first of them.
        feed_forward: Whether the feed-forward half follows.
        options: Keywords of the mix that differ from its defaults.
        looks_back: How many of the last blocks the mix asks for.
        guided: Whether the map has the guide's grid.
        guide: Whose similarities guide it, a name that `find_guide` knows; "clip" is the CLIP itself.
        window: Side of the windows that pictures are read in, in pixels, a multiple of the patch; 0 reads them whole.
        stride: Step from window to window, in pixels; 0 sets them side by side.
        stitch: Whether the windows' tokens meet in the last block, which then sees the whole picture.
        after: A guide's map -> logits (B, P, P) of patches for patches, which mix the finished dense map; the options
            are then its own.

    Raises:
        ValueError: The mix is unknown or does not take an option, a guided readout adds what stands on another grid,
            or windows cannot be placed or stitched.
    """

    mix: str | Mix
    residual: bool | Literal["class", "path"] = True
    feed_forward: bool = True
    options: Mapping[str, float] = field(default_factory=dict)
    looks_back: int = 1
    guided: bool = False
    guide: str = "clip"
    window: int = 0
    stride: int = 0
    stitch: bool = False
    after: Callable[..., Tensor] | None = None

    def __post_init__(self) -> None:
        taken = [
            name
            for name, one in inspect.signature(self.after or self.function).parameters.items()
            if one.kind is one.KEYWORD_ONLY and one.annotation in (float, int)
        ]
        for name in self.options:
            if name not in taken:
                raise ValueError(f"readout option {name!r} is unknown; this one takes {taken or 'none'}")
        if self.guided and self.residual:
            raise ValueError("a guided readout has the guide's grid, so that no residual can be added to it")
        if self.guide != "clip" and not self.takes_guide:
            raise ValueError(
                f"this readout has no use for the guide {self.guide!r}; guided ones are {', '.join(GUIDED)}"
            )
        if self.looks_back < 1 or min(self.window, self.stride) < 0 or self.stride > self.window:
            raise ValueError(
                f"looks_back={self.looks_back}, window={self.window}, stride={self.stride}: a readout looks back at "
                "least one block, and windows step by at most their own side"
            )
        if self.stitch and (not self.window or self.looks_back > 1):
            raise ValueError(
                "windows meet in the last block: stitch=1 needs window= and a readout of the last block alone"
            )

    def reach(self, trunk: Attention) -> int:
        """How many of a trunk's last blocks are looked back at; one with gates is read by the values of several."""
        gated = self.function is own_value and trunk.gates is not None
        return max(self.looks_back, len(trunk.gates)) if gated and trunk.gates is not None else self.looks_back

    @property
    def function(self) -> Mix:
        """The mix itself."""
        return pick(MIXES, self.mix, what="mix") if isinstance(self.mix, str) else self.mix

    @property
    def takes_regions(self) -> bool:
        """Whether the mix keeps to regions that it is given."""
        return "regions_BHW" in inspect.signature(self.after or self.function).parameters

    @property
    def takes_guide(self) -> bool:
        """Whether another model may guide it."""
        return self.guided or self.after is not None

    @property
    def is_value(self) -> bool:
        """Whether every token keeps its own value and nothing of the block is left out: MaskCLIP and CLIPSelf."""
        return self.function is own_value and self.residual is True and self.feed_forward


READOUTS: Final[Mapping[str, Readout]] = {
    **{name: Readout(mix=name) for name in MIXES},
    **{f"{name}-bare": Readout(mix=name, residual=False, feed_forward=False) for name in MIXES},
    "catseg": Readout(mix="value", residual="class"),
    "maskclip": Readout(mix="value"),
    "sclip": Readout(mix="qq+kk"),
    "clearclip": Readout(mix="qq", residual=False, feed_forward=False),
    "naclip": Readout(mix="kk+gauss", residual=False, feed_forward=False),
    "surgery": Readout(mix="vv", residual="path", feed_forward=False, looks_back=6),
    "gem": Readout(mix="self-self", residual="path", feed_forward=False, looks_back=7),
    "proxyclip": Readout(mix=guided, residual=False, feed_forward=False, guided=True),
    "corrclip": Readout(mix=within_regions, residual=False, feed_forward=False, guided=True),
    "proxyclip-after": Readout(mix="value", after=likeness),
    "corrclip-after": Readout(mix="value", after=regional_likeness),
    "ov-stitcher": Readout(
        mix=guided, residual=False, feed_forward=False, guided=True, window=336, stride=112, stitch=True
    ),
}
"""Names: a mix as it is, or with "-bare" for no residual and no feed-forward; then the methods by their own names.

CAT-Seg (second release) arXiv:2303.11797, MaskCLIP arXiv:2112.01071, SCLIP arXiv:2312.01597,
ClearCLIP arXiv:2407.12442, NACLIP arXiv:2404.08181, CLIP Surgery arXiv:2304.05653, GEM arXiv:2312.00878, ProxyCLIP
arXiv:2408.04883, CorrCLIP arXiv:2411.10086, OV-Stitcher arXiv:2604.08110.
"""

GUIDED: Final = tuple(name for name, readout in READOUTS.items() if readout.takes_guide)
"""Those that another model may guide."""

OF_ANY: Final = ("looks_back", "window", "stride", "stitch")
"""Fields of a readout that may stand among its options in its name."""


def find_readout(readout: str | Readout) -> Readout:
    """A readout by name, or the one that was passed.

    Options follow a colon, a guide an @: "naclip:std=3", "value:window=224,stride=112",
    "proxyclip:gamma=4@timm:vit_base_patch8_224.dino".

    Raises:
        ValueError: No readout has this name, or it takes no such option; the message lists what there is.
    """
    if isinstance(readout, Readout):
        return readout
    spelled, _, guide = readout.partition("@")
    name, _, given = spelled.partition(":")
    found = pick(READOUTS, name, what="readout")
    options = _options_of(given) if given else {}
    fields: dict[str, Any] = {key: int(options.pop(key)) for key in OF_ANY if key in options}
    if "stitch" in fields:
        fields["stitch"] = bool(fields["stitch"])
    if guide:
        fields["guide"] = guide
    return replace(found, options={**found.options, **options}, **fields) if fields or options else found


def _options_of(given: str) -> dict[str, float]:
    options = {}
    for one in given.split(","):
        name, _, value = one.partition("=")
        try:
            options[name.strip()] = float(value)
        except ValueError as error:
            raise ValueError(f"{one!r} is no readout option; write name=number, as in 'naclip:std=3'") from error
    return options


def read_last_block(context: ReadoutContext, readout: Readout) -> Tokens:
    """Runs the last block the chosen way, for every token.

    With mix "value" no token sees another one, so that each patch keeps its own embedding. Source: CLIPSelf
    (arXiv:2310.01403, Sec. 3.1), after MaskCLIP.

    Args:
        context: What entered the block, and what else the readout may look at.
        readout: Mixing, residual and feed-forward.

    Returns:
        Tokens after the block, ahead of the final norm; on the guide's grid for a guided readout.

    Raises:
        ValueError: The readout adds a class token that is not there.
    """
    trunk, entered, guide = context.trunk, context.tokens, context.guide_BCyx
    if readout.residual == "class" and not entered.prefix:
        raise ValueError("this readout adds the class token, and the trunk has none; use 'value'")
    block: Any = trunk.blocks[-1]
    if readout.residual == "path":
        added = (_mixed(step, readout) for step in context.along())
        return replace(entered, tokens=sum(added, start=context.entered[0].tokens))
    out = _mixed(context, readout)
    if readout.residual:
        out = (entered.tokens[:, :1] if readout.residual == "class" else entered.tokens) + out
    if readout.feed_forward:
        out = out + trunk.feed_forward(block, out)
    grid = (guide.shape[-2], guide.shape[-1]) if readout.guided else entered.grid
    return replace(entered, tokens=out, grid=grid)


def _mixed(context: ReadoutContext, readout: Readout) -> Tensor:
    """The attention half of a block: values mixed the readout's way and merged."""
    if readout.function is own_value and context.trunk.gates is not None:
        return gated_values(context)
    options = {} if readout.after else readout.options
    merged = context.trunk.merge_heads(
        context.trunk.blocks[context.at], join_heads(readout.function(context, **options))
    )
    return merged
