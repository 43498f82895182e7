import copy

import pytest
import torch

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
