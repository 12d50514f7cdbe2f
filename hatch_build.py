"""The README as a package index shows it, where no address can be followed that is relative to a clone."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_CODE = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


class IndexReadme(MetadataHookInterface):
    """Makes the long description; `Source` of `[project.urls]`, where there is one, is where the clone comes from."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets the field that `pyproject.toml` calls dynamic."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_an_index(text, source)}


def for_an_index(text: str, source: str | None) -> str:
    """Makes relative addresses of a Markdown page whole, or leaves the words of links and pictures where none is known.

    Args:
        text: The page; blocks of code stay as they are.
        source: Where the repository is seen, as GitHub lays it out; None if it is nowhere.
    """

    def whole(found: re.Match[str]) -> str:
        mark, words, path = found.groups()
        if source is None:
            return f"*{words}*" if mark else words
        return f"{mark}[{words}]({source.rstrip('/')}/{'raw' if mark else 'blob'}/HEAD/{path})"

    parts = _CODE.split(text)
    return "".join(part if part.startswith("```") else _RELATIVE.sub(whole, part) for part in parts)
