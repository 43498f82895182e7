"""Digits as they are, and as augmentation changes them."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from helpers.augmentation import Augmentation
from helpers.data import NUM_CLASSES, Batches, Split
from helpers.plots.figure import new_figure, show_image


def plot_digits(split: Split, number: int = 8) -> Figure:
    """Return a grid with the first ``number`` images of each class, a class a row."""
    figure = new_figure(number * 0.75, NUM_CLASSES * 0.75)
    for label, row in enumerate(figure.subplots(NUM_CLASSES, number)):
        for axes, image in zip(row, split.images[split.labels == label], strict=False):
            show_image(axes, image)
        row[0].set_ylabel(f"label {label}", fontsize=9)
    return figure


def plot_augmentation(split: Split, augmentation: Augmentation, indices: Sequence[int], draws: int = 9) -> Figure:
    """Return each chosen image on the left of several random draws of ``augmentation``."""
    chosen = torch.tensor(indices)
    batches = Batches(split, augmentation=augmentation)
    columns = [split.images[chosen]] + [batches.load(chosen)[0].squeeze(1) for _ in range(draws)]
    figure = new_figure((draws + 1) * 0.95, len(indices) * 1.05)
    for i, row in enumerate(figure.subplots(len(indices), draws + 1, squeeze=False)):
        for column, (axes, images) in enumerate(zip(row, columns, strict=True)):
            show_image(axes, images[i], "" if i else ("original" if column == 0 else f"draw {column}"))
    return figure
