"""What all figures share: colours, an empty figure, an image in grey, and a file."""

import base64
import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from helpers.runtime.files import atomic_write

TRAIN_COLOUR, TEST_COLOUR = "tab:blue", "tab:orange"


class NotebookFigure(Figure):
    """A figure that a notebook stores in 256 colours, which takes a third of the bytes."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        full, reduced = io.BytesIO(), io.BytesIO()
        self.savefig(full, format="png")
        picture = Image.open(full).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        picture.save(reduced, format="png", optimize=True)
        return {"image/png": base64.b64encode(reduced.getvalue()).decode(), "text/plain": repr(self)}


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` as PNG, whole or not at all; raises ``OSError`` where that fails."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    atomic_write(path, png.getvalue())


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches; it belongs to no window."""
    return NotebookFigure(figsize=(width, height), dpi=88, layout="constrained")


def show_image(axes: Axes, image: Tensor, title: str = "", **scale: float) -> None:
    """Draw one image ``(H, W)`` in grey, without ticks; ``vmin`` and ``vmax`` are its own unless they are given."""
    axes.imshow(image.numpy(), cmap="gray", interpolation="nearest", **scale)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
