"""What batch normalization averages over, how it changes a layer's channels, what it learns, and its noise."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.plots.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure

AVERAGED = {  # the part of a batch, (images, channels), whose maps share one mean and one variance
    "batch norm": np.s_[:, 1],
    "layer norm": np.s_[0, :],
    "instance norm": np.s_[0, 1],
    "group norm": np.s_[0, 3:],
}


def plot_averaged() -> Figure:
    """Return drawings of a batch, a square for each map, in which the maps that share a mean are coloured.

    There is one for each of batch, layer, instance and group norm. Images are rows, channels are columns.
    """
    figure = new_figure(8.8, 2.3)
    for axes, (name, part) in zip(figure.subplots(1, len(AVERAGED)), AVERAGED.items(), strict=True):
        marked = np.zeros((4, 5))
        marked[part] = 1
        axes.pcolormesh(marked, cmap=ListedColormap(["0.85", TEST_COLOUR]), edgecolors="white", linewidth=3)
        axes.invert_yaxis()
        axes.set(title=name, xlabel="channels", ylabel="images", xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
    return figure


def plot_channels(before: Tensor, after: Tensor, names: tuple[str, str]) -> Figure:
    """Return a histogram of each channel, one above the other: of ``before`` on the left, of ``after`` on the right.

    Both are ``(B, C, H, W)``, and ``names`` are their titles. A dot marks the mean of a channel, a bar its standard
    deviation to either side. Bins are on a square-root scale, and the highest bin of each histogram is equally high.
    """
    figure = new_figure(8.8, 4.2)
    for axes, maps, name in zip(figure.subplots(1, 2, sharey=True), (before, after), names, strict=True):
        for channel, values in enumerate(maps.transpose(0, 1).flatten(1)):
            counts, edges = torch.histogram(values.float(), bins=80)
            heights = 0.75 * (counts / counts.max()).sqrt()
            axes.stairs((channel - heights).numpy(), edges.numpy(), baseline=channel, fill=True, color="0.75")
            axes.errorbar(values.mean(), channel + 0.12, xerr=values.std(), fmt="o", capsize=3, color=TEST_COLOUR)
        axes.set(title=name, xlabel="value")
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.axes[0].set(yticks=range(before.shape[1]), ylabel="channel")
    return figure


def plot_scale_and_shift(norms: Mapping[str, nn.BatchNorm2d]) -> Figure:
    """Return the learned scale and shift of every channel, layer by layer, and lines at their initial values."""
    figure = new_figure(8.8, 3)
    scales, shifts = figure.subplots(1, 2)
    for i, norm in enumerate(norms.values()):
        for axes, values, colour in ((scales, norm.weight, TRAIN_COLOUR), (shifts, norm.bias, TEST_COLOUR)):
            axes.plot([i] * len(values), values.tolist(), "_", color=colour, markersize=12, markeredgewidth=1.6)
    for axes, title, start in ((scales, "Scale γ (weight)", 1), (shifts, "Shift β (bias)", 0)):
        axes.axhline(start, color="k", linestyle="--", linewidth=1)
        axes.set_title(title)
        axes.set_xticks(range(len(norms)), norms)
        axes.tick_params(axis="x", rotation=60)
        axes.grid(axis="y", alpha=0.3)
    return figure


def plot_noise(answers: Mapping[str, Sequence[float]], digit: int) -> Figure:
    """Return a row of dots for each name in ``answers``: the probabilities of ``digit`` in different batches."""
    figure = new_figure(8.8, 0.9 + 0.5 * len(answers))
    axes = figure.subplots()
    for name, values in answers.items():
        axes.plot(values, [name] * len(values), "o", alpha=0.25, color=TEST_COLOUR)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(answers) - 0.5, -0.5), xlabel=f"probability of the digit {digit}")
    axes.grid(axis="x", alpha=0.3)
    return figure
