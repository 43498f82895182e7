import copy
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import Splits
from helpers.data import Batches
from helpers.engine.cuda_graph import GraphedStep
from helpers.engine.device import choose_device, place
from helpers.engine.history import History
from helpers.model import Net
from helpers.recipe import RECIPES, Recipe
from helpers.training import Trainer, evaluate, fit, predict

SHORT = Recipe(num_epochs=2, batch_size=50, lr=0.01)


def test_the_assignments_recipe() -> None:
    recipe = RECIPES["assignment"]
    assert (recipe.optimizer, recipe.lr, recipe.momentum) == ("sgd", 0.001, 0.9)
    assert (recipe.num_epochs, recipe.batch_size, recipe.dropout) == (20, 64, 0.25)
    assert (recipe.schedule, recipe.weight_decay, recipe.nesterov) == ("constant", 0.0, False)
    augmentation = recipe.augmentation
    assert (augmentation.crop_probability, augmentation.crop_size, augmentation.rotation) == (0.1, 22, 15.0)
    assert (augmentation.shift, augmentation.zoom) == (0.0, 0.0)


REGULARISED = {"weight_decay": 5e-3, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    "settings", [{"lr": 0.05}, {"lr": 0.05, "nesterov": True} | REGULARISED, {"optimizer": "adamw"} | REGULARISED]
)
def test_a_step_is_that_of_torchs_optimizers_on_torchs_loss(small_mnist: Splits, settings: dict) -> None:
    recipe = Recipe(dropout=0.0, **settings)
    ours = recipe.model()
    theirs = copy.deepcopy(ours)
    trainer = Trainer(ours.train(), recipe, 1)
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(theirs.parameters(), **common)
    else:
        optimizer = torch.optim.SGD(theirs.parameters(), momentum=0.9, nesterov=recipe.nesterov, **common)
    for images, labels in list(Batches(small_mnist[0], 64))[:3]:
        loss, hits = trainer.train_step(images, labels)
        outputs = theirs(images)
        targets = torch.lerp(F.one_hot(labels, 10).float(), torch.tensor(0.1), recipe.label_smoothing)
        expected = -(targets * outputs).sum(dim=1).mean()
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(loss, expected.detach())
        assert hits == (outputs.argmax(1) == labels).sum()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        # AdamW divides by the gradient's size, and so makes much of the rounding of a small one.
        atol = 2e-4 if recipe.optimizer == "adamw" else 1e-6
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=atol)


class Constant(nn.Module):
    """Says 3 with probability 0.7 whatever it sees, so that losses and accuracies can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.register_buffer("log_probs", torch.full((10,), 0.3 / 9).log())
        self.log_probs[3] = torch.tensor(0.7).log()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.log_probs.expand(len(images), 10) + 0 * self.shift


def test_metrics_are_means_over_images_not_over_batches(small_mnist: Splits) -> None:
    train = small_mnist[0]  # 700 images: the last batch of 300 holds 100
    share = (train.labels == 3).double().mean().item()
    expected_loss = -(share * torch.tensor(0.7).log() + (1 - share) * torch.tensor(0.3 / 9).log()).item()
    batches = Batches(train, 300)
    recipe = Recipe(batch_size=300)
    for loss, accuracy in (evaluate(Constant(), batches), Trainer(Constant(), recipe, 3).train_epoch(batches)):
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert accuracy == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_model_as_it_was(small_mnist: Splits, training: bool) -> None:
    net = Net().train(training)
    before = copy.deepcopy(net.state_dict())
    log_probs = predict(net, Batches(small_mnist[1], 64))
    assert log_probs.shape == (300, 10)
    torch.testing.assert_close(log_probs, predict(net, Batches(small_mnist[1], 300)), rtol=1e-4, atol=1e-5)
    assert net.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_fit_learns_and_tells_how(small_mnist: Splits) -> None:
    recipe = Recipe(num_epochs=4, batch_size=20, lr=0.03)
    model = recipe.model()
    history = fit(model, *small_mnist, recipe, device="cpu")
    assert history.num_epochs == 4
    assert history.test_accuracy[-1] > 0.85
    assert history.train_loss[-1] < history.train_loss[0]
    assert history.recipe["lr"] == 0.03
    assert history.device == "cpu"
    assert history.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    loss, accuracy = evaluate(model, Batches(small_mnist[1], 100))
    assert history.test_loss[-1] == pytest.approx(loss, rel=1e-4)
    assert history.test_accuracy[-1] == accuracy
    assert History.from_dict(json.loads(json.dumps(history.as_dict()))) == history


def test_same_seed_same_run_and_another_seed_another(small_mnist: Splits) -> None:
    curves = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        recipe = replace(SHORT, seed=seed)
        model = recipe.model()
        torch.manual_seed(noise)  # the run depends on its recipe alone
        curves.append(fit(model, *small_mnist, recipe, device="cpu").train_loss)
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_one_cycle_rises_to_the_peak_and_falls_while_momentum_stays(small_mnist: Splits) -> None:
    recipe = replace(SHORT, schedule="one-cycle", lr=0.1, num_epochs=5, warm_up=0.3)
    batches = Batches(small_mnist[0], 50)
    trainer = Trainer(recipe.model(), recipe, len(batches))
    lrs = []
    for _ in range(5):
        for images, labels in batches:
            group = trainer.optimizer.param_groups[0]
            lrs.append(group["lr"])
            assert group["momentum"] == 0.9
            trainer.step(images, labels)
            trainer.schedule.step()
    assert max(lrs) == pytest.approx(0.1)
    assert lrs.index(max(lrs)) == pytest.approx(0.3 * len(lrs), abs=1)
    assert lrs[0] == pytest.approx(0.1 / 25)
    assert lrs[-1] < 1e-5


def test_no_augmentation_and_no_dropout_and_no_batch_norm_train(small_mnist: Splits) -> None:
    recipe = replace(SHORT, augmentation=None, dropout=0.0, batch_norm="none", optimizer="adamw", num_epochs=1)
    assert fit(recipe.model(), *small_mnist, recipe, device="cpu").num_epochs == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(small_mnist: Splits, tmp_path: Path) -> None:
    recipe = replace(SHORT, lr=99.0, batch_norm="none", dropout=0.0, num_epochs=20)
    with pytest.raises(
        FloatingPointError, match=r"epoch \d+: the loss of batch \d+ of 14 is (nan|inf): choose a lower lr than 99"
    ) as caught:
        fit(recipe.model(), *small_mnist, recipe, device="cpu", checkpoint=tmp_path / "checkpoint.pt")
    assert "\n" not in str(caught.value)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in saved["trainer"]["model"].values())


def test_placing_changes_the_layout_and_not_the_function(small_mnist: Splits) -> None:
    net, images = Net().eval(), next(iter(Batches(small_mnist[1], 50)))[0]
    expected = net(images)
    place(net, torch.device("cpu"))
    assert net.conv4[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net.conv1[0].weight.is_contiguous()
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-5)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu").type == "cpu"
    for name in ("tpu", "", "cpu0", "CPU"):
        with pytest.raises(ValueError, match=f"device {name!r} is unknown or not there: choose .*cpu"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_a_short_batch_does_not_count_as_warm_up_of_a_captured_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    graph = SimpleNamespace(replay=lambda: calls.append("replay"))
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: nullcontext())
    step = GraphedStep(lambda images, labels: calls.append(f"step {len(images)}"))
    for size in (4, 4, 4, 1, 4, 1, 4):  # epochs of three full batches and a short one, stand-ins for CUDA
        step(torch.zeros(size, 1), torch.zeros(size))
    assert calls == ["step 4"] * 3 + ["step 1", "step 4", "replay", "step 1", "replay"]
