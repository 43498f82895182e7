"""Every figure of the notebook and the README."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from helpers.augmentation import Augmentation
from helpers.data import NUM_CLASSES, Batches, Split
from helpers.engine.files import atomic_write
from helpers.engine.history import History
from helpers.receptive_field import Row

TRAIN_COLOUR, TEST_COLOUR = "tab:blue", "tab:orange"


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` as PNG, whole or not at all; raises ``OSError`` where that fails."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    atomic_write(path, png.getvalue())


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches; it belongs to no window and shows itself in a notebook."""
    return Figure(figsize=(width, height), layout="constrained")


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


def show_image(axes: Axes, image: Tensor, title: str = "") -> None:
    """Draw one image ``(H, W)`` in grey, without ticks."""
    axes.imshow(image.numpy(), cmap="gray")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def plot_digits(split: Split, number: int = 8) -> Figure:
    """Return a grid with the first ``number`` images of each class, a class a row."""
    figure = new_figure(number * 0.75, NUM_CLASSES * 0.75)
    for label, row in enumerate(figure.subplots(NUM_CLASSES, number)):
        for axes, image in zip(row, split.images[split.labels == label], strict=False):
            show_image(axes, image)
        row[0].set_ylabel(f"label {label}", fontsize=9)
    return figure


def plot_augmentation(split: Split, augmentation: Augmentation, indices: Sequence[int], draws: int = 9) -> Figure:
    """Return each chosen image on the left of several random draws of ``augmentation``."""
    chosen = torch.tensor(indices)
    batches = Batches(split, augmentation=augmentation)
    columns = [split.images[chosen]] + [batches.load(chosen)[0].squeeze(1) for _ in range(draws)]
    figure = new_figure((draws + 1) * 0.95, len(indices) * 1.05)
    for i, row in enumerate(figure.subplots(len(indices), draws + 1, squeeze=False)):
        for column, (axes, images) in enumerate(zip(row, columns, strict=True)):
            show_image(axes, images[i], "" if i else ("original" if column == 0 else f"draw {column}"))
    return figure


def draw_box(axes: Axes, stage: Row, color: str) -> None:
    """Frame the pixels that the central unit of ``stage`` sees."""
    (top, bottom), (left, right) = stage.box()
    box = Rectangle((left - 0.5, top - 0.5), right - left + 1, bottom - top + 1, fill=False, color=color, lw=2)
    axes.add_patch(box).set_clip_on(False)  # it may be as large as the image


def plot_receptive_fields(stages: Sequence[Row], image: Tensor) -> Figure:
    """Return ``image`` ``(H, W)`` once for each stage, with the box that the stage's central unit sees."""
    columns = 3
    rows = -(-len(stages) // columns)
    figure = new_figure(columns * 2.1, rows * 2.25)
    for axes, stage in zip(figure.subplots(rows, columns).flat, stages, strict=False):
        height, width = stage.receptive_field
        show_image(axes, image, f"{stage.name}: {height}×{width}")
        draw_box(axes, stage, "tab:red")
    return figure


def plot_effective_field(gradient: Tensor, stage: Row) -> Figure:
    """Return the mean absolute gradient ``(H, W)`` of a stage's central unit, inside the box that it can see."""
    figure = new_figure(5, 4)
    axes = figure.subplots()
    picture = axes.imshow((gradient / gradient.max()).numpy(), cmap="viridis")
    draw_box(axes, stage, "w")
    axes.set_title(f"{stage.name}: theory (box) and influence (colour)")
    axes.set_xlabel("column (pixels)")
    axes.set_ylabel("row (pixels)")
    figure.colorbar(picture, label="mean |gradient| (largest = 1)")
    return figure


def plot_confusion(matrix: Tensor) -> Figure:
    """Return a confusion matrix ``(10, 10)`` with its counts; the colour shows the errors alone."""
    figure = new_figure(6.5, 5.5)
    axes = figure.subplots()
    errors = matrix.clone().fill_diagonal_(0)
    picture = axes.imshow(errors.numpy(), cmap="Reds")
    for label in range(NUM_CLASSES):
        for prediction in range(NUM_CLASSES):
            count = matrix[label, prediction].item()
            dark = errors[label, prediction] > errors.max() / 2
            axes.text(prediction, label, count or "", ha="center", va="center", color="w" if dark else "k", fontsize=8)
    axes.set_xticks(range(NUM_CLASSES))
    axes.set_yticks(range(NUM_CLASSES))
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("label")
    figure.colorbar(picture, label="errors (images)")
    return figure


def plot_mistakes(split: Split, log_probs: Tensor, indices: Tensor) -> Figure:
    """Return the images at ``indices`` with label, prediction and the prediction's probability."""
    columns = 6
    rows = -(-len(indices) // columns)
    figure = new_figure(columns * 1.6, rows * 1.85)
    axes_grid = figure.subplots(rows, columns, squeeze=False)
    for axes in axes_grid.flat:
        axes.set_axis_off()
    for axes, i in zip(axes_grid.flat, indices.tolist(), strict=False):
        probability, prediction = log_probs[i].exp().max(dim=0)
        show_image(axes, split.images[i], f"label {split.labels[i]}\nsays {prediction} ({probability:.0%})")
    return figure


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


def plot_predictions(
    images: Tensor,
    log_probs: Tensor,
    names: Sequence[str],
    pictures: Sequence[Tensor] = (),
    inks: Sequence[Tensor] = (),
) -> Figure:
    """Return images ``(B, 28, 28)`` as the network gets them, each beside the probabilities of the ten digits.

    ``pictures`` ``(H, W)`` or ``(H, W, 3)``, as photographed, and ``inks`` ``(H, W)``, what was taken for ink, come
    before them where they are given.
    """
    stages = {"picture": pictures, "ink": inks, "network's input": images}
    stages = {title: shown for title, shown in stages.items() if len(shown)}
    figure = new_figure(3.5 + 1.3 * len(stages), 0.5 + 1.3 * len(images))
    figure.set_layout_engine("none")  # the layout engine's time grows with the number of axes; this grid needs none
    bottom, top = 0.35 / figure.get_figheight(), 1 - 0.3 / figure.get_figheight()
    grid = figure.subplots(
        len(images),
        len(stages) + 1,
        squeeze=False,
        width_ratios=[1] * len(stages) + [2.2],
        gridspec_kw={"left": 0.01, "right": 0.99, "bottom": bottom, "top": top, "hspace": 0.45, "wspace": 0.08},
    )
    for i, (row, name, shares) in enumerate(zip(grid, names, log_probs.exp(), strict=True)):
        for axes, shown, title in zip(row, stages.values(), stages, strict=False):
            show_image(axes, shown[i], title if i == 0 else "")
        row[0].set_xlabel(as_text(name), fontsize=8, loc="left", parse_math=False)
        row[-1].bar(range(NUM_CLASSES), shares.numpy(), color=TEST_COLOUR)
        row[-1].set_ylim(0, 1)
        row[-1].set_yticks([])
        row[-1].set_xticks(range(NUM_CLASSES), range(NUM_CLASSES), fontsize=7)
    grid[0, -1].set_title("probability of each digit (axis from 0 to 1)", fontsize=9)
    return figure


def as_text(name: str, longest: int = 40) -> str:
    """Return a file's ``name`` as a font can show it, without its middle where it is long."""
    name = name.encode("utf-8", "replace").decode("utf-8")
    name = "".join(character if character.isprintable() else "?" for character in name)
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"
