"""XML as it comes from anywhere: no document types, so that nothing in it expands or points elsewhere."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

CHUNK: Final = 1 << 16
"""Bytes parsed at once."""


class _Met(Exception):
    """What was looked out for."""


def walk_xml(path: Path) -> Iterator[Element]:
    """The elements of a file, each as it ends; the last is the root.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, in an encoding that nobody knows, or declares a document type, where entities are
            made that fill any memory.
    """
    builder, ended = TreeBuilder(), list[Element]()

    def refuse(*_: object) -> None:
        raise _Met

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = lambda tag: ended.append(builder.end(tag))
    parser.CharacterDataHandler = builder.data
    with path.open("rb") as stream:
        more = True
        while more:
            chunk = stream.read(CHUNK)
            more = bool(chunk)
            try:
                parser.Parse(chunk, not more)
            except _Met:
                raise ValueError(
                    f"{path} declares a document type (<!DOCTYPE ...>); labels need none, remove it"
                ) from None
            except (expat.ExpatError, LookupError, ValueError) as error:  # the others for encodings
                raise ValueError(
                    f"{path} is not valid XML ({error}); was it cut short while copying, or edited?"
                ) from error
            yield from ended
            ended.clear()


def root_tag(path: Path) -> str:
    """What the outermost element of a file is called; nothing where it is no XML."""
    found: list[str] = []

    def tell(tag: str, *_: object) -> None:
        found.append(tag)
        raise _Met

    parser = expat.ParserCreate()
    parser.StartElementHandler = parser.StartDoctypeDeclHandler = tell
    with path.open("rb") as stream, suppress(_Met, expat.ExpatError, LookupError, ValueError):
        parser.Parse(stream.read(CHUNK), False)
    return found[0] if found else ""
