"""What several seeds say, as a figure."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from helpers.plots.figure import TEST_COLOUR, new_figure


def plot_intervals(summary: dict[str, dict]) -> Figure:
    """Return final test (or validation) accuracies of a study's variants: means with 95% intervals, n in the label."""
    figure = new_figure(8, 0.9 + 0.45 * len(summary))
    axes = figure.subplots()
    names = [f"{name} (n = {values['final']['n']})" for name, values in summary.items()]
    means = [values["final"]["mean"] for values in summary.values()]
    widths = [values["final"]["half_width"] for values in summary.values()]
    axes.errorbar(means, names, xerr=widths, fmt="o", capsize=4, color=TEST_COLOUR)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set_xlabel("accuracy after the last epoch (% of images), mean and its 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return figure
