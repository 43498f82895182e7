"""Find the marks in a picture that are strokes of digits, and leave out ruled lines, frames, table and dust."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from helpers.photographs.grouping import TOUCHING, Mark, connected, group
from helpers.photographs.ink import FRAME, MIN_INK, Contrast, coverage_of_sides
from helpers.photographs.ruling import THIN, bars_between, ruled_lines

MIN_SIZE = 0.025  # of the picture's longer side: smaller marks are not digits
MIN_SIZE_CLEAN = 0.01  # the same in a picture without grain
REACH = 0.006  # of the picture's longer side: a stroke may have gaps of up to twice this
HAZE = 2.0  # a mark is haze if its area above 20% of its contrast is more than this many times its area above 50%
BLANK = 1.6  # times the threshold for grain, which the grain of a blank sheet may reach somewhere
BLOB = 0.65  # of a mark's longer side: anything thicker was not drawn in strokes
MAX_ROUNDS = 6  # of putting aside marks that are not digits


def is_blob_or_mesh(ink: np.ndarray) -> bool:
    """Tell whether ``ink`` ``(H, W)``, cropped to its box, is too thick or has too many holes for a digit."""
    padded = np.pad(ink, 1)
    if 2 * ndimage.distance_transform_edt(padded).max() > BLOB * max(ink.shape):
        return max(ink.shape) > 8
    holes, number = ndimage.label(~padded)
    areas = np.bincount(holes.ravel())[2:] if number > 1 else np.zeros(0)
    return (areas > 0.005 * ink.size).sum() > 4


def is_haze(contrast: np.ndarray, mark: Mark, labels: np.ndarray) -> bool:
    """Tell whether the edge of a mark fades slowly, like that of a shadow, a stain or grain; edges of ink are sharp.

    Compares the area above 20% of the mark's contrast with the area above 50%. The ratio is below 1.7 for pens, chalk
    and blurred photographs, and above 2.2 for what is not ink (measured on pictures made from training digits).
    """
    if max(labels.shape) < 100:  # in a picture this small, edges are as wide as strokes
        return False
    pad = 1 + round(THIN * max(labels.shape))
    near = np.s_[max(mark.top - pad, 0) : mark.bottom + pad, max(mark.left - pad, 0) : mark.right + pad]
    own, tones = labels[near] == mark.labels[0], contrast[near]
    strength = np.percentile(tones[own], 95)
    around = ndimage.maximum_filter(own, 2 * pad - 1, mode="constant")
    return (around & (tones > 0.2 * strength)).sum() > HAZE * (own & (tones > 0.5 * strength)).sum()


def encloses(ring: Mark, marks: list[Mark], labels: np.ndarray) -> bool:
    """Tell whether ``ring`` is a frame around one of ``marks``, rather than a digit with something in its hole."""
    inner = [m for m in marks if m is not ring and ring.contains(m) and m.longer_side > 0.05 * ring.longer_side]
    if not inner:
        return False
    line = labels[ring.box] == ring.labels[0]
    if coverage_of_sides(line) > FRAME:
        return True
    reach = round(REACH * max(labels.shape))
    filled = ndimage.binary_fill_holes(ndimage.maximum_filter(line, 2 * reach + 1))
    return any(
        filled[labels[ring.box] == m.labels[0]].mean() > 0.95 for m in inner if m.longer_side > 0.25 * ring.longer_side
    )


def marks_of(contrast: Contrast) -> tuple[list[Mark], np.ndarray]:
    """Return the marks that form digits, in reading order, and the label of each pixel ``(H, W)``.

    The threshold depends on the strongest contrast. If that belongs to something that is not a digit (a frame, a table,
    dust), it is put aside and the rest is searched again. No marks are returned if no ink stands out from the grain.
    """
    values = contrast.values
    rest, side = values.copy(), max(values.shape)
    if contrast.clean:
        min_size, reach = MIN_SIZE_CLEAN * side, 0
    else:
        min_size, reach = MIN_SIZE * side, round(REACH * side)
    min_size = max(min_size, min(6, side // 2))
    # The edge of the picture and, later, the surroundings of what was put aside.
    outside = np.pad(np.zeros(np.subtract(values.shape, 2), bool), 1, constant_values=True)
    for _ in range(MAX_ROUNDS):
        strongest = rest.max()
        if strongest < BLANK * contrast.min_ink:
            break
        mask = rest > contrast.threshold(strongest)
        faint = rest > contrast.threshold(strongest, MIN_INK / 2)
        lines = ruled_lines(faint, values)
        lines |= bars_between(lines, mask & ~lines)
        labels, marks = connected(mask & ~lines, reach)
        without_lines = replace(contrast, values=np.where(lines, 0, values))
        groups = group(strokes_among(marks, labels, without_lines, outside, min_size))
        found = np.isin(labels, [label for mark in groups for label in mark.labels])
        aside = mask & ~found
        has_strongest = groups and values[found].max() > 0.8 * strongest
        if has_strongest or not aside.any():
            return groups, labels
        rest[ndimage.binary_dilation(aside | lines, TOUCHING)] = 0
        outside |= ndimage.binary_dilation(aside & ~lines, TOUCHING, 3)
    return [], np.zeros(values.shape, int)


def number_of_marks(contrast: Contrast) -> int:
    """Return how many marks of any kind stand out from the grain."""
    strongest = contrast.values.max()
    if strongest < BLANK * contrast.min_ink:
        return 0
    _, marks = connected(contrast.values > contrast.threshold(strongest))
    return sum(mark.longer_side > 2 for mark in marks)


def strokes_among(
    marks: list[Mark], labels: np.ndarray, contrast: Contrast, outside: np.ndarray, min_size: float
) -> list[Mark]:
    """Return the marks that may be strokes of digits.

    Marks that touch ``outside`` are left out if there is a large enough mark elsewhere, a digit or haze. On even paper
    those are kept that are not much larger than the digits elsewhere.
    """
    digits = [m for m in marks if m.longer_side >= min_size and not is_blob_or_mesh(labels[m.box] == m.labels[0])]
    haze = [m for m in digits if not contrast.clean and is_haze(contrast.values, m, labels)]
    digits = [m for m in digits if m not in haze]
    digits = [m for m in digits if not encloses(m, digits, labels)]
    largest = max((m.longer_side for m in digits), default=0)
    touching = set(np.unique(labels[outside]).tolist())
    inside = [m for m in digits if m.labels[0] not in touching]
    if any(m.longer_side > 0.3 * largest or m.longer_side > 0.25 * max(labels.shape) for m in inside + haze):
        max_touching = 1.5 * max(m.longer_side for m in inside) if inside and contrast.even else 0
        digits = inside + [m for m in digits if m.labels[0] in touching and m.longer_side <= max_touching]
    if not digits:
        return []
    small_pieces = [m for m in marks if 2 < m.longer_side < min_size]  # may belong to a digit
    return digits + small_pieces
