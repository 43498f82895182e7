"""Exercise: count parameters."""

from collections.abc import Callable, Sequence

from torch import nn

from helpers.exercises.result import NotYet, Result, call, check_given, ends_with_not_yet, gives, right, whole_number

KERNEL_SIZES = (3, 3, 1, 3, 3, 1, 3)  # of the assignment's convolutions
WIDTHS = ((8, 16, 32, 16, 8, 16, 8), (4, 4, 4, 4, 4, 4, 4), (10, 20, 30, 20, 10, 20, 10))  # the assignment's first


@ends_with_not_yet
def check_parameter_count(count: Callable[[Sequence[int]], int]) -> Result:
    """Say whether ``count(widths)`` is the number of parameters when Conv1 to Conv7 have ``widths`` output channels."""
    check_given(count, "count")
    for widths in WIDTHS:
        answer = call(f"count({widths})", count, widths)
        number = whole_number(answer)
        if number is None:
            raise NotYet(f"count({widths}) {gives(answer, 'return one whole number.')}")
        difference = number - _true_count(widths)
        reasons = {
            -2 * sum(widths): "the scale and shift of the batch norms are missing",
            -sum(widths): "a batch norm has two parameters for each channel",
            sum(widths): "a convolution before a batch norm has no bias",
            2 * sum(widths): "the running statistics of a batch norm are stored, not learned",
            -10: "the linear layer has a bias for each of its ten outputs",
        }
        if difference:
            reason = reasons.get(difference, "too many" if difference > 0 else "too few")
            raise NotYet(f"count({widths}) gives {number:,}, off by {difference:+,}: {reason}.")
    return right(f"it counts the assignment's {_true_count(WIDTHS[0]):,} and those of two other networks.")


def _true_count(widths: Sequence[int]) -> int:
    """Build the layers and return their number of parameters."""
    layers = nn.ModuleList([nn.Linear(widths[-1] * 6 * 6, 10)])
    for in_channels, out_channels, kernel_size in zip((1, *widths), widths, KERNEL_SIZES, strict=False):
        layers += [nn.Conv2d(in_channels, out_channels, kernel_size, bias=False), nn.BatchNorm2d(out_channels)]
    return sum(parameter.numel() for parameter in layers.parameters())
