"""Whether the elements of a tensor lie in a grid, as the units of a map do: found from what they see."""

from collections.abc import Sequence

from torch import Tensor

from helpers.receptive_field.extents import NOTHING, compact
from helpers.receptive_field.geometry import Pair, Pattern, Window

MAX_PERIOD = 16  # units after which a pattern has to repeat to be found; it has to do so three times


def is_channels_last(units: Tensor) -> bool:
    """Tell whether ``units`` (4, images, rows, columns, channels) are in a grid but for the place of the channels."""
    moved = units.permute(0, 1, 4, 2, 3)
    # A map of one channel whose rows and columns are transposed looks alike, save that its columns see unlike rows.
    return moves(grid_of(moved)) and (units.shape[2] > 1 or all_channels_see_the_same(moved))


def all_channels_see_the_same(units: Tensor) -> bool:
    shared = compact(units)
    return bool(((shared == shared.amax((1, 2), keepdim=True)) | (shared == NOTHING)).all())


def moves(grid: Sequence[Window | Pattern] | None) -> bool:
    return bool(grid) and all(window.pattern().advance for window in grid)


def grid_of(units: Tensor) -> list[Window | Pattern] | None:
    """Return the window, for each axis, through which a tensor reads a map; None if there is none.

    ``units`` (4, images, channels, rows, columns) are extents in units of that map. As a unit is one position of all
    channels, it sees what they see together; one that sees nothing, as under a mask, may be part of any grid.
    """
    together = compact(units).amax((1, 2)).expand(4, *units.shape[-2:])
    windows = []
    for axis in range(2):
        last, minus_first = together[axis], together[2 + axis]
        line_last, line_minus_first = last.amax(1 - axis, True), minus_first.amax(1 - axis, True)
        if not (((last == line_last) & (minus_first == line_minus_first)) | (last == NOTHING)).all():
            return None
        lines = {}
        ends = zip((-line_minus_first).flatten().tolist(), line_last.flatten().tolist(), strict=True)
        for i, (first, end) in enumerate(ends):
            if end != NOTHING:
                lines[i] = int(first), int(end)
        window = window_of(lines, last.shape[axis])
        if window is None:
            return None
        windows.append(window)
    return windows


def window_of(lines: dict[int, Pair], num_lines: int) -> Window | Pattern | None:
    """Return what slides over a map so that line i reads the positions from ``lines[i][0]`` to ``lines[i][1]``.

    A line that is not in ``lines`` reads nothing but padding. At the borders of the map windows may be cut off, if
    there is one that is not.
    """
    if not lines:
        return None
    first, last = min(start for start, _ in lines.values()), max(end for _, end in lines.values())
    if num_lines == 1:
        return Window(last - first + 1, padding=-first)
    if len(lines) > 1 and set(lines.values()) == {(first, last)}:
        return Window(last - first + 1, 0, -first)
    starts, ends = {i: start for i, (start, _) in lines.items()}, {i: end for i, (_, end) in lines.items()}
    uncut_starts = {i: start for i, start in starts.items() if start > first}
    uncut_ends = {i: end for i, end in ends.items() if end < last}
    known = [(starts, ends)]
    if uncut_starts.keys() & uncut_ends.keys():
        known.append((uncut_starts, uncut_ends))
    for period in range(1, max(1, min(num_lines // 3, MAX_PERIOD)) + 1):
        for known_starts, known_ends in known:
            pattern = repeated(known_starts, known_ends, period)
            if pattern and all(cut(pattern, i, first, last) == line for i, line in lines.items()):
                read, advance = pattern.reads[0], pattern.advance
                return pattern if period > 1 else Window(len(read), advance, -read[0])
    return None


def repeated(starts: dict[int, int], ends: dict[int, int], period: int) -> Pattern | None:
    """Return the pattern of so many lines that has these starts and ends, if it moves on by one step."""
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


def cut(pattern: Pattern, line: int, first: int, last: int) -> Pair:
    """Return the first and the last position that ``line`` reads of those from ``first`` to ``last``."""
    repeats, phase = divmod(line, len(pattern.reads))
    read, moved = pattern.reads[phase], repeats * pattern.advance
    return max(read[0] + moved, first), min(read[-1] + moved, last)
