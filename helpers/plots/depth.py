"""Activations and updates through the depth of a network, with batch norm and without."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from helpers.plots.figure import new_figure

STYLES = ({"color": "tab:blue", "marker": "o"}, {"color": "tab:orange", "marker": "s"})  # told apart in grey, too
GOOD_UPDATE = 1e-3  # ratio of update to weights: far above, training is unstable; far below, it hardly learns

Outputs = Mapping[str, Tensor]  # of a layer by its name, as ``inspection.layer_outputs`` returns them


def plot_depth(outputs: Mapping[str, Outputs], updates: Mapping[str, Mapping[str, float]]) -> Figure:
    """Return two panels with a value for each layer, for two networks by name; both y axes are logarithmic.

    Left: the standard deviation of a unit's output over the images, as a mean over the layer's units. It shows how well
    the layer tells images apart. Right: ``updates``, as ``inspection.update_sizes`` returns them.
    """
    figure = new_figure(8.8, 3.4)
    left, right = figure.subplots(1, 2)
    for style, (name, maps) in zip(STYLES, outputs.items(), strict=False):
        spreads = [output.std(dim=0).mean().item() for output in maps.values()]
        left.semilogy(maps.keys(), spreads, label=name, **style)
        right.semilogy(updates[name].keys(), updates[name].values(), **style)
    right.axhline(GOOD_UPDATE, color="k", linestyle="--", linewidth=1)
    left.set(title="How much outputs differ from image to image", ylabel="standard deviation")
    right.set(title="How far a step moves the weights", ylabel="size of update / size of weights")
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=60)
        axes.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
