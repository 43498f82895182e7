"""What a network gets wrong: by pairs of digits, and one by one."""

import math

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from helpers.data import NUM_CLASSES, Split
from helpers.plots.figure import new_figure, show_image


def plot_confusion(matrix: Tensor) -> Figure:
    """Return a confusion matrix ``(10, 10)`` with its counts; only errors are coloured.

    Beside each label is the share of its images that were predicted right.
    """
    figure = new_figure(5.9, 5)
    axes = figure.subplots()
    errors = matrix.clone().fill_diagonal_(0)
    picture = axes.imshow(errors.numpy(), cmap="Reds")
    for (label, prediction), count in np.ndenumerate(matrix.numpy()):
        dark = errors[label, prediction] > errors.max() / 2
        axes.text(prediction, label, count or "", ha="center", va="center", color="w" if dark else "k", fontsize=8)
    axes.set(xlabel="predicted digit", ylabel="label (right)", xticks=range(NUM_CLASSES))
    shares = (matrix.diagonal() / matrix.sum(dim=1)).tolist()
    axes.set_yticks(range(NUM_CLASSES), [f"{label} ({share:.1%})" for label, share in enumerate(shares)])
    figure.colorbar(picture, label="errors (images)")
    return figure


def plot_mistakes(split: Split, log_probs: Tensor, indices: Tensor) -> Figure:
    """Return the images at ``indices`` with label, prediction and the prediction's probability."""
    columns = 6
    rows = max(1, math.ceil(len(indices) / columns))  # an empty one if there are no mistakes
    figure = new_figure(columns * 1.45, rows * 1.7)
    axes_grid = figure.subplots(rows, columns, squeeze=False)
    for axes in axes_grid.flat:
        axes.set_axis_off()
    for axes, i in zip(axes_grid.flat, indices.tolist(), strict=False):
        probability, prediction = log_probs[i].exp().max(dim=0)
        show_image(axes, split.images[i], f"label {split.labels[i]}\nsays {prediction} ({probability:.0%})")
    return figure
