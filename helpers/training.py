"""Training: one step, one epoch, evaluation, and the loop over epochs."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.data import Batches, Split
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.runtime.checkpoint import Checkpoint, check_optimizer_state, check_same_form
from helpers.runtime.cuda_graph import GraphedStep
from helpers.runtime.device import choose_device, deterministic_cudnn, prepare_for
from helpers.runtime.epochs import check_finite, errors_named, seed_epoch
from helpers.runtime.history import History
from helpers.runtime.looking import eval_mode
from helpers.runtime.meter import Meter, Report
from helpers.runtime.progress import Progress, Silent
from helpers.runtime.threads import check_threads, choose_threads, in_threads

EVALUATION_BATCH = 250
STATISTICS_IMAGES = 10_000  # for batch norm's statistics; more do not make a network more accurate


class Trainer:
    """A model with its optimizer and learning rate schedule."""

    def __init__(self, model: nn.Module, recipe: Recipe, batches_per_epoch: int) -> None:
        self.model, self.recipe = model, recipe
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, recipe, self.device)
        self.schedule = make_schedule(self.optimizer, recipe, recipe.num_epochs * batches_per_epoch)
        self.graphed_step = GraphedStep() if self.device.type == "cuda" else None

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

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Do ``train_step``; on a GPU, as one CUDA graph."""
        if self.graphed_step:
            return self.graphed_step(self.train_step, images, labels)
        return self.train_step(images, labels)

    def train_epoch(self, batches: Batches, report: Report | None = None) -> tuple[float, float]:
        """Learn from all batches once; return mean loss and accuracy over their images.

        About twice a second ``report(num_images, loss, accuracy)`` is called with the means so far; only then does
        training wait for the device. Raises ``FloatingPointError`` where a loss is not finite.
        """
        self.model.train()
        meter = Meter(len(batches), self.device, report)
        for images, labels in batches:
            loss, hits = self.step(images, labels)
            meter.add(loss, hits, len(labels))
            if self.schedule:
                self.schedule.step()
        return meter.loss, meter.accuracy

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold for the run to go on as if it had never stopped."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned; raises ``ValueError`` for the state of another model or recipe."""
        check_same_form({**self.state(), "optimizer": None}, {**state, "optimizer": None})
        check_optimizer_state(self.optimizer, state.get("optimizer"))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.graphed_step:
            self.graphed_step = GraphedStep()  # a captured one would go on with the optimizer's old tensors


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


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, num_steps: int
) -> torch.optim.lr_scheduler.OneCycleLR | None:
    """Return the recipe's schedule of the learning rate over a run of ``num_steps``; None for a constant rate."""
    if recipe.schedule == "constant":
        return None
    has_one_warm_up_step = recipe.warm_up_fraction * num_steps == 1  # for which torch divides by 0
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.lr,
        total_steps=num_steps,
        pct_start=0.0 if has_one_warm_up_step else float(recipe.warm_up_fraction),
        cycle_momentum=False,  # True, the default, would change the momentum at every step, too
    )


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, batches: Batches) -> None:
    """Replace the running statistics of each batch norm by the means of the batch statistics over ``batches``.

    All other layers are in eval mode, and the weights stay as they are.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momentums = [norm.momentum for norm in norms]
    with eval_mode(model):
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # a plain average instead of a moving one
        for images, _ in batches:
            model(images)
    for norm, momentum in zip(norms, momentums, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def predict(model: nn.Module, batches: Batches) -> Tensor:
    """Return the log-probabilities ``(N, 10)`` of all images in the split's order, on the batches' device.

    Uses eval mode, then restores the model's mode. Raises ``ValueError`` for shuffled batches.
    """
    if batches.shuffle:
        raise ValueError("shuffle is True: predictions and labels would differ in order, give Batches(shuffle=False)")
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

    The model is trained in place and left on the device. The file ``checkpoint`` is written before the first epoch and
    after each one. A run that goes on from it, with ``resume``, ends like one that never stopped, as each epoch has its
    own random seed, derived from the recipe's. On a CPU the run uses ``threads`` threads; without that argument as many
    as the checkpoint's run, or as a short trial finds fastest. Raises ``FloatingPointError`` where a loss is not
    finite, ``ValueError`` for a bad argument or a checkpoint of another run, ``OSError`` for an unreadable one.
    """
    device, progress = choose_device(device), progress or Silent()
    history = History.begin(recipe.as_json(), device, check_threads(threads))
    prepare_for(device, model)
    batches = Batches(train, recipe.batch_size, shuffle=True, augmentation=recipe.augmentation, device=device)
    test_batches = Batches(test, EVALUATION_BATCH, device=device)
    plain_batches = Batches(train[:STATISTICS_IMAGES], EVALUATION_BATCH, device=device)
    trainer = Trainer(model, recipe, len(batches))

    file = Checkpoint(checkpoint, progress.note)
    if resume:
        history = file.resume(trainer, history, device, any_length=recipe.schedule == "constant")
    else:
        file.begin(trainer, history)
    if device.type == "cpu" and history.threads is None:
        history.threads = choose_threads(trial_step(trainer, train), recipe.num_epochs * len(batches), progress.note)

    progress.finished = history.num_epochs
    with progress, deterministic_cudnn(), in_threads(history.threads):
        for epoch in range(history.num_epochs, recipe.num_epochs):
            start = time.perf_counter()
            seed_epoch(recipe.seed, epoch, batches.generator)
            with errors_named(epoch, recipe.lr):
                train_loss, train_accuracy = trainer.train_epoch(batches, progress.update)
                if recipe.recalibrate_batch_norm:
                    recalibrate_batch_norm(model, plain_batches)
                test_loss, test_accuracy = evaluate(model, test_batches)
                check_finite(test_loss)
            history.append(train_loss, train_accuracy, test_loss, test_accuracy, time.perf_counter() - start)
            file.save(trainer, history)
            progress.epoch(history)
    return history


def trial_step(trainer: Trainer, train: Split) -> Callable[[], object]:
    """Return a training step to time on the CPU; it trains a copy of the model and does not affect the run."""
    recipe = replace(trainer.recipe, schedule="constant")
    trial = Trainer(deepcopy(trainer.model).train(), recipe, 1)
    images, labels = next(iter(Batches(train, recipe.batch_size)))
    return lambda: trial.train_step(images, labels)
