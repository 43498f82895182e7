"""Ink on a picture: contrast with the paper around it, and the strokes that belong together."""

import numpy as np
from scipy import ndimage
from torch import Tensor, from_numpy

INK = 0.25  # of the strongest contrast: what is fainter is paper, not ink
FAINTEST = 0.02  # of the range from black to white: weaker contrasts are no drawing
NOISE = 5.0  # standard deviations of the paper's grain that ink must stand out by
WIDEST = 0.2  # of the picture's longer side: no stroke is wider, so what is wider is paper, table or shadow
EVEN = 0.06  # of the contrast: paper that varies less is one level
SMALLEST = 0.025  # of the picture's longer side: smaller marks are no digit
SPECK = 0.2  # of the largest mark's longer side: what is smaller and apart is dust

Box = tuple[slice, slice]


def grey_along_ink(levels: np.ndarray) -> np.ndarray:
    """Return ``(3, H, W)`` colours as ``(H, W)`` grey along the colour in which neighbouring pixels differ the most.

    So a yellow pen on white is as visible as a black one: its contrast is in blue alone. The weights are the first
    principal component of the differences, scaled to the sum 1 of their magnitudes; grey pictures stay as they are.
    """
    differences = np.concatenate([np.diff(levels, axis=axis).reshape(3, -1) for axis in (1, 2)], axis=1)
    weights = np.linalg.eigh(differences @ differences.T)[1][:, -1]
    weights = weights * (1 if weights.sum() >= 0 else -1) / np.abs(weights).sum()
    return np.tensordot(weights, levels, 1)


def without_grain(grey: np.ndarray) -> np.ndarray:
    """Blur ``grey`` just as much as its pixel noise asks for; a drawing without noise stays as it is.

    The noise is estimated as by Immerkaer, Fast Noise Variance Estimation (1996), with a median for the mean.
    """
    kernel = np.outer([1, -2, 1], [1, -2, 1])
    noise = np.median(np.abs(ndimage.convolve(grey, kernel, mode="nearest"))) / (6 * 0.6745)
    sigma = noise / (3.54 * 0.04 * max(np.ptp(ndimage.gaussian_filter(grey, 2)), 1e-6))  # leaves 4% of the contrast
    return ndimage.gaussian_filter(grey, min(sigma, 2.5)) if sigma > 0.3 else grey


def otsu(values: np.ndarray) -> float:
    """Return the level that parts ``values`` into two classes of the least variance (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * (below[-1] - below), 1)
    best = between == between.max()
    return float(centres[best].mean())  # the middle of the empty levels between two tones


def even_paper(grey: np.ndarray) -> float | None:
    """Return the level of a paper that has one, or None where light, table or shadows vary.

    The paper is what the border shows, but for a border that is a frame: all of one tone that is rare inside.
    """
    dark = grey <= otsu(grey)
    ring = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]]).mean()
    paper = dark if ring > 0.5 else ~dark
    if max(ring, 1 - ring) > 0.9 and paper.mean() < 0.5:
        paper = ~paper
    level = np.median(grey[paper])
    contrast = abs(np.median(grey[~paper]) - level) if not paper.all() else 0
    wide = round(max(grey.shape) / 4)
    if ndimage.minimum_filter(~paper, wide, mode="constant").any():
        return None
    rows, columns = (np.linspace(0, side, 9).astype(int) for side in grey.shape)
    blocks = [np.s_[a:b, c:d] for a, b in zip(rows, rows[1:]) for c, d in zip(columns, columns[1:])]
    medians = [np.median(grey[block][paper[block]]) for block in blocks if paper[block].mean() > 0.25]
    return level if medians and np.ptp(medians) <= EVEN * contrast else None


def uneven_contrast(grey: np.ndarray) -> np.ndarray:
    """Return how far each pixel stands out of the paper around it, as a fraction of the paper's light.

    The paper is a morphological closing (for dark ink; an opening for light ink) by a square wider than any stroke: it
    follows slopes, shadows and the edge of a sheet, and passes over strokes. Its bias is what it leaves on the paper.
    """
    side = max(3, round(max(grey.shape) * WIDEST) | 1)
    padded = np.pad(grey, side, mode="reflect", reflect_type="odd").clip(grey.min(), grey.max())
    inside = np.s_[side:-side, side:-side]
    dark_ink = ((padded - ndimage.uniform_filter(padded, side)) ** 3).sum() < 0  # strokes are few and stand out far
    if dark_ink:
        closing = ndimage.grey_closing(padded, side)
        contrast = ((closing - padded) / np.maximum(closing, 0.15))[inside]
    else:
        contrast = (padded - ndimage.grey_opening(padded, side))[inside]
    paper = contrast < INK * ndimage.gaussian_filter(contrast, 1.5).max()
    near = lambda values: ndimage.gaussian_filter(values.astype(np.float32), side / 4)  # noqa: E731
    return contrast - near(contrast * paper) / np.maximum(near(paper), 1e-3)


def contrast_with_paper(levels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the contrast ``(H, W)`` of colours ``(3, H, W)`` with their paper, and how much of it may be grain."""
    grey = without_grain(grey_along_ink(levels))
    paper = even_paper(grey)
    contrast = uneven_contrast(grey) if paper is None else np.abs(grey - paper)
    quiet = contrast[contrast < INK * contrast.max()]
    grain = 1.4826 * np.median(np.abs(quiet - np.median(quiet))) if quiet.size else 0.0
    return np.maximum(contrast, 0), max(FAINTEST, NOISE * grain)
