"""A page to draw on: a trained network and its layer table in one HTML file that works without the internet.

``page.html`` is the frame and ``page.css`` its style. Of the scripts, ``network.js`` computes the network's answer,
``prepare.js`` turns a drawing into an image like MNIST's, ``maps.js`` paints feature maps, ``units.js`` shows what
their units see, ``answer.js`` shows the answer and ``drawing.js`` lets the reader draw. ``python -m helpers.page``
writes the page.
"""

import base64
import json
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.data import MEAN, STD, Batches, Split
from helpers.inspection import confident_mistakes
from helpers.page.layers import layers_in_order
from helpers.receptive_field import Row, layer_table, stages
from helpers.runtime.files import atomic_write
from helpers.runtime.looking import copy_of
from helpers.training import predict

HERE = Path(__file__).parent
NUM_OF_EACH_CLASS, NUM_MISREAD = 2, 10  # test digits to pick from
HEIGHT = 780  # pixels of the page in a notebook


def write_page(path: str | Path, model: nn.Module, test: Split) -> None:
    """Write the page of ``model``, with some of the test digits to pick from.

    Raises ``OSError`` where the file cannot be written, ``ValueError`` for a network that the page cannot show.
    """
    atomic_write(path, render(copy_of(model).cpu(), test))


def choose_digits(model: nn.Module, test: Split) -> list[int]:
    """Return indices of test images: the first two of each class, then the ten misread with the most confidence.

    No index comes twice, even where one of the first two is misread.
    """
    first = [(test.labels == label).nonzero().flatten()[:NUM_OF_EACH_CLASS] for label in test.labels.unique()]
    log_probs = predict(model, Batches(test, 500))
    misread = confident_mistakes(log_probs, test.labels, NUM_MISREAD)
    return list(dict.fromkeys(torch.cat([*first, misread]).tolist()))


def render(model: nn.Module, test: Split, digits: list[int] | None = None) -> str:
    """Return the page's HTML for a model on the CPU, with the test images of these indices to pick from.

    Without ``digits``, ``choose_digits`` chooses them. Raises ``ValueError`` for a network that the page cannot show.
    """
    table = layer_table(model)
    digits = choose_digits(model, test) if digits is None else digits
    chosen = Batches(Split(test.images[digits], test.labels[digits]), len(digits))
    answers = predict(model, chosen).argmax(dim=1)
    images, labels = next(iter(chosen))
    data = {
        "numParameters": sum(row.params for row in table),
        "mean": MEAN,
        "std": STD,
        "stages": [_stage(row) for row in stages(table)],
        "layers": layers_in_order(model, table, images),
        "digits": [
            {"index": i, "label": label, "misread": label != answer, "bytes": _base64(test.images[i])}
            for i, label, answer in zip(digits, labels.tolist(), answers.tolist(), strict=True)
        ],
        "parameters": {
            name: {"shape": list(value.shape), "float32": _base64(value.float())}
            for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        },
    }
    text = json.dumps(data, separators=(",", ":"))
    return re.sub(r"\{\{(.+?)\}\}", lambda gap: text if gap[1] == "data" else _read(gap[1]), _read("page.html"))


def show(page: str | Path, picture: str | Path) -> None:
    """Display the page in a notebook where scripts may run, and elsewhere a ``picture`` of it.

    The cell outputs both. A site that shows notebooks without running scripts drops the page and keeps the picture;
    where the page runs, it removes the picture. Raises ``OSError`` where one of the files cannot be read.
    """
    from IPython.display import HTML, Image, display  # here, so that writing the page needs no notebook

    source, pixels = Path(page).read_text(encoding="utf-8"), Path(picture).read_bytes()
    source = source.replace("&", "&amp;").replace("'", "&#39;")  # it stands between single quotes
    end = base64.b64encode(pixels).decode()[-60:]  # the picture is recognised by the end of its data
    remove = f"document.querySelectorAll(`img[src*='{end}']`).forEach((picture) => picture.remove())"
    frame = f"<iframe srcdoc='{source}' title='A page to draw on' width='100%' height='{HEIGHT}' style='border: 0'"
    alone = "The page to draw on, as a picture: no scripts run here"
    display(Image(pixels, alt=alone), HTML(f'<div>{frame} onload="{remove}"></iframe></div>'))


def _stage(row: Row) -> dict:
    """Return a row of the layer table for the page. Unit ``(i, j)`` sees ``rows[i]`` and ``columns[j]`` of the image.

    In the layers that the page supports, all units of a row see the same rows of the image, and all units of a column
    the same columns. Raises ``ValueError`` for units that see only padding.
    """
    channels, height, width = (*row.output_shape, 1, 1)[:3]  # a linear layer has height and width 1
    boxes = [[row.box((i, j)) for j in range(width)] for i in range(height)]
    if any(box is None for line in boxes for box in line):
        raise ValueError(
            f"the page cannot show layer {row.name}: some of its units see only padding, give it less padding"
        )
    return {
        "name": row.name,
        "operation": row.operation,
        "input": row.input_shape,
        "output": (channels, height, width),
        "receptiveField": row.receptive_field,
        "jump": row.jump,
        "params": row.params,
        "rows": [line[0][0] for line in boxes],
        "columns": [box[1] for box in boxes[0]],
    }


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()
