"""Extents: for each element of a tensor the last and minus the first of what influences it, NOTHING if nothing does.

What several elements see together is then a maximum. Extents that many elements share are stored once: the tensors are
expanded along channels, and operations here keep them so.
"""

from collections.abc import Sequence
from functools import reduce
from math import inf

import torch
from torch import Tensor

from helpers.receptive_field.geometry import Box, Pair

NOTHING = -inf


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


def read(extents: Tensor, dim: int, positions: Tensor) -> Tensor:
    """Return ``extents`` with units along ``dim`` that read the ``positions`` (units, at most so many) of it.

    What lies outside is padding, of which nothing is seen.
    """
    length = extents.shape[dim]
    if positions.shape == (length, 1) and positions[:, 0].equal(torch.arange(length)):
        return extents
    outside = (positions < 0) | (positions >= length)
    border = torch.full_like(extents.narrow(dim, 0, 1), NOTHING)
    padded = torch.cat([extents, border], dim)
    columns = positions.masked_fill(outside, length).unbind(1)
    result = padded.index_select(dim, columns[0])
    for column in columns[1:]:
        result = torch.maximum(result, padded.index_select(dim, column))
    return result


def at(maps: Tensor, unit: Pair | None) -> Tensor:
    """Return the values of ``maps`` (..., h, w) at ``unit`` (row, column), by default the central one."""
    height, width = maps.shape[-2:]
    row, column = unit or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"unit is {unit}: give (row, column) within {height}×{width}")
    return maps[..., row, column]


def box_of(extents: Tensor) -> Box | None:
    """Return the box of ``extents`` (4,): last row, last column, minus first row, minus first column."""
    bottom, right, top, left = extents.tolist()
    return None if bottom == NOTHING else ((int(-top), int(bottom)), (int(-left), int(right)))
