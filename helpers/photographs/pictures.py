"""Pictures of any kind that Pillow reads: opened, upright, reduced, and as an array of their levels."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

FULL_SIDE = 2400  # pixels: what is kept of a huge photograph


def read_picture(path: str | Path) -> Image.Image:
    """Open a picture of any kind that Pillow reads, upright as its camera says, and reduced where it is huge.

    HEIC, which iPhones write, is read where ``pillow-heif`` is installed. Raises ``OSError`` with the remedy where a
    picture cannot be read.
    """
    heic_is_read = register_heic()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            file.draft(None, (FULL_SIDE, FULL_SIDE))  # a JPEG is reduced while it is decoded
            file.load()
            return upright(reduced(file, FULL_SIDE), file)
    except Exception as error:  # of any class: Pillow's parsers raise whatever broken bytes lead to
        if not heic_is_read and is_heic(path):
            raise OSError(f"{path} is in HEIC: pip install pillow-heif, or give it as JPEG") from None
        if isinstance(error, UnidentifiedImageError):
            raise OSError(f"{path} is no picture: give a PNG, JPEG or another format that Pillow reads") from None
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise OSError(f"{path} cannot be read ({reason}): give another picture") from error


def register_heic() -> bool:
    """Let Pillow read HEIC if ``pillow-heif`` is installed, and tell whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def is_heic(path: str | Path) -> bool:
    """Tell whether a file begins as HEIC does: with a box of the type ``ftyp`` that names its brands."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return head[4:8] == b"ftyp" and any(brand in head for brand in (b"heic", b"heix", b"hevc"))


def upright(picture: Image.Image, file: Image.Image) -> Image.Image:
    """Return a copy of ``picture``, turned as the orientation in ``file`` says, where that can be read."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken data say nothing, and raise anything
        orientation = 1
    picture = picture.copy()
    for broken_perhaps in ("exif", "Raw profile type exif"):  # Pillow would write them anew
        picture.info.pop(broken_perhaps, None)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(picture)


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
