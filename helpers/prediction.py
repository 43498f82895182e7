"""Digits on pictures of one's own, brought to the form of MNIST's."""

from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import functional as TF

SIDE, INK_SIDE = 28, 20  # pixels: of the image, and of the box that a digit is scaled to
INK = 0.25  # of the strongest contrast with the background: what is fainter is paper, not ink


def read_picture(path: str | Path) -> Image.Image:
    """Open a picture of any kind that Pillow reads, upright as its camera says.

    Raises ``OSError`` with the remedy where it cannot be read.
    """
    try:
        return ImageOps.exif_transpose(Image.open(path))
    except UnidentifiedImageError:
        raise OSError(f"{path} is no picture: give a PNG, JPEG or another format that Pillow reads") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path} cannot be read ({reason}): give another picture") from error


def to_mnist(picture: Image.Image) -> Tensor:
    """Return the digit on ``picture`` as MNIST would have it: ``(28, 28)`` uint8, light on black.

    The paper's brightness is the median of the picture's border, so dark on light and light on dark both work. The
    ink is cut out, its longer side scaled to 20 pixels, and its centre of mass put into the centre, as described by
    LeCun, Cortes and Burges, The MNIST Database. Raises ``ValueError`` where there is no ink.
    """
    on_white = Image.new("RGBA", picture.size, "white")
    on_white.alpha_composite(picture.convert("RGBA"))
    pixels = TF.pil_to_tensor(on_white.convert("L")).float().squeeze(0)  # (H, W)
    border = torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    contrast = (pixels - border.median()).abs()
    if contrast.max() < 1:
        raise ValueError(f"the picture of {picture.width}x{picture.height} pixels is blank: give one with a digit")
    ink = contrast / contrast.max()
    ink = torch.where(ink < INK, 0.0, ink)
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
