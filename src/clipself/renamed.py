"""Names that have changed: the old spelling works for one minor release, with a warning that tells the new one.

Modules are found by a finder that is asked last; names of a room by the room's own `__getattr__`; settings and flags
by `engine.resolve` and the command line, which read `FIELDS`. A row goes when its release has passed.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

import lazy_loader

GONE_IN: Final = "0.3"
"""The version that drops the old spellings."""

MODULES: Final[Mapping[str, tuple[str, ...]]] = {}
"""Old module -> the modules that hold its names now, searched in this order."""

NAMES: Final[Mapping[str, str]] = {}
"""Old dotted name -> the new one, for what has another name in the same or another module."""

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {}
"""Class of settings -> {old field: new field}; a dot reaches into nested settings ("hidden": "segmenter.hidden").

The flag of a field is its name with dashes, so that one row serves Python and the command line.
"""


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Tells once where an old name was used.

    Args:
        old: As it was written.
        new: As it is written now.
        stacklevel: Frames up to the caller who wrote it.
    """
    warnings.warn(f"{old} is now {new}; the old name goes in version {GONE_IN}", FutureWarning, stacklevel=stacklevel)


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`lazy_loader.attach_stub` for a room, whose old names are found too.

    Args:
        package: The room's `__name__`.
        file: Its `__file__`; the stub lies beside it.

    Returns:
        `__getattr__`, `__dir__` and `__all__` of the room.
    """
    find, listing, names = lazy_loader.attach_stub(package, file)

    def find_or_renamed(name: str) -> Any:
        old = f"{package}.{name}"
        if old in NAMES:
            warn_renamed(old, NAMES[old])
            return _load(NAMES[old])
        return find(name)

    return find_or_renamed, listing, names


def _load(dotted: str) -> Any:
    module, name = dotted.rsplit(".", 1)
    return getattr(import_module(module), name)


class _OldModule(Loader):
    """A module whose names are looked up in the modules that hold them now."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        homes = MODULES[spec.name]

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            old = f"{spec.name}.{name}"
            if old in NAMES:
                return _load(NAMES[old])
            for home in map(import_module, homes):
                if hasattr(home, name):
                    return getattr(home, name)
            raise AttributeError(f"{old} is gone; its module is now {', '.join(homes)}")

        module.__getattr__ = find  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        del module


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname not in MODULES:
            return None
        warn_renamed(fullname, ", ".join(MODULES[fullname]), stacklevel=2)
        return ModuleSpec(fullname, _OldModule())


def find_old_modules() -> None:
    """Lets `import` find old modules; asked after everything else, and once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
