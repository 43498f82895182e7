import copy
import itertools
import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from conftest import Interrupt, Splits
from helpers.augmentation import Augmentation
from helpers.data import Batches
from helpers.model import Net
from helpers.recipe import RECIPES, Recipe
from helpers.runtime.cpu_layers import Dropout
from helpers.runtime.cuda_graph import GraphedStep
from helpers.runtime.device import choose_device, prepare_for
from helpers.runtime.history import History
from helpers.runtime.meter import Meter
from helpers.runtime.progress import Silent
from helpers.training import Trainer, evaluate, fit, predict, recalibrate_batch_norm

SHORT = Recipe(num_epochs=2, batch_size=50, lr=0.01)


def test_the_assignments_recipe() -> None:
    recipe = RECIPES["assignment"]
    assert (recipe.optimizer, recipe.lr, recipe.momentum) == ("sgd", 0.001, 0.9)
    assert (recipe.num_epochs, recipe.batch_size, recipe.dropout) == (20, 64, 0.25)
    assert (recipe.schedule, recipe.weight_decay, recipe.nesterov) == ("constant", 0.0, False)
    augmentation = recipe.augmentation
    assert (augmentation.crop_probability, augmentation.crop_size, augmentation.rotation) == (0.1, 22, 15.0)
    assert (augmentation.shift, augmentation.zoom) == (0.0, 0.0)


def test_recalibrated_statistics_are_those_of_images_without_augmentation_and_dropout(small_mnist: Splits) -> None:
    plain = Batches(small_mnist[0][:500], 250)
    model = Recipe(lr=0.01, batch_size=50).model().train()
    Trainer(model, Recipe(lr=0.01), 10).train_epoch(Batches(small_mnist[0][:500], 50))
    recalibrate_batch_norm(model, plain)
    images = plain.load(torch.arange(500))[0]
    with torch.no_grad():
        expected = [halves(model.conv1[1](model.conv1[0](images)))]  # convolution, ReLU
        in_batches = [model.conv1.train()(half) for half in images.split(250)]
        maps = torch.cat([model.conv2.train()(half) for half in in_batches])
        behind_dropout = model.conv3[1](model.conv3[0](model.pool1.eval()(maps)))
    expected.append(halves(behind_dropout))
    for block, (mean, var) in zip((model.conv1, model.conv3), expected, strict=True):
        torch.testing.assert_close(block[2].running_mean, mean, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(block[2].running_var, var, atol=1e-4, rtol=1e-3)
        assert block[2].momentum == 0.1


def halves(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what eval mode's estimates of ``maps`` in two batches are: mean, and variance over n - 1."""
    return maps.mean((0, 2, 3)), torch.stack([half.var((0, 2, 3)) for half in maps.split(250)]).mean(0)


@pytest.mark.usefixtures("one_thread")
def test_recalibration_changes_how_a_network_is_tested_and_not_how_it_learns(small_mnist: Splits) -> None:
    train, test = small_mnist[0][:500], small_mnist[1][:200]
    ends = []
    for recalibrate in (False, True):
        recipe = replace(SHORT, recalibrate_batch_norm=recalibrate)
        model = recipe.model()
        ends.append((fit(model, train, test, recipe, device="cpu", threads=1), dict(model.named_parameters())))
    (usual, weights), (recalibrated, same_weights) = ends
    assert usual.train_loss == recalibrated.train_loss and usual.test_loss[0] != recalibrated.test_loss[0]
    assert all(torch.equal(weight, same_weights[name]) for name, weight in weights.items())
    again = copy.deepcopy(model)
    recalibrate_batch_norm(again, Batches(train, 250))  # without augmentation
    torch.testing.assert_close(again.state_dict(), model.state_dict())


REGULARISED = {"weight_decay": 5e-3, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    "settings", [{"lr": 0.05}, {"lr": 0.05, "nesterov": True} | REGULARISED, {"optimizer": "adamw"} | REGULARISED]
)
def test_a_step_is_that_of_torchs_optimizers_on_torchs_loss(small_mnist: Splits, settings: dict) -> None:
    recipe = Recipe(dropout=0.0, **settings)
    ours = recipe.model().double()  # in which rounding is out of the question
    theirs = copy.deepcopy(ours)
    trainer = Trainer(ours.train(), recipe, 1)
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(theirs.parameters(), **common)
    else:
        optimizer = torch.optim.SGD(theirs.parameters(), momentum=0.9, nesterov=recipe.nesterov, **common)
    for images, labels in list(Batches(small_mnist[0], 64))[:3]:
        images = images.double()
        loss, hits = trainer.train_step(images, labels)
        outputs = theirs(images)
        targets = torch.lerp(F.one_hot(labels, 10).double(), torch.tensor(0.1).double(), recipe.label_smoothing)
        expected = -(targets * outputs).sum(dim=1).mean()
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(loss, expected.detach())
        assert hits == (outputs.argmax(1) == labels).sum()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-9)


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


def steps_of_a_run(splits: Splits, recipe: Recipe) -> list[tuple[float, float]]:
    """Return learning rate and momentum (AdamW's beta 1) of every step that ``fit`` makes."""
    steps = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        (group,) = optimizer.param_groups
        steps.append((group["lr"], group["momentum"] if "momentum" in group else group["betas"][0]))

    hook = register_optimizer_step_pre_hook(note)
    try:
        fit(Constant(), *splits, recipe, device="cpu")
    finally:
        hook.remove()
    return steps


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_by_one_cycle_rises_to_the_peak_and_falls_while_momentum_stays(
    small_mnist: Splits, optimizer: str
) -> None:
    recipe = replace(SHORT, schedule="one-cycle", lr=0.1, num_epochs=5, warm_up_fraction=0.2, optimizer=optimizer)
    lrs, momentums = zip(*steps_of_a_run(small_mnist, recipe), strict=True)
    assert len(lrs) == 5 * 14
    assert set(momentums) == {0.9}
    assert max(lrs) == pytest.approx(0.1)
    assert lrs.index(max(lrs)) == pytest.approx(0.2 * len(lrs), abs=1)
    assert lrs[0] == pytest.approx(0.1 / 25)
    assert lrs[-1] < 1e-5
    assert all(a != b for a, b in itertools.pairwise(lrs))  # a new rate for every step, not for every epoch


@pytest.mark.parametrize("num_batches", [1, 2, 5, 11])  # 0.2 of 5 is a warm-up of a single step
def test_a_cycle_of_a_few_steps_ends_at_zero(num_batches: int) -> None:
    trainer = Trainer(Net(), RECIPES["sprint"], num_batches)
    lrs = []
    for _ in range(num_batches):
        lrs += trainer.schedule.get_last_lr()
        trainer.optimizer.step()
        if len(lrs) < num_batches:
            trainer.schedule.step()
    assert 0 < max(lrs) <= RECIPES["sprint"].lr and lrs[-1] < 1e-6


def test_a_run_without_schedule_keeps_its_rate(small_mnist: Splits) -> None:
    assert set(steps_of_a_run(small_mnist, SHORT)) == {(0.01, 0.9)}


class Witness(Constant):
    """Remembers the batches that it learns from, and the next random number of each, as dropout would draw it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []
        self.draws: list[float] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.batches.append(images.clone())
            self.draws.append(torch.rand(()).item())
        return super().forward(images)


def epochs_seen(splits: Splits, recipe: Recipe) -> tuple[list[torch.Tensor], list[float]]:
    """Return the images of each epoch of a run, in the order in which they came, and the random numbers drawn."""
    witness = Witness()
    fit(witness, *splits, recipe, device="cpu")
    assert {len(batch) for batch in witness.batches} == {recipe.batch_size}
    epochs = torch.cat(witness.batches).split(len(splits[0].labels))
    assert len(epochs) == recipe.num_epochs
    return list(epochs), witness.draws


def test_a_run_sees_every_image_once_an_epoch_in_an_order_of_its_own(small_mnist: Splits) -> None:
    recipe = replace(SHORT, augmentation=None)
    in_file = next(iter(Batches(small_mnist[0], 700)))[0]
    first, again, other = (epochs_seen(small_mnist, replace(recipe, seed=seed)) for seed in (1, 1, 2))
    orders = [in_file, *first[0], *other[0]]
    for a, b in itertools.combinations(orders, 2):
        assert not torch.equal(a, b)
        assert torch.equal(*(images.flatten(1).sum(dim=1).sort().values for images in (a, b)))
    assert all(map(torch.equal, first[0], again[0]))
    assert first[1] == again[1]
    assert len({*first[1], *other[1]}) == 2 * 2 * 14  # what dropout would draw, too


def test_a_run_sees_the_warps_of_its_recipe(small_mnist: Splits) -> None:
    zooms = Augmentation(crop_probability=1.0, crop_size=14, rotation=0.0)
    splits, recipe = (small_mnist[0][:50], small_mnist[1]), replace(SHORT, num_epochs=1)
    (plain,), _ = epochs_seen(splits, replace(recipe, augmentation=None))
    (zoomed,), _ = epochs_seen(splits, replace(recipe, augmentation=zooms))
    centres = plain[:, :, 7:21, 7:21].flatten(1).sum(dim=1)  # the same order: the seed is the same
    torch.testing.assert_close(zoomed.flatten(1).sum(dim=1) / 4, centres, rtol=0.05, atol=5)


def test_a_run_tells_and_keeps_what_it_computes(small_mnist: Splits) -> None:
    told = Watch()
    start = time.perf_counter()
    history = fit(Constant(), *small_mnist, SHORT, device="cpu", progress=told)
    assert 0 < sum(history.seconds) < time.perf_counter() - start
    shares = [(split.labels == 3).double().mean().item() for split in small_mnist]
    losses = [-(share * math.log(0.7) + (1 - share) * math.log(0.3 / 9)) for share in shares]
    assert history.train_loss == pytest.approx([losses[0]] * 2, rel=1e-5)
    assert history.test_loss == pytest.approx([losses[1]] * 2, rel=1e-5)
    assert history.train_accuracy == pytest.approx([shares[0]] * 2, rel=1e-6)
    assert history.test_accuracy == pytest.approx([shares[1]] * 2, rel=1e-6)
    assert told.finished_before == 0
    ends = [values for values in told.updates if values[0] == 700]
    assert ends == [(700, *values) for values in zip(history.train_loss, history.train_accuracy, strict=True)]
    assert told.epochs == [1, 2]


class Watch(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[tuple[float, ...]] = []
        self.epochs: list[int] = []

    def __enter__(self) -> None:
        self.finished_before = self.finished

    def update(self, *values: float) -> None:
        self.updates.append(values)

    def epoch(self, history: History) -> None:
        self.epochs.append(history.num_epochs)


def test_a_resumed_run_shows_the_epochs_that_it_has(small_mnist: Splits, tmp_path: Path) -> None:
    path, told = tmp_path / "checkpoint.pt", Watch()
    with pytest.raises(KeyboardInterrupt):
        fit(Constant(), *small_mnist, SHORT, device="cpu", checkpoint=path, progress=Interrupt(1))
    fit(Constant(), *small_mnist, SHORT, device="cpu", checkpoint=path, resume=True, progress=told)
    assert (told.finished_before, told.epochs) == (1, [2])


def test_a_run_puts_the_model_where_and_how_it_is_fastest(small_mnist: Splits) -> None:
    model = SHORT.model()
    fit(model, *(split[:50] for split in small_mnist), replace(SHORT, num_epochs=1), device="cpu")
    assert model.conv4[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert type(model.pool1[1]) is Dropout


class Breaks(Constant):
    """Gives what is not finite for its third batch, or only when it is tested."""

    def __init__(self, when_tested: bool) -> None:
        super().__init__()
        self.when_tested, self.num_batches = when_tested, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.num_batches += 1
        breaks = not self.training if self.when_tested else self.num_batches == 3
        return super().forward(images) * (torch.inf if breaks else 1.0)


@pytest.mark.parametrize(
    ("when_tested", "says"),
    [(False, "the loss of batch 3 of 14 is inf"), (True, "after the last batch the test loss is inf")],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(
    small_mnist: Splits, tmp_path: Path, when_tested: bool, says: str
) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(FloatingPointError, match=f"^epoch 1: {says}: choose a lower lr than 0.01$"):
        fit(Breaks(when_tested), *small_mnist, SHORT, device="cpu", checkpoint=path)
    assert torch.load(path, weights_only=True)["history"]["seconds"] == []


def test_a_meter_looks_about_twice_a_second_and_after_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    looks = []
    meter = Meter(4, torch.device("cpu"), lambda *values: looks.append(values))
    for seconds, loss, hits, size in ((0.3, 1.0, 5, 10), (0.3, 2.0, 10, 10), (0.3, 3.0, 0, 10), (0.0, 8.0, 2, 2)):
        clock[0] += seconds
        meter.add(torch.tensor(loss), torch.tensor(hits), size)
    assert looks == [(20, 1.5, 0.75), (32, pytest.approx(76 / 32), 17 / 32)]
    assert (meter.loss, meter.accuracy) == (pytest.approx(76 / 32), 17 / 32)


def test_a_large_loss_is_finite_though_its_sum_over_images_is_not_in_float32() -> None:
    meter = Meter(2, torch.device("cpu"))
    for loss in (1e37, 3e37):
        meter.add(torch.tensor(loss), torch.tensor(1), 100)
    assert meter.loss == pytest.approx(2e37)


@pytest.mark.parametrize("fraction", [0, 0.0, 0.3])
def test_a_cycle_may_begin_at_its_peak(fraction: float) -> None:
    trainer = Trainer(Net(), Recipe(schedule="one-cycle", warm_up_fraction=fraction, num_epochs=1), 10)
    lr = trainer.optimizer.param_groups[0]["lr"]
    assert (lr > 0.0009) == (fraction == 0)


def test_placing_changes_the_layout_and_not_the_function(small_mnist: Splits) -> None:
    net, images = Net().eval(), next(iter(Batches(small_mnist[1], 50)))[0]
    expected = net(images)
    prepare_for(torch.device("cpu"), net)
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
    step = GraphedStep()
    for size in (4, 4, 4, 1, 4, 1, 4):  # epochs of three full batches and a short one, stand-ins for CUDA
        step(lambda images, labels: calls.append(f"step {len(images)}"), torch.zeros(size, 1), torch.zeros(size))
    assert calls == ["step 4"] * 3 + ["step 1", "step 4", "replay", "step 1", "replay"]
