"""What all figures share: colours, an empty figure, an image in grey, and a file."""

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.runtime.files import atomic_write

TRAIN_COLOUR, TEST_COLOUR = "tab:blue", "tab:orange"


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` as PNG, whole or not at all; raises ``OSError`` where that fails."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    atomic_write(path, png.getvalue())


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches. It belongs to no window; a notebook displays it as an output."""
    return Figure(figsize=(width, height), dpi=88, layout="constrained")  # a notebook with a dozen of them stays small


def show_image(axes: Axes, image: Tensor, title: str = "") -> None:
    """Draw one image ``(H, W)`` in grey, without ticks."""
    axes.imshow(image.numpy(), cmap="gray", interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
