import base64
import io
import re
from collections.abc import Iterable
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageChops, ImageStat
from torch import nn

from conftest import Splits
from helpers import plots
from helpers.model import Net
from helpers.plots.figure import new_figure
from helpers.receptive_field import layer_table, slide, stages
from helpers.recipe import RECIPES
from helpers.results import interval
from helpers.runtime.history import History
from helpers.runtime.progress import HEADER, Progress, row
from helpers.training import Trainer

HISTORY = History({}, "cpu", {}, [0.5, 0.1], [0.80, 0.97], [0.2, 0.05], [0.95, 0.9912], [1.0, 2.0])


def image_of(axes: Axes) -> torch.Tensor:
    return torch.tensor(axes.images[0].get_array())


def pictures(figure: Figure) -> list[torch.Tensor]:
    return [image_of(axes) for axes in figure.axes if axes.images]


def words(artists: Iterable[Text]) -> list[str]:
    return [artist.get_text() for artist in artists]


def heights(axes: Axes) -> list[list[float]]:
    """Return the y values of each line."""
    return [list(line.get_ydata()) for line in axes.lines]


def test_the_four_panels_are_in_their_places_and_show_the_history() -> None:
    figure = plots.plot_history(HISTORY)
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == [
        "Train loss: 0.1000 at the end",
        "Test loss: 0.0500 at the end",
        "Train accuracy: 97.00% at the end",
        "Test accuracy: 99.12% at the end",
    ]
    curves = (HISTORY.train_loss, HISTORY.test_loss, HISTORY.train_accuracy, HISTORY.test_accuracy)
    for axes, curve in zip(panels, curves, strict=True):
        (line,) = axes.lines
        assert list(line.get_xdata()) == [1, 2]
        assert list(line.get_ydata()) == curve
        assert axes.get_xlabel() == "epoch"
    assert [axes.get_ylabel() for axes in panels] == ["loss (nats per image)"] * 2 + ["accuracy (% of images)"] * 2
    assert [axes.yaxis.get_major_formatter()(0.975) for axes in panels[2:]] == ["97.5%"] * 2
    train, test, *_ = colours = [axes.lines[0].get_color() for axes in panels]
    assert colours == [train, test, train, test] and train != test


def test_a_run_of_one_epoch_has_one_tick_and_no_accuracy_above_all() -> None:
    history = replace(HISTORY, **{name: getattr(HISTORY, name)[:1] for name in vars(HISTORY) if "_" in name})
    history = replace(history, train_accuracy=[1.0])
    for axes in plots.plot_history(history).axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
        if "accuracy" in axes.get_title():
            assert axes.get_ylim()[1] <= 1


def test_boxes_on_the_digit_grow_from_3_to_28(small_mnist: Splits) -> None:
    figure = plots.plot_receptive_fields(stages(layer_table(Net())), small_mnist[1].images[0])
    assert [axes.patches[0].get_width() for axes in figure.axes] == [3, 5, 6, 6, 10, 14, 14, 18, 28]
    assert [axes.get_title() for axes in figure.axes[::3]] == ["conv1: 3×3", "conv3: 6×6", "conv6: 14×14"]


def corners(axes: Axes) -> tuple[float, float, float, float]:
    """Return left, right, top and bottom of the box, in pixels, whose centres are whole numbers."""
    (box,) = axes.patches
    assert not box.get_fill() and not box.get_clip_on()
    (left, top), width, height = box.get_xy(), box.get_width(), box.get_height()
    return left, left + width, top, top + height


def test_the_box_frames_the_pixels_that_the_central_unit_sees() -> None:
    (stage,) = layer_table(nn.Sequential(nn.Conv2d(1, 2, (3, 5))), (1, 10, 14))  # unit (4, 5) of 8x10: rows 4 to 6
    image = torch.arange(140.0).view(10, 14)
    for figure in (plots.plot_receptive_fields([stage], image), plots.plot_effective_field(image, stage)):
        axes = figure.axes[0]
        assert corners(axes) == (4.5, 9.5, 3.5, 6.5)  # columns 5 to 9
        torch.testing.assert_close(image_of(axes) / image_of(axes).max(), image / image.max())
    assert plots.plot_receptive_fields([stage], image).axes[0].get_title() == "0: 3×5"
    axes, colours = figure.axes
    assert image_of(axes).max() == 1  # of the effective field
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("column (pixels)", "row (pixels)")
    assert "gradient" in colours.get_ylabel() and "0" in axes.get_title()


def test_augmentation_shows_the_original_beside_draws(small_mnist: Splits) -> None:
    figure = plots.plot_augmentation(small_mnist[0], RECIPES["assignment"].augmentation, indices=[3, 5], draws=4)
    assert [axes.get_title() for axes in figure.axes] == ["original", *(f"draw {i}" for i in range(1, 5))] + [""] * 5
    shown = pictures(figure)
    assert len(shown) == 2 * 5
    for index, (original, *draws) in zip((3, 5), (shown[:5], shown[5:]), strict=True):
        assert torch.equal(original, small_mnist[0].images[index])
        for i, draw in enumerate(draws):
            assert not any(torch.equal(draw, other) for other in draws[:i])
            likeness = torch.nn.functional.cosine_similarity(draw.flatten() - draw.min(), original.flatten(), dim=0)
            assert likeness > 0.5  # of the same digit


def test_digits_are_in_the_row_of_their_class(small_mnist: Splits) -> None:
    (axes,) = plots.plot_digits(small_mnist[0], 4).axes
    grid = image_of(axes)
    assert grid.shape == (10 * 28, 4 * 28)
    for label in range(10):
        of_class = small_mnist[0].images[small_mnist[0].labels == label][:4]
        shown = grid[28 * label : 28 * (label + 1)].split(28, dim=1)
        assert all(map(torch.equal, shown, of_class))
    assert words(axes.get_yticklabels()) == [str(label) for label in range(10)]
    assert list(axes.get_yticks()) == [28 * label + 14 for label in range(10)]
    assert axes.get_ylabel() == "label"
    assert axes.get_position().bounds == pytest.approx((0, 0, 1, 1))
    assert axes.images[0].get_cmap().name == "gray"


def test_the_confusion_matrix_has_labels_down_and_predictions_across() -> None:
    matrix = torch.diag(torch.full((10,), 90))
    matrix[2, 7], matrix[3, 5] = 9, 4
    axes, colours = plots.plot_confusion(matrix).axes
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts if text.get_text()}
    assert texts == {(i, i): ("90", "k") for i in range(10)} | {(7, 2): ("9", "w"), (5, 3): ("4", "k")}
    errors = image_of(axes)
    assert errors.nonzero().tolist() == [[2, 7], [3, 5]] and errors[2, 7] == 9
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted digit", "label (right)")
    assert words(axes.get_yticklabels())[1:4] == ["1 (100.0%)", "2 (90.9%)", "3 (95.7%)"]
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == list(range(10))
    assert colours.get_ylabel() == "errors (images)"


def test_mistakes_say_label_prediction_and_probability(small_mnist: Splits) -> None:
    split = small_mnist[1]
    probabilities = torch.full((300, 10), 0.3 / 9)
    probabilities[:, 6] = 0.7
    figure = plots.plot_mistakes(split, probabilities.log(), torch.tensor([3, 1, 2, 9, 8, 7, 20]))
    assert all(map(torch.equal, pictures(figure), split.images[[3, 1, 2, 9, 8, 7, 20]]))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == [f"label {split.labels[i]}\nsays 6 (70%)" for i in (3, 1, 2)]
    assert titles[7:] == [""] * 5 and len(pictures(figure)) == 7
    assert not any(axes.axison for axes in figure.axes)  # nor where there is no picture
    figure = plots.plot_mistakes(split, probabilities.log(), torch.tensor([], dtype=torch.int64))
    assert pictures(figure) == []


def test_predictions_are_bars_beside_what_was_seen(small_mnist: Splits) -> None:
    images = small_mnist[1].images[:2]
    photographs, inks = torch.rand(2, 40, 30, 3), torch.rand(2, 40, 30)
    probabilities = torch.rand(2, 10).softmax(dim=1)
    names = ["one\n\udcff.png", f"{'long' * 20}$x_2$.png"]
    for seen in ([], [photographs, inks]):
        figure = plots.plot_predictions(images, probabilities.log(), names, *seen)
        num_columns = 2 + len(seen)
        for i, columns in enumerate((figure.axes[:num_columns], figure.axes[num_columns:])):
            for axes, shown in zip(columns, [*seen, images], strict=False):
                torch.testing.assert_close(image_of(axes), shown[i])
            bars = columns[-1].containers[0]
            assert [bar.get_height() for bar in bars] == pytest.approx(probabilities[i].tolist(), rel=1e-5)
            assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx(range(10))
            assert words(columns[-1].get_xticklabels()) == [str(digit) for digit in range(10)]
            assert columns[-1].get_ylim() == (0, 1)
        titles = [*["picture", "ink"][: len(seen)], "network's input", "probability of each digit (axis from 0 to 1)"]
        assert [axes.get_title() for axes in figure.axes] == titles + [""] * num_columns
        assert figure.axes[0].get_xlabel() == "one??.png"
        assert figure.axes[num_columns].get_xlabel() == f"{'long' * 4}lon…{'ng' + 'long' * 2}$x_2$.png"


def test_a_figure_can_be_saved(tmp_path: Path) -> None:
    plots.save_figure(plots.plot_history(HISTORY), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_depth_shows_how_outputs_differ_from_image_to_image_and_how_far_a_step_goes() -> None:
    outputs = {
        "conv1": torch.tensor([[1.0, 2.0], [3.0, 2.0]]),  # two images, two units: deviations of sqrt(2) and 0
        "conv2": torch.tensor([[0.0, -1.0], [0.0, -1.0]]),
    }
    updates = {"with": {"conv1": 2e-3}, "without": {"conv1": 1e-5}}
    figure = plots.plot_depth({"with": outputs, "without": outputs}, updates)
    left, right = figure.axes
    assert heights(left) == [pytest.approx([2**0.5 / 2, 0])] * 2
    assert heights(right) == [[2e-3], [1e-5], [1e-3, 1e-3]]
    assert words(figure.legends[0].get_texts()) == ["with", "without"]


def test_each_norm_marks_what_shares_a_mean() -> None:
    """Of four images with five channels: one channel of all, one image, one channel of one image, two channels."""
    batches = [axes.collections[0].get_array() for axes in plots.plot_averaged().axes]
    assert {batch.shape for batch in batches} == {(4, 5)}
    assert [batch.sum(0).max() for batch in batches] == [4, 1, 1, 1]  # images that share a mean
    assert [batch.sum(1).max() for batch in batches] == [1, 5, 1, 2]  # channels that do


def test_channels_are_marked_with_their_means_and_deviations() -> None:
    before = torch.randn(4, 3, 5, 5) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1) + 1.5
    axes = plots.plot_channels(before, before - 1.5, ("in", "out")).axes
    for each, maps in zip(axes, (before, before - 1.5), strict=True):
        means = [container.lines[0].get_xdata()[0] for container in each.containers]
        assert means == pytest.approx(maps.mean((0, 2, 3)).tolist())
        ends = [container.lines[2][0].get_segments()[0][:, 0] for container in each.containers]
        widths = [(right - left) / 2 for left, right in ends]
        assert widths == pytest.approx(maps.transpose(0, 1).flatten(1).std(1).tolist(), rel=1e-4)
    assert [each.get_title() for each in axes] == ["in", "out"]


def test_scales_shifts_and_answers_are_drawn_as_they_are() -> None:
    norm = nn.BatchNorm2d(2)
    norm.weight.data, norm.bias.data = torch.tensor([0.5, 2.0]), torch.tensor([-0.25, 0.75])
    scales, shifts = plots.plot_scale_and_shift({"conv1": norm}).axes
    assert list(scales.lines[0].get_ydata()) == [0.5, 2.0] and list(shifts.lines[0].get_ydata()) == [-0.25, 0.75]
    assert [list(axes.lines[-1].get_ydata()) for axes in (scales, shifts)] == [[1, 1], [0, 0]]  # where they started
    (axes,) = plots.plot_noise({"train": [0.25, 0.5], "eval": [0.75]}, 7).axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.25, 0.5], [0.75]]
    assert "7" in axes.get_xlabel()


def test_seeds_have_a_line_each_and_a_run_is_on_one_scale() -> None:
    (axes,) = plots.plot_seeds({"with": [[0.9, 0.95], [0.8, 0.9]], "without": [[0.1, 0.5]]}).axes
    assert heights(axes) == [[0.9, 0.95], [0.8, 0.9], [0.1, 0.5]]
    assert axes.lines[0].get_color() == axes.lines[1].get_color() != axes.lines[2].get_color()
    assert words(axes.get_legend().get_texts()) == ["with, 2 seeds", "without, 1 seeds"]
    (axes,) = plots.plot_accuracies(HISTORY, 0.99).axes
    assert heights(axes) == [HISTORY.train_accuracy, HISTORY.test_accuracy, [0.99]]
    assert list(axes.lines[-1].get_xdata()) == [2] and len(axes.get_legend().get_texts()) == 3


def test_rates_have_a_line_for_each_network_with_intervals_where_these_are_possible() -> None:
    narrow, wide, lost = interval([0.97, 0.971, 0.972]), interval([0.1, 0.99]), interval([0.098, 0.098])
    cells = {0.001: {"final": narrow, "failures": 0}, 0.01: {"final": wide, "failures": 0}}
    cells[0.1] = {"final": lost, "failures": 2}
    for axes in plots.plot_rates({"with": cells}).axes:
        (container,) = axes.containers
        assert list(container.lines[0].get_ydata()) == [narrow["mean"], wide["mean"], lost["mean"]]
        bars = [segment[1, 1] - segment[0, 1] for segment in container.lines[2][0].get_segments()]
        assert bars == pytest.approx([2 * narrow["half_width"], 0, 0])
        dots = [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "."]
        assert dots == [narrow["seeds"], wide["seeds"], lost["seeds"]]
        assert [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "x"] == [[0.1]]
        assert axes.get_xscale() == "log"


def test_a_notebook_gets_a_small_picture_of_a_figure() -> None:
    figure = new_figure(3, 2)
    figure.subplots().plot([0, 1])
    figure._repr_mimebundle_()  # the layout settles when a figure is drawn for the first time
    picture = Image.open(io.BytesIO(base64.b64decode(figure._repr_mimebundle_()["image/png"])))
    saved = io.BytesIO()
    figure.savefig(saved, format="png")
    full = Image.open(saved).convert("RGB")
    assert picture.size == full.size
    assert ImageStat.Stat(ImageChops.difference(picture.convert("RGB"), full)).mean == pytest.approx([0, 0, 0], abs=1)


def test_journey_shows_filters_with_their_signs_and_maps_in_their_rows() -> None:
    filters = torch.tensor([[[[0.5, -1.0]]], [[[-0.25, 0.75]]]])  # two channels, kernel 1x2
    maps = {"first": torch.rand(1, 2, 4, 4), "second": torch.rand(1, 5, 2, 2)}
    axes = plots.plot_journey(filters, torch.zeros(4, 4), maps).axes
    assert [words(each.texts) for each in axes[1:3]] == [["+", "−"], ["−", "+"]]
    assert [each.images[0].get_array().max() for each in axes[4:6]] == [c.max().item() for c in maps["first"][0]]
    assert axes[6].texts[0].get_text() == "second\n5 × 2×2"
    assert all(each.images for each in axes[7:9])


def test_strongest_shows_a_row_for_each_channel() -> None:
    patches = [[torch.full((3, 3), 10 * channel + i, dtype=torch.uint8) for i in range(4)] for channel in range(2)]
    axes = plots.plot_strongest(patches, "conv5").axes
    assert [each.images[0].get_array().max() for each in axes] == [0, 1, 2, 3, 10, 11, 12, 13]
    assert axes[4].get_ylabel() == "conv5\nchannel 1"


def test_a_single_channel_a_single_patch_and_a_journey_to_nowhere_are_drawn() -> None:
    patch = torch.full((3, 3), 7, dtype=torch.uint8)
    for patches in ([[patch]], [[patch, patch]], [[patch], [patch]]):
        axes = plots.plot_strongest(patches, "conv5").axes
        assert len(axes) == sum(map(len, patches)) and all(torch.equal(seen, patch) for seen in map(image_of, axes))
    axes = plots.plot_journey(torch.ones(2, 1, 1, 2), torch.eye(4), {}).axes
    assert [image_of(each).shape for each in axes] == [(4, 4), (1, 2), (1, 2)]


def test_tables_are_markdown() -> None:
    shown = plots.table({"batch": [1, 2000], "accuracy": [*plots.approximate([0.0912]), True]})
    assert shown._repr_markdown_().splitlines() == [
        "| batch | accuracy |",
        "| ----- | -------: |",
        "| 1     |   ≈ 9.1% |",
        "| 2,000 |     True |",
    ]
    with pytest.raises(ValueError, match="shorter"):
        repr(plots.table({"a": [1, 2], "b": [1]}))


def test_a_prediction_stands_beside_what_was_found() -> None:
    rows = repr(plots.compare({"conv1": 72, "fc": 2890}, {"fc": 2891, "conv1": 72, "more": 1})).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [["conv1", "72", "72", "True"], ["fc", "2,890", "2,891", "False"]]
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
