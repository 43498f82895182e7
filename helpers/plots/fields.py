"""Receptive fields on a digit: what a unit can see, and what it looks at."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.plots.figure import new_figure, show_image
from helpers.receptive_field import Row


def draw_box(axes: Axes, stage: Row, color: str) -> None:
    """Frame the pixels that the central unit of ``stage`` sees."""
    (top, bottom), (left, right) = stage.box()
    height, width = bottom - top + 1, right - left + 1
    box = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color=color, lw=2, zorder=3)
    axes.add_patch(box).set_clip_on(False)  # it may be as large as the image


def plot_receptive_fields(stages: Sequence[Row], image: Tensor) -> Figure:
    """Return ``image`` ``(H, W)`` once for each stage, with a box around what the stage's central unit sees."""
    columns = 3
    rows = math.ceil(len(stages) / columns)
    figure = new_figure(columns * 2.1, rows * 2.25)
    for axes, stage in zip(figure.subplots(rows, columns).flat, stages, strict=False):
        height, width = stage.receptive_field
        show_image(axes, image, f"{stage.name}: {height}×{width}")
        draw_box(axes, stage, "tab:orange")
    return figure


def plot_effective_field(gradient: Tensor, stage: Row) -> Figure:
    """Return the mean absolute gradient ``(H, W)`` of a stage's central unit, with a box around what it can see."""
    figure = new_figure(5, 4)
    axes = figure.subplots()
    picture = axes.imshow((gradient / gradient.max()).numpy(), cmap="viridis")
    draw_box(axes, stage, "w")
    axes.set(
        title=f"{stage.name}: theory (box) and influence (colour)", xlabel="column (pixels)", ylabel="row (pixels)"
    )
    figure.colorbar(picture, label="mean |gradient| (largest = 1)")
    return figure
