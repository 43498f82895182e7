"""Figures of studies over several seeds."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from helpers.plots.figure import TEST_COLOUR, new_figure
from helpers.results import is_possible

MARKERS = "osD"  # different, so that lines can be told apart in grey, too


def plot_intervals(summary: dict[str, dict]) -> Figure:
    """Return the mean final test (or validation) accuracy of each variant of a study, with its 95% interval and n."""
    figure = new_figure(8, 0.9 + 0.45 * len(summary))
    axes = figure.subplots()
    names = [f"{name} (n = {values['final']['n']})" for name, values in summary.items()]
    means = [values["final"]["mean"] for values in summary.values()]
    widths = [values["final"]["half_width"] for values in summary.values()]
    axes.errorbar(means, names, xerr=widths, fmt="o", capsize=4, color=TEST_COLOUR)
    axes.invert_yaxis()
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=2 if high - low < 0.005 else 1))
    axes.set_xlabel("accuracy after the last epoch (% of images), mean and its 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return figure


def plot_rates(networks: Mapping[str, Mapping[float, dict]], closer_from: float = 0.97) -> Figure:
    """Return final test accuracies against the learning rate: a line for each network, a small dot for each seed.

    ``networks`` is what ``results.networks_by_rate`` returned. Bars are 95% intervals of the means, left out where they
    would leave the range from 0 to 1. A cross marks a rate at which no run kept a finite loss. The right panel enlarges
    the accuracies above ``closer_from``.
    """
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        for (name, cells), marker in zip(networks.items(), MARKERS, strict=False):
            finals = [cell["final"] for cell in cells.values()]
            means = [final["mean"] for final in finals]
            widths = [final["half_width"] if is_possible(final) else 0 for final in finals]
            line = axes.errorbar(list(cells), means, yerr=widths, label=name, marker=marker, markersize=5, capsize=4)
            colour = line[0].get_color()
            for rate, cell in cells.items():
                seeds = cell["final"]["seeds"]
                axes.plot([rate] * len(seeds), seeds, ".", color=colour, alpha=0.4)
                if cell["failures"] == len(seeds):
                    axes.plot(rate, cell["final"]["mean"], "x", color=colour, markersize=10)
        axes.set(xscale="log", xlabel="learning rate")
        axes.grid(alpha=0.3)
    left.set(title="Whole range", ylabel="test accuracy after the last epoch", ylim=(0, 1.02))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(networks))
    right.set(title="The same, enlarged", ylim=(closer_from, 0.995))
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    return figure
