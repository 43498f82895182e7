"""Ruled lines on paper and forms, found and told from the strokes that cross them."""

import numpy as np
from scipy import ndimage

THIN = 0.02  # of the picture's longer side: ruled lines are thinner
SPAN = 0.75  # of the picture's width: ruled lines are seen along more (a digit of MNIST has at most 20 of 28 pixels)
FLAT = 2  # a line at 15 degrees has runs along its row nearly four times as long as across
TOUCHING = np.ones((3, 3))  # neighbours at corners count


def runs(mask: np.ndarray) -> np.ndarray:
    """Return for each pixel of ``mask`` ``(H, W)`` how many of its row belong together with it, 0 outside."""
    padded = np.pad(mask, ((0, 0), (1, 1)))
    numbers = np.cumsum(np.diff(padded.ravel(), prepend=False)).reshape(padded.shape)[:, 1:-1]
    return np.bincount(numbers.ravel())[numbers] * mask


def ruled_lines(mask: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return where horizontal lines run through ``mask``, without strokes that cross them or are far stronger.

    A line is straight, thin, at most 15 degrees from level, and seen along most of the picture's width.
    """
    height, width = mask.shape
    thick = max(3, round(max(mask.shape) * THIN))
    high = runs(mask.T).T
    thin = mask & (high <= thick) & (runs(mask) >= FLAT * high)
    labels, _ = ndimage.label(ndimage.maximum_filter(thin, (3, 2 * (thick // 2) + 1), mode="constant"), TOUCHING)
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
        if (mask & band).any(axis=0).mean() > SPAN and (thin & band).any(axis=0).mean() > 0.4:
            line = thin & band
            lines |= line & (contrast < 1.6 * np.median(contrast[line]))
    return lines


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
