"""A page to draw on: the trained network and its layer table as one HTML file, without server or network.

``page.html`` is the frame and ``page.css`` its looks. ``network.js`` is the network, ``prepare.js`` does what
``to_mnist`` does, ``maps.js`` paints maps, ``units.js`` shows what units see, ``drawing.js`` takes the drawing and
``answer.js`` answers it. ``python -m helpers.page`` puts them together.
"""

import base64
import json
import re
from pathlib import Path

import torch
from torch import Tensor

from helpers import ROOT
from helpers.data import MEAN, STD, Batches, Split, load_mnist
from helpers.inspection import confident_mistakes
from helpers.model import Net
from helpers.receptive_field import Row, layer_table, stages
from helpers.runtime.files import atomic_write, load_weights
from helpers.training import predict

HERE = Path(__file__).parent
WEIGHTS, PAGE, PICTURE = (ROOT / "results" / name for name in ("best/model.pt", "page.html", "page.png"))
OF_EACH_CLASS, MISREAD = 2, 10  # test digits to pick from
HEIGHT = 780  # pixels of the page in a notebook


def write_page(path: str | Path = PAGE, weights: str | Path = WEIGHTS, data: str | Path = ROOT / "data") -> None:
    """Write the page with these weights and some of the test digits in ``data``.

    Raises ``OSError`` where a file cannot be read or written, ``ValueError`` where ``weights`` are not ``Net``'s.
    """
    model = Net()
    load_weights(model, weights)
    test = load_mnist(data)[1]
    atomic_write(path, render(model, test, choose_digits(model, test)))


def choose_digits(model: Net, test: Split) -> list[int]:
    """Return indices of test images: the first ones of each class, then those misread with the most confidence.

    None comes twice, though a poor network may misread a first one.
    """
    first = [(test.labels == label).nonzero().flatten()[:OF_EACH_CLASS] for label in test.labels.unique()]
    log_probs = predict(model, Batches(test, 500))
    misread = confident_mistakes(log_probs, test.labels, MISREAD)
    return list(dict.fromkeys(torch.cat([*first, misread]).tolist()))


def render(model: Net, test: Split, digits: list[int]) -> str:
    """Return the page's HTML, with the test images of these indices to pick from.

    Raises ``ValueError`` for a network whose units in a row do not see the same rows of the image, or likewise columns.
    """
    table = stages(layer_table(model))
    answers = predict(model, Batches(Split(test.images[digits], test.labels[digits]))).argmax(dim=1)
    data = {
        "numParameters": sum(row.params for row in table),
        "mean": MEAN,
        "std": STD,
        "eps": model.conv1[2].eps,
        "stages": [_stage(row) for row in table],
        "digits": [
            {"index": i, "label": label, "misread": label != answer, "bytes": _base64(test.images[i])}
            for i, label, answer in zip(digits, test.labels[digits].tolist(), answers.tolist(), strict=True)
        ],
        "parameters": {
            name: {"shape": list(value.shape), "float32": _base64(value.float())}
            for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        },
    }
    text = json.dumps(data, separators=(",", ":"))
    return re.sub(r"\{\{(.+?)\}\}", lambda hole: text if hole[1] == "data" else _read(hole[1]), _read("page.html"))


def show(page: str | Path = PAGE, picture: str | Path = PICTURE) -> None:
    """Display the page in a notebook: live where scripts may run, elsewhere ``picture`` of it.

    These are two outputs, since what renders a notebook without scripts drops the frame and keeps the picture; the
    frame, once it lives, takes the picture away. Raises ``OSError`` where one of the files cannot be read.
    """
    from IPython.display import HTML, Image, display  # what writes the page needs no notebook

    source, pixels = Path(page).read_text(encoding="utf-8"), Path(picture).read_bytes()
    source = source.replace("&", "&amp;").replace("'", "&#39;")  # all that single quotes around it ask for
    end = base64.b64encode(pixels).decode()[-60:]  # by which the picture is known, wherever it is shown
    remove = f"document.querySelectorAll(`img[src*='{end}']`).forEach((picture) => picture.remove())"
    frame = f"<iframe srcdoc='{source}' title='A page to draw on' width='100%' height='{HEIGHT}' style='border: 0'"
    alone = "The page to draw on, as a picture: no scripts run here"
    display(Image(pixels, alt=alone), HTML(f'<div>{frame} onload="{remove}"></iframe></div>'))


def _stage(row: Row) -> dict:
    """Return a row of the layer table with what each of its units sees: the box is the same all along a row."""
    channels, height, width = (*row.output_shape, 1, 1)[:3]
    rows = [row.box((i, 0))[0] for i in range(height)]
    columns = [row.box((0, j))[1] for j in range(width)]
    if any(row.box((i, j)) != (rows[i], columns[j]) for i in range(height) for j in range(width)):
        raise ValueError(f"what {row.name} sees is no grid of rows and columns: the page cannot show this network")
    return {
        "name": row.name,
        "operation": row.operation,
        "input": row.input_shape,
        "output": (channels, height, width),
        "receptiveField": row.receptive_field,
        "jump": row.jump,
        "params": row.params,
        "rows": rows,
        "columns": columns,
    }


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()
