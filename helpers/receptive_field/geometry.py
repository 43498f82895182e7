"""Along one axis: which positions an operation reads, and which pixels its units therefore see."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.receptive_field.sliding import slide

Pair = tuple[int, int]  # (height, width), (row, column) or (first, last)
Box = tuple[Pair, Pair]  # ((top, bottom), (left, right)): in pixels; bottom and right are included
OUTSIDE = -(1 << 40)  # a position so far outside of every map that no advance leads into it


class Window(NamedTuple):
    """The sliding window of a convolution or a pooling."""

    kernel_size: int
    stride: int = 1
    padding: int = 0  # before the first position
    dilation: int = 1

    def pattern(self) -> "Pattern":
        return Pattern([[k * self.dilation - self.padding for k in range(self.kernel_size)]], self.stride)


class Pattern(NamedTuple):
    """A periodic pattern of positions, for operations without one sliding window, such as upsampling.

    The first ``len(reads)`` units read the positions ``reads``, one entry for each unit. The next ``len(reads)`` units
    read the same positions plus ``advance``, and so on.
    """

    reads: Sequence[Sequence[int]]
    advance: int

    def pattern(self) -> "Pattern":
        return self

    def positions(self, num_units: int) -> Tensor:
        """Return the positions each unit reads, as ``rectangular`` does; some may lie outside of the map."""
        units = torch.arange(num_units)
        repeats, phases = units // len(self.reads), units % len(self.reads)
        return rectangular(self.reads)[phases] + repeats[:, None] * self.advance


def rectangular(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return ``rows`` of positions as one tensor; shorter rows are filled up with OUTSIDE."""
    width = max(len(row) for row in rows)
    return torch.tensor([list(row) + [OUTSIDE] * (width - len(row)) for row in rows])


@dataclass(frozen=True)
class Field:
    """The pixels that each unit of a map sees along one axis, as if the image had no borders.

    With ``P = len(first)``, the period, unit ``q * P + r`` sees ``first[r] + q * step`` to ``last[r] + q * step``. P
    is 1 unless the map was upsampled, or adaptively pooled to a size that does not divide its own.
    """

    length: int  # number of units
    first: tuple[int, ...] = (0,)
    last: tuple[int, ...] = (0,)
    step: int = 1

    @property
    def receptive_field(self) -> int:
        """The number of pixels a unit sees; the largest if units differ."""
        ends = zip(self.first[: self.length], self.last, strict=False)
        return max(last - first + 1 for first, last in ends)

    @property
    def jump(self) -> int | Fraction:
        """Pixels from one unit to the next, on average; 0 if all units see the same pixels."""
        jump = Fraction(self.step, len(self.first))
        return int(jump) if jump.denominator == 1 else jump

    def of(self, unit: int) -> tuple[int, int]:
        """Return the first and the last pixel that ``unit`` sees; the unit may lie outside of the map."""
        steps, phase = divmod(unit, len(self.first))
        return self.first[phase] + steps * self.step, self.last[phase] + steps * self.step

    def hull(self, units: Sequence[int]) -> tuple[int, int]:
        """Return the first and the last pixel that ``units`` see together."""
        return hull([self.of(unit) for unit in units])

    def through(self, window: Window | Pattern, length: int) -> "Field":
        """Return the field of ``length`` units that read this map through ``window``."""
        if len(self.first) == 1 and isinstance(window, Window):
            size, jump, start = slide(self.receptive_field, self.step, self.first[0], *window)
            return Field(length, (start,), (start + size - 1,), jump)
        reads, advance = window.pattern()
        period = len(self.first)
        repeats = period // gcd(period, advance)  # after which the pattern starts at phase 0 of this field again
        hulls = []
        for repeat in range(repeats):
            hulls += [self.hull([position + repeat * advance for position in read]) for read in reads]
        first, last = zip(*hulls, strict=True)
        return Field(length, first, last, self.step * repeats * advance // period)


def hull(ends: Sequence[Pair]) -> Pair:
    """Return the first and the last of all pixels, given the ``ends``, (first, last), of parts."""
    return min(first for first, _ in ends), max(last for _, last in ends)


def union(fields: Sequence[Field], length: int) -> Field | None:
    """Return the field of an elementwise operation on several maps: each unit sees what it sees in any of them.

    A map shorter than ``length`` has one unit along this axis and is broadcast: every unit of the result sees it, so
    all units count as seeing the same pixels. Returns None if the jumps differ: the region that a unit sees then grows
    along the map, and no constant jump describes it.
    """
    jumps = {field.jump for field in fields}
    if len(set(fields)) == 1 and fields[0].length == length:
        return fields[0]
    all_the_same = 0 in jumps or any(field.length < length for field in fields)
    if all_the_same or length == 1:
        first, last = hull([field.hull((0, field.length - 1)) for field in fields])
        return Field(length, (first,), (last,), 0 if all_the_same else int(max(jumps)))
    if len(jumps) > 1:
        return None
    period = lcm(*(len(field.first) for field in fields))
    ends = [hull([field.of(unit) for field in fields]) for unit in range(period)]
    first, last = zip(*ends, strict=True)
    return Field(length, first, last, int(fields[0].jump * period))
