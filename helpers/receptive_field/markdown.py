"""The layer table as Markdown that reads well in a diff, too."""

from collections.abc import Sequence
from fractions import Fraction

from helpers.receptive_field.extents import box_of
from helpers.runtime.markdown import markdown_table


def to_markdown(rows: Sequence, multiply_adds: bool = False) -> str:
    """Return a Markdown table (sizes as height×width×channels), its total, and notes on fields and image.

    ``rows`` are those of ``layer_table``, ``stages`` or ``blocks``; ``multiply_adds`` adds a column of them, for one
    image.
    """
    columns = {"Parameters": "params"} | ({"Multiply-adds": "multiply_adds"} if multiply_adds else {})
    head = ["Layer", "Operation", "Input", "Output", "Receptive field", "Jump", *columns]
    lines = []
    for row in rows:
        shapes = [_by(*shape[1:], shape[0]) for shape in (row.input_shape, row.output_shape)]
        numbers = [f"{getattr(row, name):,}" for name in columns.values()]
        lines.append([row.name, row.operation, *shapes, _by(*row.receptive_field), _jump(row), *numbers])
    totals = [f"{sum(getattr(row, name) for row in rows):,} {title.lower()}" for title, name in columns.items()]
    notes = [f"Note: {note}" for note in (*_outgrown(rows), *_said(rows), *_missed(rows))]
    return "\n\n".join([markdown_table(head, lines, num_left=2), f"Total: {', '.join(totals)}", *notes])


def _outgrown(rows: Sequence) -> list[str]:
    """Tell which theoretical fields are larger than the image."""
    image = rows[0].input_shape[1:]
    names = [row.name for row in rows if any(f > n for f, n in zip(row.receptive_field, image, strict=False))]
    if not names:
        return []
    fields = f"receptive fields of {len(names)} layers, the first of them {names[0]}, are"
    fields = fields if names[1:] else f"receptive field of {names[0]} is"
    return [f"the {fields} larger than the {_by(*image)} image."]


def _said(rows: Sequence) -> list[str]:
    """Return the rows' own notes, each once with the first of the names that it holds for."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for sentence, name in row.notes:
            names.setdefault(sentence, []).append(name)
    counts = {sentence: len(others) - 1 for sentence, others in names.items()}
    return [s.format(f"{names[s][0]} and {n} more" if n else names[s][0]) for s, n in counts.items()]


def _missed(rows: Sequence) -> list[str]:
    """Tell what of the image the last layer misses, and how much the last map's central unit sees."""
    image, last, notes = rows[0].input_shape[1:], rows[-1], []
    everything = tuple((0, n - 1) for n in image)
    seen = box_of(last.extents.flatten(1).amax(1))
    if image and seen and seen != everything:
        (top, bottom), (left, right) = seen
        lines = f"rows {top} to {bottom} and columns {left} to {right}"
        notes.append(f"{last.name}, the last layer, sees {lines} of {_by(*image)} pixels, and nothing of the rest.")
    maps = [row for row in rows if max(row.output_shape[1:], default=1) > 1]
    if maps and maps[-1].box() != everything:
        seen = _by(*(last - first + 1 for first, last in maps[-1].box() or ())) or "none"
        unit = f"the central unit of {maps[-1].name}, the last layer with a map,"
        notes.append(f"{unit} sees {seen} of {_by(*image)} pixels.")
    return notes


def _jump(row) -> str:
    return "varies" if None in row.jump else _by(*row.jump)


def _by(*numbers: int | Fraction) -> str:
    return "×".join(map(str, numbers))
