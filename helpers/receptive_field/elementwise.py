"""Rules for operations that give each element what others see, at its own place or moved to another."""

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.receptive_field.calls import Call
from helpers.receptive_field.extents import NOTHING, compact, joined, merged, read, shrunk
from helpers.receptive_field.geometry import Window
from helpers.receptive_field.operations import CHOOSING, PLACES, settings
from helpers.receptive_field.state import FieldState, alike, of_one_map
from helpers.receptive_field.windows import MOVING_WINDOWS, seen_through
from helpers.runtime.looking import tensors_in

FIRST_NUMBER = 1 << 40  # elements are numbered from here on, where no constant of a network lies


# ---- own position ----


def pointwise(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    if call.kind == "batchnorm" and settings(call).get("training"):
        raise ValueError("it mixes images: it normalises with the statistics of all of them together")
    outputs = call.outputs()
    shape = outputs[0].shape
    if len(states) > 1 or states[0].extents.shape[1:] != shape:
        states = alike(states, shape)
        states = [states[0].after(merged([state.extents for state in states], shape))]
    return [states[0]] * len(outputs)


def across_channels(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Of local response norm: each element reads some neighbouring channels."""
    size, channels = settings(call)["size"], call.result.shape[1]
    positions = Window(size, padding=size // 2).positions(channels)
    return [states[0].after(read(states[0].extents, 2, positions))]


# ---- elements that are moved ----


def moved(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Number the elements of the sources, and let the operation itself tell which of them each output element is."""
    if call.kind == "view" and call.result.dtype != call.sources[0].dtype:
        raise ValueError("it reads the bits of its elements as numbers of another type")
    others = [source for source in call.sources if source is not call.args[0]]
    if call.kind in CHOOSING and any(not source.is_floating_point() for source in others):
        if call.kind == "setitem" and all(source.shape == call.args[0].shape for source in call.sources):
            return pointwise(call, states)  # as x[x < 0] = 0
        raise ValueError(PLACES)
    if len(states) > 1 and len({source.shape[-2:] for source in call.sources}) == 1:
        states = alike(states, call.sources[0].shape)
    states = of_one_map(states)
    replaced, table = numbered(call, states)
    results = []
    for output in tensors_in(call.run(replaced)):
        numbers = shrunk(compact(output)) - FIRST_NUMBER
        is_number = (numbers > 0) & (numbers < table.shape[1])
        extents = table.index_select(1, numbers.where(is_number, 0).flatten().long()).unflatten(1, numbers.shape)
        results.append(states[0].after(extents.expand(-1, *output.shape)))
    return results


def numbered(call: Call, states: Sequence[FieldState]) -> tuple[dict[int, Tensor], Tensor]:
    """Return what to run ``call`` on instead of its tensors, by id, and a table with the extents of each number.

    Elements that share their extents have one number. Column 0 of the table is for constants, which see nothing.
    """
    replaced, columns, count = {}, [torch.full((len(states[0].extents), 1), NOTHING)], 1
    for tensor in tensors_in((call.args, call.kwargs)):
        if tensor.is_floating_point():
            replaced[id(tensor)] = torch.zeros_like(tensor, dtype=torch.float64)
        elif call.in_place:
            replaced[id(tensor)] = tensor.clone()
    for source, state in zip(call.sources, states, strict=True):
        extents = compact(state.extents)
        numbers = torch.arange(extents[0].numel(), dtype=torch.float64) + FIRST_NUMBER + count
        numbers = numbers.reshape(extents.shape[1:]).expand(source.shape)
        needs_memory = call.in_place or call.kind.startswith("view")
        replaced[id(source)] = numbers.contiguous() if needs_memory else numbers
        columns.append(extents.flatten(1))
        count += extents[0].numel()
    return replaced, torch.cat(columns, 1)


def moved_in_theory(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Move the elements of a map to one with other borders or another jump, which its fields follow."""
    result, given, state = moved(call, states)[0], settings(call), states[0]
    if not state.own:
        return [result]
    windows = []
    for axis, (length, out) in enumerate(zip(call.sources[0].shape[2:], call.result.shape[2:], strict=True)):
        windows.append(MOVING_WINDOWS[call.kind](given, axis, length, out))
    return [seen_through(windows, state, result.extents[:6])]


def chosen(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Of where and masked_fill: a mask tells which one of two elements each is."""
    mask = call.args[1] if call.kind == "maskedfill" and len(call.args) > 1 else call.kwargs.get("mask")
    if call.kind == "where":
        mask = call.args[0] if call.args else call.kwargs["condition"]
    if any(mask is source for source in call.sources):
        return pointwise(call, states)
    return moved(call, states)


def concatenated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    given, shape = settings(call), call.result.shape
    dim = given.get("dim", given.get("axis", 0)) % len(shape)
    states = alike(states, shape) if dim == 1 and len(shape) == 4 else of_one_map(states)
    by_source = {id(source): state.extents for source, state in zip(call.sources, states, strict=True)}
    nothing = torch.tensor(NOTHING)
    parts = []
    for part in given["tensors"]:
        parts.append(by_source.get(id(part), nothing.expand(len(states[0].extents), *part.shape)))
    return [states[0].after(joined(parts, dim + 1))]
