"""Noise on a picture: single pixels gone wrong, and a sensor's grain."""

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import avg_pool2d

APART = 0.2  # of the range from black to white: a pixel gone wrong is as far from nearly all of its neighbours
SMALL = 20  # pixels: in smaller pictures strokes are everywhere, and nothing tells them from noise
SPECKS = 0.004  # of the pixels: where fewer lie apart from all their neighbours, those were drawn, or are dust
DENSE = 0.015  # of the pixels: where more do, wrong pixels touch each other by threes


def without_specks(levels: np.ndarray) -> np.ndarray:
    """Return ``levels`` ``(3, H, W)`` with single wrong pixels made the median around them if many are wrong.

    A pixel that is brighter or darker than seven of its eight neighbours is wrong: a stroke of one pixel's width goes
    on in two directions and stays, as does a picture without such noise, bit for bit. Dense noise costs such strokes.
    """
    if max(levels.shape) < SMALL:
        return levels
    apart = neighbours_apart(levels)
    specks = (apart == 8).mean(axis=(1, 2)).max()
    if specks < SPECKS:
        return levels
    if specks > DENSE:
        levels = ndimage.median_filter(levels, (1, 3, 3))
        apart = neighbours_apart(levels)
    return np.where(apart >= 7, ndimage.median_filter(levels, (1, 3, 3)), levels)


def neighbours_apart(levels: np.ndarray) -> np.ndarray:
    """Return of how many of its eight neighbours each pixel ``(3, H, W)`` is far brighter, or else far darker."""
    padded = np.pad(levels, ((0, 0), (1, 1), (1, 1)), mode="reflect" if min(levels.shape) > 1 else "edge")
    height, width = levels.shape[1:]
    brighter, darker = np.zeros((2, *levels.shape), np.uint8)
    for row, column in ((row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)):
        step = levels - padded[:, row : row + height, column : column + width]
        brighter += step > APART
        darker += step < -APART
    return np.maximum(brighter, darker)


def without_grain(grey: np.ndarray) -> np.ndarray:
    """Blur ``grey`` just as much as its pixel noise asks for; a drawing without noise stays as it is.

    The noise is estimated as by Immerkaer, Fast Noise Variance Estimation (1996), with a median for the mean.
    """
    if max(grey.shape) < SMALL:
        return grey
    kernel = np.outer([1, -2, 1], [1, -2, 1])
    noise = np.quantile(np.abs(ndimage.convolve(grey, kernel, mode="nearest")), 0.25) / (6 * 0.3186)
    sigma = noise / (3.54 * 0.04 * max(np.ptp(ndimage.gaussian_filter(grey, 2)), 1e-6))  # leaves 4% of the contrast
    return ndimage.gaussian_filter(grey, min(sigma, 2.5)) if sigma > 0.3 else grey


def averaged(levels: np.ndarray, side: int) -> np.ndarray:
    """Return ``levels`` ``(3, H, W)`` averaged by a whole factor, so that no side is longer than ``side``."""
    factor = -(-max(levels.shape) // side)
    return avg_pool2d(torch.from_numpy(np.ascontiguousarray(levels)), factor, ceil_mode=True).numpy()
