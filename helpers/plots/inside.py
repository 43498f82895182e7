"""What a trained network has learned: filters, feature maps, and the patches that activate a channel most."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from helpers.plots.figure import new_figure, show_image

SIGNED = "PuOr"  # purple above 0, orange below: safe for the colour-blind


def plot_journey(filters: Tensor, image: Tensor, outputs: Mapping[str, Tensor]) -> Figure:
    """Return ``image`` ``(H, W)``, the ``filters`` ``(C, 1, k, k)`` with their signs, and the maps of each stage.

    ``outputs`` has the maps ``(1, C, h, w)`` of each stage by name; no more are drawn than there are filters. Each map
    has its own scale: black is its lowest value, white its highest.
    """
    columns = len(filters)
    figure = new_figure(0.9 + 0.75 * columns, 0.8 * (len(outputs) + 1))
    grid = figure.subplots(len(outputs) + 1, columns + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    show_image(grid[0, 0], image, "the digit")
    bound = filters.abs().max().item()
    for axes, weights in zip(grid[0, 1:], filters.detach().squeeze(1), strict=True):
        axes.imshow(weights.numpy(), cmap=SIGNED, vmin=-bound, vmax=bound)
        for (row, column), weight in np.ndenumerate(weights.numpy()):
            colour = "w" if abs(weight) > bound / 2 else "k"
            axes.text(column, row, "+" if weight > 0 else "−", ha="center", va="center", color=colour, fontsize=9)
    for row, (name, maps) in zip(grid[1:], outputs.items(), strict=True):
        row[0].text(1, 0.5, f"{name}\n{maps.shape[1]} × {maps.shape[2]}×{maps.shape[3]}", ha="right", va="center")
        for axes, channel in zip(row[1:], maps[0], strict=False):
            show_image(axes, channel)
    return figure


def plot_strongest(patches: Sequence[Sequence[Tensor]], stage: str) -> Figure:
    """Return a row for each channel of ``stage`` with the patches ``(h, w)`` that activate it most."""
    columns = max(map(len, patches))
    figure = new_figure(0.7 + 0.66 * columns, 0.69 * len(patches))
    grid = figure.subplots(len(patches), columns, squeeze=False)
    for channel, (row, images) in enumerate(zip(grid, patches, strict=True)):
        for axes, image in zip(row, images, strict=False):
            show_image(axes, image, vmin=0, vmax=255)
        row[0].set_ylabel(f"{stage}\nchannel {channel}", fontsize=8)
    return figure
