"""All rows with what each needs, as text."""

from collections.abc import Sequence

from clipself.workflows.reproduction.layout import place_of
from clipself.workflows.reproduction.published import PUBLISHED
from clipself.workflows.reproduction.row import Row
from clipself.workflows.reproduction.rows import TABLES, needs_of


def list_rows(rows: Sequence[Row]) -> str:
    """Every row: its name, what the paper calls it, published figures, what it needs, or why it cannot be run."""
    lines: list[str] = []
    for name, table in TABLES.items():
        mine = [row for row in rows if row.table == name]
        if not mine:
            continue
        lines += ["", f"{name}: {table.title}"]
        for row in mine:
            figures = [
                f"{table.columns[score]} {figure.value:g}" for score, figure in PUBLISHED.get(row.name, {}).items()
            ]
            told = [row.title, f"published: {', '.join(figures)}" if figures else "no published figure at hand"]
            lines += [f"  {row.name}", *(f"    {line}" for line in (*told, *needs(row)))]
    return "\n".join(lines[1:])


def needs(row: Row) -> list[str]:
    """What must lie where, or why nothing helps."""
    if row.cannot:
        return [f"cannot be run: {row.cannot}"]
    places = needs_of(row)[0]
    lines = [
        f"{'--data' if place.kind == 'data' else '--weights'} {' or '.join(place_of(place).paths)}"
        + (" (to be trained)" if place_of(place).training else "")
        for place in places
    ]
    return [*(f"needs {line}" for line in lines), *([row.note] if row.note else [])]
