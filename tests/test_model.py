import pytest
import torch
from torch import nn

from helpers.model import Net


def test_parameter_total_is_the_hand_count() -> None:
    convolutions = 72 + 1152 + 512 + 4608 + 1152 + 128 + 1152  # in * out * k * k, no bias
    batch_norms = 2 * (8 + 16 + 32 + 16 + 8 + 16 + 8)
    assert convolutions + batch_norms + (288 * 10 + 10) == 11_874
    assert sum(p.numel() for p in Net().parameters() if p.requires_grad) == 11_874


def test_output_is_log_probabilities() -> None:
    log_probs = Net()(torch.randn(5, 1, 28, 28))
    assert log_probs.shape == (5, 10)
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(5))


def test_equals_the_same_network_written_with_stock_layers() -> None:
    def block(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, kernel, bias=False), nn.ReLU(), nn.BatchNorm2d(outputs)]

    stock = nn.Sequential(
        *block(1, 8, 3), *block(8, 16, 3), nn.MaxPool2d(2, 2), nn.Dropout(0.25),
        *block(16, 32, 1), *block(32, 16, 3), *block(16, 8, 3), nn.Dropout(0.25),
        *block(8, 16, 1), nn.Dropout(0.25), *block(16, 8, 3), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(288, 10), nn.LogSoftmax(dim=1),
    )  # fmt: skip
    net = Net()
    stock.load_state_dict(dict(zip(stock.state_dict(), net.state_dict().values(), strict=True)))
    for module in (*net.modules(), *stock.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # training mode, but comparable
    images = torch.randn(64, 1, 28, 28)
    results = []
    for model in (net, stock):
        loss = nn.functional.nll_loss(model(images), torch.arange(64) % 10)
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters()), *model.buffers()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("place", "types"),
    [("after", "Conv2d ReLU BatchNorm2d"), ("before", "Conv2d BatchNorm2d ReLU"), ("none", "Conv2d ReLU")],
)
def test_batch_norm_has_its_place(place: str, types: str) -> None:
    net = Net(batch_norm=place)
    assert [type(layer).__name__ for layer in net.conv1] == types.split()
    assert (net.conv1[0].bias is not None) == (place == "none")


def test_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_norm is 'beside'"):
        Net(batch_norm="beside")
