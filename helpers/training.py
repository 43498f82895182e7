"""Training: one step, one epoch, evaluation, and a whole run by a recipe."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from helpers.data import Batches, Split
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.runtime.checkpoint import Checkpoint, difference
from helpers.runtime.cuda_graph import GraphedStep
from helpers.runtime.device import choose_device, place, reproducibly
from helpers.runtime.history import History
from helpers.runtime.looking import eval_mode
from helpers.runtime.meter import Meter, Report
from helpers.runtime.progress import Progress
from helpers.runtime.run import run_epochs
from helpers.runtime.threads import check_threads, choose_threads, in_threads

EVALUATION_BATCH = 250
STATISTICS_IMAGES = 10_000  # more do not make a network more accurate


class Trainer:
    """A model with what changes it: the optimizer and its learning rate schedule."""

    def __init__(self, model: nn.Module, recipe: Recipe, batches_per_epoch: int) -> None:
        self.model, self.recipe = model, recipe
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, recipe, self.device)
        self.schedule = None
        if recipe.schedule == "one-cycle":
            num_steps = recipe.num_epochs * batches_per_epoch
            warm_up = recipe.warm_up if recipe.warm_up * num_steps != 1 else 0.0  # for one step torch divides by 0
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer,
                recipe.lr,
                total_steps=num_steps,
                pct_start=warm_up,
                cycle_momentum=False,  # its default would change the momentum at every step, too
            )
        self.step = GraphedStep(self.train_step) if self.device.type == "cuda" else self.train_step

    def train_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Learn from one batch; return its mean loss and how many were right, both still on the device."""
        log_probs = self.model(images)  # (B, 10)
        loss = F.nll_loss(log_probs, labels)
        if self.recipe.label_smoothing:
            loss = torch.lerp(loss, -log_probs.mean(), self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (log_probs.argmax(dim=1) == labels).sum()

    def train_epoch(self, batches: Batches, report: Report | None = None) -> tuple[float, float]:
        """Learn from all batches once; return mean loss and accuracy over their images.

        With ``clean_statistics`` the batch norms' are then taken anew from images as they will be tested.
        About twice a second ``report(num_images, loss, accuracy)`` is told how far it is; nothing else waits for
        the device. Raises ``FloatingPointError`` where a loss is not finite.
        """
        self.model.train()
        meter = Meter(len(batches), self.device, report)
        for images, labels in batches:
            loss, hits = self.step(images, labels)
            meter.add(loss, hits, len(labels))
            if self.schedule:
                self.schedule.step()
        if self.recipe.clean_statistics:
            update_bn(batches.plain(STATISTICS_IMAGES, EVALUATION_BATCH), self.model)
        return meter.loss, meter.accuracy

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold for the run to go on as if it had never stopped."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
        }

    def state_after_a_step(self) -> dict[str, Any]:
        """Return the state with what the optimizer adds in its first step, made by a copy: for its form alone."""
        copy = Trainer(deepcopy(self.model), self.recipe, batches_per_epoch=2)
        for parameter in copy.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        copy.optimizer.step()
        if copy.schedule:
            copy.schedule.step()
        return copy.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned; raises ``ValueError`` for anything else than this model's and recipe's."""
        if all(faults := [difference(form, state) for form in (self.state(), self.state_after_a_step())]):
            raise ValueError(faults[-1])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])


def make_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for the parameters of ``model``, which lie on ``device``."""
    on_cuda = device.type == "cuda"
    # A step captured as a CUDA graph reads its learning rate from the device, where the schedule sets it.
    settings = {
        "lr": torch.tensor(recipe.lr, device=device) if on_cuda else recipe.lr,
        "weight_decay": recipe.weight_decay,
        "fused": on_cuda or device.type == "cpu",
    }
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=recipe.momentum, nesterov=recipe.nesterov, **settings)
    return torch.optim.AdamW(model.parameters(), capturable=on_cuda, **settings)


@torch.no_grad()
def predict(model: nn.Module, batches: Batches) -> Tensor:
    """Return the log-probabilities ``(N, 10)`` of all images in the split's order, on the batches' device.

    Uses eval mode and restores the model's. Raises ``ValueError`` for shuffled batches.
    """
    if batches.shuffle:
        raise ValueError("shuffle is True, so that no prediction would fit its label: give Batches with shuffle=False")
    with eval_mode(model):
        return torch.cat([model(images) for images, _ in batches])


def evaluate(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Return mean loss and accuracy (a fraction) over the images of ``batches``, in eval mode.

    Raises ``ValueError`` for shuffled batches.
    """
    log_probs = predict(model, batches)
    hits = (log_probs.argmax(dim=1) == batches.labels).sum()
    return F.nll_loss(log_probs, batches.labels).item(), hits.item() / len(batches.labels)


def fit(
    model: nn.Module,
    train: Split,
    test: Split,
    recipe: Recipe = ASSIGNMENT,
    *,
    device: str = "auto",
    threads: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> History:
    """Train ``model`` by ``recipe`` on ``train``, evaluate it on ``test`` after each epoch, return the history.

    The model is trained in place and left on the device. Each epoch draws from random numbers of its own, derived
    from the recipe's seed, so that with ``checkpoint``, a file written before the first epoch and after each,
    ``resume`` leads to the same end as a run that never stopped. On a CPU it takes ``threads``, or those of the
    checkpoint, or as many as a short trial finds fastest. Raises ``FloatingPointError`` where a loss is not finite,
    ``ValueError`` for a bad argument or a checkpoint of another run, ``OSError`` for an unreadable one.
    """
    chosen, say = choose_device(device), progress.note if progress else lambda line: None
    history = History.begin(recipe.as_json(), chosen, check_threads(threads))
    place(model, chosen)
    batches = Batches(train, recipe.batch_size, shuffle=True, augmentation=recipe.augmentation, device=chosen)
    test_batches = Batches(test, EVALUATION_BATCH, device=chosen)
    trainer = Trainer(model, recipe, len(batches))

    epoch = partial(reproducibly(train_and_test), trainer, batches, test_batches)

    file = Checkpoint(checkpoint, trainer.state, trainer.load_state, say)
    history = file.start(history, chosen, resume, any_length=recipe.schedule == "constant")
    num_steps = (recipe.num_epochs - history.num_epochs) * len(batches)
    if chosen.type == "cpu" and history.threads is None and num_steps:
        history.threads, reason = choose_threads(throw_away_step(model, recipe, train), num_steps)
        say(f"CPU threads: {history.threads} ({reason})")
    with in_threads(history.threads):
        run_epochs(epoch, history, recipe.num_epochs, recipe.seed, file.save, progress)
    return history


def train_and_test(
    trainer: Trainer, batches: Batches, test_batches: Batches, order_seed: int, report: Report | None
) -> tuple[float, float, float, float]:
    """Do an epoch and return mean loss and accuracy in training and, after it, on the test images."""
    batches.generator.manual_seed(order_seed)
    return *trainer.train_epoch(batches, report), *evaluate(trainer.model, test_batches)


def throw_away_step(model: nn.Module, recipe: Recipe, train: Split) -> Callable[[], object]:
    """Return a training step for a trial on the CPU: on a copy of ``model``, so that the run sees nothing of it."""
    trainer = Trainer(deepcopy(model).train(), replace(recipe, schedule="constant"), 1)
    images, labels = next(iter(Batches(train, recipe.batch_size)))
    return lambda: trainer.train_step(images, labels)
