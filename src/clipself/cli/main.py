"""`clipself COMMAND`: finds the command, shows its mistakes as sentences."""

import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Final

from clipself.cli.terminal import log_to_terminal, printable

Command = Callable[[Sequence[str]], int]

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "quickstart": ("quickstart", "refine the packaged small CLIP and leave a report with pictures"),
    "distill": ("distill", "refine a CLIP's dense map on a folder of images, no labels needed"),
    "evaluate regions": ("evaluate", "classify labelled boxes and masks by the dense map"),
    "show kmeans": ("show", "draw the groups of a dense map, original beside refined"),
    "show query": ("show", "draw where in a picture a text is found"),
    "blend": ("blend", "average refined and original weights, one alpha or a sweep"),
    "convert": ("convert", "write a checkpoint as a folder that open_clip reads"),
    "segment train": ("segment", "train CAT-Seg or SAN on a CLIP, on classes that may be named later"),
    "segment evaluate": ("segment", "mIoU of trained segmenters, on base and novel classes"),
    "segment table": ("segment", "mIoU without training: every readout on every model"),
    "segment predict": ("segment", "name every pixel of pictures and draw it"),
    "segment import": ("segment", "write a released CAT-Seg or SAN checkpoint as a segmenter folder"),
    "detect train": ("detect", "train an open-vocabulary detector on a frozen CLIP, base classes only"),
    "detect evaluate": ("detect", "AP of a detector on novel, base and all classes, COCO or LVIS"),
    "detect predict": ("detect", "find named things in pictures and draw them"),
    "detect import": ("detect", "write a released F-ViT checkpoint as a detector folder"),
    "detect split": ("detect", "write the open-vocabulary split of an official instances file"),
    "proposals": ("detect", "class-free boxes of a folder of images, to distil on"),
    "panoptic train": ("panoptic", "train a mask generator of our own on a frozen CLIP"),
    "panoptic evaluate": ("panoptic", "PQ, mask AP and mIoU of any masks, judged by CLIP, by the generator, or both"),
    "panoptic predict": ("panoptic", "segment pictures by names: panoptic PNGs, JSON, drawings"),
    "panoptic import": ("panoptic", "write a released FC-CLIP checkpoint as a folder of masks"),
    "data prepare": ("data", "convert an official segmentation archive to index maps, with checks"),
    "scenes": ("scenes", "write generated scenes with perfect labels as a COCO data set"),
    "parity": ("parity", "check the numbers against the published implementations"),
}
"""Command -> module of this room, and what it does."""

FAULTS = (ValueError, FileNotFoundError, FileExistsError, OSError, RuntimeError, ImportError, FloatingPointError)
"""What users can cause and mend; anything else is a defect and keeps its traceback."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: Words after `clipself`; those of the process if not given.

    Returns:
        Exit code: 0 done, 1 a check failed, 2 bad input, 130 stopped by the user.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from clipself import __version__

        print(f"clipself {__version__}")
        return 0
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        if (relatives := family(words[0])) and set(words[1:]) <= {"-h", "--help"}:
            print(usage(relatives))
            return 0
        return _fail(unknown(words))
    log_to_terminal()
    logging.getLogger("clipself").setLevel(logging.INFO)
    module = import_module(f"clipself.cli.{COMMANDS[name][0]}")
    command: Command = getattr(module, name.replace(" ", "_"))
    try:
        return command(words[len(name.split()) :])
    except KeyboardInterrupt as stop:
        print(f"\nclipself: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except FAULTS as fault:
        if os.environ.get("CLIPSELF_DEBUG"):
            raise
        return _fail(str(fault) or type(fault).__name__)


def usage(names: Collection[str] = COMMANDS) -> str:
    """These commands with a line each; all of them if not given."""
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {COMMANDS[name][1]}" for name in names]
    about = "CLIP vision transformers that understand regions and pixels."
    more = "clipself COMMAND --help shows every option with its default."
    return "\n".join(["usage: clipself COMMAND [options]", "", about, "", *lines, "", more])


def family(word: str) -> list[str]:
    """The commands that begin with a word."""
    return [name for name in COMMANDS if name.split()[0] == word]


def unknown(words: Sequence[str]) -> str:
    """What to say about a command that is not there."""
    pair, relatives = " ".join(words[:2]), family(words[0])
    names, said = (relatives, pair) if relatives else (list(COMMANDS), words[0])
    near = get_close_matches(pair, names, n=1, cutoff=0.4) or get_close_matches(words[0], names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown command {said!r}{hint} The commands: {', '.join(names)}"


def _fail(message: str) -> int:
    print(f"clipself: error: {printable(message)}", file=sys.stderr)
    return 2


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main())
