import pytest
import torch
from torch import nn

from helpers.engine.cpu_layers import BatchNorm2d, Dropout

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
    x = torch.ones(64, 16, 12, 12).to(memory_format=memory_format).requires_grad_()
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


def test_dropout_takes_sizes_that_are_no_multiple_of_eight_and_slices() -> None:
    assert Dropout(0.25)(torch.ones(3, 1, 1, 1)).shape == (3, 1, 1, 1)
    x = torch.ones(4, 6, 5, 5)[:, ::2]
    assert set(Dropout(0.5)(x).unique().tolist()) <= {0.0, 2.0}
