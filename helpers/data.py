"""MNIST in memory: the official images, and batches of them on the device."""

import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from helpers.augmentation import Augmentation, warp
from helpers.runtime.archive import read_official
from helpers.runtime.settings import check_numbers, check_whole_numbers

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to 0..1
NUM_CLASSES = 10
CHUNK_IMAGES = 1024  # warped at once, which costs less than batch by batch


@dataclass(frozen=True, eq=False)
class Split:
    """Images ``(N, H, W)`` uint8 with their labels ``(N,)`` int64; ``split[:100]`` has the first hundred of them.

    Its pixels, scaled to 0..1, are normalised by ``mean`` and ``std``: MNIST's unless others are given.
    """

    images: Tensor
    labels: Tensor
    mean: float = MEAN
    std: float = STD

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Tensor]:
        """Let a split be taken apart: ``images, labels = split``."""
        return iter((self.images, self.labels))

    def __getitem__(self, chosen: slice | Tensor) -> "Split":
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def hold_out(self, num_images: int, seed: int) -> tuple["Split", "Split"]:
        """Hold out ``num_images`` random images; return the training split, without them, and the validation split.

        Raises ``ValueError`` unless both splits have at least one image.
        """
        if not 0 < num_images < len(self):
            raise ValueError(f"cannot hold out {num_images} of {len(self)} images: choose fewer, at least 1")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[num_images:]], self[order[:num_images]]

    def measured(self) -> "Split":
        """Return the split with the mean and standard deviation of its own pixels, for images that are not MNIST's."""
        pixels = self.images.double() / 255
        return replace(self, mean=pixels.mean().item(), std=pixels.std().item())


def load_mnist(root: str | Path = "data") -> tuple[Split, Split]:
    """Return MNIST's training split (60,000 images of 28x28) and test split (10,000).

    Reads the four archives in ``root/MNIST/raw``, the folder that torchvision uses, and first downloads those that are
    missing from torchvision's mirrors. Raises ``OSError`` where an archive cannot be read or downloaded, or is not the
    official file: that one is left as it is.
    """
    folder = Path(root) / "MNIST" / "raw"
    train_images, train_labels, test_images, test_labels = [
        bytearray(gzip.decompress(read_official(folder / name, md5, MNIST.mirrors))) for name, md5 in MNIST.resources
    ]
    return _parse(train_images, train_labels), _parse(test_images, test_labels)


def _parse(images: bytearray, labels: bytearray) -> Split:
    """Read two IDX files: images have a header of 16 bytes, labels one of 8; then comes a byte per pixel or label."""
    pixels = torch.frombuffer(images, dtype=torch.uint8, offset=16).reshape(-1, 28, 28)
    return Split(pixels, torch.frombuffer(labels, dtype=torch.uint8, offset=8).long())


class Batches:
    """A split on a device, in batches of images ``(B, 1, H, W)`` float32, normalised, and labels ``(B,)`` int64.

    Each epoch draws a new order (``shuffle``) and new changes (``augmentation``) from the random generator of these
    batches, which starts at ``seed``. The last batch is smaller where ``batch_size`` does not divide the number of
    images. Raises ``ValueError`` for an empty split, for tensors of another type or shape, for a label that is not one
    of the classes, and for a ``batch_size``, ``mean`` or ``std`` out of range.
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
        images, labels = split.images, split.labels
        if images.ndim != 3 or images.dtype != torch.uint8 or 0 in images.shape:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}: give uint8 (N, H, W), not empty")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(f"labels are {labels.dtype} {tuple(labels.shape)}: give int64 ({len(images)},)")
        if labels.min() < 0 or labels.max() >= NUM_CLASSES:
            raise ValueError(f"labels run from {labels.min()} to {labels.max()}: give classes 0 to {NUM_CLASSES - 1}")
        self.batch_size, self.shuffle, self.augmentation = batch_size, shuffle, augmentation
        check_whole_numbers(self, "batch_size", least=1)
        self.mean, self.std = split.mean, split.std
        check_numbers(self, "mean")
        check_numbers(self, "std", above=0)  # it is 0 if all pixels are equal
        self.device = torch.device(device)
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch; several are warped at once, which costs less than one at a time."""
        if self.shuffle:
            order = torch.randperm(len(self.labels), generator=self.generator, device=self.device)
        else:
            order = torch.arange(len(self.labels), device=self.device)
        for chunk in order.split(self.batch_size * max(1, CHUNK_IMAGES // self.batch_size)):
            images, labels = self.load(chunk)
            yield from zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)

    def load(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels at ``indices``.

        Images are warped before they are normalised: then what comes in from outside the image is black.
        """
        images = self.images[indices].unsqueeze(1).float()  # (B, 1, H, W), 0 to 255
        if self.augmentation is not None:
            size, generator = images.shape[-2:], self.generator
            matrices = self.augmentation.affine_matrices(len(indices), size, generator)
            displacements = self.augmentation.elastic_displacements(len(indices), size, generator)
            images = warp(images, matrices, displacements)
            images = self.augmentation.corrupt(images, generator)
        return images.mul_(1 / (255 * self.std)).sub_(self.mean / self.std), self.labels[indices]
