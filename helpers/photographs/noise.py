"""Remove noise from a picture: single wrong pixels (salt and pepper), and the grain of a sensor."""

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import avg_pool2d

APART = 0.2  # of the range from black to white: a wrong pixel differs by more from nearly all of its neighbours
SMALL = 20  # pixels: in smaller pictures strokes cannot be told from noise
MIN_SPECKS = 0.004  # of the pixels: where fewer differ from all of their neighbours, they were drawn, or are dust
MANY_SPECKS = 0.015  # of the pixels: where more do, some wrong pixels touch each other


def without_specks(levels: np.ndarray) -> np.ndarray:
    """Return ``levels`` ``(3, H, W)`` with wrong pixels replaced by the median around them, if there are many of them.

    A pixel is wrong if it is brighter, or darker, than at least seven of its eight neighbours. A pixel in a stroke of
    one pixel's width has two neighbours like it, so the stroke stays, unless the noise is dense. A picture without such
    noise stays as it is, bit for bit.
    """
    if max(levels.shape) < SMALL:
        return levels
    differing = differing_neighbours(levels)
    specks = (differing == 8).mean(axis=(1, 2)).max()
    if specks < MIN_SPECKS:
        return levels
    if specks > MANY_SPECKS:
        levels = ndimage.median_filter(levels, (1, 3, 3))
        differing = differing_neighbours(levels)
    return np.where(differing >= 7, ndimage.median_filter(levels, (1, 3, 3)), levels)


def differing_neighbours(levels: np.ndarray) -> np.ndarray:
    """Return for each pixel ``(3, H, W)`` than how many of its eight neighbours it is far brighter, or far darker."""
    padded = np.pad(levels, ((0, 0), (1, 1), (1, 1)), mode="reflect" if min(levels.shape) > 1 else "edge")
    height, width = levels.shape[1:]
    brighter, darker = np.zeros((2, *levels.shape), np.uint8)
    for row in range(3):
        for column in range(3):  # the pixel itself, at (1, 1), adds nothing
            difference = levels - padded[:, row : row + height, column : column + width]
            brighter += difference > APART
            darker += difference < -APART
    return np.maximum(brighter, darker)


def without_grain(grey: np.ndarray) -> np.ndarray:
    """Blur ``grey`` ``(H, W)`` as much as its noise requires; a drawing without noise stays as it is.

    The noise is estimated as in Immerkaer, Fast Noise Variance Estimation (1996), from a quantile instead of the mean.
    """
    if max(grey.shape) < SMALL:
        return grey
    kernel = np.outer([1, -2, 1], [1, -2, 1])
    noise = np.quantile(np.abs(ndimage.convolve(grey, kernel, mode="nearest")), 0.25) / (6 * 0.3186)
    contrast = max(np.ptp(ndimage.gaussian_filter(grey, 2)), 1e-6)
    sigma = noise / (3.54 * 0.04 * contrast)  # the blur that reduces the noise to 4% of the contrast
    if sigma <= 0.3:
        return grey
    return ndimage.gaussian_filter(grey, min(sigma, 2.5))


def averaged(levels: np.ndarray, side: int) -> np.ndarray:
    """Return ``levels`` ``(3, H, W)`` averaged down by an integer factor, so that no side is longer than ``side``."""
    factor = -(-max(levels.shape) // side)
    return avg_pool2d(torch.from_numpy(np.ascontiguousarray(levels)), factor, ceil_mode=True).numpy()
