import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import Splits
from helpers.data import Batches
from helpers.model import Net
from helpers.receptive_field import layer_table
from helpers.recipe import RECIPES
from helpers.runtime.cpu_layers import BatchNorm2d, Dropout, use_cheaper_layers
from helpers.runtime.device import prepare_for
from helpers.summary import summary
from helpers.training import Trainer

CHANNELS_LAST = torch.channels_last


@pytest.mark.parametrize("channels", [8, 16])
def test_batch_norm_is_the_stock_layer(channels: int) -> None:
    ours, stock = BatchNorm2d(channels), nn.BatchNorm2d(channels)
    x = torch.randn(32, channels, 9, 7).to(memory_format=CHANNELS_LAST)
    grad = torch.randn_like(x)
    results = []
    for layer in (ours, stock):
        inputs = x.clone().requires_grad_()
        layer(inputs).backward(grad)
        results.append([layer(x), inputs.grad, layer.weight.grad, layer.running_mean, layer.running_var])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CHANNELS_LAST])
@pytest.mark.parametrize("p", [0.25, 0.5, 0.1])
def test_dropout_drops_a_share_p_and_scales_the_rest(p: float, memory_format: torch.memory_format) -> None:
    x = torch.ones(128, 16, 16, 16).to(memory_format=memory_format).requires_grad_()
    y = Dropout(p)(x)
    dropped = (y == 0).float().mean().item()
    standard_error = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(dropped - p) < 4 * standard_error
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)))
    assert y.stride() == x.stride()
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())  # x is 1, so the mask is the gradient


def test_dropout_draws_are_independent_between_neighbours_and_calls() -> None:
    layer = Dropout(0.25)
    first, second = (layer(torch.ones(100_000)) > 0 for _ in range(2))
    for a, b in ((first[1:], first[:-1]), (first[8:], first[:-8]), (first, second)):
        both = (a & b).float().mean().item()
        assert abs(both - 0.75**2) < 4 * (0.5625 * 0.4375 / len(a)) ** 0.5


def test_dropout_is_silent_in_eval_mode_and_repeats_with_the_seed() -> None:
    layer, x = Dropout(0.25), torch.randn(4, 8, 5, 5)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(first, layer(x))
    assert torch.equal(layer.eval()(x), x)


def test_dropout_takes_any_size_slice_and_type() -> None:
    assert Dropout(0.25)(torch.ones(3, 1, 1, 1)).shape == (3, 1, 1, 1)  # no multiple of eight
    x = torch.ones(4, 6, 5, 5)[:, ::2]
    assert set(Dropout(0.5)(x).unique().tolist()) <= {0.0, 2.0}
    for dtype in (torch.float64, torch.bfloat16):
        assert Dropout(0.25)(torch.ones(9, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("p", [0.0, 1 / 256, 255 / 256, 1.0])
def test_dropout_at_the_ends_of_what_bytes_can_give(p: float) -> None:
    y = Dropout(p)(torch.ones(400_000))
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / 400_000) ** 0.5)
    if p < 1:
        assert y.max().item() == pytest.approx(1 / (1 - p))


def test_a_placed_network_takes_the_cheap_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    def stock_is_not_called(*_: object) -> None:
        raise AssertionError("the stock dropout was called")

    net = Net().train()
    prepare_for(torch.device("cpu"), net)
    monkeypatch.setattr(nn.Dropout, "forward", stock_is_not_called)
    net(torch.randn(4, 1, 28, 28))
    few, many = net.conv1[2], net.conv2[2]  # 8 and 16 channels
    maps = [torch.randn(4, n, 5, 5).to(memory_format=CHANNELS_LAST) for n in (8, 16)]
    assert few(maps[0]).is_contiguous()
    assert many(maps[1]).is_contiguous(memory_format=CHANNELS_LAST)


def test_placing_leaves_the_state_dict_and_is_harmless_for_what_comes_after() -> None:
    net, placed = Net(), Net()
    placed.load_state_dict(net.state_dict())
    prepare_for(torch.device("cpu"), placed)
    for (name, tensor), (placed_name, placed_tensor) in zip(
        net.state_dict().items(), placed.state_dict().items(), strict=True
    ):
        assert name == placed_name and torch.equal(tensor, placed_tensor)
    assert summary(placed) == summary(net)
    assert layer_table(placed) == layer_table(net)
    images = torch.randn(3, 1, 28, 28)
    twin = copy.deepcopy(placed)
    assert torch.equal(twin.eval()(images), placed.eval()(images))
    twin.conv1[2].running_mean += 1  # the copy's layers are its own
    assert not torch.equal(twin(images), placed(images))


def test_only_torchs_own_layers_are_replaced() -> None:
    class Ghost(nn.BatchNorm2d):
        pass

    net = nn.Sequential(Ghost(8), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Dropout2d(0.5))
    use_cheaper_layers(net)
    assert [type(layer) for layer in net] == [Ghost, BatchNorm2d, Dropout, nn.Dropout2d]


def test_what_is_learned_is_the_same_to_rounding(mnist: Splits) -> None:
    recipe = replace(RECIPES["assignment"], dropout=0.0)
    plain, placed = recipe.model().double().train(), recipe.model().double().train()  # steps magnify rounding
    prepare_for(torch.device("cpu"), placed)
    trainers = [Trainer(model, recipe, 1) for model in (plain, placed)]
    for images, labels in Batches(mnist[0][:192], 64):
        losses = [trainer.train_step(images.double(), labels)[0] for trainer in trainers]
        torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    torch.testing.assert_close(placed.state_dict(), plain.state_dict(), rtol=1e-8, atol=1e-10)
