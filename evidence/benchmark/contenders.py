"""The two pipelines, ready to be timed: the batches of an epoch, what learns from them, and a test."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from evidence.benchmark import stock
from helpers.data import Batches, Split
from helpers.model import Net
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.runtime.device import deterministic_cudnn, prepare_for
from helpers.runtime.progress import Silent
from helpers.runtime.threads import SHORT_STEPS, choose_threads, in_threads
from helpers.training import EVALUATION_BATCH, Trainer, evaluate, trial_step

WARM_UP_BATCHES = 5  # more than a CUDA graph's warm-up


@dataclass
class Contender:
    """A pipeline to time: ``batches`` of an epoch, ``train(batches)`` on some of them, and ``test()``, the accuracy.

    ``threads`` is its number of CPU threads, None for PyTorch's own choice.
    """

    device: torch.device
    batches: Collection
    train: Callable[[Collection], Any]
    test: Callable[[], float]
    threads: int | None = None

    def load(self, batches: Collection) -> None:
        """Load all ``batches`` onto the device and do nothing with them."""
        with in_threads(self.threads):
            for images, labels in batches:
                images.to(self.device)
                labels.to(self.device)


def stock_contender(
    folder: Path,
    device: torch.device,
    *,
    num_images: int = 60000,
    batch_size: int = 64,
    workers: int = 0,
    test_workers: int = 0,
    seed: int = 1,
) -> Contender:
    """Return the stock pipeline on the first ``num_images`` training images of a ``linked`` folder."""
    train_set, test_set = stock.datasets(folder)
    train_set = train_set if num_images == len(train_set) else Subset(train_set, range(num_images))
    train_batches = stock.loader(train_set, device, batch_size=batch_size, shuffle=True, workers=workers)
    test_batches = stock.loader(test_set, device, batch_size=EVALUATION_BATCH, workers=test_workers)
    torch.manual_seed(seed)
    model = Net().to(device)
    optimizer = stock.sgd(model)
    return Contender(
        device,
        train_batches,
        lambda batches: stock.train_epoch(model, batches, optimizer, device),
        lambda: stock.test_epoch(model, test_batches, device)[1],
    )


def our_contender(
    splits: tuple[Split, Split],
    device: torch.device,
    *,
    recipe: Recipe = ASSIGNMENT,
    num_images: int = 60000,
    batch_size: int | None = None,
) -> Contender:
    """Return this project's pipeline on the first ``num_images`` training images, set up as ``fit`` does."""
    recipe = replace(recipe, batch_size=batch_size or recipe.batch_size)
    train = splits[0][:num_images]
    batches = Batches(train, recipe.batch_size, shuffle=True, augmentation=recipe.augmentation, device=device)
    test_batches = Batches(splits[1], EVALUATION_BATCH, device=device)
    model = recipe.model()
    prepare_for(device, model)
    trainer = Trainer(model, recipe, len(batches))
    threads = None
    if device.type == "cpu":
        threads = choose_threads(trial_step(trainer, train), SHORT_STEPS, Silent().note)

    def train_epoch(batches: Collection) -> tuple[float, float]:
        with in_threads(threads), deterministic_cudnn():
            return trainer.train_epoch(batches)

    def test_accuracy() -> float:
        with in_threads(threads), deterministic_cudnn():
            return evaluate(model, test_batches)[1]

    return Contender(device, batches, train_epoch, test_accuracy, threads)
