"""Extents: how far the region of the image reaches that influences each element of a tensor.

Stored are the last row and column of that region, and minus the first ones; NOTHING where there is no such region.
The extents of several elements together are then simply the maximum of theirs. Extents that are equal along a dimension
are stored once and expanded (stride 0), mostly along channels; the functions here keep them expanded.
"""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from helpers.receptive_field.geometry import Box, Pair

NOTHING = -inf


def compact(tensor: Tensor) -> Tensor:
    """Undo ``expand``: keep one element along each expanded dimension."""
    return tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())]


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate ``parts`` along ``dim``; a dimension that is expanded in all of them stays expanded."""
    index = [slice(None)] * parts[0].ndim
    for other in range(parts[0].ndim):
        if other != dim and all(part.stride(other) == 0 for part in parts):
            index[other] = slice(0, 1)
    sides = list(parts[0].shape)
    sides[dim] = -1
    return torch.cat([part[tuple(index)] for part in parts], dim).expand(sides)


def shrunk(tensor: Tensor) -> Tensor:
    """Keep one element of ``tensor`` along each dimension whose elements are all equal."""
    for dim in range(tensor.ndim):
        first, last = tensor.narrow(dim, 0, 1), tensor.narrow(dim, -1, 1)
        if first.equal(last) and (tensor == first).all():
            tensor = first
    return tensor


def merged(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Return the maximum of ``parts``, broadcast: extents (n, *shape) of elements that each read one of every part."""
    result = torch.tensor(NOTHING)
    for part in parts:
        missing_dims = len(shape) + 1 - part.ndim  # broadcasting adds them in front, here after the extents
        part = compact(part)
        result = torch.maximum(result, part.reshape(len(part), *[1] * missing_dims, *part.shape[1:]))
    return result.expand(-1, *shape)


def own_positions(sides: Sequence[int]) -> Tensor:
    """Return extents (4, 1, 1, rows, columns) of units that each see only their own position."""
    rows, columns = torch.meshgrid(*map(torch.arange, sides), indexing="ij")
    return torch.stack([rows, columns, -rows, -columns]).float()[:, None, None]


def read(extents: Tensor, dim: int, positions: Tensor) -> Tensor:
    """Return the extents of units along ``dim``, each of which reads the given positions of ``extents`` there.

    ``positions`` is (number of units, positions each reads). Those outside of the map are padding, which sees nothing.
    """
    length = extents.shape[dim]
    if positions.shape == (length, 1) and positions[:, 0].equal(torch.arange(length)):
        return extents
    outside = (positions < 0) | (positions >= length)
    unseen = torch.full_like(extents.narrow(dim, 0, 1), NOTHING)
    padded = torch.cat([extents, unseen], dim)
    columns = positions.masked_fill(outside, length).unbind(1)  # ``unseen`` is at position ``length``
    result = padded.index_select(dim, columns[0])
    for column in columns[1:]:
        result = torch.maximum(result, padded.index_select(dim, column))
    return result


def at(maps: Tensor, unit: Pair | None) -> Tensor:
    """Return the values of ``maps`` (..., h, w) at ``unit`` (row, column), by default the central one.

    Raises ``ValueError`` if there is no such unit.
    """
    height, width = maps.shape[-2:]
    row, column = unit or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"unit is {unit}: give (row, column) within {height}×{width}")
    return maps[..., row, column]


def box_of(extents: Tensor) -> Box | None:
    """Return ``extents`` (4,) of one unit as a box of pixels, None if it sees nothing."""
    bottom, right, top, left = extents.tolist()
    return None if bottom == NOTHING else ((int(-top), int(bottom)), (int(-left), int(right)))
