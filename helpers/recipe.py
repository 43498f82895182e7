"""Recipes: all settings of a run in one place, and the recipes of this project."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from helpers.augmentation import Augmentation
from helpers.model import BatchNorm, Net
from helpers.runtime.settings import check_choice, check_numbers, check_switches, check_whole_numbers


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
    schedule: str = "constant"  # or "one-cycle": the rate rises to its peak and then falls to 0
    warm_up_fraction: float = 0.3  # of all steps, during which the rate of a cycle rises
    label_smoothing: float = 0.0
    dropout: float = 0.25
    batch_norm: BatchNorm = "after"  # the ReLU, or "before" it, or "none"
    initial_weights: str = "pytorch"  # as PyTorch draws them, or "he" (He et al., 2015)
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    recalibrate_batch_norm: bool = False  # after each epoch, on training images without augmentation
    seed: int = 1

    def __post_init__(self) -> None:
        check_whole_numbers(self, "num_epochs", "batch_size", least=1)
        check_whole_numbers(self, "seed", least=0)
        check_numbers(self, "lr", above=0, below=100)
        check_numbers(
            self, "momentum", "weight_decay", "warm_up_fraction", "label_smoothing", "dropout", least=0, below=1
        )
        check_switches(self, "nesterov", "recalibrate_batch_norm")
        check_choice(self, "optimizer", ("sgd", "adamw"))
        check_choice(self, "schedule", ("constant", "one-cycle"))
        check_choice(self, "batch_norm", ("after", "before", "none"))
        check_choice(self, "initial_weights", ("pytorch", "he"))
        if not isinstance(self.augmentation, Augmentation | None):
            raise ValueError(f"augmentation is {self.augmentation!r}: give an Augmentation or None")

    def as_json(self) -> dict[str, Any]:
        """Return the settings as plain values, the same as after writing them to JSON and reading them back."""
        return json.loads(json.dumps(asdict(self)))

    def model(self) -> Net:
        """Return the network that this recipe trains, its weights drawn from the recipe's seed."""
        model = Net(self.dropout, self.batch_norm)
        draw_weights(model, self.seed, self.initial_weights)
        return model


def draw_weights(model: nn.Module, seed: int, initial_weights: str) -> None:
    """Draw the weights of each convolution and linear layer of ``model`` from a seed of the layer's own.

    So two networks drawn from the same ``seed`` start with the same weights, even if only one has biases, or other
    layers in between. With n inputs of a unit, ``"pytorch"`` is uniform from -1 / sqrt(n) to 1 / sqrt(n); ``"he"`` is
    normal with a standard deviation of sqrt(2 / n), biases 0 (He et al., Delving Deep into Rectifiers, 2015).
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    seeds = torch.randint(2**62, (len(layers),), generator=torch.Generator().manual_seed(seed))
    for layer, own_seed in zip(layers, seeds.tolist(), strict=True):
        torch.manual_seed(own_seed)
        if initial_weights == "pytorch":
            layer.reset_parameters()
            continue
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


# The course's own recipe: 20 epochs of SGD with momentum at a small, constant rate.
ASSIGNMENT = Recipe()

SPRINT = Recipe(
    num_epochs=1,  # the point of it
    optimizer="adamw",  # takes large steps in every layer from the first batch on
    lr=0.02,  # twenty times the assignment's: one epoch has 938 steps to get there
    weight_decay=0.05,  # shrinks weights by up to a thousandth a step, and stands in for the dropout that is missing
    schedule="one-cycle",  # a high rate is only of use if it ends low
    warm_up_fraction=0.2,  # batch norm's statistics are settled long before; the rest of the steps goes down
    label_smoothing=0.05,  # in one epoch the network has no time to become too sure by itself
    dropout=0.0,  # nothing to regularise: no image is seen twice
    augmentation=Augmentation(crop_probability=0.0, rotation=0.0, shift=0.03),  # hardly any, for the same reason
)

TARGET = Recipe(
    num_epochs=8,  # the course asks for 99.4% in less than 20
    lr=0.05,  # fifty times the assignment's, at its peak
    nesterov=True,  # costs nothing and steadies large steps
    schedule="one-cycle",  # up while the weights find their region, down to 0 so that they settle in it
    dropout=0.0,  # eight epochs are too few to learn anything by heart
    augmentation=Augmentation(
        crop_probability=0.0,  # zoom takes the place of the crop
        rotation=8.0,  # degrees; half the assignment's, because the other warps come on top
        shift=0.05,  # of the side: 1.4 pixels
        zoom=0.07,
        elastic=0.6,  # pixels; strokes as another hand would write them
        corrupt_probability=0.1,  # as few are enough to read what is blurred or noisy
        blur=1.5,  # pixels
        noise=0.25,
    ),
    recalibrate_batch_norm=True,  # statistics of warped and corrupted images do not fit what is tested
)

# TARGET's settings, for as many epochs as the assignment's. Without dropout here, too: warps regularise instead, and
# 11,874 weights cannot spare any.
BEST = replace(
    TARGET,
    num_epochs=20,
    weight_decay=5e-5,  # little: batch norm makes the size of a weight matter less
)

# For pictures of one's own, whose digits lean: a tenth of a point of BEST's accuracy is given for them.
ROBUST = replace(
    BEST,
    augmentation=replace(
        BEST.augmentation,
        rotation=12.0,
        strong_probability=0.1,  # as few are enough to read what is turned or moved far
        strong_rotation=40.0,  # degrees
        strong_shift=0.18,  # of the side: 5 pixels
    ),
)

RECIPES = {"assignment": ASSIGNMENT, "sprint": SPRINT, "target": TARGET, "best": BEST, "robust": ROBUST}
