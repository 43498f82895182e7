"""What batch normalization averages over, how it changes a layer's channels, what it learns, and its noise."""

import itertools
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor, nn

from helpers.plots.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure

NUM_IMAGES, NUM_CHANNELS = 4, 5  # of the drawn batch
AVERAGED = {  # which feature maps (image, channel) of the batch share one mean and one variance
    "batch norm": lambda image, channel: channel == 1,
    "layer norm": lambda image, channel: image == 0,
    "instance norm": lambda image, channel: image == 0 and channel == 1,
    "group norm": lambda image, channel: image == 0 and channel >= NUM_CHANNELS - 2,
}


def plot_averaged() -> Figure:
    """Return drawings of a batch in which the feature maps that share a mean and a variance are coloured.

    There is a large one for batch norm, and small ones for layer, instance and group norm.
    """
    figure = new_figure(8.8, 4.2)
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
    _block(left.subplots(), "batch norm", label=True)
    for axes, name in zip(right.subplots(3, 1), list(AVERAGED)[1:], strict=True):
        _block(axes, name)
    return figure


def _block(axes: Axes, name: str, label: bool = False) -> None:
    """Draw each image as a stack of feature maps, one behind the other; those that share a mean are coloured."""
    depth, height, gap = 0.45, 1.0, 1.5  # of a feature map, and from one image to the next
    for image, channel in itertools.product(range(NUM_IMAGES), range(NUM_CHANNELS)):
        x, y = image * gap + channel * 0.16, channel * 0.1
        corners = [(x, y), (x + depth, y + depth / 2), (x + depth, y + depth / 2 + height), (x, y + height)]
        colour = TEST_COLOUR if AVERAGED[name](image, channel) else "white"
        axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="0.3", zorder=NUM_CHANNELS - channel))
    axes.set(xlim=(-0.3, NUM_IMAGES * gap), ylim=(-0.75 if label else -0.1, height + 0.9), aspect="equal")
    axes.set_axis_off()
    axes.set_title(name, fontsize=12 if label else 9)
    if label:
        for image in range(NUM_IMAGES):
            axes.text(image * gap + 0.4, -0.3, f"image {image + 1}", ha="center", fontsize=9)
        axes.text(-0.25, 0.5, "rows", rotation=90, va="center", fontsize=9)
        axes.text(
            NUM_IMAGES * gap / 2 - 0.4, -0.65, "N images, each of C channels of H x W numbers", ha="center", fontsize=9
        )


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
