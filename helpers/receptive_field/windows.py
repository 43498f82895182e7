"""Rules for operations that read a map through windows: convolution, pooling, padding and interpolation."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor, gcd, nan
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.receptive_field.calls import Call
from helpers.receptive_field.extents import read
from helpers.receptive_field.geometry import Pattern, Window, rectangular
from helpers.receptive_field.operations import ATTENTION, named_arguments
from helpers.receptive_field.state import FieldState

# ---- the window along one axis, given the operation's arguments by name ----


class Axis(NamedTuple):
    """A spatial axis of an operation."""

    index: int  # 0 for the first one after the channels
    length: int  # of the input
    out_length: int

    def of(self, setting: float | Sequence[float]) -> float:
        """Return the value of ``setting`` along this axis; a single value holds for all axes."""
        if isinstance(setting, int | float):
            return setting
        return setting[self.index] if len(setting) > 1 else setting[0]


def convolution(arguments: dict, axis: Axis) -> Window:
    kernel_size = arguments["weight"].shape[2 + axis.index]
    stride, dilation = axis.of(arguments.get("stride", 1)), axis.of(arguments.get("dilation", 1))
    padding = arguments.get("padding", 0)
    if isinstance(padding, str):  # "valid" or "same"; of an odd total the smaller half comes first
        padding = (kernel_size - 1) * dilation // 2 if padding == "same" else 0
    return Window(kernel_size, stride, axis.of(padding), dilation)


def pooling(arguments: dict, axis: Axis) -> Window:
    kernel_size = axis.of(arguments["kernel_size"])
    stride = axis.of(arguments.get("stride") or kernel_size)  # None or () means the kernel size
    return Window(kernel_size, stride, axis.of(arguments.get("padding", 0)), axis.of(arguments.get("dilation", 1)))


def adaptive_pooling(arguments: dict, axis: Axis) -> Pattern:
    """Windows that divide the map evenly, or overlap by one position where it cannot be divided evenly."""
    length, out_length = axis.length, axis.out_length
    periods = gcd(length, out_length)
    reads = []
    for unit in range(out_length // periods):
        end = -(-(unit + 1) * length // out_length)  # rounded up
        reads.append(range(unit * length // out_length, end))
    return Pattern(reads, length // periods if out_length > 1 else 1)


def transposed_convolution(arguments: dict, axis: Axis) -> Pattern:
    """Input i contributes to the outputs ``i * stride - padding + k * dilation``; solved for i here."""
    kernel_size = arguments["weight"].shape[2 + axis.index]
    stride, padding = axis.of(arguments.get("stride", 1)), axis.of(arguments.get("padding", 0))
    dilation, reads = axis.of(arguments.get("dilation", 1)), []
    for unit in range(stride):
        multiples = [unit + padding - k * dilation for k in reversed(range(kernel_size))]
        reads.append([multiple // stride for multiple in multiples if multiple % stride == 0])
    return Pattern(reads, 1)


# Positions read before and after; the other modes are linear, with (0, 1).
NEIGHBOURS = {"nearest": (0, 0), "nearest-exact": (0, 0), "bicubic": (1, 2)}


def upsampling(arguments: dict, axis: Axis) -> Window | Pattern:
    """The positions an interpolation reads in exact arithmetic: those around the place of unit i in the input.

    ``interpolated`` finds the positions that torch reads, with rounding.
    """
    mode, factor = arguments.get("mode", "nearest"), arguments.get("scale_factor")
    if axis.length == 1:
        return Window(1, stride=0)  # all units read the same position
    if mode == "area":
        return adaptive_pooling(arguments, axis)
    jump = Fraction(axis.length, axis.out_length)  # in positions of the input
    if factor is not None and not arguments.get("recompute_scale_factor"):
        jump = 1 / Fraction(axis.of(factor)).limit_denominator(1000)
    first_place = Fraction(0)  # of unit 0 in the input
    if arguments.get("align_corners"):
        jump = Fraction(axis.length - 1, max(axis.out_length - 1, 1))
    elif mode == "nearest-exact":
        first_place = jump / 2
    elif mode != "nearest":
        first_place = (jump - 1) / 2
    before, after = NEIGHBOURS.get(mode, (0, 1))
    reads = []
    for unit in range(jump.denominator):
        place = floor(first_place + unit * jump)
        reads.append(range(place - before, place + after + 1))
    return Pattern(reads, jump.numerator)


def interpolated(arguments: dict, axis: Axis, num_axes: int) -> list[list[int]]:
    """Return the positions that each unit of torch's interpolation reads, found by putting NaN at one after another.

    torch computes places in floating point, which for some sizes rounds differently from exact division.
    """
    sides, sizes, factors = [2] * num_axes, [2] * num_axes, [1.0] * num_axes  # the other axes keep their size
    sides[axis.index], sizes[axis.index] = axis.length, axis.out_length
    probe = torch.zeros(axis.length, 1, *sides, dtype=arguments["input"].dtype)
    for position in range(axis.length):
        probe[position].select(1 + axis.index, position).fill_(nan)
    options = {name: value for name, value in arguments.items() if name != "input"}
    if options.get("size") is not None:
        options["size"] = sizes
    if options.get("scale_factor") is not None:
        factors[axis.index] = axis.of(options["scale_factor"])
        options["scale_factor"] = factors
    result = F.interpolate(probe, **options).movedim(2 + axis.index, 1)
    reaches = result.flatten(2)[..., 0].isnan()  # (positions, units)
    return [column.nonzero().flatten().tolist() for column in reaches.T]


AxisRule = Callable[[dict, Axis], Window | Pattern]
WINDOWS: dict[str, AxisRule] = {
    **{f"conv{n}d": convolution for n in (1, 2, 3)},
    **{f"convtranspose{n}d": transposed_convolution for n in (1, 2, 3)},
    **{f"{kind}pool{n}d": pooling for n in (1, 2, 3) for kind in ("max", "avg", "lp")},
    **{f"adaptive{kind}pool{n}d": adaptive_pooling for n in (1, 2, 3) for kind in ("max", "avg")},
    "interpolate": upsampling,
}


def padding(arguments: dict, axis: Axis) -> Window:
    sides = [*arguments["pad"], 0, 0, 0, 0]  # left, right, top, bottom
    return Window(1, padding=sides[2 - 2 * axis.index])


def pixel_shuffle(arguments: dict, axis: Axis) -> Pattern:
    return Pattern([[0]] * arguments["upscale_factor"], 1)


def pixel_unshuffle(arguments: dict, axis: Axis) -> Window:
    return Window(arguments["downscale_factor"], arguments["downscale_factor"])


# These only move elements, but to a map with other borders or another jump.
MOVING_WINDOWS: dict[str, AxisRule] = {"pad": padding, "pixelshuffle": pixel_shuffle, "pixelunshuffle": pixel_unshuffle}


# ---- the state behind the windows ----


def through_window(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    state, arguments, output = states[0], named_arguments(call), call.outputs()[0]
    if len(states) > 1 or call.sources[0] is not arguments["input"]:
        raise ValueError(ATTENTION)
    num_axes = output.ndim - 2 if call.kind == "interpolate" else int(re.search(r"(\d)d", call.kind)[1])
    extents = state.extents[:6] if state.is_map else state.extents
    extents = channels_read(arguments, extents, num_axes, output.shape[-num_axes - 1])
    windows = []
    for i in range(num_axes):
        axis = Axis(i, extents.shape[i - num_axes], output.shape[i - num_axes])
        window = WINDOWS[call.kind](arguments, axis)
        if call.kind == "interpolate":
            reads = interpolated(arguments, axis, num_axes)
            window = window if agree(window, reads, axis.length) else None
            positions = rectangular(reads)
        else:
            positions = window.pattern().positions(axis.out_length)
        windows.append(window)
        extents = read(extents, extents.ndim + i - num_axes, positions)
    extents = extents.expand(-1, *output.shape)
    return [state_through(windows, state, extents)] * len(call.outputs())


def state_through(windows: Sequence[Window | Pattern | None], state: FieldState, extents: Tensor) -> FieldState:
    """Return the state of units with these ``extents`` that read the tensor of ``state`` through ``windows``.

    A window is None where no window describes what the units read.
    """
    if not state.is_map:
        return state.with_extents(extents)
    every_unit_reads = all(window and all(len(read) for read in window.pattern().reads) for window in windows)
    if not state.fields or not every_unit_reads:
        return FieldState(extents).in_pixels()
    fields = []
    for field, window, length in zip(state.fields, windows, extents.shape[-2:], strict=True):
        fields.append(field.through(window, length))
    return FieldState(extents, None, tuple(fields), True)


def agree(window: Window | Pattern, reads: Sequence[Sequence[int]], length: int) -> bool:
    """Tell whether ``window`` gives the positions ``reads`` for all units, except where it crosses a border."""
    for expected, positions in zip(window.pattern().positions(len(reads)).tolist(), reads, strict=True):
        if min(expected) >= 0 and max(expected) < length and expected != positions:
            return False
    return True


def channels_read(arguments: dict, extents: Tensor, num_axes: int, out_channels: int) -> Tensor:
    """Return what each output channel reads of the input channels; a single channel if all read the same."""
    dim, groups = extents.ndim - num_axes - 1, arguments.get("groups", 1)
    if extents.stride(dim) == 0:
        return extents.narrow(dim, 0, 1)
    if "weight" not in arguments:
        return extents
    if groups == 1:
        return extents.amax(dim, keepdim=True)
    return extents.unflatten(dim, (groups, -1)).amax(dim + 1).repeat_interleave(out_channels // groups, dim)
