"""The windows through which operations read a map, and what their units therefore see."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor, gcd, nan

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.receptive_field.calls import Call
from helpers.receptive_field.extents import read
from helpers.receptive_field.geometry import Pattern, Window, rectangular
from helpers.receptive_field.operations import ATTENTION, settings
from helpers.receptive_field.state import FieldState

# ---- along one axis: given an operation's arguments by name, the axis (0 for the first after the channels), and the
# length of input and output along it ----


def along(setting: float | Sequence[float], axis: int) -> float:
    """Return what ``setting`` is along ``axis``; it may be given once for all axes."""
    if isinstance(setting, int | float):
        return setting
    return setting[axis] if len(setting) > 1 else setting[0]


def convolution(given: dict, axis: int, length: int, out: int) -> Window:
    kernel_size = given["weight"].shape[2 + axis]
    stride, dilation = along(given.get("stride", 1), axis), along(given.get("dilation", 1), axis)
    padding = given.get("padding", 0)
    if isinstance(padding, str):  # valid, or same: the smaller half before the first position
        padding = (kernel_size - 1) * dilation // 2 if padding == "same" else 0
    return Window(kernel_size, stride, along(padding, axis), dilation)


def pooling(given: dict, axis: int, length: int, out: int) -> Window:
    kernel_size = along(given["kernel_size"], axis)
    stride = along(given.get("stride") or kernel_size, axis)  # None or () means the kernel's size
    return Window(kernel_size, stride, along(given.get("padding", 0), axis), along(given.get("dilation", 1), axis))


def adaptive_pooling(given: dict, axis: int, length: int, out: int) -> Window | Pattern:
    """Parts of the map, which overlap by a position where they cannot be equal."""
    if length % out == 0:
        return Window(length // out, length // out if out > 1 else 1)
    parts = gcd(length, out)
    reads = [range(i * length // out, -(-(i + 1) * length // out)) for i in range(out // parts)]
    return Pattern(reads, length // parts)


def transposed_convolution(given: dict, axis: int, length: int, out: int) -> Pattern:
    """Input i writes to the outputs ``i * stride - padding + k * dilation``: the same, seen from the output."""
    kernel_size = given["weight"].shape[2 + axis]
    stride, padding = along(given.get("stride", 1), axis), along(given.get("padding", 0), axis)
    dilation, reads = along(given.get("dilation", 1), axis), []
    for unit in range(stride):
        places = [unit + padding - k * dilation for k in reversed(range(kernel_size))]
        reads.append([place // stride for place in places if place % stride == 0])
    return Pattern(reads, 1)


def upsampling(given: dict, axis: int, length: int, out: int) -> Window | Pattern:
    """What an interpolation reads where nothing is rounded: the positions around the place of unit i in the input.

    What it does read, ``interpolated`` tells.
    """
    mode, factor = given.get("mode", "nearest"), given.get("scale_factor")
    if length == 1:
        return Window(1, stride=0)  # all units see the same
    if mode == "area":
        return adaptive_pooling(given, axis, length, out)
    jump = Fraction(length, out)  # in positions of the input
    if factor is not None and not given.get("recompute_scale_factor"):
        jump = 1 / Fraction(along(factor, axis)).limit_denominator(1000)
    shift = Fraction(0)  # of unit 0
    if given.get("align_corners"):
        jump = Fraction(length - 1, max(out - 1, 1))
    elif mode == "nearest-exact":
        shift = jump / 2
    elif mode != "nearest":
        shift = (jump - 1) / 2
    before, after = {"nearest": (0, 0), "nearest-exact": (0, 0), "bicubic": (1, 2)}.get(mode, (0, 1))
    reads = []
    for unit in range(jump.denominator):
        place = floor(unit * jump + shift)
        reads.append(range(place - before, place + after + 1))
    return Pattern(reads, jump.numerator)


def interpolated(given: dict, axis: int, length: int, out: int, axes: int) -> list[list[int]]:
    """Return what each unit of an interpolation reads: those that are NaN where one position is, as torch computes it.

    Its rounding differs from a division's for some sizes.
    """
    sides, sizes, factors = [2] * axes, [2] * axes, [1.0] * axes  # the other axes stay as they are
    sides[axis], sizes[axis] = length, out
    probe = torch.zeros(length, 1, *sides, dtype=given["input"].dtype)
    for position in range(length):
        probe[position].select(1 + axis, position).fill_(nan)
    setting = {name: value for name, value in given.items() if name != "input"}
    if setting.get("size") is not None:
        setting["size"] = sizes
    if setting.get("scale_factor") is not None:
        factors[axis] = along(setting["scale_factor"], axis)
        setting["scale_factor"] = factors
    result = F.interpolate(probe, **setting).movedim(2 + axis, 1).flatten(2)[..., 0].isnan()  # (positions, units)
    return [column.nonzero().flatten().tolist() for column in result.T]


Rule = Callable[[dict, int, int, int], Window | Pattern | None]
WINDOWS: dict[str, Rule] = {
    **{f"conv{n}d": convolution for n in (1, 2, 3)},
    **{f"convtranspose{n}d": transposed_convolution for n in (1, 2, 3)},
    **{f"{kind}pool{n}d": pooling for n in (1, 2, 3) for kind in ("max", "avg", "lp")},
    **{f"maxpool{n}dwithindices": pooling for n in (1, 2, 3)},
    **{f"adaptive{kind}pool{n}d": adaptive_pooling for n in (1, 2, 3) for kind in ("max", "avg")},
    **{f"adaptivemaxpool{n}dwithindices": adaptive_pooling for n in (1, 2, 3)},
    "interpolate": upsampling,
}


def padding(given: dict, axis: int, length: int, out: int) -> Window:
    sides = [*given["pad"], 0, 0, 0, 0]  # left, right, top, bottom
    return Window(1, padding=sides[2 - 2 * axis])


def pixel_shuffle(given: dict, axis: int, length: int, out: int) -> Pattern:
    return Pattern([[0]] * given["upscale_factor"], 1)


def pixel_unshuffle(given: dict, axis: int, length: int, out: int) -> Window:
    return Window(given["downscale_factor"], given["downscale_factor"])


# Of those of MOVING that read over the border of a map or make it finer, what they do to it in theory.
MOVING_WINDOWS: dict[str, Rule] = {"pad": padding, "pixelshuffle": pixel_shuffle, "pixelunshuffle": pixel_unshuffle}


# ---- what units see through them ----


def through_window(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    state, given, output = states[0], settings(call), call.outputs()[0]
    if len(states) > 1 or call.sources[0] is not given["input"]:
        raise ValueError(ATTENTION)
    axes = output.ndim - 2 if call.kind == "interpolate" else int(re.search(r"(\d)d", call.kind)[1])
    extents = state.extents[:6] if state.is_map else state.extents
    extents, windows = channels_read(given, extents, axes, output.shape[-axes - 1]), []
    for axis in range(axes):
        length, out = extents.shape[axis - axes], output.shape[axis - axes]
        window = WINDOWS[call.kind](given, axis, length, out)
        if call.kind == "interpolate":
            reads = interpolated(given, axis, length, out, axes)
            window = window if agree(window, reads, length) else None
            positions = rectangular(reads)
        else:
            positions = window.positions(out)
        windows.append(window)
        extents = read(extents, extents.ndim + axis - axes, positions)
    extents = extents.expand(-1, *output.shape)
    return [seen_through(windows, state, extents)] * len(call.outputs())


def seen_through(windows: Sequence[Window | Pattern | None], state: FieldState, extents: Tensor) -> FieldState:
    """Return the state of units of these ``extents`` that read the tensor of ``state`` through ``windows``."""
    if not state.is_map:
        return state.after(extents)
    if not state.own or not all(window and all(map(len, window.pattern().reads)) for window in windows):
        return FieldState(extents).in_pixels()
    own = []
    for field, window, length in zip(state.own, windows, extents.shape[-2:], strict=True):
        own.append(field.through(window, length))
    return FieldState(extents, None, tuple(own), True)


def agree(window: Window | Pattern, reads: Sequence[Sequence[int]], length: int) -> bool:
    """Tell whether units that read the positions ``reads`` do so through ``window``, save at the borders of the map."""
    for expected, positions in zip(window.positions(len(reads)).tolist(), reads, strict=True):
        if min(expected) >= 0 and max(expected) < length and expected != positions:
            return False
    return True


def channels_read(given: dict, extents: Tensor, axes: int, out_channels: int) -> Tensor:
    """Return what each output channel reads of the input's channels; a single one where all read the same."""
    dim, groups = extents.ndim - axes - 1, given.get("groups", 1)
    if extents.stride(dim) == 0:
        return extents.narrow(dim, 0, 1)
    if "weight" not in given:
        return extents
    if groups == 1:
        return extents.amax(dim, keepdim=True)
    return extents.unflatten(dim, (groups, -1)).amax(dim + 1).repeat_interleave(out_channels // groups, dim)
