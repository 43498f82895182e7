"""Recipes: every setting of a run in one place."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from helpers.augmentation import Augmentation
from helpers.model import BatchNorm, Net


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are the assignment's. Raises ``ValueError`` for a value out of range."""

    num_epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"  # or "adamw"
    lr: float = 0.001  # where there is a schedule, its peak
    momentum: float = 0.9  # of SGD
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "one-cycle": up during the fraction warm_up of all steps, then down to 0
    warm_up: float = 0.3
    label_smoothing: float = 0.0
    dropout: float = 0.25
    batch_norm: BatchNorm = "after"  # the ReLU, or "before" it, or "none"
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    seed: int = 1

    def __post_init__(self) -> None:
        whole = {"num_epochs": 1, "batch_size": 1, "seed": 0}
        for name, least in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
                raise ValueError(f"{name} is {value!r}: give a whole number, at least {least}")
        bounds = {"lr": (0, 100), "momentum": (0, 1), "weight_decay": (0, 1), "warm_up": (0, 1)}
        bounds |= {"label_smoothing": (0, 1), "dropout": (0, 1)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value < high or (name == "lr" and value == 0):
                raise ValueError(f"{name} is {value!r}: give a number from {low} to below {high}")
        if not isinstance(self.augmentation, Augmentation | None):
            raise ValueError(f"augmentation is {self.augmentation!r}: give an Augmentation or None")
        choices = {"optimizer": ("sgd", "adamw"), "schedule": ("constant", "one-cycle")}
        choices["batch_norm"] = ("after", "before", "none")
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose {' or '.join(known)}")

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON file gives them back."""
        return json.loads(json.dumps(asdict(self)))

    def model(self) -> Net:
        """Return the network that this recipe trains, its weights drawn from the recipe's seed."""
        torch.manual_seed(self.seed)
        return Net(self.dropout, self.batch_norm)


ASSIGNMENT = Recipe()

# One epoch has no time to overfit: hardly any augmentation and no dropout, the learning rate up and down once.
SPRINT_CANDIDATES = {
    "AdamW": Recipe(
        num_epochs=1,
        optimizer="adamw",
        lr=0.02,
        weight_decay=0.05,
        schedule="one-cycle",
        warm_up=0.2,
        dropout=0.0,
        augmentation=Augmentation(crop_probability=0.0, rotation=0.0, shift=0.03),
    ),
}
SPRINT_CANDIDATES["AdamW, smooth labels"] = replace(SPRINT_CANDIDATES["AdamW"], label_smoothing=0.05)
SPRINT_CANDIDATES["AdamW, smoother labels"] = replace(SPRINT_CANDIDATES["AdamW"], label_smoothing=0.1)
SPRINT_CANDIDATES["SGD, smooth labels"] = replace(
    SPRINT_CANDIDATES["AdamW, smooth labels"], optimizer="sgd", nesterov=True, lr=0.1, weight_decay=0.0
)

# Twenty epochs: milder warps than the assignment's, but more kinds of them, and no dropout.
BEST_CANDIDATES = {
    "SGD": Recipe(
        optimizer="sgd",
        lr=0.05,
        nesterov=True,
        weight_decay=5e-5,
        schedule="one-cycle",
        dropout=0.0,
        augmentation=Augmentation(crop_probability=0.0, rotation=8.0, shift=0.05, zoom=0.07),
    ),
}
BEST_CANDIDATES["SGD, elastic"] = replace(
    BEST_CANDIDATES["SGD"], augmentation=replace(BEST_CANDIDATES["SGD"].augmentation, elastic=0.6)
)
BEST_CANDIDATES["SGD, more elastic"] = replace(
    BEST_CANDIDATES["SGD"], augmentation=replace(BEST_CANDIDATES["SGD"].augmentation, elastic=0.9)
)
BEST_CANDIDATES["AdamW"] = replace(
    BEST_CANDIDATES["SGD"], optimizer="adamw", nesterov=False, lr=0.01, weight_decay=0.01
)
BEST_CANDIDATES["AdamW, elastic"] = replace(
    BEST_CANDIDATES["AdamW"], augmentation=BEST_CANDIDATES["SGD, elastic"].augmentation
)

RECIPES = {
    "assignment": ASSIGNMENT,
    "sprint": SPRINT_CANDIDATES["AdamW, smooth labels"],
    "best": BEST_CANDIDATES["SGD, elastic"],
}
