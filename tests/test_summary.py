import copy

import pytest
import torch
from test_receptive_field import Toy
from torch import nn

from helpers.model import Net
from helpers.summary import summary

ROWS = """
Conv2d-1 8,26,26 72 · ReLU-2 8,26,26 0 · BatchNorm2d-3 8,26,26 16 · Conv2d-4 16,24,24 1,152 · ReLU-5 16,24,24 0 ·
BatchNorm2d-6 16,24,24 32 · MaxPool2d-7 16,12,12 0 · Dropout-8 16,12,12 0 · Conv2d-9 32,12,12 512 ·
ReLU-10 32,12,12 0 · BatchNorm2d-11 32,12,12 64 · Conv2d-12 16,10,10 4,608 · ReLU-13 16,10,10 0 ·
BatchNorm2d-14 16,10,10 32 · Conv2d-15 8,8,8 1,152 · ReLU-16 8,8,8 0 · BatchNorm2d-17 8,8,8 16 · Dropout-18 8,8,8 0 ·
Conv2d-19 16,8,8 128 · ReLU-20 16,8,8 0 · BatchNorm2d-21 16,8,8 32 · Dropout-22 16,8,8 0 · Conv2d-23 8,6,6 1,152 ·
ReLU-24 8,6,6 0 · BatchNorm2d-25 8,6,6 16 · Dropout-26 8,6,6 0 · Linear-27 10 2,890
"""


def test_the_27_rows_of_the_assignment() -> None:
    expected = []
    for row in ROWS.replace("\n", " ").split("·"):
        name, shape, parameters = row.split()
        expected.append(f"{name} [-1, {', '.join(shape.split(','))}] {parameters}")
    lines = [" ".join(line.split()) for line in summary(Net()).splitlines()]
    assert [line for line in lines if "[-1" in line] == expected
    assert "Total params: 11,874" in lines
    assert "Trainable params: 11,874" in lines


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_state_stay_as_they_were(training: bool) -> None:
    net = Net().train(training)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    summary(net)
    assert net.training is training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in net.modules())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_an_input_of_another_size_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"does not take an input of size \(3, 28, 28\)") as caught:
        summary(Net(), (3, 28, 28))
    assert "\n" not in str(caught.value)


NO_TABLE = "has none for this model"
TABLES = {  # a network, what the lines of its layers count, and what the last line says of torchsummary's table
    "a layer used twice": (
        Toy(lambda toy, x: toy.c(x + toy.c(x)), c=nn.Conv2d(3, 3, 3, padding=1)),
        [84, 0],
        "168 parameters",
    ),
    "a bare parameter": (
        Toy(lambda toy, x: toy.a(x) * toy.g, a=nn.Conv2d(3, 8, 3), g=nn.Parameter(torch.ones(8, 1, 1))),
        [224, 8],
        "224 parameters",
    ),
    "a weight of a given norm": (
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))),
        [116],
        "112 parameters",
    ),
    "no parameters": (nn.Sequential(nn.ReLU()), [0], NO_TABLE),
    "the model is a layer": (nn.Conv2d(3, 4, 3), [112], NO_TABLE),
    "a tuple in a tuple": (Toy(lambda toy, x: toy.lstm(x.flatten(2))[0], lstm=nn.LSTM(1024, 5)), [20_620], NO_TABLE),
    "a list": (
        Toy(lambda toy, x: toy.both([toy.c(x), x]), both=Toy(lambda toy, xs: xs[0] + xs[1]), c=nn.Conv2d(3, 3, 1)),
        [12, 0],
        NO_TABLE,
    ),
    "in double precision": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).double(), [112, 0], "---"),
}


@pytest.mark.parametrize(("model", "expected", "last"), TABLES.values(), ids=TABLES)
def test_each_parameter_is_counted_once_also_where_torchsummary_fails(
    model: nn.Module, expected: list[int], last: str
) -> None:
    lines = summary(model, (3, 32, 32)).splitlines()
    assert [int(line.split()[-1].replace(",", "")) for line in lines if "[-1" in line] == expected
    assert f"Total params: {sum(expected):,}" in lines
    assert last in lines[-1]


def test_the_trainable_ones_are_told_apart_within_a_layer_and_all_sizes_follow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1000, 32), nn.Flatten())
    model[0].bias.requires_grad_(False)
    lines = summary(model, (3, 32, 32)).splitlines()
    assert "Trainable params: 3,072,000" in lines and "Non-trainable params: 1,000" in lines
    sizes = [float(line.rpartition(" ")[2]) for line in lines if "(MB)" in line]
    assert sizes[2] == 11.72 and abs(sum(sizes[:3]) - sizes[3]) < 0.01


def test_outputs_of_a_tuple_are_sizes_of_their_own() -> None:
    split = Toy(lambda toy, x: (toy.a(x), toy.b(x)), a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(3, 5, 1))
    model = Toy(lambda toy, x: toy.split(x)[1], split=split)
    line = next(line for line in summary(model, (3, 32, 32)).splitlines() if "Toy" in line)
    assert "[-1, 2, 32, 32], [-1, 5, 32, 32]" in line
    (megabytes,) = [line.split()[-1] for line in summary(model, (3, 32, 32)).splitlines() if "backward" in line]
    assert float(megabytes) == round(2 * 4 * 2 * (2 + 5) * 32 * 32 / 1024**2, 2)
