"""Cut the digits out of a picture and turn them into images like those of MNIST."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torchvision.transforms import functional as TF

from helpers.photographs.grouping import MAX_ASPECT, MAX_PIECES, Mark, number_of_pieces, touches_another
from helpers.photographs.ink import MIN_INK, Contrast, contrast_with_paper, thickened
from helpers.photographs.marks import marks_of, number_of_marks
from helpers.photographs.noise import averaged, without_specks
from helpers.photographs.pictures import FULL_SIDE, levels_of, reduced

SIDE, INK_SIDE = 28, 20  # pixels: of an MNIST image, and of the box a digit is scaled to fit
WORKING_SIDE = 800  # pixels: larger pictures are reduced to it; digits of a fortieth of it stay legible
MAX_DIGITS = 250  # in a picture: larger sheets must be cut into parts


@dataclass(frozen=True)
class Digit:
    """A digit in a picture: as an MNIST ``image`` ``(28, 28)``, and its ``ink`` at its place ``(H, W)``; both uint8."""

    image: Tensor
    ink: Tensor


def digits_on(picture: Image.Image) -> list[Digit]:
    """Return the digits in ``picture``, row by row from the top, each row from left to right.

    Raises ``ValueError`` if there is no digit, or if the digits cannot be separated; the message says what to do.
    """
    levels = averaged(without_specks(levels_of(reduced(picture, FULL_SIDE))), WORKING_SIDE)
    if min(levels.shape[1:]) < 3 or max(levels.shape[1:]) < 5:
        raise ValueError(f"{named(picture)} is too narrow to show a digit: give a larger one")
    contrast = contrast_with_paper(levels)
    marks, labels = marks_of(contrast)
    fault = fault_in(marks, labels, contrast)
    if fault:
        raise ValueError(f"{named(picture)} {fault}")
    return [cut_out(np.isin(labels, mark.labels), contrast) for mark in marks]


def to_mnist(picture: Image.Image) -> Tensor:
    """Return the digit in ``picture`` as an MNIST image: ``(28, 28)`` uint8, white on black.

    Raises ``ValueError`` if there is no digit or more than one.
    """
    digits = digits_on(picture)
    if len(digits) > 1:
        raise ValueError(f"{named(picture)} shows {len(digits)} separate marks: cut out one digit")
    return digits[0].image


def named(picture: Image.Image) -> str:
    return f"the picture of {picture.width}x{picture.height} pixels"


def fault_in(marks: list[Mark], labels: np.ndarray, contrast: Contrast) -> str:
    """Return why ``marks`` cannot be read as digits and what to do; an empty string if they can."""
    scattered = all(number_of_pieces(mark, labels) > MAX_PIECES for mark in marks)
    number = number_of_marks(contrast) if scattered else len(marks)
    if number > MAX_DIGITS:
        return f"shows {number} marks, more than {MAX_DIGITS}: give a part of it"
    if not marks:
        return "is blank: give one with a digit"
    if all(mark.width > MAX_ASPECT * mark.height for mark in marks):
        return "shows no digit, only a mark far wider than high: give one with a digit"
    if scattered:
        return "shows no digit but many marks apart: give one with a digit"
    if any(touches_another(np.isin(labels[mark.box], mark.labels)) for mark in marks):
        return "shows digits that touch each other: leave a gap between them"
    return ""


def cut_out(own: np.ndarray, contrast: Contrast) -> Digit:
    """Return the digit whose pixels are ``own`` ``(H, W)``."""
    strongest = contrast.values[own].max()
    ink = np.where(own & (contrast.values >= MIN_INK * strongest), contrast.values / strongest, 0).astype(np.float32)
    (box,) = ndimage.find_objects((ink > 0).astype(int))
    image = centred(torch.from_numpy(thickened(ink[box])))
    return Digit(image, torch.from_numpy((ink * 255).astype(np.uint8)))


def centred(ink: Tensor) -> Tensor:
    """Return ``ink``, from 0 (paper) to 1 and cropped to its box, as an MNIST image ``(28, 28)`` uint8.

    Its longer side is scaled to 20 pixels, and its centre of mass moved to the centre of the image, as described by
    LeCun, Cortes and Burges, The MNIST Database.
    """
    scale = INK_SIDE / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape]
    ink = TF.resize(ink[None], size, antialias=True)[0].clamp(0, 1)
    ink = ink / ink.max()

    canvas = torch.zeros(SIDE, SIDE)
    top = _offset(ink.sum(dim=1), size[0])
    left = _offset(ink.sum(dim=0), size[1])
    canvas[top : top + size[0], left : left + size[1]] = ink
    return (canvas * 255).round().to(torch.uint8)


def _offset(mass: Tensor, side: int) -> int:
    """Return where ``side`` pixels with this ``mass`` must start for their centre of mass to be at pixel 14."""
    centre = (mass * torch.arange(side)).sum() / mass.sum()
    return min(max(round(SIDE / 2 - centre.item()), 0), SIDE - side)
