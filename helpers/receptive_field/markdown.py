"""The layer table as Markdown, aligned so that it also reads well as plain text, as in a diff."""

from collections.abc import Sequence
from fractions import Fraction

from helpers.receptive_field.extents import box_of
from helpers.runtime.markdown import markdown_table


def to_markdown(rows: Sequence, multiply_adds: bool = False) -> str:
    """Return a Markdown table of ``rows``, the totals, and notes on what the reader might miss.

    ``rows`` come from ``layer_table``, ``stages`` or ``blocks``. Shapes are written height×width×channels.
    ``multiply_adds`` adds a column with the multiply-adds for one image.
    """
    columns = {"Parameters": "params"}
    if multiply_adds:
        columns["Multiply-adds"] = "multiply_adds"
    head = ["Layer", "Operation", "Input", "Output", "Receptive field", "Jump", *columns]
    lines = []
    for row in rows:
        shapes = [_by(*shape[1:], shape[0]) for shape in (row.input_shape, row.output_shape)]
        jump = "varies" if None in row.jump else _by(*row.jump)
        numbers = [f"{getattr(row, name):,}" for name in columns.values()]
        lines.append([row.name, row.operation, *shapes, _by(*row.receptive_field), jump, *numbers])
    totals = [f"{sum(getattr(row, name) for row in rows):,} {title.lower()}" for title, name in columns.items()]
    notes = [f"Note: {note}" for note in (*_larger_than_image(rows), *_own_notes(rows), *_unseen_pixels(rows))]
    return "\n\n".join([markdown_table(head, lines, num_left=2), f"Total: {', '.join(totals)}", *notes])


def _larger_than_image(rows: Sequence) -> list[str]:
    """Return a note on the theoretical receptive fields that are larger than the image."""
    image = rows[0].input_shape[1:]
    names = []
    for row in rows:
        if any(seen > side for seen, side in zip(row.receptive_field, image, strict=False)):
            names.append(row.name)
    if not names:
        return []
    if len(names) == 1:
        return [f"the receptive field of {names[0]} is larger than the {_by(*image)} image."]
    layers = f"{len(names)} layers, the first of them {names[0]},"
    return [f"the receptive fields of {layers} are larger than the {_by(*image)} image."]


def _own_notes(rows: Sequence) -> list[str]:
    """Return the notes of the rows; one that several rows share is given once and names the first of them."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for sentence, name in row.notes:
            names.setdefault(sentence, []).append(name)
    notes = []
    for sentence, concerned in names.items():
        more = f" and {len(concerned) - 1} more" if len(concerned) > 1 else ""
        notes.append(sentence.format(concerned[0] + more))
    return notes


def _unseen_pixels(rows: Sequence) -> list[str]:
    """Return notes on the pixels that the last layer, and the central unit of the last map, do not see."""
    image, last, notes = rows[0].input_shape[1:], rows[-1], []
    whole_image = tuple((0, side - 1) for side in image)
    seen = box_of(last.extents.flatten(1).amax(1))
    if image and seen and seen != whole_image:
        (top, bottom), (left, right) = seen
        lines = f"rows {top} to {bottom} and columns {left} to {right}"
        notes.append(f"{last.name}, the last layer, sees {lines} of {_by(*image)} pixels, and nothing of the rest.")
    maps = [row for row in rows if max(row.output_shape[1:], default=1) > 1]
    if maps and maps[-1].box() != whole_image:
        seen = _by(*(end - start + 1 for start, end in maps[-1].box() or ())) or "none"
        unit = f"the central unit of {maps[-1].name}, the last layer with a map,"
        notes.append(f"{unit} sees {seen} of {_by(*image)} pixels.")
    return notes


def _by(*numbers: int | Fraction) -> str:
    return "×".join(map(str, numbers))
