"""A whole run: train by a recipe, evaluate after each epoch, save as it goes."""

import math
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.data import Batches, Split
from helpers.engine.checkpoint import restore_run, save_run
from helpers.engine.history import History
from helpers.engine.progress import Progress
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.trainer import Trainer

EVALUATION_BATCH = 250
reproducibly = torch.backends.cudnn.flags(enabled=True, deterministic=True)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else MPS, else the CPU.

    Raises ``ValueError`` for a name that is unknown or whose device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [device for device in there if there[device]]
    if name == "auto":
        return torch.device(names[0])
    if name not in names:
        raise ValueError(f"device {name!r} is unknown or not there: choose {', '.join(names)} or auto")
    return torch.device(name)


@torch.no_grad()
def predict(model: nn.Module, batches: Batches) -> Tensor:
    """Return the log-probabilities ``(N, 10)`` of all images in the split's order, on the batches' device.

    Uses eval mode and restores the model's. Raises ``ValueError`` for shuffled batches.
    """
    if batches.shuffle:
        raise ValueError("shuffle is True, so that no prediction would fit its label: give Batches with shuffle=False")
    was_training = model.training
    model.eval()
    log_probs = torch.cat([model(images) for images, _ in batches])
    model.train(was_training)
    return log_probs


def evaluate(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Return mean loss and accuracy (a fraction) over the images of ``batches``, in eval mode.

    Raises ``ValueError`` for shuffled batches.
    """
    log_probs = predict(model, batches)
    hits = (log_probs.argmax(dim=1) == batches.labels).sum()
    return F.nll_loss(log_probs, batches.labels).item(), hits.item() / len(batches.labels)


def place(model: nn.Module, device: torch.device) -> None:
    """Move ``model`` to ``device``, its convolutions in the layout that is fastest there.

    On a CPU that is channels last, except for images with one channel, whose convolution it would slow down.
    """
    model.to(device)
    for module in model.modules():
        if device.type == "cpu" and isinstance(module, nn.Conv2d) and module.in_channels > 1:
            module.to(memory_format=torch.channels_last)


def fit(
    model: nn.Module,
    train: Split,
    test: Split,
    recipe: Recipe = ASSIGNMENT,
    *,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> History:
    """Train ``model`` by ``recipe`` on ``train``, evaluate it on ``test`` after each epoch, return the history.

    The model is trained in place and left on the device; torch's global generator is seeded for each epoch. Each
    epoch draws from random numbers of its own, derived from the recipe's seed, so that with ``checkpoint``, a file
    written before the first epoch and after each, ``resume`` leads to the same end as a run that never stopped.

    Raises ``FloatingPointError`` where a loss is not finite; ``ValueError`` for an unknown device, for ``resume``
    without a checkpoint or with one of another run; ``OSError`` where it cannot be read or written.
    """
    if resume and checkpoint is None:
        raise ValueError("resume needs a checkpoint: name its file")
    chosen = choose_device(device)
    place(model, chosen)
    batches = Batches(train, recipe.batch_size, shuffle=True, augmentation=recipe.augmentation, device=chosen)
    test_batches = Batches(test, EVALUATION_BATCH, device=chosen)
    trainer = Trainer(model, recipe, len(batches))
    history = History.of(recipe, chosen)
    if resume:
        history = restore_run(checkpoint, trainer, history)
    elif checkpoint:
        save_run(checkpoint, trainer, history)
    seeds = torch.randint(2**62, (recipe.num_epochs, 2), generator=torch.Generator().manual_seed(recipe.seed))
    if progress:
        progress.finished = history.num_epochs
    with progress or nullcontext():
        for epoch in range(history.num_epochs, recipe.num_epochs):
            start = time.perf_counter()
            order_seed, dropout_seed = seeds[epoch].tolist()
            batches.generator.manual_seed(order_seed)
            torch.manual_seed(dropout_seed)
            try:
                metrics = learn_and_evaluate(trainer, batches, test_batches, progress)
            except FloatingPointError as error:
                lr = float(trainer.optimizer.param_groups[0]["lr"])
                raise FloatingPointError(f"epoch {epoch + 1}: {error} at lr {lr:g}: choose a lower lr") from None
            history.append(*metrics, time.perf_counter() - start)
            if checkpoint:
                save_run(checkpoint, trainer, history)
            if progress:
                progress.epoch(history)
    return history


@reproducibly
def learn_and_evaluate(
    trainer: Trainer, batches: Batches, test_batches: Batches, progress: Progress | None
) -> tuple[float, float, float, float]:
    """Train for one epoch; return train loss, train accuracy, test loss and test accuracy, all finite."""
    train = trainer.train_epoch(batches, progress.update if progress else None)
    test = evaluate(trainer.model, test_batches)
    if not math.isfinite(test[0]):
        raise FloatingPointError(f"after the last batch the test loss is {test[0]}")
    return *train, *test
