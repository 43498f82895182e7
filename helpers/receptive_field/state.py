"""What the elements of a tensor see of the image, carried from operation to operation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from helpers.receptive_field.extents import NOTHING, compact, joined, own_positions
from helpers.receptive_field.geometry import Field, union
from helpers.receptive_field.grid import all_channels_see_the_same, grid_of, is_channels_last, moves

Fields = tuple[Field, Field]  # of rows and of columns
PIXELS = (Field(1), Field(1))  # of the image itself: pixel i is seen by unit i


@dataclass(frozen=True)
class FieldState:
    """What the elements of a tensor see.

    ``extents`` has for each element last row, last column, minus first row, minus first column of the pixels that
    influence it, then the last and minus the first of the images in the batch that do; all are NOTHING where none does.
    So several elements together see the maximum of their extents. Shape: (6, *shape of the tensor).

    A map is a tensor (images, channels, rows, columns), each image's elements apart. ``own`` are its fields: what its
    units see in theory, of an image without borders. They are None where no constant jump describes that.

    Another tensor has four more extents, (10, *shape): those in units of the last map that it comes from, in place of
    pixels. ``base`` are the fields of that map; None where the units are pixels. A map keeps them where its channels
    see unlike units, so that a later operation may take it apart again.
    """

    extents: Tensor
    base: Fields | None = None
    own: Fields | None = None
    is_map: bool = False

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
        """Return this state with ten extents, as that of a tensor that is to be rearranged."""
        if len(self.extents) == 10:
            return FieldState(self.extents, self.base)
        if self.own is None:
            return self.in_pixels()
        units = own_positions(self.extents.shape[-2:])
        for axis in range(2):
            if self.own[axis].step == 0:  # all units see the same: the first stands for all
                units[axis::2] = 0
        return FieldState(joined([self.extents, units.expand(4, *self.extents.shape[1:])]), self.own)

    def in_pixels(self) -> "FieldState":
        """Return this state as that of a tensor which comes from the image by no map that is known."""
        return FieldState(joined([self.extents[:6], self.seen]))

    def after(self, extents: Tensor) -> "FieldState":
        """Return the state of elements with these ``extents`` that come from the same map."""
        return replace(self, extents=extents) if len(extents) == 6 else FieldState(extents, self.base)

    def described(self) -> list[tuple[int, int | Fraction | None, int]]:
        """Return (receptive field, jump, start) along each axis, of a map's units or of a vector as one unit.

        The jump is None where it is not constant, and the receptive field then the most of the image that a unit sees.
        """
        if not self.is_map:
            return self._as_one_unit()
        if self.own:
            return [(field.receptive_field, field.jump, field.start) for field in self.own]
        seen = self.seen.amax((1, 2)).nan_to_num(neginf=0).int()  # of each unit, (4, rows, columns)
        sizes = (seen[:2] + seen[2:]).amax((1, 2)) + 1
        return [(int(sizes[axis]), None, -int(seen[2 + axis, 0, 0])) for axis in range(2)]

    def _as_one_unit(self) -> list[tuple[int, int | Fraction | None, int]]:
        ends = self.extents[6:].flatten(1).amax(1).nan_to_num(neginf=0).int().tolist()
        described = []
        for axis, field in enumerate(self.base or PIXELS):
            first, last = field.hull((-ends[2 + axis], ends[axis]))
            described.append((last - first + 1, field.jump if self.base else None, first))
        return described


def image(batch_size: int, channels: int, height: int, width: int) -> FieldState:
    """Return what the pixels of a batch see."""
    number = torch.arange(float(batch_size))[:, None, None, None].expand(batch_size, 1, height, width)
    pixels = own_positions((height, width)).expand(4, batch_size, 1, height, width)
    extents = torch.cat([pixels, torch.stack([number, -number])]).expand(6, batch_size, channels, height, width)
    return FieldState(extents, own=(Field(height), Field(width)), is_map=True)


def alike(states: Sequence[FieldState], shape: Sequence[int]) -> list[FieldState]:
    """Return ``states`` as those of one map, or from one map: of a tensor of ``shape`` to which they are broadcast."""
    if len(shape) == 4 and all(state.own for state in states) and not from_one_map(states):
        fields = united([state.own for state in states], shape[2:])
        if fields:
            return [FieldState(state.extents[:6], None, fields, True) for state in states]
    return of_one_map(states)


def from_one_map(states: Sequence[FieldState]) -> bool:
    return all(len(state.extents) == 10 and state.base == states[0].base for state in states)


def of_one_map(states: Sequence[FieldState]) -> list[FieldState]:
    """Return ``states`` in units of one map, in which all the maps that they come from meet; in pixels without one."""
    in_units = [state.in_units() for state in states]
    if from_one_map(in_units):
        return in_units
    bases = [state.base for state in in_units]
    sides = {(base[0].length, base[1].length) for base in bases if base}
    base = united(bases, sides.pop()) if len(sides) == 1 else None
    return [FieldState(state.extents, base) if base else state.in_pixels() for state in in_units]


def united(fields: Sequence[Fields | None], sides: Sequence[int]) -> Fields | None:
    """Return the fields of a map with these ``sides`` in which maps of the given ``fields`` meet, if there are some."""
    if None in fields:
        return None
    rows = union([rows for rows, _ in fields], sides[0])
    columns = union([columns for _, columns in fields], sides[1])
    return (rows, columns) if rows and columns else None


def rewritten(tensor: Tensor, state: FieldState | None, part: Tensor, written: FieldState) -> FieldState:
    """Return the new state of ``tensor``, where ``part`` of its memory was given the state ``written``.

    Its old ``state`` is None where it did not come from the image.
    """
    if state is None:
        new = written.in_units()
        old = new.after(torch.tensor(NOTHING).expand(10, *tensor.shape))
    else:
        same_sides = tensor.shape[-2:] == part.shape[-2:]
        both = alike([state, written], tensor.shape) if same_sides else of_one_map([state, written])
        old, new = [state.in_units() for state in both]
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    places, memory = torch.arange(size), torch.full((10, size), NOTHING)
    own_places = places.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    other_places = places.as_strided(part.shape, part.stride(), part.storage_offset())
    memory[:, own_places] = old.extents
    memory[:, other_places] = new.extents
    return settled(old.after(memory[:, own_places]))


def settled(state: FieldState) -> FieldState:
    """Return ``state`` as that of a map if its tensor is one.

    A tensor (images, rows, columns, channels) is none: it waits for its channels to be moved back.
    """
    if state.is_map or state.extents.ndim != 5 or not state.has_images_first:
        return state
    units = state.extents[6:]
    grid = grid_of(units)
    if not moves(grid) and is_channels_last(units):
        return state
    base = state.base or PIXELS
    if grid is None:
        grid, base = grid_of(state.seen), PIXELS
    if grid is None:
        return replace(state, is_map=True)
    own = []
    for field, window, length in zip(base, grid, state.extents.shape[-2:], strict=True):
        own.append(field.through(window, length))
    is_uniform = all_channels_see_the_same(units)
    return FieldState(state.extents[:6] if is_uniform else state.extents, state.base, tuple(own), True)
