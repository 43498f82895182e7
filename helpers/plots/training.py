"""The curves of a run."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.plots.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure
from helpers.runtime.history import History


def plot_history(history: History) -> Figure:
    """Return the 2x2 figure of a run: losses above, accuracies below, train on the left, test on the right."""
    figure = new_figure(10, 7)
    panels = {
        "Train loss": (history.train_loss, TRAIN_COLOUR),
        "Test loss": (history.test_loss, TEST_COLOUR),
        "Train accuracy": (history.train_accuracy, TRAIN_COLOUR),
        "Test accuracy": (history.test_accuracy, TEST_COLOUR),
    }
    for axes, (title, (values, colour)) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        axes.plot(range(1, len(values) + 1), values, color=colour, marker="o", markersize=3)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if "loss" in title:
            axes.set_title(f"{title}: {values[-1]:.4f} at the end")
            axes.set_ylabel("loss (nats per image)")
        else:
            axes.set_title(f"{title}: {values[-1]:.2%} at the end")
            axes.set_ylabel("accuracy (% of images)")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
            axes.set_ylim(top=min(1, axes.get_ylim()[1]))
    return figure
