"""Marks: connected ink with its bounding box. Which marks belong to one digit, and in which order digits are read."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MIN_STROKE = 0.2  # of a digit's longer side: smaller pieces must be nearer to it to be part of it
MIN_DIGIT = 0.3  # of the largest mark's longer side: a smaller mark is not a digit of its own
MAX_PIECES = 2  # of a digit: a five may have its bar apart, a four its second stroke
MIN_OVERLAP = 0.4  # of the smaller height: neighbours in a row of digits overlap by more
MIN_PIECE = 0.015  # of a digit's area: smaller pieces are specks
MAX_STROKES = 1.98  # that the rows of a single digit cross, on average
MAX_STROKES_IN_WIDE = 1.85  # the same for ink wider than high, which is more likely to be two digits
MAX_ASPECT = 2.2  # width over height of a digit
TOUCHING = np.ones((3, 3))  # pixels that touch at a corner are connected


@dataclass
class Mark:
    """Connected ink, or several pieces of it: its labels and its bounding box; ``bottom`` and ``right`` are outside."""

    labels: list[int]
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def longer_side(self) -> int:
        return max(self.height, self.width)

    @property
    def box(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlap(self, other: "Mark") -> tuple[int, int]:
        """Return by how many pixels two boxes overlap in height and in width; a gap is a negative overlap."""
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        width = min(self.right, other.right) - max(self.left, other.left)
        return height, width

    def gap(self, other: "Mark") -> int:
        """Return the gap between two boxes in pixels, along the axis where it is larger; 0 if they overlap."""
        return max(-min(self.overlap(other)), 0)

    def overlap_in_height(self, other: "Mark") -> float:
        """Return how far two marks overlap vertically, as a fraction of the smaller height."""
        return self.overlap(other)[0] / min(self.height, other.height)

    def contains(self, other: "Mark") -> bool:
        return self.overlap(other) == (other.height, other.width)

    def joined(self, other: "Mark") -> "Mark":
        return Mark(
            self.labels + other.labels,
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


def connected(mask: np.ndarray, reach: int | tuple[int, int] = 0) -> tuple[np.ndarray, list[Mark]]:
    """Return the label of each pixel ``(H, W)`` and the marks, joined across gaps of up to ``2 * reach`` pixels."""
    joined = ndimage.maximum_filter(mask, 2 * np.array(reach) + 1, mode="constant")
    labels = ndimage.label(joined, TOUCHING)[0] * mask
    marks = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box:
            rows, columns = box
            marks.append(Mark([label], rows.start, rows.stop, columns.start, columns.stop))
    return labels, marks


def group(marks: list[Mark]) -> list[Mark]:
    """Join the marks that form one digit, drop those too small or too flat to be one, and sort the rest for reading."""
    marks = sorted(marks, key=lambda mark: -mark.longer_side)
    groups: list[Mark] = []
    for mark in marks:
        near = [other for other in groups if belongs(mark, other)]
        if near:
            nearest = min(near, key=mark.gap)
            groups[groups.index(nearest)] = nearest.joined(mark)
        elif mark.longer_side >= MIN_DIGIT * marks[0].longer_side:
            groups.append(mark)
    highest = max((mark.height for mark in groups), default=0)
    groups = [mark for mark in groups if mark.width < MAX_ASPECT * mark.height or mark.height > 0.5 * highest]
    return [mark for row in rows_of(groups) for mark in row]


def rows_of(marks: list[Mark]) -> list[list[Mark]]:
    """Return ``marks`` in rows from top to bottom, each from left to right.

    A mark continues the row whose last mark is at about the same height, so that a row may slope.
    """
    rows: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda mark: mark.left):
        row = max(rows, key=lambda row: mark.overlap_in_height(row[-1]), default=[])
        if row and mark.overlap_in_height(row[-1]) > MIN_OVERLAP:
            row.append(mark)
        else:
            rows.append([mark])
    return sorted(rows, key=lambda row: row[0].top + row[0].bottom)


def belongs(piece: Mark, mark: Mark) -> bool:
    """Tell whether ``piece`` is part of the same digit as ``mark``, which is larger."""
    size = mark.longer_side
    _, width = piece.overlap(mark)
    if piece.longer_side > 0.6 * size:
        return width > 0.5 * min(piece.width, mark.width) and piece.gap(mark) < 0.1 * size
    max_gap = 0.2 if piece.longer_side > MIN_STROKE * size else 0.1
    return piece.gap(mark) < max_gap * size


def number_of_pieces(mark: Mark, labels: np.ndarray) -> int:
    """Return how many separate pieces ``mark`` has: more than two make a face, a crossword or text, not a digit."""
    areas = np.bincount(labels[np.isin(labels, mark.labels)])
    return int((areas > MIN_PIECE * areas.sum()).sum())


def touches_another(ink: np.ndarray) -> bool:
    """Tell whether ``ink`` ``(H, W)``, cropped to its box, is several digits that touch each other.

    A row through a single digit crosses at most two strokes, and about one if the holes of the digit are filled. A row
    through two digits crosses the strokes of both. This refuses 0.3% of MNIST's digits and 98% of touching pairs.
    """
    filled = ndimage.binary_fill_holes(ink)
    strokes = (strokes_per_row(ink) + strokes_per_row(filled)) / 2
    height, width = ink.shape
    return strokes > (MAX_STROKES_IN_WIDE if width > height else MAX_STROKES)


def strokes_per_row(ink: np.ndarray) -> float:
    """Return how many strokes the rows of ``ink`` ``(H, W)`` cross on average."""
    begins = np.diff(ink.astype(int), axis=1, prepend=0) == 1
    return begins.sum() / len(ink)
