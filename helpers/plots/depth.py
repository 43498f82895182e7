"""Activations and updates through the depth of a network, with batch norm and without."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from helpers.plots.figure import new_figure

STYLES = ({"color": "tab:blue", "marker": "o"}, {"color": "tab:orange", "marker": "s"})  # told apart in grey, too
GOOD_UPDATE = 1e-3  # of a weight's size in a step: far more is unstable, far less hardly learns
LEAST_OUTPUT = 5e-5  # the lower end of the axis: what batch norm centres has a mean far below

Outputs = Mapping[str, Tensor]  # of a layer by its name, as ``inspection.layer_outputs`` returns them


def plot_depth(
    before: Mapping[str, Outputs], after: Mapping[str, Outputs], updates: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Return three panels over the layers, for two networks by name: outputs before and after training, and updates.

    Of the outputs the spread is drawn filled, the mean's absolute value hollow. The spread is a unit's standard
    deviation over the images, as a mean over the units: what is left of the differences between images. ``updates``
    are those of ``inspection.update_sizes``. All axes are logarithmic.
    """
    figure = new_figure(8.8, 3.5)
    left, middle, right = figure.subplots(1, 3)
    middle.sharey(left)
    for axes, networks, title in ((left, before, "Outputs at the start"), (middle, after, "Outputs after training")):
        for style, (name, outputs) in zip(STYLES, networks.items(), strict=False):
            spreads = [output.std(dim=0).mean().item() for output in outputs.values()]
            means = [abs(output.mean().item()) for output in outputs.values()]
            axes.semilogy(outputs.keys(), spreads, label=f"spread, {name}", **style)
            axes.semilogy(outputs.keys(), means, label=f"mean, {name}", linestyle="none", fillstyle="none", **style)
        axes.set_title(title)
        axes.set_ylabel("spread over images, and mean")
    left.set_ylim(LEAST_OUTPUT, 10)
    left.legend(loc="lower left", fontsize=7)
    for style, (name, sizes) in zip(STYLES, updates.items(), strict=False):
        right.semilogy(sizes.keys(), sizes.values(), linestyle="none", label=name, **style)
    right.axhline(GOOD_UPDATE, color="k", linestyle="--", linewidth=1)
    right.set_title("Update of a step")
    right.set_ylabel("size of update / size of weight")
    for axes in (left, middle, right):
        axes.tick_params(axis="x", rotation=60)
        axes.grid(alpha=0.3)
    return figure
