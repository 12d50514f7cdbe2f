"""`clipself completion SHELL`: a script that completes commands, flags and choices, made from the table of commands."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from clipself.choices import pick
from clipself.cli.commands import COMMANDS, find

ALWAYS: Final = ("help", "quiet", "config")
"""Flags of every command that no setting stands for."""


def completion(*, shell: str) -> str:
    """The script for a shell.

    Raises:
        ValueError: There is none for it.
    """
    return pick(SHELLS, shell, what="shell")()


def flags_of(command: str) -> dict[str, tuple[str, ...]]:
    """Every flag of a command -> what it chooses from; empty where that is no choice."""
    row = COMMANDS[command]
    found = dict(_flags_of(find(row.settings)))
    if row.recipes:
        found["recipe"] = tuple(find(row.recipes))
    return {**found, **dict.fromkeys(ALWAYS, ())}


def _flags_of(settings: type, before: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    plain = get_type_hints(settings)
    for field, marked in get_type_hints(settings, include_extras=True).items():
        marks = getattr(marked, "__metadata__", ())
        name, kind = next((mark.name for mark in marks if getattr(mark, "name", None)), field), plain[field]
        flag = f"{before}{name}".replace("_", "-")
        if isinstance(kind, type) and is_dataclass(kind):
            if hasattr(kind, "changed"):  # a name alone stands for settings of their own
                yield flag, _choices_of(get_type_hints(kind).get("method"))
            yield from _flags_of(kind, f"{flag}.")
        else:
            yield flag, _choices_of(kind)
            if kind is bool:
                yield f"{before}no-{name}".replace("_", "-"), ()


def _choices_of(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(choice for part in get_args(kind) for choice in _choices_of(part))


def _bash() -> str:
    """Bash from 3.2 on, which macOS has; without a match the names of files are offered."""
    families = sorted({name.split()[0] for name in COMMANDS})
    seconds = {family: [name.split()[1] for name in COMMANDS if name.split()[0] == family and " " in name]
               for family in families}  # fmt: skip
    words, flags, choices = [], [], []
    for family, inner in seconds.items():
        if inner:
            words.append(f'    {family}) words="{" ".join(inner)}";;')
    for name in COMMANDS:
        held = flags_of(name)
        flags.append(f'    "{name}") flags="{" ".join(f"--{flag}" for flag in sorted(held))}";;')
        choices += [f'    "{name} --{flag}") words="{" ".join(chosen)}";;' for flag, chosen in held.items() if chosen]
    return "\n".join([
        "_clipself() {",
        "  local cur first second command flags words last word",
        '  cur="${COMP_WORDS[COMP_CWORD]}" first="${COMP_WORDS[1]-}" second="${COMP_WORDS[2]-}"',
        '  flags="" words="" last=""',
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f'    COMPREPLY=($(compgen -W "{" ".join(families)} help" -- "$cur")); return',
        "  fi",
        '  case "$first" in', *words, "  esac",
        '  if [ "$COMP_CWORD" -eq 2 ] && [ -n "$words" ]; then',
        '    COMPREPLY=($(compgen -W "$words" -- "$cur")); return',
        "  fi",
        '  command="$first"; if [ -n "$words" ]; then command="$first $second"; fi; words=""',
        '  case "$command" in', *flags, "  esac",
        '  for word in "${COMP_WORDS[@]:2:COMP_CWORD-2}"; do',
        '    case "$word" in --*) last="$word";; esac',
        "  done",
        '  case "$command $last" in', *choices, "  esac",
        '  case "$cur" in -*) words="$flags";; esac',
        '  COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "}",
        "complete -o default -F _clipself clipself",
    ])  # fmt: skip


def _zsh() -> str:
    return f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_bash()}"


def _fish() -> str:
    lines = ["complete -c clipself -e"]
    for name, row in COMMANDS.items():
        first, _, second = name.partition(" ")
        lines.append(f"complete -c clipself -n __fish_use_subcommand -f -a {first}")
        if second:
            told = _quoted(row.does)
            only = f"'__fish_seen_subcommand_from {first}; and not __fish_seen_subcommand_from {second}'"
            lines.append(f"complete -c clipself -n {only} -f -a {second} -d {told}")
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        for flag, chosen in sorted(flags_of(name).items()):
            offered = f" -x -a '{' '.join(chosen)}'" if chosen else ""
            lines.append(f"complete -c clipself -n '{seen}' -l {flag}{offered}")
    return "\n".join(dict.fromkeys(lines))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Final[Mapping[str, Callable[[], str]]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
"""Shell -> what writes its script."""
