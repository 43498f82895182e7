"""Photographs, what the network gets of them, and its answers."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from helpers.data import NUM_CLASSES
from helpers.plots.figure import TEST_COLOUR, new_figure, show_image


def plot_predictions(
    images: Tensor,
    log_probs: Tensor,
    names: Sequence[str],
    pictures: Sequence[Tensor] = (),
    inks: Sequence[Tensor] = (),
) -> Figure:
    """Return images ``(B, 28, 28)`` as the network gets them, each beside the probabilities of the ten digits.

    If they are given, the photographs ``pictures``, ``(H, W)`` or ``(H, W, 3)``, and the ink found in them, ``inks``
    ``(H, W)``, are shown to the left.
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
        row[-1].set(ylim=(0, 1), yticks=[])
        row[-1].set_xticks(range(NUM_CLASSES), range(NUM_CLASSES), fontsize=7)
    grid[0, -1].set_title("probability of each digit (axis from 0 to 1)", fontsize=9)
    return figure


def as_text(name: str, longest: int = 40) -> str:
    """Return a file's ``name`` with ? for what cannot be printed, and without its middle if it is too long."""
    name = "".join(character if character.isprintable() else "?" for character in name)
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"
