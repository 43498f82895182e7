"""Which pixels of the image each element of a tensor sees, tracked from operation to operation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from helpers.receptive_field.extents import NOTHING, compact, joined, own_positions
from helpers.receptive_field.geometry import Field, union
from helpers.receptive_field.grid import advances, all_channels_see_the_same, grid_of, is_channels_last

Fields = tuple[Field, Field]  # of the rows and of the columns
PIXELS = (Field(1), Field(1))  # of the image itself: unit i sees pixel i


@dataclass(frozen=True)
class FieldState:
    """Which pixels of the image, and which images of the batch, the elements of a tensor see.

    A state describes either a map, (images, channels, rows, columns), or any other tensor.

    ``extents`` has six values for each element: last row, last column, minus first row and minus first column of the
    pixels it sees, then the last and minus the first of the images it sees; all are NOTHING if it sees nothing.
    Several elements together see the maximum of their extents. Shape: (6, *shape of the tensor).

    ``fields``, of a map only, are the theoretical receptive fields of its units, as if the image had no borders. They
    are None where no constant jump describes them.

    Other tensors have four more extents, shape (10, *shape): rows and columns again, now in units of the map that the
    tensor was computed from. ``base_fields`` are the fields of that map; None if those units are pixels of the image.
    A map keeps these too if its channels see different units, so that a later operation can take it apart again.
    """

    extents: Tensor
    base_fields: Fields | None = None
    fields: Fields | None = None
    is_map: bool = False

    @property
    def pixels(self) -> Tensor:
        """Extents in pixels, (4, *shape)."""
        return self.extents[:4]

    @property
    def images(self) -> Tensor:
        """The last and minus the first image of the batch, (2, *shape)."""
        return self.extents[4:6]

    @property
    def mixes_images(self) -> bool:
        """Whether some element sees more than one image of the batch."""
        return not self.is_map and bool((compact(self.images).sum(0) > 0).any())

    @property
    def has_images_first(self) -> bool:
        """Whether the first dimension is the batch, so that ``pixels[:, 0]`` belongs to the first image."""
        if self.is_map or self.extents.shape[1:2] != (2,):
            return self.is_map
        last_image = self.images[0]
        first, second = compact(last_image[0]), compact(last_image[1])
        return bool((first <= 0).all() and (second != 0).all())

    def in_map_units(self) -> "FieldState":
        """Return this state as that of a tensor that is not a map, in units of the map it was computed from."""
        if len(self.extents) == 10:
            return FieldState(self.extents, self.base_fields)
        if self.fields is None:
            return self.in_pixels()
        units = own_positions(self.extents.shape[-2:])
        for axis in range(2):
            if self.fields[axis].step == 0:  # all units see the same: count them as the first
                units[axis::2] = 0
        return FieldState(joined([self.extents, units.expand(4, *self.extents.shape[1:])]), self.fields)

    def in_pixels(self) -> "FieldState":
        """Return this state as that of a tensor that is not a map, in pixels."""
        return FieldState(joined([self.extents[:6], self.pixels]))

    def with_extents(self, extents: Tensor) -> "FieldState":
        """Return the state of elements with these ``extents``, computed from the same map."""
        return replace(self, extents=extents) if len(extents) == 6 else FieldState(extents, self.base_fields)

    def receptive_fields(self) -> list[tuple[int, int | Fraction | None, int]]:
        """Return (receptive field, jump, start) of the units along each axis, in pixels; a vector counts as one unit.

        If the jump is not constant it is None, and the receptive field is the largest part of the image a unit sees.
        """
        if not self.is_map:
            return self._as_one_unit()
        if self.fields:
            return [(field.receptive_field, field.jump, field.first[0]) for field in self.fields]
        seen = self.pixels.amax((1, 2)).nan_to_num(neginf=0).int()  # over images and channels: (4, rows, columns)
        sizes = (seen[:2] + seen[2:]).amax((1, 2)) + 1
        return [(int(sizes[axis]), None, -int(seen[2 + axis, 0, 0])) for axis in range(2)]

    def _as_one_unit(self) -> list[tuple[int, int | Fraction | None, int]]:
        ends = self.extents[6:].flatten(1).amax(1).nan_to_num(neginf=0).int().tolist()
        result = []
        for axis, field in enumerate(self.base_fields or PIXELS):
            first, last = field.hull((-ends[2 + axis], ends[axis]))
            result.append((last - first + 1, field.jump if self.base_fields else None, first))
        return result


def image(batch_size: int, channels: int, height: int, width: int) -> FieldState:
    """Return the state of a batch of images."""
    index = torch.arange(float(batch_size))[:, None, None, None].expand(batch_size, 1, height, width)
    pixels = own_positions((height, width)).expand(4, batch_size, 1, height, width)
    extents = torch.cat([pixels, torch.stack([index, -index])]).expand(6, batch_size, channels, height, width)
    return FieldState(extents, fields=(Field(height), Field(width)), is_map=True)


def on_common_map(states: Sequence[FieldState], shape: Sequence[int]) -> list[FieldState]:
    """Return ``states`` as those of one map of ``shape``, to which they are broadcast.

    If there is no such map, they are returned as by ``in_common_units``.
    """
    if len(shape) == 4 and all(state.fields for state in states) and not share_units(states):
        fields = union_of_fields([state.fields for state in states], shape[2:])
        if fields:
            return [FieldState(state.extents[:6], None, fields, True) for state in states]
    return in_common_units(states)


def share_units(states: Sequence[FieldState]) -> bool:
    """Tell whether all ``states`` are in units of the same map."""
    return all(len(state.extents) == 10 and state.base_fields == states[0].base_fields for state in states)


def in_common_units(states: Sequence[FieldState]) -> list[FieldState]:
    """Return ``states`` in units of one map that unites the maps they come from, or in pixels if there is none."""
    in_map_units = [state.in_map_units() for state in states]
    if share_units(in_map_units):
        return in_map_units
    fields = [state.base_fields for state in in_map_units]
    sides = {(rows.length, columns.length) for rows, columns in filter(None, fields)}
    common = union_of_fields(fields, sides.pop()) if len(sides) == 1 else None
    if common is None:
        return [state.in_pixels() for state in in_map_units]
    return [FieldState(state.extents, common) for state in in_map_units]


def union_of_fields(fields: Sequence[Fields | None], sides: Sequence[int]) -> Fields | None:
    """Return the fields of an elementwise operation on maps with these ``fields``, with a result of these ``sides``.

    Returns None if one of the maps has no fields or their jumps differ.
    """
    if None in fields:
        return None
    rows = union([rows for rows, _ in fields], sides[0])
    columns = union([columns for _, columns in fields], sides[1])
    return (rows, columns) if rows and columns else None


def after_write(tensor: Tensor, state: FieldState | None, part: Tensor, written: FieldState) -> FieldState:
    """Return the new state of ``tensor`` after ``part``, which shares its memory, was given the state ``written``.

    ``state`` is the old state of ``tensor``, None if it was not computed from the image.
    """
    if state is None:
        new = written.in_map_units()
        old = new.with_extents(torch.tensor(NOTHING).expand(10, *tensor.shape))
    else:
        old, new = in_common_units([state, written])
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    addresses, memory = torch.arange(size), torch.full((10, size), NOTHING)
    own_addresses = addresses.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    part_addresses = addresses.as_strided(part.shape, part.stride(), part.storage_offset())
    memory[:, own_addresses] = old.extents
    memory[:, part_addresses] = new.extents
    return as_map_if_it_is_one(old.with_extents(memory[:, own_addresses]))


def as_map_if_it_is_one(state: FieldState) -> FieldState:
    """Return ``state`` as that of a map if its elements form one.

    A tensor with its channels last, (images, rows, columns, channels), is not a map until they are moved back.
    """
    if state.is_map or state.extents.ndim != 5 or not state.has_images_first:
        return state
    units = state.extents[6:]
    grid = grid_of(units)
    if not advances(grid) and is_channels_last(units):
        return state
    base = state.base_fields or PIXELS
    if grid is None:
        grid, base = grid_of(state.pixels), PIXELS
    if grid is None:
        return replace(state, is_map=True)
    fields = []
    for field, window, length in zip(base, grid, state.extents.shape[-2:], strict=True):
        fields.append(field.through(window, length))
    extents = state.extents[:6] if all_channels_see_the_same(units) else state.extents
    return FieldState(extents, state.base_fields, tuple(fields), True)
