"""One training step, and one epoch of them."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.data import Batches
from helpers.engine.cuda_graph import GraphedStep
from helpers.recipe import Recipe

LOOK_SECONDS = 0.5  # between two looks at a device that is never waited for otherwise

Report = Callable[[int, float, float], None]


class Trainer:
    """A model with what changes it: the optimizer and its learning rate schedule."""

    def __init__(self, model: nn.Module, recipe: Recipe, batches_per_epoch: int) -> None:
        self.model, self.recipe = model, recipe
        self.device = next(model.parameters()).device
        on_cuda = self.device.type == "cuda"
        # A step captured as a CUDA graph reads its learning rate from the device, where the schedule sets it.
        settings = {
            "lr": torch.tensor(recipe.lr, device=self.device) if on_cuda else recipe.lr,
            "weight_decay": recipe.weight_decay,
            "fused": on_cuda or self.device.type == "cpu",
        }
        if recipe.optimizer == "sgd":
            settings |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
            self.optimizer = torch.optim.SGD(model.parameters(), **settings)
        else:
            self.optimizer = torch.optim.AdamW(model.parameters(), **settings, capturable=on_cuda)
        self.schedule = None
        if recipe.schedule == "one-cycle":
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer,
                recipe.lr,
                total_steps=recipe.num_epochs * batches_per_epoch,
                pct_start=recipe.warm_up,
                cycle_momentum=False,
            )
        self.step = GraphedStep(self.train_step) if on_cuda else self.train_step

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

        Nothing waits for the device but a look about twice a second: at the losses, which raise
        ``FloatingPointError`` where one is not finite, and at what ``report(num_images, loss, accuracy)`` is told.
        """
        self.model.train()
        num_images, last_look = 0, time.monotonic()
        losses, hits, sizes = torch.zeros(3, len(batches), device=self.device)
        for i, (images, labels) in enumerate(batches):
            losses[i], hits[i] = self.step(images, labels)
            sizes[i] = len(labels)
            num_images += len(labels)
            if self.schedule:
                self.schedule.step()
            if time.monotonic() - last_look > LOOK_SECONDS or i + 1 == len(batches):
                last_look = time.monotonic()
                loss, accuracy = (losses @ sizes).item() / num_images, hits.sum().item() / num_images
                if not math.isfinite(loss):
                    first = losses.isfinite().logical_not().nonzero()[0].item()
                    raise FloatingPointError(
                        f"the loss of batch {first + 1} of {len(batches)} is {losses[first].item()}"
                    )
                if report:
                    report(num_images, loss, accuracy)
        return loss, accuracy

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold for the run to go on as if it had never stopped."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
