"""Connected ink and its box, and which pieces of it make one digit."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SPECK = 0.2  # of the largest mark's longer side: what is smaller and apart is dust
LEAST = 0.3  # of the largest mark's longer side: what is smaller is no digit beside it
MOST_PIECES = 2  # a five has its bar apart, a four its second stroke
BESIDE = 0.4  # of the lower one's height: neighbours in a row are beside each other along more
PIECE = 0.015  # of a digit's area: smaller pieces are specks
STROKES, STROKES_IN_WIDE = 1.98, 1.85  # in a row, of a digit at most; one wider than high is doubted sooner
WIDE = 2.2  # of its height: no digit is as wide


@dataclass
class Mark:
    """Connected ink: its labels and the rows and columns of its box."""

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
    def longer(self) -> int:
        return max(self.height, self.width)

    @property
    def box(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def gap(self, other: "Mark") -> int:
        """Return the pixels between two boxes, along the axis where they are further apart; 0 where they overlap."""
        return max(
            self.top - other.bottom, other.top - self.bottom, self.left - other.right, other.left - self.right, 0
        )

    def beside(self, other: "Mark") -> float:
        """Return how much of the lower one of two marks is at the height of the other."""
        overlap = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(overlap, 0) / min(self.height, other.height)

    def around(self, other: "Mark") -> bool:
        return (
            self.top <= other.top
            and self.bottom >= other.bottom
            and self.left <= other.left
            and self.right >= other.right
        )

    def joined(self, other: "Mark") -> "Mark":
        return Mark(
            self.labels + other.labels,
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


def group(marks: list[Mark]) -> list[Mark]:
    """Join the marks that make one digit: overlapping boxes, and pieces small or near enough beside a larger mark."""
    marks = sorted(marks, key=lambda mark: -mark.longer)
    groups: list[Mark] = []
    for mark in marks:
        near = [other for other in groups if belongs(mark, other)]
        if near:
            nearest = min(near, key=mark.gap)
            groups[groups.index(nearest)] = nearest.joined(mark)
        elif mark.longer >= LEAST * marks[0].longer:
            groups.append(mark)
    highest = max((mark.height for mark in groups), default=0)
    groups = [mark for mark in groups if mark.width < WIDE * mark.height or mark.height > 0.5 * highest]
    return [mark for row in rows_of(groups) for mark in row]


def rows_of(marks: list[Mark]) -> list[list[Mark]]:
    """Return ``marks`` in rows from top to bottom, each from left to right.

    A mark goes on with the row whose last mark is at its height. So a row may slope.
    """
    rows: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda mark: mark.left):
        row = max(rows, key=lambda row: mark.beside(row[-1]), default=[])
        if row and mark.beside(row[-1]) > BESIDE:
            row.append(mark)
        else:
            rows.append([mark])
    return sorted(rows, key=lambda row: row[0].top + row[0].bottom)


def belongs(piece: Mark, mark: Mark) -> bool:
    """Tell whether ``piece`` is part of the digit whose larger part is ``mark``."""
    size = mark.longer
    overlap_x = min(piece.right, mark.right) - max(piece.left, mark.left)
    overlap_y = min(piece.bottom, mark.bottom) - max(piece.top, mark.top)
    if overlap_x > 0 and overlap_y > 0 and overlap_x * overlap_y > 0.25 * piece.width * piece.height:
        return True
    if piece.longer > 0.6 * size:
        return overlap_x > 0.5 * min(piece.width, mark.width) and piece.gap(mark) < 0.1 * size
    return piece.gap(mark) < (0.2 if piece.longer > SPECK * size else 0.1) * size


def pieces_of(mark: Mark, labels: np.ndarray) -> int:
    """Return how many pieces lie apart in ``mark``: what is drawn by more than two is a face, a crossword, a text."""
    areas = np.bincount(labels[np.isin(labels, mark.labels)])
    return int((areas > PIECE * areas.sum()).sum())


def touch(ink: np.ndarray) -> bool:
    """Tell whether ``ink`` ``(H, W)``, cut to its box, is more than one digit, grown together.

    A row of a single digit crosses two strokes at most, and about one if the holes of the digit are filled: a row
    through neighbours crosses those of both. So 0.3% of MNIST's digits and 98% of pairs that touch are refused.
    """
    strokes = (strokes_in_a_row(ink) + strokes_in_a_row(ndimage.binary_fill_holes(ink))) / 2
    height, width = ink.shape
    return strokes > (STROKES_IN_WIDE if width > height else STROKES)


def strokes_in_a_row(ink: np.ndarray) -> float:
    """Return how many strokes the rows of ``ink`` ``(H, W)`` cross on average."""
    begins = np.diff(ink.astype(int), axis=1, prepend=0) == 1
    return begins.sum() / len(ink)
