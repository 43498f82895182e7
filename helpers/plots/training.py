"""The curves of a run, and of many runs."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
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
        _count_epochs(axes)
        if "loss" in title:
            axes.set(title=f"{title}: {values[-1]:.4f} at the end", ylabel="loss (nats per image)")
        else:
            axes.set(title=f"{title}: {values[-1]:.2%} at the end", ylabel="accuracy (% of images)")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
            axes.set_ylim(top=min(1, axes.get_ylim()[1]))
    return figure


def plot_accuracies(history: History, plain_accuracy: float) -> Figure:
    """Return train and test accuracy of a run on one scale.

    ``plain_accuracy`` is the final accuracy on the training images when they are measured like the test images.
    """
    figure = new_figure(6, 3.2)
    axes = figure.subplots()
    epochs = range(1, history.num_epochs + 1)
    axes.plot(epochs, history.train_accuracy, "o-", color=TRAIN_COLOUR, markersize=3, label="train, while learning")
    axes.plot(epochs, history.test_accuracy, "s-", color=TEST_COLOUR, markersize=3, label="test")
    axes.plot(epochs[-1], plain_accuracy, "*", color=TRAIN_COLOUR, markersize=12, label="train, measured like test")
    _label_accuracies(axes, "accuracy")
    return figure


def plot_seeds(curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Return the test accuracy of each epoch, a line for each run; ``curves`` has the runs by name."""
    figure = new_figure(6, 3.4)
    axes = figure.subplots()
    for colour, (name, runs) in zip(("C0", "C1"), curves.items(), strict=False):
        for i, run in enumerate(runs):
            label = f"{name}, {len(runs)} seeds" if i == 0 else None
            axes.plot(range(1, len(run) + 1), run, color=colour, alpha=0.7, linewidth=1.2, label=label)
    _label_accuracies(axes, "test accuracy")
    return figure


def _label_accuracies(axes: Axes, label: str) -> None:
    _count_epochs(axes)
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend()


def _count_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
