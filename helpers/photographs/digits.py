"""Digits on a picture, cut out and brought to the form of MNIST's."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as TF

from helpers.photographs.grouping import MOST_PIECES, WIDE, Mark, pieces_of, touch
from helpers.photographs.ink import INK, Contrast, contrast_with_paper, thickened
from helpers.photographs.marks import marks_of, number_of_marks
from helpers.photographs.noise import averaged, without_specks
from helpers.photographs.pictures import FULL_SIDE, levels_of, reduced

SIDE, INK_SIDE = 28, 20  # pixels: of the image, and of the box that a digit is scaled to
WORKING_SIDE = 800  # pixels: larger pictures are reduced, a digit of a fortieth of that is still whole
MOST_DIGITS = 250  # on a picture: more are a sheet to be cut into parts


@dataclass(frozen=True)
class Digit:
    """A digit of a picture: ``image`` ``(28, 28)`` as MNIST would have it, and ``ink`` ``(H, W)``, its place; uint8."""

    image: Tensor
    ink: Tensor


def digits_on(picture: Image.Image) -> list[Digit]:
    """Return the digits on ``picture``, row by row and each row from left to right.

    Raises ``ValueError`` with the remedy where there is none, or where marks cannot be told apart into digits.
    """
    levels = averaged(without_specks(levels_of(reduced(picture, FULL_SIDE))), WORKING_SIDE)
    if min(levels.shape[1:]) < 3 or max(levels.shape[1:]) < 5:
        raise ValueError(f"{named(picture)} is too narrow to show a digit: give a larger one")
    contrast = contrast_with_paper(levels)
    marks, labels = marks_of(contrast)
    fault = fault_of(marks, labels, contrast)
    if fault:
        raise ValueError(f"{named(picture)} {fault}")
    return [cut_out(np.isin(labels, mark.labels), mark, contrast) for mark in marks]


def to_mnist(picture: Image.Image) -> Tensor:
    """Return the digit on ``picture`` as MNIST would have it: ``(28, 28)`` uint8, light on black.

    Raises ``ValueError`` where there is no digit or where there are several.
    """
    digits = digits_on(picture)
    if len(digits) > 1:
        raise ValueError(f"{named(picture)} shows {len(digits)} separate marks: cut out one digit")
    return digits[0].image


def named(picture: Image.Image) -> str:
    return f"the picture of {picture.width}x{picture.height} pixels"


def fault_of(marks: list[Mark], labels: np.ndarray, contrast: Contrast) -> str:
    """Return why ``marks`` cannot be read as digits, and the remedy; nothing where they can."""
    scattered = all(pieces_of(mark, labels) > MOST_PIECES for mark in marks)
    number = number_of_marks(contrast) if scattered else len(marks)
    if number > MOST_DIGITS:
        return f"shows {number} marks, more than {MOST_DIGITS}: give a part of it"
    if not marks:
        return "is blank: give one with a digit"
    if all(mark.width > WIDE * mark.height for mark in marks):
        return "shows no digit but a mark far wider than high: give one with a digit"
    if scattered:
        return "shows no digit but many marks apart: give one with a digit"
    if any(touch(np.isin(labels[mark.box], mark.labels)) for mark in marks):
        return "shows digits that touch each other: leave a gap between them"
    return ""


def cut_out(own: np.ndarray, mark: Mark, contrast: Contrast) -> Digit:
    """Return the digit of the pixels ``own`` ``(H, W)``, which lie in the box of ``mark``."""
    strongest = contrast.values[own].max()
    ink = np.where(own & (contrast.values >= INK * strongest), contrast.values / strongest, 0).astype(np.float32)
    image = centred(torch.from_numpy(thickened(ink[mark.box])))
    return Digit(image, torch.from_numpy((ink * 255).astype(np.uint8)))


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
