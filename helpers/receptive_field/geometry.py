"""Along one axis: which positions an operation reads, and what its units therefore see of the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, inf, lcm
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]  # (height, width), (row, column) or (first, last)
Box = tuple[Pair, Pair]  # ((top, bottom), (left, right)): pixels, the last ones included
Slide = Callable[..., tuple[int, int, int]]  # the rule of the lesson, helpers.receptive_field.slide


class Window(NamedTuple):
    """A window that slides over a map, as a convolution's or a pooling's."""

    kernel_size: int
    stride: int = 1
    padding: int = 0  # before the first position
    dilation: int = 1

    def pattern(self) -> tuple[list[Sequence[int]], int]:
        reads = [k * self.dilation - self.padding for k in range(self.kernel_size)]
        return [reads], self.stride


class Pattern(NamedTuple):
    """What the first units read, and by how many positions that moves on until it repeats, as in an upsampling."""

    reads: list[Sequence[int]]
    advance: int
    linear: bool = False  # of two positions, the second one inside the map, as linear upsampling has it at the borders

    def pattern(self) -> tuple[list[Sequence[int]], int]:
        return self.reads, self.advance


@dataclass(frozen=True)
class Field:
    """What the units of a map see along one axis of an image without borders.

    With ``P = len(first)``, unit ``q * P + r`` sees the pixels ``first[r] + q * step`` to ``last[r] + q * step``. P is
    1 unless the map was upsampled, or pooled to a size that does not divide it.
    """

    length: int  # number of units
    first: tuple[int, ...] = (0,)
    last: tuple[int, ...] = (0,)
    step: int = 1

    @property
    def receptive_field(self) -> int:
        """Pixels that a unit sees, the most of any."""
        return max(last - first + 1 for first, last in map(self.of, range(min(self.length, len(self.first)))))

    @property
    def jump(self) -> int | Fraction:
        """Pixels between neighbours, on average; 0 where all units see the same."""
        jump = Fraction(self.step, len(self.first))
        return int(jump) if jump.denominator == 1 else jump

    @property
    def start(self) -> int:
        """The first pixel of the first unit."""
        return self.first[0]

    def of(self, unit: int) -> tuple[int, int]:
        """Return the first and the last pixel of ``unit``, which may lie outside the map."""
        steps, phase = divmod(unit, len(self.first))
        return self.first[phase] + steps * self.step, self.last[phase] + steps * self.step

    def hull(self, units: Sequence[int]) -> tuple[int, int]:
        """Return the first and the last pixel of several ``units``."""
        firsts, lasts = zip(*map(self.of, units), strict=True)
        return min(firsts), max(lasts)

    def through(self, window: Window | Pattern, length: int, slide: Slide) -> "Field":
        """Return the field of ``length`` units that see this one's through ``window``."""
        if len(self.first) == 1 and isinstance(window, Window):
            size, jump, start = slide(self.receptive_field, self.step, self.first[0], *window)
            return Field(length, (start,), (start + size - 1,), jump)
        reads, advance = window.pattern()
        repeats = len(self.first) // gcd(len(self.first), advance)  # until the pattern meets the same phase
        units = [[unit + k * advance for unit in read] for k in range(repeats) for read in reads]
        first, last = zip(*map(self.hull, units), strict=True)
        return Field(length, first, last, self.step * repeats * advance // len(self.first))


def meet(fields: Sequence[Field]) -> Field:
    """Return the field of units that see those of several maps.

    A map that is one unit long is broadcast to the others: each unit sees all of it, so that all see the same. Raises
    ``ValueError`` where jumps differ: neighbours would move on by unlike steps.
    """
    length, jumps = max(field.length for field in fields), {field.jump for field in fields}
    if len(set(fields)) == 1:
        return fields[0]
    still = 0 in jumps or any(field.length < length for field in fields)
    if still or length == 1:
        firsts, lasts = zip(*(field.hull((0, field.length - 1)) for field in fields), strict=True)
        return Field(length, (min(firsts),), (max(lasts),), 0 if still else int(max(jumps)))
    if len(jumps) > 1:
        raise ValueError(f"its branches have different jumps, {' and '.join(map(str, sorted(jumps)))}")
    period = lcm(*(len(field.first) for field in fields))
    ends = [[field.of(unit) for field in fields] for unit in range(period)]
    first, last = [min(a for a, _ in pairs) for pairs in ends], [max(b for _, b in pairs) for pairs in ends]
    return Field(length, tuple(first), tuple(last), int(fields[0].jump * period))


def positions(window: Window | Pattern, out: int, length: int) -> list[list[int]]:
    """Return what each of ``out`` units reads of ``length`` positions; those outside the map are padding."""
    reads, advance = window.pattern()
    places = [[p + unit // len(reads) * advance for p in reads[unit % len(reads)]] for unit in range(out)]
    if isinstance(window, Pattern) and window.linear:
        places = [[max(a, 0), min(max(a, 0) + 1, length - 1)] for a, _ in places]
    return places


def read(reach: Tensor, dim: int, reads: Sequence[Sequence[int]]) -> Tensor:
    """Return ``reach`` with ``dim`` replaced by units that read the positions ``reads`` of it, -inf being nothing."""
    length, most = reach.shape[dim], max(map(len, reads))
    if reads == [[i] for i in range(length)]:
        return reach
    inside = [[p if 0 <= p < length else length for p in row] for row in reads]
    index = torch.tensor([row + [length] * (most - len(row)) for row in inside])
    moved = F.pad(reach.movedim(dim, -1), (0, 1), value=-inf)
    return moved[..., index].amax(-1).movedim(-1, dim)


def at(maps: Tensor, unit: Pair | None) -> Tensor:
    """Return the values of ``maps`` (..., h, w) at ``unit`` (row, column), by default the central one."""
    height, width = maps.shape[-2:]
    row, column = unit or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"unit is {unit}: give (row, column) within {height}×{width}")
    return maps[..., row, column]


def box_of(reach: Tensor) -> Box | None:
    """Return the box of ``reach`` (4,): last row, last column, minus first row, minus first column; None if -inf."""
    bottom, right, top, left = reach.tolist()
    return None if bottom == -inf else ((int(-top), int(bottom)), (int(-left), int(right)))
