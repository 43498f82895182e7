"""Digits as they are, and as augmentation changes them."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from helpers.augmentation import Augmentation
from helpers.data import NUM_CLASSES, Batches, Split
from helpers.plots.figure import NotebookFigure, new_figure, show_image


def plot_digits(split: Split, number: int = 8) -> Figure:
    """Return a grid with a row for each class: its first ``number`` images. Each class needs at least that many."""
    height = split.images.shape[1]
    rows = [torch.cat([*split.images[split.labels == label][:number]], dim=1) for label in range(NUM_CLASSES)]
    grid = torch.cat(rows)
    figure = NotebookFigure(figsize=(2 * grid.shape[1] / 100, 2 * grid.shape[0] / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))  # fill the figure, so that each pixel takes a whole number of dots
    show_image(axes, grid)
    axes.set_yticks([height * (label + 0.5) for label in range(NUM_CLASSES)], map(str, range(NUM_CLASSES)))
    axes.set_ylabel("label")
    return figure


def plot_augmentation(split: Split, augmentation: Augmentation, indices: Sequence[int], draws: int = 9) -> Figure:
    """Return a row for each of the images at ``indices``: the original, then random ``draws`` of ``augmentation``."""
    chosen = torch.tensor(indices)
    batches = Batches(split, augmentation=augmentation)
    columns = [split.images[chosen]] + [batches.load(chosen)[0].squeeze(1) for _ in range(draws)]
    figure = new_figure((draws + 1) * 0.95, len(indices) * 1.05)
    grid = figure.subplots(len(indices), draws + 1, squeeze=False)
    for i, row in enumerate(grid):
        for axes, images in zip(row, columns, strict=True):
            show_image(axes, images[i])
    titles = ["original", *(f"draw {draw}" for draw in range(1, draws + 1))]
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return figure
