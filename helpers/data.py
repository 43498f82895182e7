"""MNIST in memory: verified archives, and batches on the device."""

import gzip
import hashlib
import http.client
import math
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from helpers.augmentation import Augmentation, warp
from helpers.runtime.files import atomic_write

MEAN, STD = 0.1307, 0.3081  # of the training pixels, scaled to 0..1
NUM_CLASSES = 10
CHUNK_IMAGES = 1024  # warped together
READ_SECONDS, DOWNLOAD_SECONDS = 10.0, 300.0  # patience with a silent mirror, and with one archive of a slow one
EXTRACTED = {  # MD5 of what is in the archives: torchvision, which extracts them, knows only that of the archives
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MAX_ARCHIVE_BYTES = 1 << 24  # the largest has 9,912,422: an endless answer is cut off here


class Split(NamedTuple):
    """Images ``(N, H, W)`` uint8 and labels ``(N,)`` int64."""

    images: Tensor
    labels: Tensor

    def hold_out(self, num_images: int, seed: int) -> tuple["Split", "Split"]:
        """Return the rest and ``num_images`` images drawn at random: training and validation split.

        Raises ``ValueError`` where none, or all, would be held out.
        """
        if not 0 < num_images < len(self.labels):
            raise ValueError(f"cannot hold out {num_images} of {len(self.labels)} images: choose fewer, at least 1")
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        rest, held_out = order[num_images:], order[:num_images]
        return Split(self.images[rest], self.labels[rest]), Split(self.images[held_out], self.labels[held_out])


def load_mnist(root: str | Path = "data") -> tuple[Split, Split]:
    """Return MNIST's training split (60,000 images of 28x28) and test split (10,000).

    Reads the four archives in ``root/MNIST/raw``, where torchvision keeps them too, and accepts no other
    bytes than those whose MD5 torchvision knows; of an archive that is missing, what was extracted from it
    does as well. What is missing or broken is downloaded again from torchvision's mirrors. Raises ``OSError``
    where an archive can neither be read nor mended.
    """
    folder = Path(root) / "MNIST" / "raw"
    contents = (bytearray(_read(folder / name, md5)) for name, md5 in MNIST.resources)
    train_images, train_labels, test_images, test_labels = contents
    return _parse(train_images, train_labels), _parse(test_images, test_labels)


def _parse(images: bytearray, labels: bytearray) -> Split:
    """Read two IDX files: a header of 16 (8) bytes, then one byte for each pixel (label)."""
    pixels = torch.frombuffer(images, dtype=torch.uint8, offset=16).reshape(-1, 28, 28)
    return Split(pixels, torch.frombuffer(labels, dtype=torch.uint8, offset=8).long())


def _read(path: Path, md5: str) -> bytes:
    """Return the content of an archive, unpacked."""
    try:
        content = path.read_bytes()
        fault = "is not the official file"
    except FileNotFoundError:
        if extracted := _read_extracted(path.with_suffix("")):
            return extracted
        content, fault = b"", "is missing"
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): mend it or choose another data folder") from error
    if hashlib.md5(content).hexdigest() == md5:
        return gzip.decompress(content)
    try:
        content = _download(path.name, md5)
    except OSError as error:
        raise OSError(f"{path} {fault} and no mirror gave it ({error}): put the official file there") from error
    atomic_write(path, content)
    return gzip.decompress(content)


def _read_extracted(path: Path) -> bytes:
    """Return the content of a file that was extracted from an archive, nothing where it is not the official one."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    return content if hashlib.md5(content).hexdigest() == EXTRACTED[path.name] else b""


def _download(name: str, md5: str) -> bytes:
    """Fetch one archive from the first mirror that gives the official bytes, within a bounded time."""
    failures = []
    for mirror in MNIST.mirrors:
        answer: Future[bytes] = Future()
        Thread(target=_fetch, args=(mirror + name, answer), daemon=True).start()
        try:
            content = answer.result(DOWNLOAD_SECONDS)
            if hashlib.md5(content).hexdigest() == md5:
                return content
            reason = f"wrong content of {len(content):,} bytes"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(error) or f"not finished after {DOWNLOAD_SECONDS:g} s"
        says = "".join(filter(str.isprintable, reason))[:120]  # a server may say much, and in many lines
        failures.append(f"{mirror}: {says}")
    raise OSError("; ".join(failures))


def _fetch(url: str, answer: Future[bytes]) -> None:
    """Get ``url``; in a thread, because a host's name and a header that drips heed no timeout."""
    try:
        with urllib.request.urlopen(url, timeout=READ_SECONDS) as response:
            answer.set_result(response.read(MAX_ARCHIVE_BYTES))
    except Exception as error:
        answer.set_exception(error)


class Batches:
    """A split on a device, in batches of images ``(B, 1, H, W)`` float32, normalised, and labels ``(B,)`` int64.

    ``shuffle`` draws a new order and ``augmentation`` new warps for every epoch, from a generator of the
    batches' own. The last batch is short where the sizes ask for it. Raises ``ValueError`` where the split is
    empty, of another type or shape, where a label is not one of the classes, or where ``batch_size`` is not a
    whole number of at least 1.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int = 64,
        *,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        images, labels = split
        if images.ndim != 3 or images.dtype != torch.uint8 or 0 in images.shape:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}: give uint8 (N, H, W), not empty")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(f"labels are {labels.dtype} {tuple(labels.shape)}: give int64 ({len(images)},)")
        if labels.min() < 0 or labels.max() >= NUM_CLASSES:
            raise ValueError(f"labels run from {labels.min()} to {labels.max()}: give classes 0 to {NUM_CLASSES - 1}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}: give a whole number, at least 1")
        self.device = torch.device(device)
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.batch_size, self.shuffle, self.augmentation = batch_size, shuffle, augmentation
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch; several are warped together, which costs less than one at a time."""
        if self.shuffle:
            order = torch.randperm(len(self.labels), generator=self.generator, device=self.device)
        else:
            order = torch.arange(len(self.labels), device=self.device)
        for chunk in order.split(self.batch_size * max(1, CHUNK_IMAGES // self.batch_size)):
            images, labels = self.load(chunk)
            yield from zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)

    def plain(self, num_images: int, batch_size: int) -> "Batches":
        """Return batches of the first ``num_images`` images as they are: in order and without augmentation."""
        return Batches(Split(self.images[:num_images], self.labels[:num_images]), batch_size, device=self.device)

    def load(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return these images and labels: warped first and normalised after, so that black stays black."""
        images = self.images[indices].unsqueeze(1).float()  # (B, 1, H, W), 0 to 255
        if self.augmentation is not None:
            draw = (len(indices), images.shape[-2:], self.generator)
            images = warp(images, self.augmentation.draw(*draw), self.augmentation.bend(*draw))
            images = self.augmentation.spoil(images, self.generator)
        return images.mul_(1 / (255 * STD)).sub_(MEAN / STD), self.labels[indices]
