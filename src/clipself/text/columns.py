"""Rows of words and numbers as aligned text."""

from collections.abc import Sequence


def align(head: Sequence[str], body: Sequence[Sequence[str]], *, words: int | None = None) -> list[str]:
    """Lines of a table, with a rule below its head.

    Args:
        head: Titles of the columns.
        body: Rows of as many cells.
        words: Columns from the left that begin at their left edge, the others end at their right; all if not given.
    """
    table = [head, *body]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    first = len(head) if words is None else words
    lines = [
        "  ".join(
            cell.ljust(width) if place < first else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
