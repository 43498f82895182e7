"""Find out whether the elements of a tensor form a feature map: whether they see regions on a regular grid.

``units`` are extents in units of the map that the tensor was computed from, not in pixels.
"""

from collections.abc import Sequence

from torch import Tensor

from helpers.receptive_field.extents import NOTHING, compact
from helpers.receptive_field.geometry import Pair, Pattern

MAX_PERIOD = 16  # in units: longer periods are not found; the pattern must also occur three times


def is_channels_last(units: Tensor) -> bool:
    """Tell whether ``units`` are those of a map with its channels last: (4, images, rows, columns, channels)."""
    channels_first = units.permute(0, 1, 4, 2, 3)
    # A transposed map of one channel would pass as well, but there the supposed channels see different rows.
    return advances(grid_of(channels_first)) and (units.shape[2] > 1 or all_channels_see_the_same(channels_first))


def all_channels_see_the_same(units: Tensor) -> bool:
    """Tell whether the channels of ``units`` (4, images, channels, rows, columns) see the same, or nothing."""
    shared = compact(units)
    return bool(((shared == shared.amax((1, 2), keepdim=True)) | (shared == NOTHING)).all())


def advances(grid: Sequence[Pattern] | None) -> bool:
    """Tell whether there is a ``grid`` in which neighbouring units see different regions along both axes."""
    return bool(grid) and all(pattern.advance for pattern in grid)


def grid_of(units: Tensor) -> list[Pattern] | None:
    """Return for each axis the pattern in which a tensor reads a map; None if its elements form no grid.

    ``units`` is (4, images, channels, rows, columns). A position sees what its channels see together. A position that
    sees nothing, as under a mask, fits into any grid.
    """
    together = compact(units).amax((1, 2)).expand(4, *units.shape[-2:])
    grid = []
    for axis in range(2):
        last, minus_first = together[axis], together[2 + axis]
        line_last, line_minus_first = last.amax(1 - axis, True), minus_first.amax(1 - axis, True)
        if not (((last == line_last) & (minus_first == line_minus_first)) | (last == NOTHING)).all():
            return None
        lines = {}
        ends = zip((-line_minus_first).flatten().tolist(), line_last.flatten().tolist(), strict=True)
        for i, (first, end) in enumerate(ends):
            if end != NOTHING:
                lines[i] = (int(first), int(end))
        pattern = pattern_of(lines, last.shape[axis])
        if pattern is None:
            return None
        grid.append(pattern)
    return grid


def pattern_of(lines: dict[int, Pair], num_lines: int) -> Pattern | None:
    """Return the pattern in which line i reads the positions ``lines[i]`` (first, last) of a map; None if none fits.

    A line that is not in ``lines`` reads only padding. What a line reads may be cut off at the borders of the map, as
    long as one line reads all of it.
    """
    if not lines:
        return None
    first = min(start for start, _ in lines.values())
    last = max(end for _, end in lines.values())
    if num_lines == 1:
        return Pattern([range(first, last + 1)], 1)
    if len(lines) > 1 and set(lines.values()) == {(first, last)}:
        return Pattern([range(first, last + 1)], 0)
    starts = {i: start for i, (start, _) in lines.items()}
    ends = {i: end for i, (_, end) in lines.items()}
    uncut_starts = {i: start for i, start in starts.items() if start > first}
    uncut_ends = {i: end for i, end in ends.items() if end < last}
    known = [(starts, ends)]  # tried first as if no line were cut off
    if uncut_starts.keys() & uncut_ends.keys():
        known.append((uncut_starts, uncut_ends))
    for period in range(1, max(1, min(num_lines // 3, MAX_PERIOD)) + 1):
        for known_starts, known_ends in known:
            pattern = periodic(known_starts, known_ends, period)
            if pattern and all(clipped(pattern, i, first, last) == line for i, line in lines.items()):
                return pattern
    return None


def periodic(starts: dict[int, int], ends: dict[int, int], period: int) -> Pattern | None:
    """Return the pattern of ``period`` lines with these starts and ends, if it advances by a constant step."""
    steps = set()
    for known in (starts, ends):
        steps |= {known[i + period] - known[i] for i in known if i + period in known}
    advance = steps.pop() if len(steps) == 1 else 0
    first = {i % period: start - i // period * advance for i, start in starts.items()}
    last = {i % period: end - i // period * advance for i, end in ends.items()}
    if advance <= 0 or len(first) < period or len(last) < period:
        return None
    reads = [range(first[phase], last[phase] + 1) for phase in range(period)]
    return Pattern(reads, advance) if all(reads) else None


def clipped(pattern: Pattern, line: int, first: int, last: int) -> Pair:
    """Return the first and the last position that ``line`` reads, clipped to ``first`` and ``last``."""
    repeats, phase = divmod(line, len(pattern.reads))
    read, moved = pattern.reads[phase], repeats * pattern.advance
    return max(read[0] + moved, first), min(read[-1] + moved, last)
