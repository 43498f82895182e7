"""Along one axis: which positions an operation reads, and what its units therefore see of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.receptive_field.sliding import slide

Pair = tuple[int, int]  # (height, width), (row, column) or (first, last)
Box = tuple[Pair, Pair]  # ((top, bottom), (left, right)): pixels, the last ones included


class Window(NamedTuple):
    """A window that slides over a map, such as that of a convolution or a pooling."""

    kernel_size: int
    stride: int = 1
    padding: int = 0  # before the first position
    dilation: int = 1

    def pattern(self) -> "Pattern":
        return Pattern([[k * self.dilation - self.padding for k in range(self.kernel_size)]], self.stride)

    def positions(self, num_units: int) -> Tensor:
        """Return which positions of the map each unit reads, (num_units, kernel_size); some may lie outside."""
        inside_the_window = torch.arange(self.kernel_size) * self.dilation - self.padding
        return torch.arange(num_units)[:, None] * self.stride + inside_the_window


class Pattern(NamedTuple):
    """Where units read unlike numbers of positions or move on by unlike steps, until that repeats: an upsampling, say.

    The first units read the positions ``reads``, the next ``len(reads)`` units the same plus ``advance``, and so on.
    """

    reads: Sequence[Sequence[int]]
    advance: int

    def pattern(self) -> "Pattern":
        return self

    def positions(self, num_units: int) -> Tensor:
        """As ``Window.positions``; units that read fewer positions than others have -1 for the rest."""
        rows = []
        for unit in range(num_units):
            repeats, phase = divmod(unit, len(self.reads))
            rows.append([position + repeats * self.advance for position in self.reads[phase]])
        return rectangular(rows)


def rectangular(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows of unlike lengths as one tensor, filled up with -1, which is a position outside of any map."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows])


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
        """The largest number of pixels that a unit sees."""
        ends = [self.of(unit) for unit in range(min(self.length, len(self.first)))]
        return max(last - first + 1 for first, last in ends)

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
        """Return the first and the last pixel that any of ``units`` sees."""
        ends = [self.of(unit) for unit in units]
        return min(first for first, _ in ends), max(last for _, last in ends)

    def through(self, window: Window | Pattern, length: int) -> "Field":
        """Return the field of ``length`` units that read this map through ``window``."""
        if len(self.first) == 1 and isinstance(window, Window):
            size, jump, start = slide(self.receptive_field, self.step, self.first[0], *window)
            return Field(length, (start,), (start + size - 1,), jump)
        reads, advance = window.pattern()
        repeats = len(self.first) // gcd(len(self.first), advance)  # until the pattern meets the same phase again
        hulls = []
        for repeat in range(repeats):
            hulls += [self.hull([position + repeat * advance for position in read]) for read in reads]
        first, last = zip(*hulls, strict=True)
        return Field(length, first, last, self.step * repeats * advance // len(self.first))


def union(fields: Sequence[Field], length: int) -> Field | None:
    """Return the field of ``length`` units, each of which sees what the same unit sees of several maps.

    A shorter map is one unit long and broadcast: each unit sees all of it, so that all see the same. None where the
    jumps differ: what a unit sees then grows along the map, and no jump describes it.
    """
    jumps = {field.jump for field in fields}
    if len(set(fields)) == 1 and fields[0].length == length:
        return fields[0]
    all_the_same = 0 in jumps or any(field.length < length for field in fields)
    if all_the_same or length == 1:
        hulls = [field.hull((0, field.length - 1)) for field in fields]
        first, last = min(first for first, _ in hulls), max(last for _, last in hulls)
        return Field(length, (first,), (last,), 0 if all_the_same else int(max(jumps)))
    if len(jumps) > 1:
        return None
    period = lcm(*(len(field.first) for field in fields))
    ends = [[field.of(unit) for field in fields] for unit in range(period)]
    first = tuple(min(first for first, _ in pairs) for pairs in ends)
    last = tuple(max(last for _, last in pairs) for pairs in ends)
    return Field(length, first, last, int(fields[0].jump * period))
