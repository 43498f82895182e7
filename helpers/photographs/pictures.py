"""Read a picture in any format that Pillow supports: turn it upright, reduce it, convert it to an array."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

AVERAGING_MODES = {"1": "L", "P": "RGBA", "PA": "RGBA"}  # in which to average modes that Pillow cannot average
FULL_SIDE = 2400  # pixels: larger photographs are reduced to it


def read_picture(path: str | Path) -> Image.Image:
    """Read a picture in any format that Pillow supports, turned upright by its EXIF orientation, reduced if huge.

    HEIC, the format of iPhones, needs ``pillow-heif``. Raises ``OSError`` if the picture cannot be read; the message
    says what to do.
    """
    heic_is_supported = register_heic()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            file.draft(None, (FULL_SIDE, FULL_SIDE))  # a JPEG is reduced while it is decoded
            file.load()
            return upright(reduced(file, FULL_SIDE), file)
    except Exception as error:  # of any class: broken files make Pillow raise many kinds
        if not heic_is_supported and is_heic(path):
            raise OSError(f"{path} is in HEIC: pip install pillow-heif, or give it as JPEG") from None
        if isinstance(error, UnidentifiedImageError):
            raise OSError(f"{path} is not a picture: give a PNG, JPEG or another format that Pillow reads") from None
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise OSError(f"{path} cannot be read ({reason}): give another picture") from error


def register_heic() -> bool:
    """Let Pillow read HEIC if ``pillow-heif`` is installed; return whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def is_heic(path: str | Path) -> bool:
    """Tell whether a file is in HEIC: it starts with a box of type ``ftyp`` that names one of HEIC's brands."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return head[4:8] == b"ftyp" and any(brand in head for brand in (b"heic", b"heix", b"hevc"))


def upright(picture: Image.Image, file: Image.Image) -> Image.Image:
    """Return a copy of ``picture``, turned by the EXIF orientation of ``file`` if that can be read."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF data can raise anything: leave the picture as it is
        orientation = 1
    picture = picture.copy()
    for key in ("exif", "Raw profile type exif"):  # may be broken, and exif_transpose would parse them again
        picture.info.pop(key, None)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(picture)


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """Return ``picture`` averaged down by an integer factor, so that its longer side is at most ``side`` pixels."""
    factor = -(-max(picture.size) // side)
    if factor == 1:
        return picture
    mode = "I" if picture.mode.startswith("I;") else AVERAGING_MODES.get(picture.mode, picture.mode)
    return picture.convert(mode).reduce(factor)


def levels_of(picture: Image.Image) -> np.ndarray:
    """Return the colours of ``picture`` as ``(3, H, W)`` floats from 0 (black) to 1 (white), at its full bit depth.

    Transparent pixels become white or black, whichever makes the ink visible.
    """
    if picture.mode[0] in "IF":
        grey = np.nan_to_num(np.asarray(picture, dtype=np.float32))
        brightest = grey.max()
        whites = [white for white in (1, 255, 65535) if brightest <= white]
        white = whites[0] if whites else brightest
        return np.broadcast_to(grey / white, (3, *grey.shape))
    colours = np.asarray(picture.convert("RGBA"), dtype=np.float32).transpose(2, 0, 1) / 255
    rgb, alpha = colours[:3], colours[3]
    if alpha.min() == 1:
        return rgb
    tone = (rgb.mean(axis=0) * alpha).sum() / max(alpha.sum(), 1e-6)
    is_paper = alpha.mean() > 0.5  # mostly opaque: the background continues the paper; else it contrasts with the ink
    background = float(tone > 0.5) if is_paper else float(tone <= 0.5)
    return rgb * alpha + background * (1 - alpha)


def thumbnail(picture: Image.Image, side: int = 200) -> Tensor:
    """Return a small copy of ``picture`` for a figure: ``(H, W, 3)`` from 0 to 1, at most ``side`` pixels on a side."""
    return torch.from_numpy(np.ascontiguousarray(levels_of(reduced(picture, side)).transpose(1, 2, 0)))
