"""Markdown tables that are also readable as plain text, in a terminal or a diff."""

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]], num_left: int = 1) -> str:
    """Return a table; its first ``num_left`` columns are aligned on the left, the others on the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row[:num_left], widths, strict=False)]
        padded += [cell.rjust(width) for cell, width in zip(row[num_left:], widths[num_left:], strict=True)]
        lines.append(padded)
    rule = ["-" * width for width in widths[:num_left]] + ["-" * (width - 1) + ":" for width in widths[num_left:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
