"""Exercise: predict receptive fields."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

from helpers.exercises.result import NotYet, Result, described, ends_with_not_yet, right, whole_number
from helpers.receptive_field import layer_table, stages


class LaterPooling(nn.Sequential):
    """The assignment's convolutions with the pooling after Conv4 instead of Conv2; images ``(B, 1, 28, 28)``."""

    def __init__(self) -> None:
        layers = [
            ("conv1", nn.Conv2d(1, 8, 3)),  # (B, 8, 26, 26)
            ("conv2", nn.Conv2d(8, 16, 3)),  # (B, 16, 24, 24)
            ("conv3", nn.Conv2d(16, 32, 1)),  # (B, 32, 24, 24)
            ("conv4", nn.Conv2d(32, 16, 3)),  # (B, 16, 22, 22)
            ("pool1", nn.MaxPool2d(2, 2)),  # (B, 16, 11, 11)
            ("conv5", nn.Conv2d(16, 8, 3)),  # (B, 8, 9, 9)
            ("conv6", nn.Conv2d(8, 16, 1)),  # (B, 16, 9, 9)
            ("conv7", nn.Conv2d(16, 8, 3)),  # (B, 8, 7, 7)
            ("flatten", nn.Flatten()),
            ("fc", nn.Linear(8 * 7 * 7, 10)),
        ]
        super().__init__(OrderedDict(layers))


@ends_with_not_yet
def check_receptive_fields(predicted: Mapping[str, int]) -> Result:
    """Say which receptive field ``predicted`` for ``LaterPooling`` is the first wrong one, or that all are right.

    ``predicted`` has pixels by layer, as one number or as a pair of equal numbers.
    """
    if not isinstance(predicted, Mapping):
        example = '{"conv1": 3, "conv2": 5, ...}'
        raise NotYet(f"the check was given {described(predicted)}: give it a dictionary such as {example}.")
    rows = stages(layer_table(LaterPooling()))
    seen, jump = 1, 1
    for row in rows:
        above = f"A unit before it sees {seen}, and its neighbour is {jump} away; the layer is {row.operation}."
        if row.name not in predicted:
            there = ", ".join(map(str, predicted)) or "nothing"
            raise NotYet(f"{row.name} is missing; there is {there}. {above}")
        given = _pixels(predicted[row.name])
        if given is None:
            raise NotYet(f"{row.name} is {described(predicted[row.name])}: give a whole number of pixels. {above}")
        seen, jump = row.receptive_field[0], row.jump[0]
        if given != seen:
            raise NotYet(f"{row.name} is {given}. {above}")
    return right("every layer is the table's. The last one sees the whole image again: 28 pixels.")


def _pixels(given: Any) -> int | None:
    if isinstance(given, tuple | list) and len(given) == 2 and given[0] == given[1]:
        given = given[0]
    return whole_number(given)
