"""Tables of figures, as text and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out cells for the console: the first column to the left, all others to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        numbers = (cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *numbers]).rstrip()

    first = line(header)
    return "\n".join([first, "-" * len(first), *map(line, rows)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out the same cells as a Markdown table."""
    align = ["---", *["---:"] * (len(header) - 1)]
    escaped = [[cell.strip().replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = [escaped[0], align, *escaped[1:]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
