"""The stock pipeline: the same assignment as it is usually written with torchvision, PIL and torch.nn alone."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST

BATCH_SIZE = 64

TRAIN_TRANSFORMS = transforms.Compose(
    [
        transforms.RandomApply([transforms.CenterCrop(22)], p=0.1),
        transforms.Resize((28, 28)),
        transforms.RandomRotation((-15.0, 15.0), fill=0),
        transforms.ToTensor(),
        transforms.Normalize((0.1307,), (0.3081,)),
    ]
)
TEST_TRANSFORMS = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


@contextmanager
def linked(root: str | Path) -> Iterator[Path]:
    """Yield a temporary folder with links to the archives of ``root``, so that none is extracted into the checkout.

    Where the system allows no links, the folder has copies.
    """
    with tempfile.TemporaryDirectory(prefix="stock-mnist-") as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for archive in (Path(root) / "MNIST" / "raw").resolve().glob("*.gz"):
            try:
                (raw / archive.name).symlink_to(archive)
            except OSError:  # Windows, for an ordinary user
                shutil.copy(archive, raw)
        yield Path(folder)


def datasets(folder: str | Path) -> tuple[MNIST, MNIST]:
    """Return training and test set; the first call for a ``folder`` extracts its archives."""
    train_set = MNIST(folder, train=True, download=True, transform=TRAIN_TRANSFORMS)
    return train_set, MNIST(folder, train=False, download=True, transform=TEST_TRANSFORMS)


def loader(
    dataset: Dataset, device: torch.device, *, batch_size: int = BATCH_SIZE, shuffle: bool = False, workers: int = 0
) -> DataLoader:
    """Return batches of images ``(B, 1, 28, 28)`` and labels ``(B,)`` on the host, pinned for CUDA."""
    pinned = device.type == "cuda"
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=workers, pin_memory=pinned)


def sgd(model: nn.Module) -> torch.optim.SGD:
    """Return the assignment's optimizer with default arguments beside its learning rate and momentum."""
    return torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)


def train_epoch(
    model: nn.Module, batches: Iterable, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[float, float]:
    """Learn from all batches once, waiting for each; return mean loss of the batches and accuracy of the images."""
    model.train()
    losses, correct, processed = [], 0, 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        log_probs = model(images)
        loss = F.nll_loss(log_probs, labels)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        correct += log_probs.argmax(dim=1).eq(labels).sum().item()
        processed += len(images)
    return sum(losses) / len(losses), correct / processed


def test_epoch(model: nn.Module, batches: Iterable, device: torch.device) -> tuple[float, float]:
    """Return mean loss and accuracy over the images of ``batches``, in eval mode."""
    model.eval()
    loss, correct, processed = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in batches:
            images, labels = images.to(device), labels.to(device)
            log_probs = model(images)
            loss += F.nll_loss(log_probs, labels, reduction="sum").item()
            correct += log_probs.argmax(dim=1).eq(labels).sum().item()
            processed += len(images)
    return loss / processed, correct / processed
