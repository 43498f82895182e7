"""Ink in a picture: its contrast with the paper around it, and the width of its strokes."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from helpers.photographs.noise import SMALL, without_grain

MIN_INK = 0.25  # of the strongest contrast: fainter pixels are paper
MIN_CONTRAST = 0.02  # of the range from black to white: weaker contrast is not ink
MIN_CONTRAST_PHOTO = 0.1  # the same on uneven paper
NOISE = 5.0  # ink stands out by more standard deviations of the paper's grain
MAX_STROKE = 0.25  # of the picture's longer side: anything wider is paper, table or shadow
MAX_BOLD_STROKE = 0.4  # the same for a digit that fills the picture
TIGHT = 0.25  # of the border: if ink touches all four sides and covers less, a digit was cropped tightly
FRAME = 0.75  # of each side: ink that runs along more of it is a frame or a sheet
NEAR = 10  # the grey edges of ink reach no further than the picture's longer side divided by this
EVEN = 0.06  # of the contrast: paper that varies less has one level


@dataclass(frozen=True)
class Contrast:
    """How much the pixels of a picture stand out from its paper: ``values`` ``(H, W)`` from 0 to 1.

    Values up to ``min_ink`` may be grain. ``even`` tells whether the paper has one level, or a constant slope.
    """

    values: np.ndarray
    min_ink: float
    even: bool

    @property
    def clean(self) -> bool:
        """Whether the picture is a drawing or a screenshot: no grain, even paper."""
        return self.even and self.min_ink == MIN_CONTRAST

    def threshold(self, strongest: float, share: float = MIN_INK) -> float:
        """Return the contrast above which pixels are ink: a ``share`` of the ``strongest``, and more than grain."""
        return max(share * strongest, self.min_ink)


def grey_along_ink(levels: np.ndarray) -> np.ndarray:
    """Convert colours ``(3, H, W)`` to grey ``(H, W)``, weighting the colours so that edges get the strongest contrast.

    This makes a yellow pen on white, which differs from it only in blue, as visible as a black one. The weights are the
    first principal component of the differences between neighbouring pixels, scaled so that their absolute values add
    up to 1. Grey pictures stay as they are. Weights of both signs can give negative values; the result is then shifted
    to start at 0, because its logarithm is taken later.
    """
    down, right = np.diff(levels, axis=1).reshape(3, -1), np.diff(levels, axis=2).reshape(3, -1)
    _, components = np.linalg.eigh(down @ down.T + right @ right.T)
    weights = components[:, -1]
    if weights.sum() < 0:
        weights = -weights
    weights = weights / np.abs(weights).sum()
    grey = np.tensordot(weights.astype(np.float32), levels, 1)
    return grey - min(grey.min(), 0)


def otsu(values: np.ndarray) -> float:
    """Return the threshold that splits ``values`` into two classes with the smallest variance (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * (below[-1] - below), 1)
    best = between == between.max()
    return float(centres[best].mean())  # the middle of the empty levels between two tones


def sides(tone: np.ndarray) -> list[np.ndarray]:
    """Return the pixels of ``tone`` ``(H, W)`` along its four sides."""
    return [tone[0], tone[-1], tone[:, 0], tone[:, -1]]


def paper_on(grey: np.ndarray) -> np.ndarray:
    """Return which pixels of ``grey`` ``(H, W)`` are paper, given that there are two tones.

    Paper is the tone of the border, unless the border is a frame: all of one tone that is rare inside.
    """
    dark = grey <= otsu(grey)
    dark_border = np.concatenate(sides(dark)).mean()  # fraction
    paper = dark if dark_border > 0.5 else ~dark
    if max(dark_border, 1 - dark_border) > 0.98 and paper.mean() < 0.5 and has_sheet(~paper, MAX_STROKE):
        paper = ~paper
    return paper


def shows_more_than_ink(ink: np.ndarray) -> bool:
    """Tell whether the tone ``ink`` ``(H, W)`` includes a sheet or a shadow, and is not just a tightly cropped digit.

    A digit that touches the border is a close-up, with strokes that may be wide. A shadow covers a corner instead.
    """
    top, bottom, left, right = (bool(side.any()) for side in sides(ink))
    across = (top and bottom) or (left and right)
    border = np.concatenate(sides(ink)).mean()
    if across and min(border, 1 - border) < TIGHT:
        return False
    in_a_corner = ink[:: len(ink) - 1, :: len(ink[0]) - 1].any()
    is_close_up = across or (not in_a_corner and (top or bottom or left or right))
    return has_sheet(ink, MAX_BOLD_STROKE if is_close_up else MAX_STROKE)


def even_paper(grey: np.ndarray) -> float | np.ndarray | None:
    """Return the level of even paper; None if the picture shows uneven light, shadows or a table.

    Around a tightly cropped digit the level may be a slope ``(H, W)``, because its strokes are too wide for
    ``uneven_contrast``.
    """
    ink = ~paper_on(grey)
    if not ink.any():
        return np.median(grey)
    far_from_ink = ~ndimage.maximum_filter(ink, 2 * (max(grey.shape) // NEAR) + 1)
    paper = far_from_ink if far_from_ink.any() else ~ink
    level = np.median(grey[paper])
    if max(grey.shape) < SMALL:
        return level
    if shows_more_than_ink(ink):
        return None
    tolerance = EVEN * abs(np.median(grey[ink]) - level)
    if unevenness(grey, paper) <= tolerance:
        return level
    if not 0 < coverage_of_sides(ink) < FRAME:
        return None
    slope = plane_through(grey, paper)
    return slope if unevenness(grey - slope, paper) <= tolerance else None


def unevenness(grey: np.ndarray, paper: np.ndarray) -> float:
    """Return by how much the median of ``paper`` varies over up to 8 by 8 blocks of ``grey`` ``(H, W)``."""
    height, width = grey.shape
    num_rows, num_columns = min(8, -(-height // 20)), min(8, -(-width // 20))  # blocks of at least 20 pixels or so
    medians = []
    for rows in np.array_split(np.arange(height), num_rows):
        for columns in np.array_split(np.arange(width), num_columns):
            block = np.ix_(rows, columns)
            if paper[block].mean() > 0.6:
                medians.append(np.median(grey[block][paper[block]]))
    return np.ptp(medians) if medians else 0.0


def plane_through(grey: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Return the plane ``(H, W)`` through the levels of ``paper`` in ``grey``, by least squares."""
    y, x = np.indices(grey.shape)
    terms = np.stack([np.ones_like(x), x, y], axis=-1).astype(np.float32)  # (H, W, 3)
    return terms @ np.linalg.lstsq(terms[paper], grey[paper], rcond=None)[0]


def coverage_of_sides(ink: np.ndarray) -> float:
    """Return along what fraction of each side ``ink`` ``(H, W)`` runs close to it: the minimum over the four sides."""
    depth = max(2, round(0.06 * max(ink.shape)))
    near = (ink[:depth].any(0), ink[-depth:].any(0), ink[:, :depth].any(1), ink[:, -depth:].any(1))
    return min(side.mean() for side in near)


def has_sheet(tone: np.ndarray, max_stroke: float) -> bool:
    """Tell whether ``tone`` ``(H, W)`` contains a sheet, which may have writing on it.

    A sheet is wider than ``max_stroke``, a fraction of the picture's longer side; no stroke is.
    """
    max_width = round(max_stroke * max(tone.shape))
    holes, _ = ndimage.label(np.pad(~tone, 1, constant_values=True))
    filled = (holes != holes[0, 0])[1:-1, 1:-1]
    core = ndimage.grey_opening(filled.view(np.uint8), max_width, mode="constant") > 0
    if not core.any() or tone[core].mean() <= 0.8:
        return False
    if any(side.any() for side in sides(tone)):
        return True
    # A bold digit may be as wide as a sheet in some places, but not all over.
    return tone[core].sum() > 0.85 * tone.sum()


def skewness(light: np.ndarray) -> float:
    """Return whether the pixels that stand out from their surroundings are darker (-1) or lighter (1) than these.

    Strokes do: they are few, and differ strongly.
    """
    apart = light - ndimage.uniform_filter(light, 33)
    cubes = apart * apart * apart
    return float(cubes.sum() / max(np.abs(cubes).sum(), 1e-12))


def uneven_contrast(grey: np.ndarray) -> np.ndarray:
    """Return the contrast of each pixel with the paper around it; for dark ink as a fraction of the paper's brightness.

    The paper's brightness is estimated by a morphological closing (for dark ink; an opening for light ink) with a
    square wider than any stroke: it follows slopes, shadows and the edge of a sheet, but not strokes. The bias of the
    estimate, which is the mean contrast it leaves on paper nearby, is subtracted.
    """
    side = max(3, round(max(grey.shape) * MAX_STROKE) | 1)
    padded = np.pad(grey, side, mode="reflect", reflect_type="odd").clip(grey.min(), grey.max())
    inside = np.s_[side:-side, side:-side]
    coarse = grey[:: side // 32 + 1, :: side // 32 + 1]
    votes = [skewness(light) for light in (coarse, np.log(coarse + 0.05))]  # the logarithm, as a shadow scales contrast
    dark_ink = sum(votes) < 0
    if dark_ink:
        closing = ndimage.grey_closing(padded, side)
        contrast = ((closing - padded) / np.maximum(closing, 0.15))[inside]
    else:
        contrast = (padded - ndimage.grey_opening(padded, side))[inside]
    paper = contrast < MIN_INK * ndimage.gaussian_filter(contrast, 1.5).max()
    paper_contrast = ndimage.uniform_filter(contrast * paper, side // 2)
    paper_share = ndimage.uniform_filter(paper.astype(np.float32), side // 2)
    return contrast - paper_contrast / np.maximum(paper_share, 1e-3)


def contrast_with_paper(levels: np.ndarray) -> Contrast:
    """Return the contrast of a picture with its paper, given its colours ``(3, H, W)``."""
    grey = without_grain(grey_along_ink(levels))
    paper = even_paper(grey)
    contrast = uneven_contrast(grey) if paper is None else grey - paper
    quiet = contrast[np.abs(contrast) < MIN_INK * np.abs(contrast).max()]
    # Standard deviation of normal noise from the median absolute deviation.
    grain = 1.4826 * np.median(np.abs(quiet - np.median(quiet))) if quiet.size else 0.0
    if paper is None:
        return Contrast(np.maximum(contrast, 0), max(MIN_CONTRAST_PHOTO, NOISE * grain), even=False)
    return Contrast(np.abs(contrast), max(MIN_CONTRAST, NOISE * grain), even=True)


def stroke_width(ink: np.ndarray) -> float:
    """Return the mean width of the strokes ``ink`` ``(H, W)`` in pixels: four times their mean distance to the edge."""
    ink = np.pad(ink, 1)
    return 4 * ndimage.distance_transform_edt(ink)[ink].mean() - 1


def thickened(ink: np.ndarray) -> np.ndarray:
    """Return ``ink``, cropped to its box, with strokes thinner than 6% of its longer side widened to 10% of it.

    MNIST's strokes are about as thick, and a hairline would fade when it is scaled down.
    """
    size = max(ink.shape)
    width = stroke_width(ink > ink.max() / 2)
    radius = round((0.1 * size - width) / 2)
    if width >= 0.06 * size or radius < 1:
        return ink
    pen = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) < radius + 0.5
    return ndimage.grey_dilation(np.pad(ink, radius), footprint=pen)
