"""Ink on a picture: contrast with the paper around it, and the strokes that belong together."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from helpers.photographs.noise import SMALL, without_grain

INK = 0.25  # of the strongest contrast: what is fainter is paper, not ink
FAINTEST, FAINTEST_PHOTO = 0.02, 0.1  # of the range from black to white: weaker contrasts are no ink
NOISE = 5.0  # standard deviations of the paper's grain that ink must stand out by
WIDEST = 0.25  # of the picture's longer side: no stroke is wider, so what is wider is paper, table or shadow
BOLD = 0.4  # of the picture's longer side: no stroke of a digit that fills the picture is wider
TIGHT = 0.25  # of the border: what touches all four sides with less is a digit cut out tightly
FRAME = 0.75  # of each side: ink that runs along more is a frame or a sheet
NEAR = 10  # a tenth of the picture's longer side: grey edges of ink reach no further
EVEN = 0.06  # of the contrast: paper that varies less is one level


@dataclass(frozen=True)
class Contrast:
    """How far the pixels of a picture stand out of its paper: ``values`` ``(H, W)`` from 0 to 1.

    What is not above ``faintest`` may be grain. ``even`` tells whether the paper is of one level.
    """

    values: np.ndarray
    faintest: float
    even: bool

    @property
    def clean(self) -> bool:
        """Tell whether the picture is a drawing or a screenshot: without grain, on even paper."""
        return self.even and self.faintest == FAINTEST


def grey_along_ink(levels: np.ndarray) -> np.ndarray:
    """Return ``(3, H, W)`` colours as ``(H, W)`` grey along the colour in which neighbouring pixels differ the most.

    So a yellow pen on white is as visible as a black one: its contrast is in blue alone. The weights are the first
    principal component of the differences, scaled to the sum 1 of their magnitudes; grey pictures stay as they are.
    Weights of both signs can make a grey below 0, of which there is no logarithm: it is raised to start there.
    """
    differences = (np.diff(levels, axis=axis).reshape(3, -1) for axis in (1, 2))
    weights = np.linalg.eigh(sum(step @ step.T for step in differences))[1][:, -1]
    weights = weights * (1 if weights.sum() >= 0 else -1) / np.abs(weights).sum()
    grey = np.tensordot(weights.astype(np.float32), levels, 1)
    return grey - min(grey.min(), 0)


def otsu(values: np.ndarray) -> float:
    """Return the level that parts ``values`` into two classes of the least variance (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * (below[-1] - below), 1)
    best = between == between.max()
    return float(centres[best].mean())  # the middle of the empty levels between two tones


def sides(tone: np.ndarray) -> list[np.ndarray]:
    """Return the pixels of ``tone`` ``(H, W)`` along its four sides."""
    return [tone[0], tone[-1], tone[:, 0], tone[:, -1]]


def wholeness(tone: np.ndarray) -> float:
    """Return the share of the largest piece of ``tone`` in all of it."""
    areas = np.bincount(ndimage.label(tone)[0].ravel())[1:]
    return areas.max() / areas.sum()


def paper_on(grey: np.ndarray) -> np.ndarray:
    """Return which pixels of ``grey`` ``(H, W)`` are paper, if they are of two tones.

    The paper is what the border shows, but for a border that is a frame: all of one tone that is rare inside.
    """
    dark = grey <= otsu(grey)
    ring = np.concatenate(sides(dark)).mean()
    paper = dark if ring > 0.5 else ~dark
    if is_slim(grey) and TIGHT < ring < 1 - TIGHT:
        paper = min(dark, ~dark, key=wholeness)
    if max(ring, 1 - ring) > 0.98 and paper.mean() < 0.5 and has_sheet(~paper, WIDEST):
        paper = ~paper
    return paper


def is_slim(grey: np.ndarray) -> bool:
    """Tell whether a picture is as slim as a one, cut out tightly: that is one piece, on the pieces of its paper."""
    return max(grey.shape) > 4 * min(grey.shape)


def shows_more_than_ink(ink: np.ndarray) -> bool:
    """Tell whether the tone ``ink`` ``(H, W)`` holds a sheet or a shadow, and is no digit cut out tightly.

    A digit that runs into the border is seen from near, and its strokes may be wide. But a shadow lies in a corner.
    """
    top, bottom, left, right = (bool(side.any()) for side in sides(ink))
    across = (top and bottom) or (left and right)
    border = np.concatenate(sides(ink)).mean()
    if across and (is_slim(ink) or min(border, 1 - border) < TIGHT):
        return False
    in_a_corner = ink[:: len(ink) - 1, :: len(ink[0]) - 1].any()
    near = across or (not in_a_corner and (top or bottom or left or right))
    return has_sheet(ink, BOLD if near else WIDEST)


def even_paper(grey: np.ndarray) -> float | np.ndarray | None:
    """Return the level of a paper that has one, or None where light, table or shadows vary.

    That of a digit cut out tightly may slope ``(H, W)``: its strokes are too wide for what an uneven paper is found by.
    """
    ink = ~paper_on(grey)
    if not ink.any():
        return np.median(grey)
    clear = ~ndimage.maximum_filter(ink, 2 * (max(grey.shape) // NEAR) + 1)
    paper = clear if clear.any() else ~ink
    level = np.median(grey[paper])
    if max(grey.shape) < SMALL:
        return level
    if shows_more_than_ink(ink):
        return None
    varies = EVEN * abs(np.median(grey[ink]) - level)
    if unevenness(grey, paper) <= varies:
        return level
    slope = plane_through(grey, paper) if 0 < along_sides(ink) < FRAME else level
    return slope if unevenness(grey - slope, paper) <= varies else None


def unevenness(grey: np.ndarray, paper: np.ndarray) -> float:
    """Return by how much the median of ``paper`` varies over at most 8 by 8 blocks of ``grey`` ``(H, W)``."""
    rows, columns = (min(8, -(-side // 20)) for side in grey.shape)
    blocks = [
        (tones[part], part)
        for row, part_row in zip(np.array_split(grey, rows), np.array_split(paper, rows), strict=True)
        for tones, part in zip(np.array_split(row, columns, 1), np.array_split(part_row, columns, 1), strict=True)
    ]
    medians = [np.median(tones) for tones, part in blocks if part.size and part.mean() > 0.6]
    return np.ptp(medians) if medians else 0.0


def plane_through(grey: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Return the plane ``(H, W)`` through the levels of ``paper`` in ``grey``, by least squares."""
    y, x = np.indices(grey.shape)
    terms = np.stack([np.ones_like(x), x, y], axis=-1).astype(np.float32)  # (H, W, 3)
    return terms @ np.linalg.lstsq(terms[paper], grey[paper], rcond=None)[0]


def along_sides(ink: np.ndarray) -> float:
    """Return along how much of the height or width ``ink`` ``(H, W)`` comes near a side, for the side of the least."""
    depth = max(2, round(0.06 * max(ink.shape)))
    near = (ink[:depth].any(0), ink[-depth:].any(0), ink[:, :depth].any(1), ink[:, -depth:].any(1))
    return min(side.mean() for side in near)


def has_sheet(tone: np.ndarray, widest: float) -> bool:
    """Tell whether a region of ``tone`` ``(H, W)`` is a sheet, but for what is written on it.

    No stroke is wider than the share ``widest`` of the picture's longer side, a sheet is.
    """
    wide = round(widest * max(tone.shape))
    holes, _ = ndimage.label(np.pad(~tone, 1, constant_values=True))
    filled = (holes != holes[0, 0])[1:-1, 1:-1]
    core = ndimage.grey_opening(filled.view(np.uint8), wide, mode="constant") > 0
    apart = not any(side.any() for side in sides(tone))  # a bold digit may be as wide at some place
    return core.any() and tone[core].mean() > 0.8 and tone[core].sum() > (0.85 if apart else 0) * tone.sum()


def skewness(light: np.ndarray) -> float:
    """Return from -1 to 1 whether what stands out of its surroundings is darker or lighter: strokes are few and far."""
    apart = light - ndimage.uniform_filter(light, 33)
    cubes = apart * apart * apart
    return float(cubes.sum() / max(np.abs(cubes).sum(), 1e-12))


def uneven_contrast(grey: np.ndarray) -> np.ndarray:
    """Return how far each pixel stands out of the paper around it, as a fraction of the paper's light.

    The paper is a morphological closing (for dark ink; an opening for light ink) by a square wider than any stroke: it
    follows slopes, shadows and the edge of a sheet, and passes over strokes. Its bias is what it leaves on the paper.
    """
    side = max(3, round(max(grey.shape) * WIDEST) | 1)
    padded = np.pad(grey, side, mode="reflect", reflect_type="odd").clip(grey.min(), grey.max())
    inside = np.s_[side:-side, side:-side]
    coarse = grey[:: side // 32 + 1, :: side // 32 + 1]
    votes = [skewness(light) for light in (coarse, np.log(coarse + 0.05))]  # in a shadow ink differs by a factor
    dark_ink = sum(votes) < 0
    if dark_ink:
        closing = ndimage.grey_closing(padded, side)
        contrast = ((closing - padded) / np.maximum(closing, 0.15))[inside]
    else:
        contrast = (padded - ndimage.grey_opening(padded, side))[inside]
    paper = contrast < INK * ndimage.gaussian_filter(contrast, 1.5).max()
    bias = ndimage.uniform_filter(contrast * paper, side // 2)
    papers = ndimage.uniform_filter(paper.astype(np.float32), side // 2)
    return contrast - bias / np.maximum(papers, 1e-3)


def contrast_with_paper(levels: np.ndarray) -> Contrast:
    """Return the contrast of colours ``(3, H, W)`` with their paper."""
    grey = without_grain(grey_along_ink(levels))
    paper = even_paper(grey)
    contrast = uneven_contrast(grey) if paper is None else grey - paper
    quiet = contrast[np.abs(contrast) < INK * np.abs(contrast).max()]
    grain = 1.4826 * np.median(np.abs(quiet - np.median(quiet))) if quiet.size else 0.0
    if paper is None:
        return Contrast(np.maximum(contrast, 0), max(FAINTEST_PHOTO, NOISE * grain), even=False)
    return Contrast(np.abs(contrast), max(FAINTEST, NOISE * grain), even=True)


def thickened(ink: np.ndarray) -> np.ndarray:
    """Return ``ink`` ``(H, W)`` drawn anew with a pen of a tenth of its size, where its own is thinner than 6% of it.

    MNIST's pens are as thick, and a hair line would fade when it is scaled down. A stroke's width is four times the
    mean distance to its edge.
    """
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    size = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    stroke = np.pad(ink > ink.max() / 2, 1)
    width = 4 * ndimage.distance_transform_edt(stroke)[stroke].mean() - 1
    radius = round((0.1 * size - width) / 2)
    if width >= 0.06 * size or radius < 1:
        return ink
    pen = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) < radius + 0.5
    return ndimage.grey_dilation(np.pad(ink, radius), footprint=pen)
