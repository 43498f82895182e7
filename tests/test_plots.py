import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
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
from helpers.receptive_field import layer_table, slide, stages
from helpers.recipe import RECIPES
from helpers.training import Trainer

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


def test_depth_shows_spread_and_mean_of_each_layer_and_each_update() -> None:
    outputs = {"conv1": torch.tensor([1.0, 3.0]), "conv2": torch.tensor([-0.5, -0.5])}
    updates = {"with": {"conv1": 2e-3}, "without": {"conv1": 1e-5}}
    before, after, right = plots.plot_depth({"with": outputs, "without": outputs}, {"with": outputs}, updates).axes
    spread, mean = (list(line.get_ydata()) for line in before.lines[:2])
    assert spread == pytest.approx([2**0.5, 0]) and mean == [2.0, 0.5]
    assert len(before.lines) == 4 and len(after.lines) == 2
    assert [list(line.get_ydata()) for line in right.lines] == [[2e-3], [1e-5], [1e-3, 1e-3]]


def test_journey_shows_filters_with_their_signs_and_maps_in_their_rows() -> None:
    filters = torch.tensor([[[[0.5, -1.0]]], [[[-0.25, 0.75]]]])  # two channels, kernel 1x2
    maps = {"first": torch.rand(1, 2, 4, 4), "second": torch.rand(1, 5, 2, 2)}
    axes = plots.plot_journey(filters, torch.zeros(4, 4), maps).axes
    assert [[text.get_text() for text in each.texts] for each in axes[1:3]] == [["+", "−"], ["−", "+"]]
    assert [each.images[0].get_array().max() for each in axes[4:6]] == [c.max().item() for c in maps["first"][0]]
    assert axes[6].texts[0].get_text() == "second\n5 × 2×2"
    assert all(each.images for each in axes[7:9])


def test_strongest_shows_a_row_for_each_channel() -> None:
    patches = [[torch.full((3, 3), 10 * channel + i, dtype=torch.uint8) for i in range(4)] for channel in range(2)]
    axes = plots.plot_strongest(patches, "conv5").axes
    assert [each.images[0].get_array().max() for each in axes] == [0, 1, 2, 3, 10, 11, 12, 13]
    assert axes[4].get_ylabel() == "conv5\nchannel 1"


def test_tables_are_markdown() -> None:
    shown = plots.table({"batch": [1, 2000], "accuracy": [*plots.approximate([0.0912]), True]})
    assert shown._repr_markdown_().splitlines() == [
        "| batch | accuracy |", "| --- | ---: |", "| 1 | ≈ 9.1% |", "| 2,000 | True |"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="shorter"):
        repr(plots.table({"a": [1, 2], "b": [1]}))


def test_a_prediction_stands_beside_what_was_found() -> None:
    rows = repr(plots.compare({"conv1": 72, "fc": 2890}, {"fc": 2891, "conv1": 72, "more": 1})).splitlines()[2:]
    assert rows == ["| conv1 | 72 | 72 | True |", "| fc | 2,890 | 2,891 | False |"]
    with pytest.raises(KeyError):
        plots.compare({"conv2": 1}, {"conv1": 1})


def test_source_is_the_modules_own_and_needs_no_style_sheet() -> None:
    source = plots.show_source(Trainer.train_step, slide)
    assert repr(source).startswith("def train_step(self") and "\n\n\ndef slide(" in repr(source)
    html = source._repr_html_()
    assert (
        "font-family:monospace" in html and "color: #" in html and "class=" not in html.replace('class="highlight"', "")
    )
    text = unescape(re.sub("<[^>]*>", "", html))
    assert text.strip() == repr(source).strip()


def test_a_notebook_gets_one_bar_that_is_replaced_in_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda text, raw: shown.append(text["text/plain"]))
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
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
