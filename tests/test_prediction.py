from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from conftest import ROOT, Splits
from helpers.data import Batches, Split
from helpers.engine.files import load_weights
from helpers.plots import plot_predictions
from helpers.prediction import read_picture, to_mnist
from helpers.recipe import RECIPES
from helpers.training import predict

STYLES = {
    "dark on light": ("RGB", "white", "black", (300, 200)),
    "light on dark": ("L", 10, 240, (90, 400)),
    "blue on beige": ("RGB", "beige", "navy", (1000, 1000)),
    "small": ("L", 255, 0, (28, 28)),
    "transparent": ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), (200, 200)),
    "two colours": ("1", 1, 0, (120, 80)),
}


def picture(digit: int, style: str) -> Image.Image:
    mode, paper, ink, size = STYLES[style]
    image = Image.new(mode, size, paper)
    ImageDraw.Draw(image).text((size[0] * 0.3, size[1] * 0.15), str(digit), fill=ink, font_size=min(size) * 0.6)
    return image


@pytest.mark.parametrize("style", STYLES)
def test_the_form_is_mnists(style: str) -> None:
    for digit in (1, 4, 8):
        image = to_mnist(picture(digit, style))
        assert image.shape == (28, 28)
        assert image.dtype == torch.uint8
        assert image.max() == 255
        assert image[0].max() == image[-1].max() == 0
        rows, columns = ((image.amax(dim=1 - axis) > 0).nonzero().flatten() for axis in (0, 1))
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 in (19, 20)
        mass = image.float() / image.sum()
        for axis in (0, 1):
            centre = (mass.sum(dim=1 - axis) * torch.arange(28)).sum().item()
            assert abs(centre - 14) <= 0.51


def test_pictures_of_mnist_come_back_nearly_as_they_were(mnist: Splits) -> None:
    originals = mnist[1].images[:100]
    enlarged = [Image.fromarray(image.numpy()).resize((280, 280), Image.Resampling.BICUBIC) for image in originals]
    back = torch.stack([to_mnist(image) for image in enlarged])
    likeness = torch.nn.functional.cosine_similarity(back.flatten(1).float(), originals.flatten(1).float())
    assert likeness.mean() > 0.95


def test_printed_digits_are_read() -> None:
    net = RECIPES["best"].model()
    load_weights(net, ROOT / "results" / "best" / "model.pt")
    images = torch.stack([to_mnist(picture(digit, style)) for style in STYLES for digit in range(10)])
    labels = torch.arange(10).repeat(len(STYLES))
    answers = predict(net, Batches(Split(images, labels)))
    assert (answers.argmax(dim=1) == labels).float().mean() > 0.8
    assert len(plot_predictions(images[:2], answers[:2], ["a", "b"]).axes) == 4


def test_a_photo_stored_on_its_side_is_read_upright(tmp_path: Path) -> None:
    upright = picture(4, "dark on light")
    exif = Image.Exif()
    exif[274] = 6  # orientation: turn by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    assert torch.equal(to_mnist(read_picture(tmp_path / "photo.png")), to_mnist(upright))


def test_what_is_no_picture_or_blank_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello", encoding="utf-8")
    picture(3, "small").save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    for name in ("text.png", "cut.png", "none.png", "."):
        with pytest.raises(OSError, match=r"give (a|another)") as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="the picture of 50x40 pixels is blank"):
        to_mnist(Image.new("RGB", (50, 40), "white"))
    assert to_mnist(read_picture(tmp_path / "whole.png")).max() == 255
