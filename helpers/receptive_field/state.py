"""What the elements of a tensor see of the image, carried from operation to operation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from helpers.receptive_field.geometry import NOTHING, Field, Pattern, Window, union

Fields = tuple[Field, Field]  # of rows and of columns
PIXELS = (Field(1), Field(1))  # of the image itself: pixel i is seen by unit i


@dataclass(frozen=True)
class FieldState:
    """What the elements of a tensor see.

    ``extents`` has for each element last row, last column, minus first row, minus first column of the pixels that
    influence it, then the last and minus the first of the images in the batch that do; all are NOTHING where none does.
    So several elements together see the maximum of their extents. Shape: (6, *shape of the tensor).

    ``fields`` describe the last map that the tensor was computed from, in theory: of an image without borders. For a
    tensor that is not a map, (batch, channels, rows, columns), there are four more extents, (10, *shape): those in
    units of that map, in place of pixels. Where no constant jump describes what units see, ``fields`` is None and the
    units are pixels.
    """

    extents: Tensor
    fields: Fields | None

    @property
    def is_map(self) -> bool:
        """Tell whether the tensor is a map: (images, channels, rows, columns), each element of one image."""
        return len(self.extents) == 6

    @property
    def seen(self) -> Tensor:
        """The extents in pixels, (4, *shape)."""
        return self.extents[:4]

    @property
    def images(self) -> Tensor:
        """Last and minus first image of the batch, (2, *shape)."""
        return self.extents[4:6]

    @property
    def mixes_images(self) -> bool:
        return not self.is_map and bool((compact(self.images).sum(0) > 0).any())

    @property
    def has_images_first(self) -> bool:
        """Tell whether the tensor is (images, ...), so that ``seen[:, 0]`` is what an image's elements see."""
        if self.is_map or self.extents.shape[1:2] != (2,):
            return self.is_map
        first, second = [compact(last) for last in self.images[0].unbind()]
        return bool((first <= 0).all() and (second != 0).all())

    def in_units(self) -> "FieldState":
        """Return this state with the extents in units of the last map, also where that is the tensor itself."""
        if not self.is_map:
            return self
        if self.fields is None:
            return self.in_pixels()
        units = own_positions(self.extents.shape[-2:])
        for axis in range(2):
            if self.fields[axis].step == 0:  # all units see the same: the first stands for all
                units[axis::2] = 0
        return FieldState(joined([self.extents, units.expand(4, *self.extents.shape[1:])]), self.fields)

    def in_pixels(self) -> "FieldState":
        """Return this state as that of a tensor which no map describes."""
        return FieldState(joined([self.extents[:6], self.seen]), None)

    def after(self, extents: Tensor) -> "FieldState":
        return replace(self, extents=extents)

    def whole(self) -> list[tuple[int, object, int]]:
        """Return (receptive field, jump, start) along each axis of one unit that sees what all elements see."""
        ends = self.in_units().extents[6:].flatten(1).amax(1).nan_to_num(neginf=0).int().tolist()
        described = []
        for axis, field in enumerate(self.fields or PIXELS):
            first, last = field.hull((-ends[2 + axis], ends[axis]))
            described.append((last - first + 1, field.jump if self.fields else None, first))
        return described

    def described(self) -> list[tuple[int, object, int]]:
        """Return (receptive field, jump, start) along each axis, of a map's units or of a vector; jump None: varies."""
        if not self.is_map:
            return self.whole()
        if self.fields:
            return [(field.receptive_field, field.jump, field.start) for field in self.fields]
        seen = self.seen.amax((1, 2)).nan_to_num(neginf=0).int()  # of each unit, (4, rows, columns)
        sizes = (seen[:2] + seen[2:]).amax((1, 2)) + 1
        return [(int(sizes[axis]), None, -int(seen[2 + axis, 0, 0])) for axis in range(2)]


# ---- extents that many elements share are stored once: their tensors are expanded ----


def compact(tensor: Tensor) -> Tensor:
    """Return ``tensor`` with a single element along each dimension that was expanded."""
    return tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())]


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return ``parts`` concatenated along ``dim``, and expanded where all of them are."""
    index = [slice(None)] * parts[0].ndim
    for other in range(parts[0].ndim):
        if other != dim and all(part.stride(other) == 0 for part in parts):
            index[other] = slice(0, 1)
    sides = list(parts[0].shape)
    sides[dim] = -1
    return torch.cat([part[tuple(index)] for part in parts], dim).expand(sides)


def shrunk(tensor: Tensor) -> Tensor:
    """Return ``tensor`` with a single element along each dimension along which all are equal."""
    for dim in range(tensor.ndim):
        first, last = tensor.narrow(dim, 0, 1), tensor.narrow(dim, -1, 1)
        if first.equal(last) and (tensor == first).all():
            tensor = first
    return tensor


def merged(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Return the extents (n, *shape) of elements that see what those of ``parts`` see, which are broadcast."""
    aligned = [compact(part)[(slice(None), *[None] * (len(shape) + 1 - part.ndim))] for part in parts]
    return reduce(torch.maximum, aligned).expand(-1, *shape)


def own_positions(sides: Sequence[int]) -> Tensor:
    """Return the extents (4, 1, 1, rows, columns) of units each of which sees its own position."""
    rows, columns = torch.meshgrid(*map(torch.arange, sides), indexing="ij")
    return torch.stack([rows, columns, -rows, -columns]).float()[:, None, None]


def image(batch_size: int, channels: int, height: int, width: int) -> FieldState:
    """Return what the pixels of a batch see."""
    shape = (batch_size, channels, height, width)
    number = torch.arange(float(batch_size))[:, None, None, None].expand(batch_size, 1, height, width)
    pixels = own_positions((height, width)).expand(4, batch_size, 1, height, width)
    extents = torch.cat([pixels, torch.stack([number, -number])])
    return FieldState(extents.expand(6, *shape), (Field(height), Field(width)))


# ---- maps ----


def alike(states: Sequence[FieldState], shape: Sequence[int]) -> list[FieldState]:
    """Return ``states`` with the same fields, those of a tensor of ``shape`` to which they are broadcast."""
    if len(shape) == 4 and all(state.is_map for state in states):
        fields = united([state.fields for state in states], shape[2:])
        if fields:
            return [replace(state, fields=fields) for state in states]
    return of_one_map(states)


def of_one_map(states: Sequence[FieldState]) -> list[FieldState]:
    """Return ``states`` with the extents in units of one map, in which all their maps meet; in pixels without one."""
    in_units = [state.in_units() for state in states]
    fields = [state.fields for state in in_units]
    if len(set(fields)) == 1:
        return in_units
    sides = {(rows.length, columns.length) for rows, columns in filter(None, fields)}
    both = united(fields, sides.pop()) if len(sides) == 1 else None
    return [replace(state, fields=both) if both else state.in_pixels() for state in in_units]


def united(fields: Sequence[Fields | None], sides: Sequence[int]) -> Fields | None:
    """Return the fields of a map with these ``sides`` in which maps of the given ``fields`` meet, if there are some."""
    if None in fields:
        return None
    rows, columns = [union(along_axis, side) for along_axis, side in zip(zip(*fields, strict=True), sides, strict=True)]
    return (rows, columns) if rows and columns else None


def rewritten(tensor: Tensor, state: FieldState, part: Tensor, written: FieldState) -> FieldState:
    """Return the new state of ``tensor``, where ``part`` of its memory was given the state ``written``."""
    same_sides = tensor.shape[-2:] == part.shape[-2:]
    both = alike([state, written], tensor.shape) if same_sides else [state.in_pixels(), written.in_pixels()]
    old, new = [state.in_units() for state in both]
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    places, memory = torch.arange(size), torch.full((len(old.extents), size), NOTHING)
    own_places = places.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    other_places = places.as_strided(part.shape, part.stride(), part.storage_offset())
    memory[:, own_places] = old.extents
    memory[:, other_places] = new.extents
    return settled(old.after(memory[:, own_places]))


def settled(state: FieldState) -> FieldState:
    """Return ``state`` as that of a map if its tensor is one.

    A tensor (batch, rows, columns, channels) is none: it waits for its channels to be moved back.
    """
    if state.is_map or state.extents.ndim != 5 or not state.has_images_first:
        return state
    units = state.extents[6:]
    grid, channels_last = grid_of(units), grid_of(units.permute(0, 1, 4, 2, 3))
    if state.extents.shape[2] > 1 and moves(channels_last) and not moves(grid):
        return state
    if grid is None and state.fields:
        state = state.in_pixels()
        grid = grid_of(state.extents[6:])
    if grid is None:
        return FieldState(state.extents[:6], None)
    below, sides = state.fields or PIXELS, state.extents.shape[-2:]
    fields = [field.through(window, side) for field, window, side in zip(below, grid, sides, strict=True)]
    return FieldState(state.extents[:6], tuple(fields))


def moves(grid: Sequence[Window | Pattern] | None) -> bool:
    return bool(grid) and all(window.pattern().advance for window in grid)


def grid_of(units: Tensor) -> list[Window | Pattern] | None:
    """Return the window, for each axis, through which a tensor reads a map; None if there is none.

    ``units`` (4, batch, channels, rows, columns) are extents in units of that map. As a unit is one position of all
    channels, it sees what they see together; one that sees nothing, as under a mask, may be part of any grid.
    """
    together = compact(units).amax((1, 2)).expand(4, *units.shape[-2:])
    windows = []
    for axis in range(2):
        last, minus_first = together[axis], together[2 + axis]
        line_last, line_minus_first = last.amax(1 - axis, True), minus_first.amax(1 - axis, True)
        if not (((last == line_last) & (minus_first == line_minus_first)) | (last == NOTHING)).all():
            return None
        lines = []
        for first, end in zip((-line_minus_first).flatten().tolist(), line_last.flatten().tolist(), strict=True):
            lines.append(None if end == NOTHING else (int(first), int(end)))
        window = window_of(lines)
        if window is None:
            return None
        windows.append(window)
    return windows


def window_of(lines: Sequence[tuple[int, int] | None]) -> Window | Pattern | None:
    """Return what slides over a map so that line i reads the positions ``lines[i]``, first and last one.

    None in ``lines`` is padding, which may hide what else the line reads.
    """
    for period in range(1, len(lines) // 2 + 1) if len(lines) > 1 else [1]:
        pairs = [(a, b) for a, b in zip(lines, lines[period:], strict=False) if a and b]
        advances = {(b[0] - a[0], b[1] - a[1]) for a, b in pairs} or ({(1, 1)} if len(lines) == 1 else set())
        if len(advances) != 1:
            continue
        ((advance, advance_of_last),) = advances
        if advance != advance_of_last or advance < 0 or (period > 1 and advance == 0):
            continue
        reads: dict[int, tuple[int, int]] = {}
        for i, line in enumerate(lines):
            if line:
                steps, phase = divmod(i, period)
                reads[phase] = line[0] - steps * advance, line[1] - steps * advance
        if len(reads) < period:
            continue
        if period == 1:
            first, last = reads[0]
            return Window(last - first + 1, advance, -first)
        return Pattern([range(reads[phase][0], reads[phase][1] + 1) for phase in range(period)], advance)
    return None
