"""The ladder: a training epoch of the stock pipeline, and again after each improvement that is added to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from evidence.benchmark import stock
from evidence.benchmark.contenders import WARM_UP_BATCHES
from evidence.benchmark.measure import FirstBatches, epoch_seconds
from helpers.data import Batches, Split
from helpers.recipe import ASSIGNMENT, RECIPES, Recipe
from helpers.runtime.cpu_layers import use_cheaper_layers
from helpers.runtime.device import deterministic_cudnn, use_channels_last
from helpers.training import Trainer


@dataclass(frozen=True)
class Rung:
    """Which improvements are switched on; each rung keeps those of the rung before it."""

    name: str
    in_memory: bool = True  # images warped as one tensor; otherwise DataLoader and PIL
    channels_last: bool = False
    cheap_layers: bool = False  # batch norm and dropout of helpers/runtime/cpu_layers.py
    no_waiting: bool = False  # helpers.training.Trainer with a fused optimizer; otherwise loss.item() each batch
    graph: bool = False  # the step as one CUDA graph
    recipe: Recipe = ASSIGNMENT


STOCK = Rung("stock", in_memory=False)
IN_MEMORY = Rung("+ images in memory, warped at once")
LAST = replace(IN_MEMORY, name="+ channels last", channels_last=True)
LAYERS = replace(LAST, name="+ cheap dropout and batch norm", cheap_layers=True)
NO_WAITING = replace(LAYERS, name="+ no waiting, fused SGD", no_waiting=True)
ON_CPU = [STOCK, IN_MEMORY, LAST, LAYERS, NO_WAITING]

# On a GPU, layers and memory layout stay those of torch.nn.
NO_WAITING_GPU = replace(IN_MEMORY, name="+ no waiting, fused SGD", no_waiting=True)
ON_CUDA = [STOCK, IN_MEMORY, NO_WAITING_GPU, replace(NO_WAITING_GPU, name="+ one CUDA graph", graph=True)]


def rungs(device: torch.device) -> list[Rung]:
    """Return the rungs for this kind of device, the sprint recipe last."""
    climb = ON_CUDA if device.type == "cuda" else ON_CPU
    return [*climb, replace(climb[-1], name="sprint recipe", recipe=RECIPES["sprint"])]


def timer(
    rung: Rung, folder: Path, train: Split, device: torch.device, workers: int, num_images: int
) -> Callable[[], float]:
    """Return a function that measures the seconds of a training epoch on ``rung``, extrapolated from ``num_images``."""
    recipe = replace(rung.recipe, num_epochs=1000)  # so that no schedule ends before the measurements do
    if rung.in_memory:
        batches = Batches(train, recipe.batch_size, shuffle=True, augmentation=recipe.augmentation, device=device)
    else:
        batches = stock.loader(stock.datasets(folder)[0], device, shuffle=True, workers=workers)
    model = recipe.model().to(device)
    if rung.channels_last:
        use_channels_last(model)
    if rung.cheap_layers:
        use_cheaper_layers(model)
    if rung.no_waiting:
        trainer = Trainer(model, recipe, len(batches))
        if not rung.graph:
            trainer.graphed_step = None

        def learn(batches: FirstBatches) -> None:
            with deterministic_cudnn():
                trainer.train_epoch(batches)

    else:
        optimizer = stock.sgd(model)

        def learn(batches: FirstBatches) -> None:
            stock.train_epoch(model, batches, optimizer, device)

    learn(FirstBatches(batches, WARM_UP_BATCHES))
    return lambda: epoch_seconds(learn, batches, device, max(1, num_images // recipe.batch_size))
