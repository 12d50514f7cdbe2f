"""Rows of words and numbers as aligned text."""

from collections.abc import Sequence


def align(
    head: Sequence[str], body: Sequence[Sequence[str]], *, words: int | None = None, rule: bool = True
) -> list[str]:
    """Lines of a table.

    Args:
        head: Titles of the columns.
        body: Rows of as many cells.
        words: Columns from the left that begin at their left edge, the others end at their right; all if not given.
        rule: Whether a line is drawn below the head.
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
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]] if rule else lines
