"""Pictures as the network gets them, beside its answers."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from helpers.data import NUM_CLASSES
from helpers.plots.figure import TEST_COLOUR, new_figure, show_image


def plot_predictions(images: Tensor, log_probs: Tensor, names: Sequence[str]) -> Figure:
    """Return images ``(B, 28, 28)`` as the network gets them, each beside the probabilities of the ten digits."""
    figure = new_figure(7, 1.9 * len(images))
    for axes, image, row, name in zip(
        figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 3]), images, log_probs.exp(), names, strict=True
    ):
        show_image(axes[0], image, name)
        axes[1].bar(range(NUM_CLASSES), row.numpy(), color=TEST_COLOUR)
        axes[1].set_xticks(range(NUM_CLASSES))
        axes[1].set_ylim(0, 1)
        axes[1].set_xlabel("digit")
        axes[1].set_ylabel("probability")
    return figure
