"""Marks on a picture: connected ink, told apart into strokes of digits, ruled lines, frames, table and dust."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from helpers.engine.ink import INK

SMALLEST = 0.025  # of the picture's longer side: smaller marks are no digit
SPECK = 0.2  # of the largest mark's longer side: what is smaller and apart is dust
THIN = 0.02  # of the picture's longer side: ruled lines are thinner
BLOB = 0.45  # of a mark's longer side: what is thicker was not drawn by strokes
TOUCHING = np.ones((3, 3))  # neighbours at corners count


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


def ruled_lines(mask: np.ndarray) -> np.ndarray:
    """Return where horizontal lines run through ``mask``, without the strokes that cross them.

    A line is straight, thin, at most 15 degrees from level, and seen along most of the picture's width.
    """
    height, width = mask.shape
    thick = max(3, round(max(mask.shape) * THIN))
    column = np.ones((thick + 1, 1))
    thin = mask & ~ndimage.binary_opening(np.pad(mask, ((thick, thick), (0, 0))), column)[thick:-thick]
    labels, _ = ndimage.label(ndimage.binary_dilation(thin, np.ones((3, 2 * (thick // 2) + 1))), TOUCHING)
    labels *= thin
    lines = np.zeros_like(mask)
    pieces = [(box[1].stop - box[1].start, i + 1, box) for i, box in enumerate(ndimage.find_objects(labels)) if box]
    x = np.arange(width)
    for length, label, box in sorted(pieces, key=lambda piece: -piece[0])[:200]:
        if length < max(0.06 * width, 4 * (box[0].stop - box[0].start)):
            continue
        rows, columns = np.nonzero(labels[box] == label)
        if lines[rows[0] + box[0].start, columns[0] + box[1].start]:
            continue
        slope, start = np.polyfit(columns + box[1].start, rows + box[0].start, 1)
        y = np.round(start + slope * x).astype(int)
        seen = (y >= 0) & (y < height)
        reach = thick // 2 + 1
        band = np.zeros_like(mask)
        for shift in range(-reach, reach + 1):
            at = seen & (y + shift >= 0) & (y + shift < height)
            band[(y + shift)[at], x[at]] = True
        covered = (thin & band).any(axis=0)
        if covered.sum() > 0.6 * width:
            lines |= thin & band
    return lines


def is_frame(ink: np.ndarray) -> bool:
    """Tell whether ``ink``, cut to its box, runs along all four sides of it."""
    depth = max(2, round(0.06 * max(ink.shape)))
    sides = (ink[:depth].any(0), ink[-depth:].any(0), ink[:, :depth].any(1), ink[:, -depth:].any(1))
    return min(side.mean() for side in sides) > 0.75


def is_no_digit(ink: np.ndarray) -> bool:
    """Tell whether ``ink``, cut to its box, is a blob, or has more holes than an 8 can have."""
    padded = np.pad(ink, 1)
    if 2 * ndimage.distance_transform_edt(padded).max() > BLOB * max(ink.shape):
        return max(ink.shape) > 8
    holes, number = ndimage.label(~padded)
    areas = np.bincount(holes.ravel())[2:] if number > 1 else np.zeros(0)
    return (areas > 0.005 * ink.size).sum() > 4


def group(marks: list[Mark]) -> list[Mark]:
    """Join the marks that make one digit: overlapping boxes, and pieces small or near enough beside a larger mark."""
    marks = sorted(marks, key=lambda mark: -mark.longer)
    groups: list[Mark] = []
    for mark in marks:
        near = [other for other in groups if belongs(mark, other)]
        if near:
            nearest = min(near, key=mark.gap)
            groups[groups.index(nearest)] = nearest.joined(mark)
        elif mark.longer >= SPECK * 2 * marks[0].longer:
            groups.append(mark)
    return sorted(groups, key=lambda mark: mark.left)


def belongs(piece: Mark, mark: Mark) -> bool:
    """Tell whether ``piece`` is part of the digit whose larger part is ``mark``."""
    size = mark.longer
    overlap_x = min(piece.right, mark.right) - max(piece.left, mark.left)
    overlap_y = min(piece.bottom, mark.bottom) - max(piece.top, mark.top)
    if overlap_x > 0 and overlap_y > 0:
        return overlap_x * overlap_y > 0.25 * piece.width * piece.height
    if piece.longer > 0.6 * size:
        return overlap_x > 0.5 * min(piece.width, mark.width) and piece.gap(mark) < 0.1 * size
    return piece.gap(mark) < (0.2 if piece.longer > SPECK * size else 0.1) * size


def marks_of(contrast: np.ndarray, grain: float) -> tuple[list[Mark], np.ndarray]:
    """Return the groups of strokes in ``contrast`` ``(H, W)`` from left to right, and the label of each pixel.

    What is stronger than the strokes and is none (a frame, a table, dust) must not set the threshold: it is put aside
    and the rest looked at again. No group: no ink stands out of the grain.
    """
    rest = contrast.copy()
    side = max(contrast.shape)
    for _ in range(6):
        strongest = rest.max()
        if strongest < grain:
            return [], np.zeros(contrast.shape, int)
        mask = rest > max(INK * strongest, grain)
        lines = ruled_lines(mask) | ruled_lines(mask.T).T
        kept = mask & ~lines
        labels, _ = ndimage.label(kept, TOUCHING)
        marks = [
            Mark([i + 1], box[0].start, box[0].stop, box[1].start, box[1].stop)
            for i, box in enumerate(ndimage.find_objects(labels))
        ]
        strokes = strokes_among(marks, labels, max(6.0, SMALLEST * side))
        groups = group(strokes)
        found = np.isin(labels, [label for mark in groups for label in mark.labels])
        if groups and contrast[found].max() > 0.8 * strongest:
            return groups, labels
        other = mask & ~found
        if not other.any():
            return groups, labels
        rest[ndimage.binary_dilation(other, TOUCHING, 1)] = 0
    return [], np.zeros(contrast.shape, int)


def strokes_among(marks: list[Mark], labels: np.ndarray, smallest: float) -> list[Mark]:
    """Return the marks that may be strokes of digits."""
    height, width = labels.shape
    digits = [m for m in marks if m.longer >= smallest and not is_no_digit(labels[m.box] == m.labels[0])]
    frames = [
        m
        for m in marks
        if m.longer > 4 * smallest
        and is_frame(labels[m.box] == m.labels[0])
        and (any(m is not d and m.around(d) for d in digits) or m.height * m.width > 0.8 * height * width)
    ]
    digits = [m for m in digits if m not in frames]
    largest = max((m.longer for m in digits), default=0)
    inside = [m for m in digits if m.top > 0 and m.left > 0 and m.bottom < height and m.right < width]
    if any(m.longer > 0.3 * largest or m.longer > 0.25 * max(height, width) for m in inside):
        return [m for m in marks if m in inside or (m.longer < smallest and m.longer > 2)]
    return digits + [m for m in marks if 2 < m.longer < smallest] if digits else []
