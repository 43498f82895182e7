import io
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps
from scipy import ndimage
from torch import nn

from conftest import Splits
from helpers.data import Batches, Split
from helpers.photographs import digits_on, read_picture, thumbnail, to_mnist
from helpers.photographs.noise import without_specks
from helpers.training import predict

STYLES = {
    "dark on light": ("RGB", "white", "black", (300, 200)),
    "light on dark": ("L", 10, 240, (90, 400)),
    "blue on beige": ("RGB", "beige", "navy", (500, 500)),
    "small": ("L", 255, 0, (28, 28)),
    "transparent": ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), (200, 200)),
    "two colours": ("1", 1, 0, (120, 80)),
}


def picture(digit: int, style: str) -> Image.Image:
    mode, paper, ink, size = STYLES[style]
    image = Image.new(mode, size, paper)
    ImageDraw.Draw(image).text((size[0] * 0.3, size[1] * 0.15), str(digit), fill=ink, font_size=min(size) * 0.6)
    return image


def read(pictures: list[Image.Image], net: nn.Module) -> list[int]:
    """Return what the network says to pictures of one digit each."""
    images = torch.stack([to_mnist(picture) for picture in pictures])
    return answers_to(images, net).argmax(dim=1).tolist()


def answers_to(images: torch.Tensor, net: nn.Module) -> torch.Tensor:
    return predict(net, Batches(Split(images, torch.zeros(len(images), dtype=torch.int64))))


STROKES = {  # of digits on a canvas of 400x400, as drawn with the lines of a paint program
    0: [[(200, 40), (300, 90), (330, 200), (300, 310), (200, 360), (100, 310), (70, 200), (100, 90), (200, 40)]],
    1: [[(200, 40), (200, 360)]],
    2: [[(60, 120), (130, 50), (250, 45), (320, 110), (300, 180), (60, 350), (350, 350)]],
    4: [[(110, 40), (40, 240), (350, 240)], [(280, 60), (280, 370)]],
    5: [[(340, 45), (90, 45), (80, 190), (230, 165), (320, 230), (310, 310), (220, 360), (60, 340)]],
    7: [[(40, 40), (360, 40), (160, 380)]],
}


def by_lines(digit: int, pen: int) -> Image.Image:
    canvas = Image.new("L", (400, 400), 255)
    for stroke in STROKES[digit]:
        ImageDraw.Draw(canvas).line(stroke, fill=0, width=pen, joint="curve")
    return canvas


def cut_out_to(margin: int, picture: Image.Image) -> Image.Image:
    left, top, right, bottom = ImageOps.invert(picture).getbbox()
    return picture.crop((left - margin, top - margin, right + margin, bottom + margin))


@pytest.mark.parametrize("pen", [4, 20])
def test_long_straight_strokes_are_ink(pen: int, robust_net: nn.Module) -> None:
    whole = [by_lines(digit, pen) for digit in STROKES]
    assert read(whole, robust_net) == list(STROKES)
    for margin in (2, 8):  # pixels
        assert read([cut_out_to(margin, picture) for picture in whole], robust_net) == list(STROKES)


LINES = {  # of a form: their width and tone, and those of the pen; each differs from the pen in one of them
    "stronger": (6, 10, 6, 140),
    "finer": (3, 60, 14, 60),
    "thicker": (8, 120, 3, 120),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_differs_from_the_pen_is_no_ink(line: str, robust_net: nn.Module) -> None:
    width, tone, pen, ink = LINES[line]
    pictures = []
    for digit in (4, 7):
        canvas = Image.new("L", (500, 500), 240)
        ImageDraw.Draw(canvas).line([0, 405, 500, 405], tone, width)
        canvas.paste(ink, (60, 50), ImageOps.invert(by_lines(digit, pen)))
        pictures.append(canvas)
    assert read(pictures, robust_net) == [4, 7]


def test_strokes_of_a_broad_nib_are_ink(robust_net: nn.Module) -> None:
    pictures = []
    for digit in STROKES:
        written = by_lines(digit, 4)
        for shift in range(1, 12):  # a nib held level: upright strokes become wide
            written = ImageChops.darker(written, ImageChops.offset(by_lines(digit, 4), shift, 0))
        pictures.append(cut_out_to(24, written))
    assert read(pictures, robust_net) == list(STROKES)
    at_the_right_edge = [picture.crop((0, 0, picture.width - 22, picture.height)) for picture in pictures]
    assert read(at_the_right_edge, robust_net) == list(STROKES)


def test_the_cells_of_a_form_are_no_digits(robust_net: nn.Module) -> None:
    form = Image.new("L", (560, 260), 240)
    draw = ImageDraw.Draw(form)
    for y in (30, 230):
        draw.line([0, y, 560, y], 110, 3)
    for x in (40, 200, 360, 520):
        draw.line([x, 30, x, 230], 110, 3)
    for x, digit in zip((45, 205, 365), (2, 7, 5), strict=True):
        small = by_lines(digit, 30).resize((150, 150), Image.Resampling.BICUBIC)
        form.paste(40, (x, 55), ImageOps.invert(small))
    found = torch.stack([digit.image for digit in digits_on(form)])
    assert answers_to(found, robust_net).argmax(dim=1).tolist() == [2, 7, 5]


CLOSE_UPS = {  # the paper above, below, left and right of a bold digit, in pixels
    "with a margin": ((15, 15), (15, 15)),
    "cut out": ((0, 0), (0, 0)),
    "at the upper edge": ((0, 30), (30, 30)),
}


@pytest.mark.parametrize("close_up", CLOSE_UPS)
def test_all_of_a_bold_digit_is_ink(close_up: str, mnist: Splits) -> None:
    for image in mnist[1].images[:3].numpy():  # no zeros, whose strokes leave next to no hole
        large = Image.fromarray(image).resize((200, 200), Image.Resampling.BICUBIC).filter(ImageFilter.MaxFilter(31))
        bold = np.greater(large, 127)
        (box,) = ndimage.find_objects(bold.astype(int))
        bold = np.pad(bold[box], CLOSE_UPS[close_up])
        (digit,) = digits_on(Image.fromarray(np.where(bold, 40, 230).astype(np.uint8)))
        assert np.array_equal(digit.ink.numpy() > 0, bold)


ENLARGEMENTS = [(8, Image.Resampling.NEAREST), (28, Image.Resampling.BICUBIC), (200, Image.Resampling.NEAREST)]


@pytest.mark.parametrize(("side", "filter"), ENLARGEMENTS)
def test_digits_of_eight_by_eight_pixels(side: int, filter: int, mnist: Splits, robust_net: nn.Module) -> None:
    small = [ImageOps.fit(Image.fromarray(image[4:24, 4:24]), (8, 8)) for image in mnist[1].images[:40].numpy()]
    answers = read([picture.resize((side, side), filter) for picture in small], robust_net)
    assert np.mean(np.equal(answers, mnist[1].labels[:40].tolist())) >= 0.9


SMALL_ZERO = [  # levels of 0 to 16, as in the digits of scikit-learn; its left side is straight and thin
    [0, 8, 13, 12, 1, 0, 0, 0],
    [3, 9, 0, 4, 16, 9, 0, 0],
    [9, 3, 0, 0, 0, 10, 9, 0],
    [8, 1, 0, 0, 0, 0, 12, 3],
    [8, 4, 0, 0, 0, 0, 7, 9],
    [3, 10, 0, 0, 0, 0, 4, 12],
    [0, 10, 10, 1, 0, 2, 12, 6],
    [0, 0, 8, 13, 16, 12, 5, 0],
]


def test_no_stroke_of_a_small_digit_is_a_ruled_line() -> None:
    levels = np.uint8(SMALL_ZERO)
    (digit,) = digits_on(Image.fromarray(levels * 15))
    assert ((digit.ink > 0).numpy() == (levels > 4)).all()


def sheet(rows: list[str], step: int = 90, font_size: int = 80) -> Image.Image:
    """Return printed digits, each in the middle of a cell."""
    paper = Image.new("L", (step * max(len(row) for row in rows), step * len(rows)), 255)
    for y, row in enumerate(rows):
        for x, digit in enumerate(row):
            at = (step * (x + 0.5), step * (y + 0.5))
            ImageDraw.Draw(paper).text(at, digit, fill=0, font_size=font_size, anchor="mm")
    return paper


def test_rows_are_read_one_after_the_other(robust_net: nn.Module) -> None:
    rows = ["3852", "696", "08234"]
    found = digits_on(sheet(rows).rotate(3, fillcolor=255, expand=True))
    answers = answers_to(torch.stack([digit.image for digit in found]), robust_net)
    assert "".join(str(answer) for answer in answers.argmax(dim=1).tolist()) == "".join(rows)


@pytest.mark.parametrize("digits", ["789", "36", "00", "58"])
def test_digits_that_touch_are_refused(digits: str, robust_net: nn.Module) -> None:
    font = ImageFont.load_default(150)
    paper, right = Image.new("L", (500, 240), 255), 40.0
    for digit in digits:
        left = right - 14 - font.getbbox(digit)[0]
        ImageDraw.Draw(paper).text((left, 30), digit, fill=0, font=font)
        right = left + font.getbbox(digit)[2]
    for width in (500, 300):  # narrow digits, too
        with pytest.raises(ValueError, match=f"of {width}x240 pixels shows digits that touch each other: leave a gap"):
            digits_on(paper.resize((width, 240)))
    assert len(digits_on(sheet([digits]))) == len(digits)


@pytest.mark.parametrize("noise", [0, 3])
def test_a_sheet_with_a_thousand_digits_has_too_many(noise: float) -> None:
    full = np.asarray(sheet(["0123456789" * 4] * 25, 24, 16), np.float32)
    with pytest.raises(ValueError, match="shows 1000 marks, more than 250: give a part of it"):
        digits_on(saved(np.repeat(full[..., None], 3, axis=2), noise))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 9), (3000, 1), (5000, 2)])
def test_a_picture_too_narrow_for_a_digit(size: tuple[int, int]) -> None:
    ink = Image.new("L", size, 255)
    ink.putpixel((size[0] // 2, size[1] // 2), 0)
    with pytest.raises(ValueError, match=f"picture of {size[0]}x{size[1]} pixels is too narrow"):
        to_mnist(ink)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    turned = ImageOps.exif_transpose(Image.open(tmp_path / "photo.png"))
    assert np.array_equal(read_picture(tmp_path / "photo.png"), turned)
    assert np.array_equal(turned, pixels) == (orientation == 1)


def test_heic_is_read_with_the_package_that_reads_it(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    upright = picture(4, "dark on light").convert("RGB")
    pillow_heif.from_pillow(upright).save(tmp_path / "IMG_1.HEIC")
    assert to_mnist(read_picture(tmp_path / "IMG_1.HEIC")).float().sub(to_mnist(upright)).abs().mean() < 3


def test_heic_without_that_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "renamed.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(OSError, match=r"renamed.jpg is in HEIC: pip install pillow-heif"):
        read_picture(tmp_path / "renamed.jpg")


@pytest.mark.parametrize("style", STYLES)
def test_printed_digits_are_read_in_the_form_of_mnist(style: str, robust_net: nn.Module) -> None:
    digits = torch.tensor([1, 2, 4, 6, 8])
    images = torch.stack([to_mnist(picture(digit, style)) for digit in digits.tolist()])
    assert (images.shape, images.dtype) == ((5, 28, 28), torch.uint8)
    for image in images:
        assert image.max() == 255
        assert image[0].max() == image[-1].max() == 0
        rows, columns = image.amax(dim=1).nonzero(), image.amax(dim=0).nonzero()
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 in (19, 20)
        assert np.subtract(ndimage.center_of_mass(image.numpy()), 14) == pytest.approx([0, 0], abs=0.51)
    right = answers_to(images, robust_net).argmax(dim=1) == digits
    assert right.sum() >= 4  # a one without base line is no digit of MNIST


def test_pictures_of_mnist_come_back_nearly_as_they_were(mnist: Splits) -> None:
    originals = mnist[1].images[:20]
    enlarged = [Image.fromarray(image.numpy()).resize((280, 280), Image.Resampling.BICUBIC) for image in originals]
    back = torch.stack([to_mnist(image) for image in enlarged])
    likeness = torch.nn.functional.cosine_similarity(back.flatten(1).float(), originals.flatten(1).float())
    assert likeness.mean() > 0.95


def test_a_stroke_in_several_pieces_is_not_taken_for_several_ruled_lines() -> None:
    pixels = np.full((400, 240, 3), 235, np.float32)
    for top in range(10, 390, 80):
        pixels[top : top + 68, 120:125] = 60
    with pytest.raises(ValueError, match="5 separate marks"):
        to_mnist(as_picture(pixels))


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


SIDE = 240  # pixels of the pictures below
Y, X = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
Colour = tuple[int, int, int] | np.ndarray  # of all pixels, or of each ``(SIDE, SIDE, 3)``
PAPER, PEN, WHITE = (205, 200, 190), (60, 58, 62), (255, 255, 255)


def drawn(image: torch.Tensor, paper: Colour = PAPER, pen: Colour = PEN) -> np.ndarray:
    """Return a real digit drawn by ``pen`` on the middle of ``paper``: ``(SIDE, SIDE, 3)`` from 0 to 255."""
    ink = np.zeros((SIDE, SIDE, 1), np.float32)
    digit = Image.fromarray(image.numpy()).resize((168, 168), Image.Resampling.BICUBIC)
    ink[36:204, 36:204, 0] = np.clip((np.asarray(digit) / 255 - 0.35) / 0.3, 0, 1)
    return np.float32(paper) * (1 - ink) + np.float32(pen) * ink


def as_picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(pixels: np.ndarray, noise: float = 3) -> Image.Image:
    """Return the photograph of ``pixels``, with a sensor's noise, as JPEG."""
    grain = np.random.default_rng(0).normal(0, noise, (*pixels.shape[:2], 1))
    photo = io.BytesIO()
    as_picture(pixels + grain).save(photo, "JPEG", quality=85)
    return Image.open(photo)


def slope(lowest: float) -> np.ndarray:
    return np.linspace(1, lowest, SIDE, dtype=np.float32)[:, None, None]


def vignette(lowest: float) -> np.ndarray:
    return (1 - (1 - lowest) * (X * X + Y * Y) / 2)[..., None]


def ruled(colour: Colour, squares: bool) -> np.ndarray:
    paper = np.full((SIDE, SIDE, 3), 235, np.float32)
    paper[13::30] = paper[14::30] = colour
    if squares:
        paper[:, 17::30] = paper[:, 18::30] = colour
    return paper


def framed(image: torch.Tensor, margin: int, width: int, colour: str, paper: Colour = PAPER) -> Image.Image:
    picture = as_picture(drawn(image, paper))
    ImageDraw.Draw(picture).rectangle([margin, margin, SIDE - 1 - margin, SIDE - 1 - margin], None, colour, width)
    return picture


def circled(image: torch.Tensor) -> Image.Image:
    picture = as_picture(drawn(image))
    ImageDraw.Draw(picture).ellipse([10, 10, SIDE - 11, SIDE - 11], outline="black", width=5)
    return picture


def on_a_table(image: torch.Tensor, light: float = 1) -> Image.Image:
    table = np.full((SIDE + 80, SIDE + 120, 3), (95, 70, 50), np.float32)
    table[40:-40, 60:-60] = drawn(image)
    return saved(table * np.linspace(1, light, SIDE + 120)[:, None])


def with_dust(image: torch.Tensor) -> Image.Image:
    pixels = drawn(image)
    pixels[8:12, 8:12] = pixels[220:223, 30:33] = 20
    return saved(pixels, 0)


def see_through(image: torch.Tensor) -> Image.Image:
    white = Image.new("RGBA", (SIDE, SIDE), "white")
    white.putalpha(as_picture(drawn(image, (0, 0, 0), WHITE)).convert("L"))
    return white


def with_rounded_corners(image: torch.Tensor) -> Image.Image:
    sheet, opaque = as_picture(drawn(image, (0, 0, 0), WHITE)), Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(opaque).rounded_rectangle((0, 0, SIDE - 1, SIDE - 1), radius=SIDE // 3, fill=255)
    sheet.putalpha(opaque)
    return sheet


def sprinkled(pixels: np.ndarray, share: float, channels: bool = False) -> Image.Image:
    """Return ``pixels`` with ``share`` of them made black or white, for each colour apart if ``channels``."""
    chance = np.random.default_rng(0).random(pixels.shape if channels else (*pixels.shape[:2], 1))
    return as_picture(np.where(chance < share / 2, 0, np.where(chance > 1 - share / 2, 255, pixels)))


def cut_out(image: torch.Tensor) -> Image.Image:
    pixels = np.float32(as_picture(drawn(image)).filter(ImageFilter.MinFilter(9)))
    rows, columns = (np.flatnonzero((pixels[..., 0] < 120).any(axis)) for axis in (1, 0))
    tight = np.s_[rows[0] - 3 : rows[-1] + 4, columns[0] - 3 : columns[-1] + 4]
    return saved((pixels * np.linspace(1, 0.75, SIDE)[:, None, None])[tight])


MECHANISMS: dict[str, Callable[[torch.Tensor], Image.Image]] = {
    "light that falls off": lambda image: saved(drawn(image) * slope(0.4)),
    "vignette": lambda image: saved(drawn(image) * vignette(0.4)),
    "cast shadow": lambda image: saved(drawn(image) * np.where(X + Y < 0, 0.45, 1)[..., None]),
    "coloured night": lambda image: saved(
        drawn(image, (120, 110, 100)) + np.random.default_rng(0).normal(0, 14, (SIDE, SIDE, 3)), 0
    ),
    "night": lambda image: saved(drawn(image), 45),
    "chalk": lambda image: saved(drawn(image, (40, 70, 55), (220, 220, 215)) * slope(0.6), 6),
    "squares": lambda image: saved(drawn(image, ruled((120, 150, 200), True))),
    "dark lines": lambda image: saved(drawn(image, ruled((60, 60, 70), False))),
    "yellow marker": lambda image: saved(drawn(image, (240, 240, 238), (250, 235, 60))),
    "green on pink": lambda image: as_picture(drawn(image, (240, 180, 200), (180, 240, 200))),
    "blue on pink by a lamp": lambda image: as_picture(drawn(image, (200, 40, 120), (20, 160, 200)) * slope(0.6)),
    "brown on green by a lamp": lambda image: as_picture(drawn(image, (30, 200, 60), (150, 90, 40)) * slope(0.6)),
    "box of a form": lambda image: framed(image, 14, 4, "black"),
    "circled": circled,
    "frame": lambda image: framed(image, 0, 6, "black", WHITE),
    "grey frame": lambda image: framed(image, 0, 2, "darkgrey", WHITE),
    "table": on_a_table,
    "dust": with_dust,
    "white ink on nothing": see_through,
    "a sheet with rounded corners": with_rounded_corners,
    "16 bits": lambda image: Image.fromarray((drawn(image)[..., 0] * 256 + 40).astype(np.uint16)),
    "salt and pepper": lambda image: sprinkled(drawn(image), 0.03),
    "coloured specks": lambda image: sprinkled(drawn(image) * slope(0.6), 0.12, channels=True),
    "specks on a large picture": lambda image: sprinkled(drawn(image).repeat(4, 0).repeat(4, 1), 0.1),
    "cut out tightly": cut_out,
    "out of focus": lambda image: saved(drawn(image)).filter(ImageFilter.GaussianBlur(4)),
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_photographs_are_read(mechanism: str, mnist: Splits, robust_net: nn.Module, one_thread: None) -> None:
    chosen = torch.tensor([0, 2, 7])
    pictures = [MECHANISMS[mechanism](image) for image in mnist[0].images[chosen]]
    with warnings.catch_warnings(action="error"):
        images = torch.stack([to_mnist(picture) for picture in pictures])
    answers = answers_to(images, robust_net).exp().max(dim=1)
    assert answers.indices.tolist() == [5, 4, 3]
    assert answers.values.mean() > 0.95  # of one digit in chalk the network is 90% sure


def test_several_digits_are_read_from_left_to_right_and_never_as_one(mnist: Splits, one_thread: None) -> None:
    images = mnist[0].images[[1, 2, 7]]
    row = saved(np.concatenate([drawn(image) for image in images], axis=1))
    found = digits_on(row)
    assert len(found) == 3
    for digit, image in zip(found, images, strict=True):
        likeness = torch.nn.functional.cosine_similarity(digit.image.flatten().float(), image.flatten().float(), 0)
        assert likeness > 0.8
    middle = [(digit.ink.sum(dim=0) * torch.arange(digit.ink.shape[1])).sum() / digit.ink.sum() for digit in found]
    assert middle == sorted(middle)
    assert len(digits_on(row.crop((int(found[0].ink.sum(dim=0).nonzero()[0]), 0, *row.size)))) == 3  # one at the edge
    with pytest.raises(ValueError, match=f"of {row.width}x{row.height} pixels shows 3 separate marks: cut out one"):
        to_mnist(row)


WOOD = np.float32((150, 105, 70)) * (1 + 0.15 * np.sin(14 * X + 3 * np.sin(1.8 * Y)))[..., None]
EMPTY = {
    "blank sheet": lambda: saved(np.broadcast_to(PAPER, (SIDE, SIDE, 3)) * slope(0.6)),
    "blank in a vignette": lambda: saved(np.broadcast_to(PAPER, (SIDE, SIDE, 3)) * vignette(0.4), 8),
    "blank squares": lambda: saved(ruled((120, 150, 200), True)),
    "wood": lambda: saved(WOOD),
    "disc": lambda: saved(np.where((np.hypot(X, Y) < 0.3)[..., None], PEN, PAPER)),
    "blank on a table by a lamp": lambda: on_a_table(torch.zeros(28, 28, dtype=torch.uint8), 0.7),
    "blank on a table": lambda: on_a_table(torch.zeros(28, 28, dtype=torch.uint8)),
}


def test_pixels_are_put_right_only_where_many_are_wrong(mnist: Splits) -> None:
    hair_line = np.ones((3, 40, 40), np.float32)
    hair_line[:, 5, 5:35] = hair_line[:, 5:35, 20] = 0
    hair_line[:, 30, 30] = 0.5  # a dot is no noise
    assert np.array_equal(without_specks(hair_line), hair_line)
    for image in mnist[0].images[:100].numpy():
        levels = np.broadcast_to(np.float32(image) / 255, (3, 28, 28))
        assert np.array_equal(without_specks(levels), levels)
    wrong = np.random.default_rng(0).random((40, 40)) < 0.01
    mended = without_specks(np.where(wrong, 0.3, hair_line).astype(np.float32))
    assert (mended[:, wrong & (hair_line[0] == 1)] == 1).mean() > 0.9
    assert mended[:, 5, 7:33].max() < 0.5
    negative = without_specks(1 - np.where(wrong, 0.3, hair_line).astype(np.float32))
    assert negative == pytest.approx(1 - mended, abs=1e-6)


DEPTHS = [(np.uint16, 32768, 0.5), (np.int32, 51, 0.2), (np.float32, 0.25, 0.25), (np.int32, 100_000, 1.0)]


@pytest.mark.parametrize(("dtype", "level", "share"), DEPTHS)
def test_white_is_that_of_the_pictures_depth(dtype: type, level: float, share: float) -> None:
    assert torch.allclose(thumbnail(Image.fromarray(np.full((9, 9), level, dtype))), torch.tensor(share), atol=1e-3)


def test_a_drawn_face_is_no_digit(one_thread: None) -> None:
    face = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(face)
    draw.arc([70, 30, 170, 130], 180, 360, fill="black", width=16)
    for left in (90, 130):
        draw.line([left, 90, left + 20, 88], fill="black", width=6)
    with pytest.raises(ValueError, match="240x240 pixels shows no digit but many marks apart: give one with a digit"):
        to_mnist(face)


@pytest.mark.parametrize("sheet", EMPTY)
def test_an_empty_sheet_is_refused(sheet: str, one_thread: None) -> None:
    with pytest.raises(ValueError, match="is blank: give one with a digit"):
        to_mnist(EMPTY[sheet]())


def test_orientation_is_read_beside_data_that_are_broken(mnist: Splits, tmp_path: Path) -> None:
    upright = Image.fromarray(255 - mnist[1].images[0].numpy()).resize((112, 112))
    entries = [struct.pack("<HHIHH", 274, 3, 1, 6, 0), struct.pack("<HHII", 282, 10, 1, 38)]  # a signed XResolution
    exif = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + struct.pack("<Iii", 0, -72, 1)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert to_mnist(read_picture(tmp_path / "a.jpg")).float().sub(to_mnist(upright).float()).abs().mean() < 3


def test_a_picture_whose_orientation_cannot_be_read_stays_as_it_is(tmp_path: Path) -> None:
    upright = picture(4, "dark on light")
    upright.save(tmp_path / "photo.png", exif=b"Exif\0\0XX*\0")
    assert torch.equal(to_mnist(read_picture(tmp_path / "photo.png")), to_mnist(upright))


@pytest.mark.parametrize("format", ["AVIF", "TIFF", "DDS", "JPEG", "PNG"])
def test_damaged_files_are_read_or_refused_in_one_line(format: str, tmp_path: Path, mnist: Splits) -> None:
    whole, path = io.BytesIO(), tmp_path / "picture"
    try:
        Image.fromarray(mnist[1].images[0].numpy()).convert("RGB").save(whole, format)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {format}")
    generator = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole.getvalue())
        for place in generator.integers(0, min(len(damaged), 400), 4):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_picture(path)
        except OSError as error:
            assert "\n" not in str(error) and str(path) in str(error)


def test_a_huge_photograph_is_reduced(tmp_path: Path) -> None:
    Image.new("L", (12000, 9000), 200).save(tmp_path / "huge.jpg")
    assert max(read_picture(tmp_path / "huge.jpg").size) <= 2400
