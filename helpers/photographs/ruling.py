"""Ruled lines on paper and forms, told from the strokes of digits."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from helpers.photographs.noise import SMALL

THIN = 0.02  # of the picture's longer side: ruled lines are thinner
SPAN = 0.75  # of the picture's side: ruled lines are seen along more of it
EDGE = 0.02  # of the picture's side: what comes nearer to the edge than that reaches it
MOST_STROKES = 3  # long straight ones in a digit (a 3 may be an E turned around): more lines than that are ruled
FLAT = 2  # a line at 15 degrees has runs along its row nearly four times as long as across
TOUCHING = np.ones((3, 3))  # neighbours at corners count


@dataclass(frozen=True)
class Line:
    """A straight line along most of the picture.

    ``pixels`` ``(H, W)`` are its own, ``band`` ``(H, W)`` is all that it covers together with what crosses it.
    """

    pixels: np.ndarray
    band: np.ndarray
    edge_to_edge: bool


def ruled_lines(mask: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return where ruled lines run through ``mask`` ``(H, W)``, without the strokes that cross them.

    A long straight stroke of a digit is no ruled line: these are many, or run from edge to edge and were not drawn by
    the pen of the other ink. In a small picture every stroke is thin and long: none of them is taken for a line.
    """
    ruled = np.zeros_like(mask)
    if max(mask.shape) < SMALL:
        return ruled
    level = level_lines(mask, contrast)
    upright = [Line(line.pixels.T, line.band.T, line.edge_to_edge) for line in level_lines(mask.T, contrast.T)]
    height, width = mask.shape
    many_level = len(level) > MOST_STROKES * max(1, height / width)
    many_upright = len(upright) > MOST_STROKES * max(1, width / height)
    rest = mask.copy()
    for line in level + upright:
        rest &= ~line.band
    if not (many_level or many_upright) and rest.sum() < 0.05 * mask.sum():
        return ruled
    for lines, many in ((level, many_level), (upright, many_upright)):
        for line in lines:
            if many or (line.edge_to_edge and not same_pen(line.pixels, rest, contrast)):
                ruled |= line.pixels
    return ruled


def same_pen(line: np.ndarray, rest: np.ndarray, contrast: np.ndarray) -> bool:
    """Tell whether a line is about as wide and as strong as the ``rest`` of the ink ``(H, W)``."""
    if not (line.any() and rest.any()):
        return False
    width = stroke_width(line) / stroke_width(rest)
    strength = np.percentile(contrast[line], 90) / np.percentile(contrast[rest], 90)
    return bool(max(width, 1 / width) < 1.5 and max(strength, 1 / strength) < 1.35)


def stroke_width(ink: np.ndarray) -> float:
    """Return the mean width of strokes ``(H, W)`` in pixels: four times the mean distance to their edge."""
    ink = np.pad(ink, 1)
    return 4 * ndimage.distance_transform_edt(ink)[ink].mean() - 1


def level_lines(mask: np.ndarray, contrast: np.ndarray) -> list[Line]:
    """Return the straight lines through ``mask`` that are thin, at most 15 degrees from level, and long."""
    thick = max(2, round(max(mask.shape) * THIN))
    high = runs(mask.T).T
    thin = mask & (high <= thick) & (runs(mask) >= FLAT * high)
    lines: list[Line] = []
    found = np.zeros_like(mask)
    for rows, columns in flat_pieces(thin, thick):
        if found[rows, columns].mean() > 0.5:
            continue
        line = line_along(rows, columns, mask, thin, contrast, thick)
        if line is not None:
            lines.append(line)
            found |= thin & line.band
    return lines


def flat_pieces(thin: np.ndarray, thick: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows and columns of at most 200 long, flat pieces of ``thin`` ``(H, W)``, longest first."""
    joined = ndimage.maximum_filter(thin, (3, 2 * (thick // 2) + 1), mode="constant")
    labels = ndimage.label(joined, TOUCHING)[0] * thin
    pieces = [(box[1].stop - box[1].start, i + 1, box) for i, box in enumerate(ndimage.find_objects(labels)) if box]
    found = []
    for length, label, box in sorted(pieces, key=lambda piece: -piece[0])[:200]:
        if length >= max(0.06 * thin.shape[1], 4 * (box[0].stop - box[0].start)):
            rows, columns = np.nonzero(labels[box] == label)
            found.append((rows + box[0].start, columns + box[1].start))
    return found


def line_along(
    rows: np.ndarray, columns: np.ndarray, mask: np.ndarray, thin: np.ndarray, contrast: np.ndarray, thick: int
) -> Line | None:
    """Return the straight line through the pixels at ``rows`` and ``columns``, if ``mask`` has most of it.

    What is far stronger than the rest of the line is a stroke that crosses it.
    """
    height, width = mask.shape
    slope, start = np.polyfit(columns, rows, 1)
    x, across = np.arange(width), np.arange(-(thick // 2) - 1, thick // 2 + 2)[:, None]
    y = np.round(start + slope * x).astype(int) + across  # (thickness, W)
    inside = (y >= 0) & (y < height)
    y = y.clip(0, height - 1)
    level = thin[y, x] & inside
    seen = (mask[y, x] & inside).any(axis=0)
    if seen.mean() <= SPAN or level.any(axis=0).mean() <= 0.4:
        return None
    band = np.zeros_like(mask)
    band[y[inside], np.broadcast_to(x, y.shape)[inside]] = True
    peaks = np.where(level, contrast[y, x], 0).max(axis=0)
    pixels = thin & band & (contrast < 1.6 * np.median(peaks[peaks > 0]))
    first, last = np.flatnonzero(inside.any(axis=0))[[0, -1]]
    edge = max(1, round(EDGE * width))
    edge_to_edge = bool(seen[first : first + edge].any() and seen[last - edge + 1 : last + 1].any())
    return Line(pixels, band, edge_to_edge)


def runs(mask: np.ndarray) -> np.ndarray:
    """Return for each pixel of ``mask`` ``(H, W)`` how many of its row belong together with it, 0 outside."""
    padded = np.pad(mask, ((0, 0), (1, 1)))
    numbers = np.cumsum(np.diff(padded.ravel(), prepend=False)).reshape(padded.shape)[:, 1:-1]
    return np.bincount(numbers.ravel())[numbers] * mask


def bars_between(lines: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return where ``mask`` has thin bars that end at ``lines`` on both sides: the teeth of a form's comb, no ones."""
    bars = np.zeros_like(mask)
    if not lines.any():
        return bars
    labels, _ = ndimage.label(mask, TOUCHING)
    near = ndimage.binary_dilation(lines, TOUCHING, 3)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        bar = labels[box] == label
        ends, across = (bar, near[box]) if bar.shape[0] > bar.shape[1] else (bar.T, near[box].T)
        if ends.shape[1] <= max(3, THIN * max(mask.shape)) and ends.shape[0] > 4 * ends.shape[1]:
            bars[box] |= bar & bool(across[:3].any() and across[-3:].any())
    return bars
