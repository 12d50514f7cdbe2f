"""`clipself COMMAND`: finds the command, reads its words, shows its mistakes as sentences."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Final

from clipself.cli.commands import COMMANDS, Command, find
from clipself.cli.terminal import OutputLost, flush_output, forget_output, log_to_terminal, watch_output
from clipself.text.printable import printable
from clipself.threads import share_cores

FAULTS: Final = (ValueError, OSError, ImportError, FloatingPointError, MemoryError)
"""What users can cause and mend; anything else is a defect of this package and keeps its traceback."""

NAMED_FAULTS: Final = frozenset(("OutOfMemoryError", "DistBackendError", "DistNetworkError", "DistStoreError"))
"""More of them, of torch, which is not imported here."""

NO_MEMORY: Final = "can't allocate memory"
"""In the words of torch's allocator on the CPU."""

LOST_WORKER: Final = "DataLoader worker (pid"
"""In torch's words, which another process ended: the system, short of memory, or a container of its shared part."""

EXIT_CODES: Final = {
    0: "done",
    1: "a check failed, or what is printed cannot be written",
    2: "bad input, said in a sentence",
    70: "a defect of clipself, with its traceback",
    75: "stopped by SIGTERM or SIGUSR1, as schedulers send them; state is kept, run it again with --resume auto",
    130: "stopped by Ctrl-C; state is kept",
}
"""Exit code -> what it means."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        args: Words after `clipself`; those of the process if not given.

    Returns:
        Exit code; see `EXIT_CODES`.
    """
    try:
        return _run(list(sys.argv[1:] if args is None else args))
    except OutputLost as error:
        return _lose_output(error)


def _run(words: list[str]) -> int:
    """Runs a command, and says in a sentence what of it its user can mend."""
    try:
        return _write_all(words)
    except OutputLost:
        raise
    except KeyboardInterrupt as stop:
        print(f"\nclipself: {str(stop) or 'stopped'}", file=sys.stderr)
        code: int = getattr(stop, "code", 130)
        return code
    except Exception as error:
        if _is_fault(error):
            if os.environ.get("CLIPSELF_DEBUG"):
                raise
            return _fail(_say(error))
        return _report_defect()


def _write_all(words: list[str]) -> int:
    """Runs a command and sees to it that what it printed has been written."""
    try:
        code = _find_and_run(words)
    except SystemExit:  # help, and words that are none
        flush_output()
        raise
    flush_output()
    return code


def _find_and_run(words: list[str]) -> int:
    words, quiet = _take_flag(words, "--quiet", "-q")
    if words and words[0] in COMMANDS:
        words = [*words[0].split(), *words[1:]]  # a name of several words, quoted
    if words and words[0] == "help":
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        from clipself import __version__

        print(f"clipself {__version__}")
        return 0
    named = (name for name in COMMANDS if words[: len(name.split())] == name.split())
    name = max(named, key=len, default=None)  # "export names" is not "export"
    if name is None:
        if (relatives := family(words[0])) and set(words[1:]) <= {"-h", "--help"}:
            print(usage(relatives))
            return 0
        return _fail(unknown(words))
    _set_up_log(quiet=quiet)
    return run_command(name, words[len(name.split()) :])


def _is_fault(error: Exception) -> bool:
    if isinstance(error, FAULTS) or type(error).__name__ in NAMED_FAULTS:
        return True
    return any(
        words in str(error) for words in ("closed by peer", NO_MEMORY, LOST_WORKER)
    )  # of torch, without own classes


def _say(error: Exception) -> str:
    if isinstance(error, MemoryError) or NO_MEMORY in str(error):
        return f"memory is full; smaller sizes or fewer pictures at once need less ({error})".replace(" ()", "")
    if LOST_WORKER in str(error):
        said = str(error).splitlines()[0].strip()
        return (
            f"a process that reads pictures was ended from outside ({said}); fewer of them (--workers) or smaller "
            "batches need less memory, and a container more shared memory (docker run --shm-size 8g)"
        )
    return str(error) or type(error).__name__


def run_command(name: str, words: Sequence[str]) -> int:
    """Reads the words of a command, calls its function, prints what it returns.

    Args:
        name: A row of `COMMANDS`.
        words: What follows it.

    Returns:
        Exit code.
    """
    from clipself.cli.read import read_words

    command = COMMANDS[name]
    kind = find(command.settings)
    about = command.about or (kind.__doc__ or "").strip()
    if command.more:
        about = "\n\n".join([about, *find(command.more)()])
    recipes = find(command.recipes) if command.recipes else None
    config = read_words(kind, words, command=name, about=about, recipes=recipes)
    function = find(command.run)
    if command.settings.startswith("cli."):
        result = function(**{each.name: getattr(config, each.name) for each in fields(config)})
    else:
        result = function(config)
    if isinstance(result, int):
        return result
    is_main = os.environ.get("RANK", "0") == "0"  # a result is told once, however many processes there are
    if is_main and result is not None:
        print(printable(_text_of(result, command, **{name: getattr(config, name) for name in command.told})))
    return 0


def _text_of(result: Any, command: Command, **told: Any) -> str:
    if command.show:
        return str(find(command.show)(result, **told))
    if isinstance(result, list):
        return "\n".join(map(str, result))
    return str(result.to_table() if hasattr(result, "to_table") else result)


def usage(names: Collection[str] = COMMANDS) -> str:
    """These commands with a line each; all of them if not given."""
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {COMMANDS[name].does}" for name in names]
    about = "CLIP vision transformers that understand regions and pixels."
    more = "clipself COMMAND --help shows every option with its default; --quiet leaves only results and errors."
    codes = "exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    return "\n".join(["usage: clipself COMMAND [options]", "", about, "", *lines, "", more, codes])


def family(word: str) -> list[str]:
    """The commands that begin with a word."""
    return [name for name in COMMANDS if name.split()[0] == word]


def unknown(words: Sequence[str]) -> str:
    """What to say about a command that is not there."""
    pair, relatives = " ".join(words[:2]), family(words[0])
    names, said = (relatives, pair) if relatives else (list(COMMANDS), words[0])
    near = get_close_matches(pair, names, n=1, cutoff=0.4) or get_close_matches(words[0], names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown command {said!r}{hint} The commands: {', '.join(names)}"


def _take_flag(words: list[str], *flags: str) -> tuple[list[str], bool]:
    return [word for word in words if word not in flags], any(flag in words for flag in flags)


def _set_up_log(*, quiet: bool) -> None:
    log_to_terminal()
    logging.getLogger("clipself").setLevel(logging.ERROR if quiet else logging.INFO)
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported, which no command has done by now


def _fail(message: str) -> int:
    print(f"clipself: error: {printable(message)}", file=sys.stderr)
    return 2


def _lose_output(error: OutputLost) -> int:
    """A reader that has gone, such as `head`, wants to hear nothing."""
    if error.errno != errno.EPIPE:
        with suppress(OutputLost):
            print(f"clipself: error: what is printed cannot be written ({error.strerror})", file=sys.stderr)
    return 1


def _report_defect() -> int:
    traceback.print_exc()
    print(
        "clipself: this is a defect of clipself, not of your input. Please report it with the lines above, the command "
        "and what `clipself env` prints.",
        file=sys.stderr,
    )
    return 70


def run() -> None:
    """Entry point of the installed command."""
    share_cores()
    watch_output()
    code = main()
    forget_output()
    sys.exit(code)
