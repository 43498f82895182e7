"""Marks on a picture: connected ink, told apart into strokes of digits, ruled lines, frames, table and dust."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from helpers.photographs.grouping import Mark, group
from helpers.photographs.ink import FRAME, INK, Contrast, along_sides
from helpers.photographs.ruling import THIN, TOUCHING, bars_between, ruled_lines

SMALLEST = 0.025  # of the picture's longer side: smaller marks are no digit
SMALLEST_DRAWN = 0.01  # the same where there is no grain
REACH = 0.006  # of the picture's longer side: a stroke goes on across gaps of twice that
HAZE = 2.0  # how many times the area of half a mark's contrast that of a fifth is, where the mark is no ink
BLANK = 1.6  # of the grain's threshold: that of a blank sheet comes as far somewhere
BLOB = 0.65  # of a mark's longer side: what is thicker was not drawn by strokes


def is_no_digit(ink: np.ndarray) -> bool:
    """Tell whether ``ink``, cut to its box, is a blob, or has more holes than an 8 can have."""
    padded = np.pad(ink, 1)
    if 2 * ndimage.distance_transform_edt(padded).max() > BLOB * max(ink.shape):
        return max(ink.shape) > 8
    holes, number = ndimage.label(~padded)
    areas = np.bincount(holes.ravel())[2:] if number > 1 else np.zeros(0)
    return (areas > 0.005 * ink.size).sum() > 4


def is_haze(contrast: np.ndarray, mark: Mark, labels: np.ndarray) -> bool:
    """Tell whether a mark's edge fades like that of a shadow, a stain or grain, where that of ink is sharp.

    Compares the area of a fifth of its contrast, next to it, with the area of half of it: below 1.7 for pens,
    chalk and blurred photographs, above 2.2 for what is no ink (measured on invented pictures of training digits).
    """
    if max(labels.shape) < 100:  # the edge of a pen is then as wide as its stroke
        return False
    pad = 1 + round(THIN * max(labels.shape))
    near = np.s_[max(mark.top - pad, 0) : mark.bottom + pad, max(mark.left - pad, 0) : mark.right + pad]
    own, tones = labels[near] == mark.labels[0], contrast[near]
    strength = np.percentile(tones[own], 95)
    around = ndimage.maximum_filter(own, 2 * pad - 1, mode="constant")
    return (around & (tones > 0.2 * strength)).sum() > HAZE * (own & (tones > 0.5 * strength)).sum()


def encloses(ring: Mark, marks: list[Mark], labels: np.ndarray) -> bool:
    """Tell whether a mark that may be a stroke lies wholly inside ``ring``: then the ring is a frame drawn around."""
    inner = [m for m in marks if m is not ring and ring.around(m) and m.longer > 0.05 * ring.longer]
    if not inner:
        return False
    line = labels[ring.box] == ring.labels[0]
    if along_sides(line) > FRAME:
        return True
    reach = round(REACH * max(labels.shape))
    filled = ndimage.binary_fill_holes(ndimage.maximum_filter(line, 2 * reach + 1))
    return any(filled[labels[ring.box] == m.labels[0]].mean() > 0.95 for m in inner if m.longer > 0.25 * ring.longer)


def marks_of(contrast: Contrast) -> tuple[list[Mark], np.ndarray]:
    """Return the groups of strokes in ``contrast`` as they are read, and the label of each pixel ``(H, W)``.

    What is stronger than the strokes and is none (a frame, a table, dust) must not set the threshold: it is put aside
    and the rest looked at again. No group: no ink stands out of the grain.
    """
    values, grain = contrast.values, contrast.faintest
    rest, side = values.copy(), max(values.shape)
    smallest = max(min(6, side // 2), (SMALLEST_DRAWN if contrast.clean else SMALLEST) * side)
    reach = 0 if contrast.clean else round(REACH * side)
    outside = np.pad(np.zeros(np.subtract(values.shape, 2), bool), 1, constant_values=True)
    for _ in range(6):
        strongest = rest.max()
        if strongest < BLANK * grain:
            break
        mask = rest > max(INK * strongest, grain)
        faint = rest > max(INK / 2 * strongest, grain)
        lines = ruled_lines(faint, values)
        lines |= bars_between(lines, mask & ~lines)
        labels, marks = connected(mask & ~lines, reach)
        without_lines = replace(contrast, values=np.where(lines, 0, values))
        groups = group(strokes_among(marks, labels, without_lines, outside, smallest))
        found = np.isin(labels, [label for mark in groups for label in mark.labels])
        if groups and values[found].max() > 0.8 * strongest:
            return groups, labels
        aside = mask & ~found
        if not aside.any():
            return groups, labels
        rest[ndimage.binary_dilation(aside | lines, TOUCHING)] = 0
        outside |= ndimage.binary_dilation(aside & ~lines, TOUCHING, 3)
    return [], np.zeros(values.shape, int)


def number_of_marks(contrast: Contrast) -> int:
    """Return how many marks stand out of the grain, of whatever kind: many where digits are too small to be read."""
    strongest = contrast.values.max()
    if strongest < BLANK * contrast.faintest:
        return 0
    _, marks = connected(contrast.values > max(INK * strongest, contrast.faintest), 0)
    return sum(mark.longer > 2 for mark in marks)


def connected(mask: np.ndarray, reach: int) -> tuple[np.ndarray, list[Mark]]:
    """Return the label of each pixel ``(H, W)`` and the marks; gaps of up to ``2 * reach`` pixels do not part them."""
    labels, _ = ndimage.label(ndimage.maximum_filter(mask, 2 * reach + 1, mode="constant"), TOUCHING)
    labels *= mask
    boxes = enumerate(ndimage.find_objects(labels), 1)
    return labels, [Mark([i], *(at for side in box for at in (side.start, side.stop))) for i, box in boxes if box]


def strokes_among(
    marks: list[Mark], labels: np.ndarray, contrast: Contrast, outside: np.ndarray, smallest: float
) -> list[Mark]:
    """Return the marks that may be strokes of digits.

    Those that touch ``outside`` only where nothing else may be one, and nothing as large is haze; on even paper, those
    of the size of the others, too.
    """
    digits = [m for m in marks if m.longer >= smallest and not is_no_digit(labels[m.box] == m.labels[0])]
    haze = [m for m in digits if not contrast.clean and is_haze(contrast.values, m, labels)]
    digits = [m for m in digits if m not in haze]
    digits = [m for m in digits if not encloses(m, digits, labels)]
    largest = max((m.longer for m in digits), default=0)
    touching = set(np.unique(labels[outside]).tolist())
    inside = [m for m in digits if m.labels[0] not in touching]
    if any(m.longer > 0.3 * largest or m.longer > 0.25 * max(labels.shape) for m in inside + haze):
        alike = 1.5 * max(m.longer for m in inside) if inside and contrast.even else 0
        digits = inside + [m for m in digits if m.labels[0] in touching and m.longer <= alike]
    return digits + [m for m in marks if 2 < m.longer < smallest] if digits else []
