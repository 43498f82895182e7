"""What needs a GPU: the captured step gives the same losses as the plain one, and runs repeat bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import Interrupt, Splits
from helpers.data import Batches
from helpers.inspection import accuracy_without_eval, layer_outputs
from helpers.model import Net
from helpers.recipe import RECIPES, Recipe
from helpers.runtime.cuda_graph import WARM_UP_STEPS
from helpers.training import Trainer, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("name", RECIPES)
def test_the_captured_step_gives_the_losses_of_the_plain_one(small_mnist: Splits, name: str) -> None:
    losses = []
    for captured in (False, True):
        recipe = replace(RECIPES[name], batch_size=64, num_epochs=3)
        batches = Batches(small_mnist[0], 64, shuffle=True, augmentation=recipe.augmentation, device="cuda")
        trainer = Trainer(recipe.model().cuda(), recipe, len(batches))
        if not captured:
            trainer.step = trainer.train_step
        torch.manual_seed(1)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True):
            losses.append([trainer.train_epoch(batches) for _ in range(3)])
        assert (captured and trainer.step.num_full_batches > WARM_UP_STEPS) or not captured
    assert losses[0] == losses[1]


def test_looking_inside_leaves_the_random_numbers_of_the_device(small_mnist: Splits) -> None:
    net, random = Net(dropout=0.5).cuda().train(), torch.cuda.get_rng_state()
    layer_outputs(net, Batches(small_mnist[0], device="cuda").load(torch.arange(5, device="cuda"))[0])
    accuracy_without_eval(net, small_mnist[1], 100)
    assert torch.equal(torch.cuda.get_rng_state(), random)


def test_a_resumed_run_ends_like_one_that_never_stopped(small_mnist: Splits, tmp_path: Path) -> None:
    recipe = Recipe(num_epochs=4, batch_size=64, lr=0.01)
    whole = fit(recipe.model(), *small_mnist, recipe, device="cuda")
    path = tmp_path / "checkpoint.pt"
    stops = Interrupt(1, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe.model(), *small_mnist, recipe, device="cuda", checkpoint=path, progress=stops)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe.model(), *small_mnist, recipe, device="cuda", checkpoint=path, resume=True, progress=stops)
    resumed = fit(recipe.model(), *small_mnist, recipe, device="cuda", checkpoint=path, resume=True)
    assert resumed.train_loss == whole.train_loss
    assert resumed.test_loss == whole.test_loss
