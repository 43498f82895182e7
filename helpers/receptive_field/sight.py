"""What the elements of a tensor see of the image, carried from operation to operation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.receptive_field.geometry import Field, Slide, Window, meet

Fields = tuple[Field, Field]  # of rows and of columns


@dataclass(frozen=True)
class Sight:
    """What the elements of a tensor (2, ...) see.

    ``reach`` (4, ...) has for each element: last row, last column, minus first row, minus first column of the pixels
    that influence it, -inf if none do. So what several elements see is a maximum. ``units`` has the same, counted in
    units of the last map, which ``fields`` describe; None if the tensor is that map, (2, channels, rows, columns).
    """

    reach: Tensor
    fields: Fields
    units: Tensor | None = None

    @property
    def is_map(self) -> bool:
        return self.units is None

    def whole(self) -> Fields:
        """Return the fields of one unit that sees what all elements see."""
        last, first = units_of(self).flatten(1).amax(1).nan_to_num(neginf=0).int().reshape(2, 2).tolist()
        ends = [(-first[axis], last[axis]) for axis in range(2)]
        hulls = [field.hull((a, b)) for field, (a, b) in zip(self.fields, ends, strict=True)]
        steps = [field.step for field in self.fields]
        return tuple(Field(1, (a,), (b,), step) for (a, b), step in zip(hulls, steps, strict=True))


def own(channels: int, height: int, width: int) -> Tensor:
    """Return the reach of a map's units in itself: each sees its own position."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([ys, xs, -ys, -xs]).float()[:, None].expand(4, channels, height, width)


def image(channels: int, height: int, width: int) -> Sight:
    """Return what the pixels of the image see."""
    return Sight(own(channels, height, width), (Field(height), Field(width)))


def merged(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*tensors)).amax(0)


def together(sights: Sequence[Sight]) -> tuple[Fields, list[Tensor | None]]:
    """Return the fields of a map in which several ones meet, and the units of each in it."""
    if all(sight.units is None for sight in sights):
        return tuple(map(meet, zip(*(sight.fields for sight in sights), strict=True))), [None] * len(sights)
    if len({sight.fields for sight in sights}) == 1 and all(sight.units is not None for sight in sights):
        return sights[0].fields, [sight.units for sight in sights]
    wholes = zip(*(sight.whole() for sight in sights), strict=True)  # as one unit
    return tuple(map(meet, wholes)), [torch.zeros_like(sight.reach) for sight in sights]


def units_of(sight: Sight) -> Tensor:
    """Return ``units``, those of a map, too; where all see the same, the first stands for all."""
    if sight.units is not None:
        return sight.units
    channels, height, width = sight.reach.shape[1:]
    moving = torch.tensor([field.step != 0 for field in sight.fields]).repeat(2)
    return (own(1, height, width) * moving[:, None, None, None]).expand(4, channels, height, width)


def settled(sight: Sight, slide: Slide) -> Sight:
    """Return ``sight`` as that of a map, where its units lie in a grid; channels last may wait to be moved back.

    ``moves`` has two answers. The first: as the tensor stands, is it a grid whose neighbours do not all see the same?
    The second: would it be one with its last dimension as channels? One that is a grid, or moves, only so, waits.
    """
    if sight.units is None or sight.reach.ndim != 4:
        return sight
    windows, channels_last = grid(sight.units), grid(sight.units.permute(0, 3, 1, 2))
    moves = [bool(found) and all(window.stride for window in found) for found in (windows, channels_last)]
    if channels_last and (not windows or moves == [False, True]):
        return sight
    if windows:
        fields = zip(sight.fields, windows, sight.reach.shape[2:], strict=True)
        return Sight(sight.reach, tuple(field.through(window, length, slide) for field, window, length in fields))
    raise ValueError("its rows and columns do not lie in a grid, as those of a map do")


def grid(units: Tensor) -> list[Window] | None:
    """Return the window, for each axis, through which a tensor reads a map; None if there is none.

    ``units`` (4, channels, rows, columns) are ``Sight.units``.
    """
    windows = []
    for axis, others in enumerate(((0, 2), (0, 1))):
        last, first = units[axis], -units[2 + axis]
        ends = last.amax(others, True), first.amin(others, True)
        if not ((last == ends[0]) & (first == ends[1]) | last.isinf()).all() or ends[0].isinf().any():
            return None
        spans, steps = (ends[0] - ends[1]).unique().tolist(), ends[1].flatten().diff().unique().tolist() or [1]
        if len(spans) > 1 or len(steps) > 1 or steps[0] < 0:
            return None
        windows.append(Window(int(spans[0]) + 1, int(steps[0]), -int(ends[1].flatten()[0])))
    return windows
