"""What the tests share: the real data, read once, and a folder layout that a test may damage."""

from pathlib import Path

import pytest
import torch

from helpers.data import Split, load_mnist

ROOT = Path(__file__).parent.parent


def head(split: Split, num_images: int) -> Split:
    return Split(split.images[:num_images], split.labels[:num_images])


@pytest.fixture(scope="session")
def mnist() -> tuple[Split, Split]:
    return load_mnist(ROOT / "data")


@pytest.fixture(scope="session")
def small_mnist(mnist: tuple[Split, Split]) -> tuple[Split, Split]:
    """Slices of the real splits: 700 training and 300 test images."""
    return head(mnist[0], 700), head(mnist[1], 300)


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
