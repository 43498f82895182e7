"""Digits on a picture, cut out and brought to the form of MNIST's."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import functional as TF

from helpers.photographs.grouping import MOST_PIECES, WIDE, pieces_of, touch
from helpers.photographs.ink import INK, contrast_with_paper, thickened
from helpers.photographs.marks import marks_of, number_of_marks
from helpers.photographs.noise import averaged, without_specks

SIDE, INK_SIDE = 28, 20  # pixels: of the image, and of the box that a digit is scaled to
FULL_SIDE = 2400  # pixels: what is kept of a huge photograph
WORKING_SIDE = 800  # pixels: larger pictures are reduced, a digit of a fortieth of that is still whole
MOST_DIGITS = 250  # on a picture: more are a sheet to be cut into parts
T = Image.Transpose
TURNS = {  # by the value of EXIF's tag "Orientation"
    2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE,
    6: T.ROTATE_270, 7: T.TRANSVERSE, 8: T.ROTATE_90,
}  # fmt: skip


@dataclass(frozen=True)
class Digit:
    """A digit of a picture: ``image`` ``(28, 28)`` as MNIST would have it, and ``ink`` ``(H, W)``, its place; uint8."""

    image: Tensor
    ink: Tensor


def read_picture(path: str | Path) -> Image.Image:
    """Open a picture of any kind that Pillow reads, upright as its camera says, and reduced where it is huge.

    Raises ``OSError`` with the remedy where it cannot be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            file.draft(None, (FULL_SIDE, FULL_SIDE))  # a JPEG is reduced while it is decoded
            file.load()
            return upright(reduced(file, FULL_SIDE), file)
    except UnidentifiedImageError:
        raise OSError(f"{path} is no picture: give a PNG, JPEG or another format that Pillow reads") from None
    except Exception as error:  # of any class, as said above
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise OSError(f"{path} cannot be read ({reason}): give another picture") from error


def upright(picture: Image.Image, file: Image.Image) -> Image.Image:
    """Return ``picture`` turned as the orientation in ``file`` says, where that can be read."""
    try:
        turn = TURNS.get(file.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # broken data say nothing; Pillow's parsers raise whatever the bytes lead to
        turn = None
    return picture.copy() if turn is None else picture.transpose(turn)


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """Return ``picture`` averaged down by a whole factor, so that its longer side is ``side`` pixels or less."""
    factor = -(-max(picture.size) // side)
    if factor == 1:
        return picture
    averages = {"1": "L", "P": "RGBA", "PA": "RGBA"}  # the modes that Pillow averages in for those that it cannot
    mode = averages.get(picture.mode, "I" if picture.mode.startswith("I;") else picture.mode)
    return picture.convert(mode).reduce(factor)


def levels_of(picture: Image.Image) -> np.ndarray:
    """Return the colours of ``picture`` as ``(3, H, W)`` floats, 0 black to 1 white, with all bits that it has."""
    if picture.mode[0] in "IF":
        grey = np.nan_to_num(np.asarray(picture, dtype=np.float32))
        white = next((white for white in (1, 255, 65535) if grey.max() <= white), grey.max())
        return np.broadcast_to(grey / white, (3, *grey.shape))
    colours = np.asarray(picture.convert("RGBA"), dtype=np.float32).transpose(2, 0, 1) / 255
    rgb, alpha = colours[:3], colours[3]
    if alpha.min() == 1:
        return rgb
    tone = (rgb.mean(axis=0) * alpha).sum() / max(alpha.sum(), 1e-6)
    behind = float(tone > 0.5) if alpha.mean() > 0.5 else float(tone <= 0.5)  # paper goes on; ink is seen
    return rgb * alpha + behind * (1 - alpha)


def thumbnail(picture: Image.Image, side: int = 200) -> Tensor:
    """Return ``picture`` small, for a figure: ``(H, W, 3)`` from 0 to 1, at most ``side`` pixels high and wide."""
    return torch.from_numpy(np.ascontiguousarray(levels_of(reduced(picture, side)).transpose(1, 2, 0)))


def digits_on(picture: Image.Image) -> list[Digit]:
    """Return the digits on ``picture`` from left to right. Raises ``ValueError`` where there is none."""
    size = f"the picture of {picture.width}x{picture.height} pixels"
    levels = averaged(without_specks(levels_of(reduced(picture, FULL_SIDE))), WORKING_SIDE)
    if min(levels.shape[1:]) < 3 or max(levels.shape[1:]) < 5:
        raise ValueError(f"{size} is too narrow to show a digit: give a larger one")
    contrast = contrast_with_paper(levels)
    groups, labels = marks_of(contrast)
    number = len(groups) or number_of_marks(contrast)
    if number > MOST_DIGITS:
        raise ValueError(f"{size} shows {number} marks, more than {MOST_DIGITS}: give a part of it")
    if not groups:
        raise ValueError(f"{size} is blank: give one with a digit")
    if all(mark.width > WIDE * mark.height for mark in groups):
        raise ValueError(f"{size} shows no digit but a mark far wider than high: give one with a digit")
    if all(pieces_of(mark, labels) > MOST_PIECES for mark in groups):
        raise ValueError(f"{size} shows no digit but many marks apart: give one with a digit")
    if any(touch(np.isin(labels[mark.box], mark.labels)) for mark in groups):
        raise ValueError(f"{size} shows digits that touch each other: leave a gap between them")
    digits = []
    for mark in groups:
        own = np.isin(labels, mark.labels)
        strongest = contrast.values[own].max()
        ink = np.where(own & (contrast.values >= INK * strongest), contrast.values / strongest, 0).astype(np.float32)
        digits.append(
            Digit(centred(torch.from_numpy(thickened(ink[mark.box]))), torch.from_numpy((ink * 255).astype(np.uint8)))
        )
    return digits


def to_mnist(picture: Image.Image) -> Tensor:
    """Return the digit on ``picture`` as MNIST would have it: ``(28, 28)`` uint8, light on black.

    Raises ``ValueError`` where there is no digit or where there are several.
    """
    digits = digits_on(picture)
    if len(digits) > 1:
        size = f"the picture of {picture.width}x{picture.height} pixels"
        raise ValueError(f"{size} shows {len(digits)} separate marks: cut out one digit")
    return digits[0].image


def centred(ink: Tensor) -> Tensor:
    """Return ``ink`` ``(H, W)`` from 0 (paper) to 1 as MNIST would have it: ``(28, 28)`` uint8.

    The box of the ink is cut out, its longer side scaled to 20 pixels, and its centre of mass put to pixel 14, as
    described by LeCun, Cortes and Burges, The MNIST Database.
    """
    rows, columns = ink.amax(dim=1).nonzero().flatten(), ink.amax(dim=0).nonzero().flatten()
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = INK_SIDE / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape]
    ink = TF.resize(ink[None], size, antialias=True)[0].clamp(0, 1)
    ink = ink / ink.max()

    canvas = torch.zeros(SIDE, SIDE)
    top, left = (_offset(ink.sum(dim=1 - axis), size[axis]) for axis in (0, 1))
    canvas[top : top + size[0], left : left + size[1]] = ink
    return (canvas * 255).round().to(torch.uint8)


def _offset(mass: Tensor, side: int) -> int:
    """Return where ``side`` pixels must start so that their centre of mass comes to pixel 14, as it does in MNIST."""
    centre = (mass * torch.arange(side)).sum() / mass.sum()
    return min(max(round(SIDE / 2 - centre.item()), 0), SIDE - side)
