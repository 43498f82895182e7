"""What a run was and how it went."""

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from helpers.recipe import Recipe


@dataclass
class History:
    """What a run was and how it went, a value for each epoch: mean losses over images, accuracies as fractions.

    Train values are those seen while learning, with dropout and augmentation, the loss with the recipe's label
    smoothing; ``seconds`` is wall time.
    """

    recipe: dict
    device: str
    versions: dict[str, str]
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, recipe: Recipe, device: torch.device) -> "History":
        """Return the empty history of a run on this machine."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        versions = {package: version(package) for package in ("torch", "torchvision")}
        return cls(recipe.as_json(), name, {"python": platform.python_version(), **versions})

    @property
    def num_epochs(self) -> int:
        return len(self.seconds)

    def append(self, *values: float) -> None:
        """Add an epoch: train loss, train accuracy, test loss, test accuracy, seconds."""
        curves = (self.train_loss, self.train_accuracy, self.test_loss, self.test_accuracy, self.seconds)
        for curve, value in zip(curves, values, strict=True):
            curve.append(value)

    def conditions(self) -> dict[str, Any]:
        """Return what two runs must share to be the same run, by name."""
        return {**self.recipe, "device": self.device, **self.versions}
