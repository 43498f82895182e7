"""Find ruled lines on paper and forms, and tell them from the strokes of digits."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from helpers.photographs.grouping import TOUCHING, connected
from helpers.photographs.ink import stroke_width
from helpers.photographs.noise import SMALL

THIN = 0.02  # of the picture's longer side: ruled lines are thinner
SPAN = 0.75  # of the picture's width: ruled lines are visible along more of it
EDGE = 0.02  # of the picture's width: a line that ends nearer to the edge reaches it
MAX_STROKES = 3  # long straight strokes in a digit (a 3 may look like a mirrored E): more lines than this are ruled
FLAT = 2  # length over height of the runs of pixels in a line, at least; nearly 4 at 15 degrees


@dataclass(frozen=True)
class Line:
    """A straight line along most of the picture.

    ``pixels`` ``(H, W)`` belong to the line; ``band`` ``(H, W)`` is the area around it, with the strokes that cross it.
    """

    pixels: np.ndarray
    band: np.ndarray
    edge_to_edge: bool


def ruled_lines(mask: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return the pixels of ruled lines in ``mask`` ``(H, W)``, without the strokes that cross them.

    To tell them from long straight strokes of digits: there are many ruled lines, or they run from edge to edge and
    differ in width or contrast from the rest of the ink. None are returned for a small picture, in which every stroke
    is thin and long.
    """
    ruled = np.zeros_like(mask)
    if max(mask.shape) < SMALL:
        return ruled
    horizontal = horizontal_lines(mask, contrast)
    vertical = [Line(line.pixels.T, line.band.T, line.edge_to_edge) for line in horizontal_lines(mask.T, contrast.T)]
    height, width = mask.shape
    many_horizontal = len(horizontal) > MAX_STROKES * max(1, height / width)
    many_vertical = len(vertical) > MAX_STROKES * max(1, width / height)
    rest = mask.copy()
    for line in horizontal + vertical:
        rest &= ~line.band
    if not (many_horizontal or many_vertical) and rest.sum() < 0.05 * mask.sum():
        return ruled
    for lines, many in ((horizontal, many_horizontal), (vertical, many_vertical)):
        for line in lines:
            if many or (line.edge_to_edge and not same_pen(line.pixels, rest, contrast)):
                ruled |= line.pixels
    return ruled


def same_pen(line: np.ndarray, rest: np.ndarray, contrast: np.ndarray) -> bool:
    """Tell whether ``line`` ``(H, W)`` has about the width and contrast of the ``rest`` of the ink ``(H, W)``."""
    if not (line.any() and rest.any()):
        return False
    width_ratio = stroke_width(line) / stroke_width(rest)
    contrast_ratio = np.percentile(contrast[line], 90) / np.percentile(contrast[rest], 90)
    return bool(max(width_ratio, 1 / width_ratio) < 1.5 and max(contrast_ratio, 1 / contrast_ratio) < 1.35)


def horizontal_lines(mask: np.ndarray, contrast: np.ndarray) -> list[Line]:
    """Return the long, thin, straight lines in ``mask`` ``(H, W)`` within 15 degrees of horizontal.

    They are sought along the 200 longest pieces; a line in several pieces counts once.
    """
    max_width = max(2, round(max(mask.shape) * THIN))
    height = runs(mask.T).T
    thin = mask & (height <= max_width) & (runs(mask) >= FLAT * height)
    lines: list[Line] = []
    found = np.zeros_like(mask)
    labels, pieces = connected(thin, (1, max_width // 2))
    for piece in sorted(pieces, key=lambda piece: -piece.width)[:200]:
        if piece.width < max(0.06 * mask.shape[1], 4 * piece.height):
            continue
        rows, columns = np.nonzero(labels[piece.box] == piece.labels[0])
        rows, columns = rows + piece.top, columns + piece.left
        if found[rows, columns].mean() > 0.5:
            continue
        line = line_along(rows, columns, mask, thin, contrast, max_width)
        if line is not None:
            lines.append(line)
            found |= thin & line.band
    return lines


def line_along(
    rows: np.ndarray, columns: np.ndarray, mask: np.ndarray, thin: np.ndarray, contrast: np.ndarray, max_width: int
) -> Line | None:
    """Fit a straight line to the pixels at ``rows`` and ``columns`` and return it, if most of it is in ``mask``.

    Pixels with far more contrast than the rest of the line belong to strokes that cross it, not to the line.
    """
    height, width = mask.shape
    slope, start = np.polyfit(columns, rows, 1)
    y = np.round(start + slope * np.arange(width)).astype(int)
    band = np.abs(np.arange(height)[:, None] - y) <= max_width // 2 + 1
    level = thin & band
    seen = (mask & band).any(axis=0)
    if seen.mean() <= SPAN or level.any(axis=0).mean() <= 0.4:
        return None
    peaks = np.where(level, contrast, 0).max(axis=0)
    pixels = level & (contrast < 1.6 * np.median(peaks[peaks > 0]))
    first, last = np.flatnonzero(band.any(axis=0))[[0, -1]]
    edge = max(1, round(EDGE * width))
    edge_to_edge = bool(seen[first : first + edge].any() and seen[last - edge + 1 : last + 1].any())
    return Line(pixels, band, edge_to_edge)


def runs(mask: np.ndarray) -> np.ndarray:
    """Return for each pixel of ``mask`` ``(H, W)`` the length of the run in its row that it belongs to; 0 outside."""
    padded = np.pad(mask, ((0, 0), (1, 1)))
    run_index = np.cumsum(np.diff(padded.ravel(), prepend=False)).reshape(padded.shape)[:, 1:-1]
    return np.bincount(run_index.ravel())[run_index] * mask


def bars_between(lines: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the thin bars in ``mask`` ``(H, W)`` with both ends at ``lines``: dividers of a form, not ones."""
    bars = np.zeros_like(mask)
    if not lines.any():
        return bars
    labels, marks = connected(mask)
    near = ndimage.binary_dilation(lines, TOUCHING, 3)
    for mark in marks:
        near_mark = near[mark.box] if mark.height > mark.width else near[mark.box].T  # along the bar first
        length, width = near_mark.shape
        is_thin = width <= max(3, THIN * max(mask.shape)) and length > 4 * width
        if is_thin and near_mark[:3].any() and near_mark[-3:].any():
            bars[mark.box] |= labels[mark.box] == mark.labels[0]
    return bars
