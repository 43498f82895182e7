from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from conftest import Splits
from helpers import plots
from helpers.data import Split
from helpers.engine.history import History
from helpers.engine.progress import HEADER, Progress, row
from helpers.model import Net
from helpers.receptive_field import layer_table, stages
from helpers.recipe import RECIPES

HISTORY = History({}, "cpu", {}, [0.5, 0.1], [0.80, 0.97], [0.2, 0.05], [0.95, 0.9912], [1.0, 2.0])


def test_the_four_panels_are_in_their_places_and_show_the_history() -> None:
    figure = plots.plot_history(HISTORY)
    panels = figure.axes
    assert [axes.get_title().split(":")[0] for axes in panels] == [
        "Train loss",
        "Test loss",
        "Train accuracy",
        "Test accuracy",
    ]
    curves = (HISTORY.train_loss, HISTORY.test_loss, HISTORY.train_accuracy, HISTORY.test_accuracy)
    for axes, curve in zip(panels, curves, strict=True):
        (line,) = axes.lines
        assert list(line.get_xdata()) == [1, 2]
        assert list(line.get_ydata()) == curve
        assert axes.get_xlabel() == "epoch"
        assert ("nats" if "loss" in axes.get_title() else "%") in axes.get_ylabel()
    assert panels[3].get_title().endswith("99.12% at the end")


def test_a_run_of_one_epoch_has_one_tick_and_no_accuracy_above_all() -> None:
    history = replace(HISTORY, **{name: getattr(HISTORY, name)[:1] for name in vars(HISTORY) if "_" in name})
    for axes in plots.plot_history(history).axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
        if "accuracy" in axes.get_title():
            assert axes.get_ylim()[1] <= 1


def test_boxes_on_the_digit_grow_from_3_to_28(small_mnist: Splits) -> None:
    figure = plots.plot_receptive_fields(stages(layer_table(Net())), small_mnist[1].images[0])
    assert [axes.patches[0].get_width() for axes in figure.axes] == [3, 5, 6, 6, 10, 14, 14, 18, 28]


def test_augmentation_shows_the_original_beside_draws(small_mnist: Splits) -> None:
    figure = plots.plot_augmentation(small_mnist[0], RECIPES["assignment"].augmentation, indices=[3, 5], draws=4)
    assert len(figure.axes) == 2 * 5
    assert torch.equal(torch.tensor(figure.axes[5].images[0].get_array()), small_mnist[0].images[5])


@pytest.mark.parametrize("draw", [
    lambda split: plots.plot_digits(split, 4),
    lambda split: plots.plot_confusion(torch.eye(10, dtype=torch.int64) * 9),
    lambda split: plots.plot_mistakes(split, torch.full((700, 10), 0.1).log(), torch.tensor([3, 1, 2])),
    lambda split: plots.plot_effective_field(torch.rand(28, 28), stages(layer_table(Net()))[-2]),
])  # fmt: skip
def test_every_figure_can_be_saved(draw: Callable[[Split], Figure], small_mnist: Splits, tmp_path: Path) -> None:
    plots.save_figure(draw(small_mnist[0]), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_notebook_gets_one_bar_that_is_replaced_in_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda text, raw: shown.append(text["text/plain"]))
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel="a notebook's"))
    monkeypatch.setattr("IPython.display.display", lambda text, raw, display_id: shown.append("new") or handle)
    progress = Progress(4, 100)
    progress.finished = 1  # a resumed run
    with progress:
        progress.update(50, 0.5, 0.9)
        progress.epoch(HISTORY)
    assert shown[0] == "new" and shown.count("new") == 1
    assert shown[-1].startswith(" 38%|") and shown[-1].endswith("loss 0.5000, accuracy 90.00%")
    assert capsys.readouterr().out.splitlines() == [HEADER, row(HISTORY, 1)]


def test_rows_of_the_log_are_aligned() -> None:
    lines = [HEADER, row(HISTORY, 0), row(replace(HISTORY, seconds=[1.0, 1234.5]), 1)]
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["2", "0.1000", "97.00%", "0.0500", "99.12%", "1234.5"]
