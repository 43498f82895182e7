"""The page to draw on is the network: compared with PyTorch in a real browser, and used there by hand."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbconvert
import nbformat
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from conftest import ROOT, Splits
from helpers.data import Batches, Split
from helpers.model import Net
from helpers.page import PAGE, PICTURE, WEIGHTS, choose_digits, render
from helpers.page.__main__ import main
from helpers.photographs import to_mnist
from helpers.receptive_field import Row, layer_table, stages
from helpers.runtime.files import load_weights
from helpers.training import predict

HTML = PAGE.read_text(encoding="utf-8")
DATA = json.loads(re.search(r'id="page-data">(.*?)</script>', HTML)[1])
DIGITS = [digit["index"] for digit in DATA["digits"]]
TABLE = stages(layer_table(Net()))
PACK = """values => {
    const bytes = new Uint8Array(Float32Array.from(values).buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(text);
}"""


@pytest.fixture(scope="module")
def net() -> Net:
    model = Net().eval()
    load_weights(model, WEIGHTS)
    return model


def test_the_committed_page_is_what_the_code_writes(net: Net, mnist: Splits) -> None:
    assert render(net, mnist[1], DIGITS) == HTML, "run `python -m helpers.page`"
    assert PAGE.stat().st_size < 300_000


def test_the_page_needs_no_other_file_and_no_network() -> None:
    assert re.findall(r"https?:|\bimport\b[ (]|fetch\(|@import|url\(", HTML) == []
    assert re.findall(r'(?:src|href)="(?!data:)', HTML) == []
    assert "default-src 'none'" in HTML


def test_some_digits_of_each_class_and_some_that_it_misreads(net: Net, mnist: Splits) -> None:
    test = mnist[1]
    digits = torch.tensor(choose_digits(net, Split(test.images[:2500], test.labels[:2500])))
    right = predict(net, Batches(Split(test.images[digits], test.labels[digits]))).argmax(dim=1) == test.labels[digits]
    assert test.labels[digits[:20]].bincount().tolist() == [2] * 10
    assert len(digits) > 20 and not right[20:].any()
    misread = [digit["misread"] for digit in DATA["digits"]]
    assert all(misread[20:]) and len(misread) + sum(misread[:20]) >= 30  # one of the first may be among the worst


def test_one_command_writes_it_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, small_mnist: Splits
) -> None:
    monkeypatch.setattr("helpers.page.load_mnist", lambda root: small_mnist)
    assert main([str(tmp_path / "page.html"), "--weights", str(ROOT / "results" / "sprint" / "model.pt")]) == 0
    assert str(tmp_path / "page.html") in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text(encoding="utf-8") != HTML  # other weights
    assert main([str(tmp_path / "none.html"), "--weights", str(tmp_path / "none.pt")]) == 2
    assert "none.pt does not exist" in capsys.readouterr().err


@pytest.mark.processes
def test_writing_the_page_needs_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "IPython.py").write_text("raise ImportError", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "helpers.page", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_digit_is_offered_twice_whatever_is_misread(small_mnist: Splits) -> None:
    model, test = Net(), small_mnist[1]
    read = predict(model, Batches(test, 500)).argmax(dim=1)
    digits = choose_digits(model, test)
    assert test.labels[digits[:20]].tolist() == [label for label in range(10) for _ in range(2)]
    assert (read[digits[:20]] != test.labels[digits[:20]]).sum() > 10  # it has learned nothing
    assert len(set(digits)) == len(digits)


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
    contexts = []

    def opened(width: int = 1100, file: Path = PAGE, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 740}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.processes
def test_the_page_of_a_network_that_has_learned_nothing_lives(open_page, small_mnist: Splits, tmp_path: Path) -> None:
    model, test = Net(), small_mnist[1]
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


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def maps_of(net: Net, images: Tensor) -> dict[str, Tensor]:
    """Return what the module of each stage returns for images ``(B, 28, 28)`` uint8, and log-probabilities."""
    outputs = {}
    hooks = [
        net.get_submodule(row.name).register_forward_hook(
            lambda module, inputs, output, name=row.name: outputs.update({name: output.flatten(1)})
        )
        for row in TABLE
    ]
    with torch.no_grad():
        outputs["log-probabilities"] = net(next(iter(Batches(Split(images, torch.zeros(len(images)).long()), 500)))[0])
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.processes
def test_the_page_computes_what_pytorch_computes(open_page, net: Net, mnist: Splits) -> None:
    images = mnist[1].images[:500]
    expected = maps_of(net, images)
    order = [row.name for row in TABLE]
    shapes = {row.name: [*row.output_shape, 1, 1][:3] for row in TABLE}
    page = open_page()
    ask = f"""images => images.map(bytes => {{
        const {{logProbabilities, maps}} = readDigit(decodeBytes(bytes));
        const shapes = Object.fromEntries(Object.entries(maps).map(([name, {{shape}}]) => [name, shape]));
        const values = {json.dumps(order)}.flatMap(name => maps[name].values);
        return [shapes, ({PACK})([...logProbabilities, ...values])];
    }})"""
    furthest = 0.0
    for first in range(0, 500, 50):
        answers = page.evaluate(ask, [encode(image.numpy().tobytes()) for image in images[first : first + 50]])
        assert all(answer[0] == shapes for answer in answers)
        got = torch.stack(
            [torch.frombuffer(bytearray(base64.b64decode(answer[1])), dtype=torch.float32) for answer in answers]
        )
        parts = [expected[name][first : first + 50] for name in ("log-probabilities", *order)]
        furthest = max(furthest, (got - torch.cat(parts, dim=1)).abs().max().item())
    assert furthest < 1e-4


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


@pytest.mark.processes
def test_a_drawing_is_prepared_as_to_mnist_prepares_a_picture(open_page, net: Net, mnist: Splits) -> None:
    page = open_page()
    put = """grey => {
        const image = pad.createImageData(280, 280);
        decodeBytes(grey).forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
        pad.putImageData(image, 0, 0);
        const pixels = answerDrawing();
        return [pixels, bestDigit(), pad.canvas.toDataURL()];
    }"""
    for drawing in drawings(mnist[1].images[500:550]):
        pixels, answer, url = page.evaluate(put, encode(drawing.tobytes()))
        picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
        assert picture.convert("L").tobytes() == drawing.tobytes()
        expected = to_mnist(picture)
        assert (torch.tensor(pixels).view(28, 28) - expected.float()).abs().max() <= 1
        assert answer == maps_of(net, expected[None])["log-probabilities"].argmax()


def answer_of(page) -> str:
    return page.locator("#answer").inner_text()


@pytest.mark.processes
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_draw_point_and_type(open_page, width: int, scheme: str) -> None:
    from evidence.page_picture import FIVE, draw

    page = open_page(width, color_scheme=scheme, has_touch=True)
    assert "labelled 3: the network reads 3" in answer_of(page)
    draw(page, FIVE)
    assert "Your drawing: the network reads 5" in answer_of(page)
    assert page.locator("#bars li.best").inner_text().split()[0] == "5"
    assert page.locator("#seen-boxes rect.box").count() == len(TABLE)  # the strongest unit of each stage
    assert page.evaluate("document.documentElement.scrollWidth") == width

    page.locator(".stage.conv4").evaluate("card => card.scrollIntoView()")
    conv4 = page.locator(".stage.conv4 .map").nth(3)
    side = conv4.bounding_box()["width"]
    conv4.click(position={"x": 0.55 * side, "y": 0.55 * side})  # of 10x10 units
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
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "conv5: the strongest unit of each of its 8 channels" in page.locator("#unit").inner_text()
    assert page.locator(".stage.conv5 .mark").count() == page.locator("#pad-boxes rect.box").count() == 8
    page.keyboard.press("Escape")
    assert page.locator(".mark").count() == len(TABLE)
    page.keyboard.press("7")
    assert "labelled 7" in answer_of(page)
    page.keyboard.press("c")
    assert answer_of(page) == "Nothing is drawn yet."


@pytest.mark.processes
def test_probabilities_and_maps_move_while_a_stroke_is_drawn(open_page) -> None:
    page = open_page()
    seen = []
    page.mouse.move(150, 150)
    page.mouse.down()
    for x, y in [(150, 150), (180, 280), (220, 180)]:
        page.mouse.move(x, y, steps=4)
        page.evaluate("new Promise(requestAnimationFrame)")
        map_of_conv1 = "document.querySelector('.conv1 canvas').toDataURL()"
        seen.append((page.locator("#bars").inner_text(), page.evaluate(map_of_conv1)))
    assert "Test image" in answer_of(page)  # in words, only after the stroke
    page.mouse.up()
    assert "Your drawing" in answer_of(page)
    assert len({bars for bars, _ in seen}) == len({conv1 for _, conv1 in seen}) == 3


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
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, [tabindex], [role=img]")]
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
        return [...document.querySelectorAll("h1, p, strong, h2, h2 *, li, b, label, button, kbd, em")]
            .filter(item => item.textContent.trim() && item.id !== "hint").map(item => {
                const [a, b] = [getComputedStyle(item).color, behind(item)].map(luminance).sort((x, y) => y - x);
                return (a + 0.05) / (b + 0.05);
            });
    }""")
    assert len(contrasts) > 60 and min(contrasts) >= 4.5


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A notebook that shows the page, run by a kernel: its text, and its HTML export."""
    cells = [nbformat.v4.new_code_cell("import helpers.page\n\nhelpers.page.show()")]
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


def test_a_network_whose_boxes_are_no_grid_is_refused(net: Net, mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, "box", lambda row, unit=None: (unit, unit))
    with pytest.raises(ValueError, match="what conv1 sees is no grid"):
        render(net, mnist[1], DIGITS)
