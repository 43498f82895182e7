"""The page to draw on gives the network's answers: compared with PyTorch in a real browser, and used there by hand."""

import base64
import copy
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbclient
import nbconvert
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor, nn

from conftest import ROOT, Splits
from helpers.data import Batches, Split
from helpers.model import Net
from helpers.page import choose_digits, render, write_page
from helpers.page.__main__ import main
from helpers.photographs import to_mnist
from helpers.receptive_field import layer_table, stages
from helpers.results import RESULTS
from helpers.runtime.files import load_weights
from helpers.runtime.looking import outputs_of
from helpers.training import predict

PAGE, PICTURE = RESULTS / "page.html", RESULTS / "page.png"
HTML = PAGE.read_text(encoding="utf-8")
DATA = json.loads(re.search(r'id="page-data">(.*?)</script>', HTML)[1])
DIGITS = [digit["index"] for digit in DATA["digits"]]
TABLE = stages(layer_table(Net()))
LAST_LAYERS = {row.name: row.name for row in TABLE}  # of each stage; a block ends with its batch norm


@pytest.fixture(scope="module")
def other_net(mnist: Splits) -> nn.Module:
    """A network of other widths, kernels and blocks, not trained but with statistics of its own."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.BatchNorm2d(6, eps=0.1))
    features.extend([nn.Conv2d(6, 12, (3, 2), stride=(2, 1), padding=(1, 0)), nn.BatchNorm2d(12), nn.ReLU()])
    features.extend([nn.MaxPool2d((3, 2), (2, 1)), nn.Dropout(), nn.Flatten()])  # 12 x 3 x 12
    model = features.extend([nn.Linear(12 * 3 * 12, 20, bias=False), nn.ReLU(), nn.Linear(20, 10)])
    with torch.no_grad():
        for images, _ in Batches(mnist[0][:500], 100):
            model(images)
    return model.eval()


def test_the_committed_page_is_what_the_code_writes(robust_net: nn.Module, mnist: Splits) -> None:
    assert render(robust_net, mnist[1], DIGITS) == HTML, "run `python -m helpers.page`"
    assert PAGE.stat().st_size < 300_000


def test_the_page_needs_no_other_file_and_no_network() -> None:
    assert re.findall(r"https?:|\bimport\b[ (]|fetch\(|@import|url\(", HTML) == []
    assert re.findall(r'(?:src|href)="(?!data:)', HTML) == []
    assert "default-src 'none'" in HTML


def test_two_digits_of_each_class_and_some_that_it_misreads(robust_net: nn.Module, mnist: Splits) -> None:
    for model, num_images, num_misread in ((robust_net, 2500, 0), (Net(), 300, 10)):
        test = mnist[1][:num_images]
        digits = choose_digits(model, test)
        right = predict(model, Batches(test, 500)).argmax(dim=1)[digits] == test.labels[digits]
        assert test.labels[digits[:20]].tolist() == [label for label in range(10) for _ in range(2)]
        assert len(digits) > 20 and not right[20:].any()
        assert len(set(digits)) == len(digits)
        assert (~right[:20]).sum() >= num_misread  # of a network that has learned nothing they could come twice
    misread = [digit["misread"] for digit in DATA["digits"]]
    assert all(misread[20:]) and len(misread) + sum(misread[:20]) >= 30  # one of the first may be among the worst


def test_one_command_writes_it_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, small_mnist: Splits
) -> None:
    monkeypatch.setattr("helpers.page.__main__.load_mnist", lambda root: small_mnist)
    page, weights = tmp_path / "page.html", RESULTS / "sprint" / "model.pt"
    assert main([str(page), "--weights", str(weights)]) == 0
    assert str(page) in capsys.readouterr().out
    model = Net()
    load_weights(model, weights)
    assert page.read_text(encoding="utf-8") == render(model, small_mnist[1])
    assert main([str(tmp_path / "none.html"), "--weights", str(tmp_path / "none.pt")]) == 2
    assert "none.pt does not exist" in capsys.readouterr().err


class WithFunctions(nn.Module):
    """Layers that would do alone, and beside them what its forward calls as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.fc = nn.Linear(14 * 14, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.max_pool2d(x + self.conv(x), 2).flatten(1))


def ending_in_ten(*layers: nn.Module) -> nn.Sequential:
    """Return these layers and a linear one that fits them."""
    size = nn.Sequential(*layers, nn.Flatten()).eval()(torch.zeros(1, 1, 28, 28)).shape[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 10))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (ending_in_ten(nn.Conv2d(1, 4, 3), nn.GELU()), "1: GELU is none"),
        (ending_in_ten(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), "1: its groups is 2"),
        (ending_in_ten(nn.Conv2d(1, 4, 3, padding="same")), "0: its padding is 'same'"),
        (ending_in_ten(nn.Conv2d(1, 4, 3, dilation=2)), r"0: its dilation is \(2, 2\)"),
        (ending_in_ten(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")), "0: its padding_mode is circular"),
        (ending_in_ten(nn.Conv2d(1, 4, 3, padding=3)), "0: some of its units see only padding"),
        (ending_in_ten(nn.MaxPool2d(3, padding=1)), "0: its padding is 1"),
        (ending_in_ten(nn.MaxPool2d(3, ceil_mode=True)), "0: its ceil_mode is True"),
        (ending_in_ten(nn.BatchNorm2d(1, affine=False)), "0: its affine is False"),
        (ending_in_ten(nn.BatchNorm2d(1, track_running_stats=False)), "0 cannot be followed"),
        (nn.Sequential(ending_in_ten(nn.Conv2d(1, 4, 3)), nn.Linear(10, 7)), "7 outputs"),
        (WithFunctions(), "add, max_pool2d"),
        (ending_in_ten(nn.Conv2d(1, 4, 3), nn.LogSoftmax(1)), "do not give its answer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 10)), "1 cannot take"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_network_that_the_page_cannot_show_is_refused_in_one_line(
    model: nn.Module, says: str, small_mnist: Splits, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        write_page(tmp_path / "page.html", model, small_mnist[1])
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "page.html").exists()


def test_what_the_page_says_of_train_mode_is_true(robust_net: nn.Module, mnist: Splits) -> None:
    images, labels = mnist[1].images[:300], mnist[1].labels[:300]

    def share_right(chosen: Tensor, others: Tensor | None) -> float:
        answers = [in_pytorch(robust_net, image, others)[0].argmax() for image in images[chosen]]
        return (torch.stack(answers) == labels[chosen]).float().mean().item()

    ones, any_digits, one_of_each_class = (labels == 1).nonzero().flatten(), torch.arange(60), images[DIGITS[:20:2]]
    assert share_right(ones, None) > 0.95
    assert share_right(ones, images[:0]) < 0.5  # in a batch of one digits with little ink are often misread
    assert share_right(any_digits, one_of_each_class) > 0.95  # most are right again


@pytest.mark.processes
def test_writing_the_page_needs_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "IPython.py").write_text("raise ImportError", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "helpers.page", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# What follows needs a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator:
    pytest.importorskip("playwright", reason="needs `pip install playwright`")
    from evidence.page_picture import BROWSERS, find_browser, open_browser

    if find_browser() is None:
        pytest.skip(f"needs a browser on the PATH: {', '.join(BROWSERS)}")
    with open_browser() as opened:
        yield opened


@pytest.fixture
def open_page(browser) -> Iterator:
    """Open the page in a window of this width; at the end, nothing may stand in its console."""
    complaints: list[str] = []

    def opened(width: int = 1100, file: Path = PAGE, **options):
        page = browser.new_page(viewport={"width": width, "height": 740}, **options)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in browser.contexts:
        context.close()
    assert complaints == []


@pytest.mark.processes
def test_the_page_of_a_network_without_batch_norm_that_has_learned_nothing(
    open_page, small_mnist: Splits, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 10))
    test = small_mnist[1]
    digits = choose_digits(model, test)
    (tmp_path / "page.html").write_text(render(model, test, digits), encoding="utf-8")
    page = open_page(file=tmp_path / "page.html")
    assert "labelled 3" in page.locator("#answer").inner_text()
    for label in range(10):
        shown = set()
        for _ in range(2):
            page.locator("#digits button").nth(label).click()
            shown.add(page.locator("#answer").inner_text().split(":")[0])
        assert shown == {f"Test image {image}, labelled {label}" for image in digits[2 * label : 2 * label + 2]}
    misread = predict(model, Batches(test, 500)).argmax(dim=1)[digits] != test.labels[digits]
    assert page.locator("#misread button").count() == min(10, misread.sum().item())
    assert page.locator("#seen-by").is_visible()
    assert not page.locator("#statistics").is_visible() and not page.locator("#statistics-note").is_visible()


def encode(pixels: Tensor | Image.Image) -> str:
    return base64.b64encode(np.asarray(pixels).tobytes()).decode()


def in_pytorch(
    model: nn.Module, image: Tensor, others: Tensor | None = None, layers: Sequence[str] = ()
) -> list[Tensor]:
    """Return the log-probabilities of an image ``(28, 28)`` uint8 and what these layers put out, all flat, in float64.

    In eval mode; with ``others`` ``(B, 28, 28)``, which complete the batch, in train mode without dropout.
    """
    images = image[None] if others is None else torch.cat([image[None], others])
    batch, _ = next(iter(Batches(Split(images, torch.zeros(len(images)).long()), len(images))))
    model = copy.deepcopy(model).double().train(others is not None)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad(), outputs_of(model, list(layers)) as outputs:
        log_probs = model(batch.double()).log_softmax(1)
    return [log_probs[0], *(outputs[layer][0].flatten() for layer in layers)]


def furthest_from_pytorch(
    page, model: nn.Module, last_layers: dict[str, str], images: Tensor, others: Tensor | None = None
) -> float:
    """Return the largest difference of the answer and of any unit over these images.

    ``last_layers`` has for each stage the layer whose output is its map.
    """
    shapes = {row.name: [*row.output_shape, 1, 1][:3] for row in stages(layer_table(model))}
    rest = None if others is None else [encode(other) for other in others]
    ask = "([image, rest]) => JSON.stringify(readDigit(decodeBytes(image), rest && rest.map(decodeBytes)))"
    furthest = 0.0
    for image in images:
        expected = in_pytorch(model, image, others, list(last_layers.values()))
        answer = json.loads(page.evaluate(ask, [encode(image), rest]))
        maps = answer["maps"]
        assert {name: maps[name]["shape"] for name in maps} == shapes
        got = [answer["logProbabilities"], *(maps[name]["values"] for name in last_layers)]
        for ours, theirs in zip(got, expected, strict=True):
            furthest = max(furthest, (torch.tensor(ours).double() - theirs).abs().max().item())
    return furthest


@pytest.mark.processes
def test_the_page_computes_what_pytorch_computes_in_eval_and_in_train_mode(
    open_page, robust_net: nn.Module, other_net: nn.Module, mnist: Splits, tmp_path: Path
) -> None:
    images = mnist[1].images
    page = open_page()
    assert furthest_from_pytorch(page, robust_net, LAST_LAYERS, images[:20]) < 1e-5
    assert furthest_from_pytorch(page, robust_net, LAST_LAYERS, images[20:30], images[:0]) < 1e-5
    assert furthest_from_pytorch(page, robust_net, LAST_LAYERS, images[30:33], images[300:310]) < 1e-5

    write_page(tmp_path / "other.html", other_net, mnist[1])
    page = open_page(file=tmp_path / "other.html")
    last_layers = {"0": "1", "2": "2", "3": "3", "4": "6", "7": "7", "10": "11", "12": "12"}
    assert furthest_from_pytorch(page, other_net, last_layers, images[:5]) < 1e-5
    assert furthest_from_pytorch(page, other_net, last_layers, images[:5], images[10:20]) < 1e-5
    page.select_option("#seen-by", "every layer")
    assert page.locator("#seen-boxes rect.box").count() == len(last_layers)


@pytest.mark.processes
def test_every_box_that_is_shown_is_the_layer_tables(open_page) -> None:
    """Of every unit of every stage: what ``receptiveBox`` returns, and what is drawn on both pictures."""
    got = open_page().evaluate("""() => stages.map(stage => {
        const [, height, width] = stage.output;
        const boxes = [];
        for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
            showUnits([{stage, channel: 0, row, column}]);
            const drawn = ["#seen-boxes", "#pad-boxes"].map(svg => {
                const rectangle = document.querySelector(`${svg} rect.box`);
                return ["y", "height", "x", "width"].map(name => Number(rectangle.getAttribute(name)));
            });
            boxes.push([receptiveBox(stage.name, row, column), ...drawn]);
        }
        return [stage.name, height, width, boxes];
    })""")
    assert [stage[:3] for stage in got] == [[row.name, *(*row.output_shape, 1, 1)[1:3]] for row in TABLE]
    for row, (_, height, width, boxes) in zip(TABLE, got, strict=True):
        units = [(i, j) for i in range(height) for j in range(width)]
        assert len(boxes) == len(units)
        for unit, (told, *drawn) in zip(units, boxes, strict=True):
            (top, bottom), (left, right) = box = row.box(unit)
            assert told == [list(side) for side in box]
            assert drawn == [[top, bottom - top + 1, left, right - left + 1]] * 2


def drawings(images: Tensor) -> Iterator[Image.Image]:
    """Put each digit on a pad: of several sizes and stroke widths, at a random place, some of them grey."""
    draw = torch.Generator().manual_seed(0)
    for i, pixels in enumerate(images):
        side = (16, 60, 110, 180, 265)[i % 5] + int(torch.randint(0, 10, (1,), generator=draw))  # 16 is enlarged
        digit = Image.fromarray(pixels.numpy()).resize((side, side), Image.Resampling.BICUBIC)
        widths = (None, ImageFilter.MaxFilter(5), ImageFilter.MaxFilter(9), ImageFilter.MinFilter(3))
        width = widths[i % 4] if side >= 60 else None
        pad = Image.new("L", (280, 280), 0)
        left, top = torch.randint(0, 281 - side, (2,), generator=draw).tolist()
        pad.paste(digit.filter(width) if width else digit, (left, top))
        yield pad
    for width in (8, 12):  # the thinnest pen, and a thin one, whose strokes are thickened
        pad = Image.new("L", (280, 280), 0)
        ImageDraw.Draw(pad).line([(60, 40), (200, 45), (110, 245)], fill=255, width=width, joint="curve")
        yield pad
    pad = Image.new("L", (280, 280), 0)  # a mark of 40x21 pixels, whose width becomes 10.5: rounded to the even 10
    ImageDraw.Draw(pad).rectangle([100, 100, 120, 139], outline=255, width=6)
    ImageDraw.Draw(pad).rectangle([115, 106, 120, 133], fill=0)
    yield pad


@pytest.mark.processes
def test_a_drawing_is_prepared_as_to_mnist_prepares_a_picture(open_page, robust_net: nn.Module, mnist: Splits) -> None:
    page = open_page()
    put = """grey => {
        const image = pad.createImageData(280, 280);
        decodeBytes(grey).forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
        pad.putImageData(image, 0, 0);
        const pixels = answerDrawing();
        return [pixels, bestDigit(), pad.canvas.toDataURL()];
    }"""
    for drawing in drawings(mnist[1].images[500:520]):
        pixels, answer, url = page.evaluate(put, encode(drawing))
        picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
        assert picture.convert("L").tobytes() == drawing.tobytes()
        expected = to_mnist(picture)
        assert (torch.tensor(pixels).view(28, 28) - expected.float()).abs().max() <= 1
        assert answer == in_pytorch(robust_net, expected)[0].argmax()


def answer_of(page) -> str:
    return page.locator("#answer").inner_text()


def shown_by(page) -> tuple[int, int, int, str]:
    """Return how many boxes are on both pictures, how many units are marked, and what is said of them."""
    seen, on_pad, marks = (
        page.locator(selector).count() for selector in ("#seen-boxes .box", "#pad-boxes .box", ".mark")
    )
    return seen, on_pad, marks, page.locator("#unit").inner_text()


@pytest.mark.processes
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1100, "light")])
def test_draw_point_and_type(open_page, width: int, scheme: str) -> None:
    """By finger on a narrow screen, by mouse on a wide one, and by keys on all."""
    from evidence.page_picture import FIVE, draw

    page = open_page(width, color_scheme=scheme, has_touch=width < 1000)
    press = "tap" if width < 1000 else "click"
    assert "labelled 3: the network reads 3" in answer_of(page)
    draw(page, FIVE)
    assert "Your drawing: the network reads 5" in answer_of(page)
    assert page.locator("#bars li.best").inner_text().split()[0] == "5"
    assert page.evaluate("document.documentElement.scrollWidth") == width

    page.locator("[data-name=conv4]").evaluate("card => card.scrollIntoView()")
    conv4 = page.locator("[data-name=conv4] .map").nth(3)
    side = conv4.bounding_box()["width"]
    getattr(conv4, press)(position={"x": 0.55 * side, "y": 0.55 * side})  # of 10x10 units
    row = next(row for row in TABLE if row.name == "conv4")
    assert "conv4, channel 3, unit (5, 5)" in page.locator("#unit").inner_text()
    assert page.locator("#seen-boxes rect.box").get_attribute("y") == str(row.box((5, 5))[0][0])
    seen, bars = page.locator(".seen").bounding_box(), page.locator("#bars").bounding_box()
    assert min(seen["y"], bars["y"]) >= 0 and seen["y"] + seen["height"] <= 740  # in sight beside any map
    page.mouse.move(0, 0)

    page.keyboard.press("ArrowLeft")
    assert "conv4, channel 3, unit (5, 4)" in page.locator("#unit").inner_text()
    page.keyboard.press("PageDown")
    assert "conv4, channel 4, unit (5, 4)" in page.locator("#unit").inner_text()
    page.keyboard.press("Escape")
    assert "conv1: the strongest unit of each of its 8" in page.locator("#unit").inner_text()
    page.keyboard.press("7")
    assert "labelled 7" in answer_of(page)
    page.keyboard.press("c")
    assert answer_of(page) == "Nothing is drawn yet."
    assert shown_by(page)[:3] == (0, 0, 0)


@pytest.mark.processes
def test_it_opens_with_the_boxes_of_one_layer_and_others_can_be_chosen(open_page) -> None:
    page = open_page(has_touch=True)
    *counts, says = shown_by(page)
    assert counts == [8, 8, 8] and page.locator("[data-name=conv1] .mark").count() == 8 and "conv1" in says
    page.select_option("#seen-by", "every layer")
    *counts, says = shown_by(page)
    assert counts == [len(TABLE)] * 3 and "each layer" in says
    for layer, press in (("conv6", "click"), ("conv4", "tap")):
        getattr(page.locator(f"[data-name={layer}] button"), press)()
        page.mouse.move(0, 0)
        *counts, says = shown_by(page)
        assert counts == [16, 16, 16] and page.locator(f"[data-name={layer}] .mark").count() == 16 and layer in says
        assert page.locator("#seen-by").input_value() == layer
        assert page.locator("h2 [aria-pressed=true]").all_inner_texts() == [layer]

    page.locator("[data-name=fc] .map").nth(2).click()  # a unit goes before what is chosen
    assert shown_by(page)[:3] == (1, 1, 1)
    page.select_option("#seen-by", "conv2")
    page.locator("#seen-by").press("c")  # which in a list clears no drawing
    page.mouse.move(0, 0)
    assert "labelled 3" in answer_of(page) and shown_by(page)[0] > 1
    page.locator("[data-name=conv4] button").focus()  # by keys a layer is looked at before it is chosen
    assert "conv4" in shown_by(page)[3]
    page.keyboard.press("Tab")
    assert "conv4, channel" in shown_by(page)[3]  # the strongest of its units
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator("#seen-by").input_value() == "conv4"


@pytest.mark.processes
def test_batch_norm_can_use_the_statistics_of_a_batch(open_page, robust_net: nn.Module, mnist: Splits) -> None:
    from evidence.page_picture import FIVE, draw

    images = mnist[1].images
    page = open_page()
    page.locator("#digits button").nth(1).click()
    choices = {"one": images[:0], "eleven": images[DIGITS[:20:2]], "stored": None}  # the rest of the batch
    for image in (images[DIGITS[2]], None):
        if image is None:
            draw(page, FIVE)
            image = torch.tensor(page.evaluate("Array.from(prepared.pixels)"), dtype=torch.uint8).view(28, 28)
        notes = set()
        for choice, others in choices.items():
            page.select_option("#statistics", choice)
            notes.add(page.locator("#statistics-note").inner_text())
            expected = in_pytorch(robust_net, image, others)[0]
            assert page.evaluate("result.logProbabilities") == pytest.approx(expected.tolist(), abs=1e-4)
            shown = [float(text.rstrip("%")) / 100 for text in page.locator("#bars b").all_inner_texts()]
            assert shown == pytest.approx(expected.exp().tolist(), abs=0.0006)
            assert f"the network reads {expected.argmax()} (" in answer_of(page)
        assert len(notes) == len(choices)
    assert "Your drawing" in answer_of(page)


@pytest.mark.processes
def test_probabilities_and_maps_move_while_a_stroke_is_drawn(open_page) -> None:
    page = open_page()
    seen = []
    page.mouse.move(150, 150)
    page.mouse.down()
    for x, y in [(150, 150), (180, 280), (220, 180)]:
        page.mouse.move(x, y, steps=4)
        page.evaluate("new Promise(requestAnimationFrame)")
        map_of_conv1 = "document.querySelector('[data-name=conv1] canvas').toDataURL()"
        seen.append((page.locator("#bars").inner_text(), page.evaluate(map_of_conv1)))
    assert "Test image" in answer_of(page)  # in words, only after the stroke
    page.mouse.up()
    assert "Your drawing" in answer_of(page)
    assert len({bars for bars, _ in seen}) == len({conv1 for _, conv1 in seen}) == 3
    # a test digit that is picked before the next frame is not taken for a drawing by that frame
    page.evaluate("drawTo({x: 100, y: 100}), digitButtons[7].button.click()")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.locator("#digits [aria-pressed=true]").get_attribute("aria-label") == "test digit 7"


@pytest.mark.processes
def test_a_digit_can_be_drawn_by_keys(open_page) -> None:
    page = open_page()
    page.keyboard.press("c")
    page.locator("#pad").focus()
    for key in ["ArrowUp"] * 9 + ["Shift+ArrowDown"] * 18:
        page.keyboard.press(key)
    assert "Your drawing: the network reads 1" in answer_of(page)


@pytest.mark.processes
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_that_takes_the_focus_has_a_name_and_all_text_a_contrast(open_page, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, [tabindex], [role=img]")]
        .filter(item => !(item.getAttribute("aria-label") || item.textContent.trim())).map(item => item.outerHTML)""")
    assert nameless == []
    contrasts = page.evaluate("""() => {
        const luminance = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = item => {
            const colour = getComputedStyle(item).backgroundColor;
            return colour === "rgba(0, 0, 0, 0)" ? behind(item.parentElement) : colour;
        };
        return [...document.querySelectorAll("h1, p, strong, h2, h2 *, li, b, label, select, button, kbd, em")]
            .filter(item => item.textContent.trim() && item.id !== "hint").map(item => {
                const [a, b] = [getComputedStyle(item).color, behind(item)].map(luminance).sort((x, y) => y - x);
                return (a + 0.05) / (b + 0.05);
            });
    }""")
    assert len(contrasts) > 60 and min(contrasts) >= 4.5


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A notebook that shows the page, run by a kernel: its text, and its HTML export."""
    show = 'page.show(RESULTS / "page.html", RESULTS / "page.png")'
    cells = [nbformat.v4.new_code_cell(f"from helpers import page\nfrom helpers.results import RESULTS\n\n{show}")]
    made = nbclient.execute(nbformat.v4.new_notebook(cells=cells), cwd=str(ROOT))
    exported, _ = nbconvert.HTMLExporter().from_notebook_node(made)
    return {"stored": nbformat.writes(made), "exported": exported}


@pytest.mark.processes
def test_a_notebook_that_shows_the_page_stays_small_and_keeps_a_picture(notebook: dict[str, str]) -> None:
    assert len(notebook["stored"]) < 300_000
    (cell,) = nbformat.reads(notebook["stored"], as_version=4).cells
    assert [next(iter(output.data)) for output in cell.outputs if output.output_type == "display_data"] == [
        "image/png",
        "text/html",
    ]
    assert re.findall(r"/(?:home|root|tmp|Users|content)/", notebook["stored"]) == []


@pytest.mark.processes
def test_in_an_exported_notebook_the_page_takes_the_place_of_its_picture(
    browser, notebook: dict[str, str], tmp_path: Path
) -> None:
    # the page alone, as the export embeds it: what the template loads from elsewhere is not at stake
    (body,) = re.findall(r"<body.*</body>", notebook["exported"], flags=re.DOTALL)
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8>{body}", encoding="utf-8")
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto((tmp_path / "notebook.html").as_uri())
        if scripts:
            frame = page.frame_locator("iframe")
            frame.locator("#digits button").nth(4).click()
            assert "the network reads 4" in frame.locator("#answer").inner_text()
            assert page.locator("img").count() == 0
        else:
            assert page.locator("img").evaluate("image => image.naturalWidth") == Image.open(PICTURE).width
        context.close()
