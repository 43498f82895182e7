"""Activations and updates through the depth of a network, with batch norm and without."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.plots.figure import new_figure

STYLES = ({"color": "tab:blue", "marker": "o"}, {"color": "tab:orange", "marker": "s"})  # told apart in grey, too
GOOD_UPDATE = 1e-3  # of a weight's size in a step: far more shakes a layer, far less leaves it as it was drawn

Outputs = Mapping[str, Tensor]  # of a layer by its name, as ``inspection.layer_outputs`` returns them


def plot_depth(
    before: Mapping[str, Outputs], after: Mapping[str, Outputs], updates: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Return three panels over the layers, for two networks by name: outputs before and after training, and updates.

    Outputs are drawn as the mean over images and units with a bar of one standard deviation to either side;
    ``updates`` are those of ``inspection.update_sizes``.
    """
    figure = new_figure(10, 3.6)
    left, middle, right = figure.subplots(1, 3)
    for axes, networks, title in ((left, before, "Outputs at the start"), (middle, after, "Outputs after training")):
        _draw_spread(axes, networks)
        axes.set_title(title)
    middle.sharey(left)
    left.legend(loc="upper left", fontsize=8)
    for style, (name, sizes) in zip(STYLES, updates.items(), strict=False):
        right.semilogy(sizes.keys(), sizes.values(), linestyle="none", label=name, **style)
    right.axhline(GOOD_UPDATE, color="k", linestyle="--", linewidth=1)
    right.set_title("Update of a step / weight")
    right.set_ylabel("size of update / size of weight")
    for axes in (left, middle, right):
        axes.tick_params(axis="x", rotation=60)
        axes.grid(alpha=0.3)
    return figure


def _draw_spread(axes: Axes, networks: Mapping[str, Outputs]) -> None:
    for i, (style, (name, outputs)) in enumerate(zip(STYLES, networks.items(), strict=False)):
        places = [place + 0.3 * i - 0.15 for place in range(len(outputs))]  # side by side
        means = [output.mean().item() for output in outputs.values()]
        spreads = [output.std().item() for output in outputs.values()]
        axes.errorbar(places, means, yerr=spreads, linestyle="none", capsize=3, label=name, **style)
        axes.set_xticks(range(len(outputs)), outputs.keys())
    axes.set_ylabel("output: mean ± sd")
