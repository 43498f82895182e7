"""Rules for operations whose output elements each come from single elements: pointwise, moved or concatenated."""

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.receptive_field.calls import Call
from helpers.receptive_field.extents import NOTHING, compact, joined, merged, read, shrunk
from helpers.receptive_field.geometry import Window
from helpers.receptive_field.operations import INDEXING, VALUE_DEPENDENT, named_arguments
from helpers.receptive_field.state import FieldState, in_common_units, on_common_map
from helpers.receptive_field.windows import MOVING_WINDOWS, Axis, state_through
from helpers.runtime.looking import tensors_in

FIRST_NUMBER = 1 << 40  # elements are numbered from here on, far from any constant of a network


# ---- pointwise, or nearly so ----


def pointwise(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    if call.kind == "batchnorm" and named_arguments(call).get("training"):
        raise ValueError("it mixes images: it normalises with the statistics of the whole batch")
    outputs = call.outputs()
    return [united(states, outputs[0].shape)] * len(outputs)


def united(states: Sequence[FieldState], shape: Sequence[int]) -> FieldState:
    """Return the state of elements that each read one of every tensor, after these are broadcast to ``shape``."""
    if len(states) == 1 and states[0].extents.shape[1:] == shape:
        return states[0]
    states = on_common_map(states, shape)
    return states[0].with_extents(merged([state.extents for state in states], shape))


def across_channels(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Local response norm: each element reads the neighbouring channels at its position."""
    size, channels = named_arguments(call)["size"], call.result.shape[1]
    positions = Window(size, padding=size // 2).pattern().positions(channels)
    return [states[0].with_extents(read(states[0].extents, 2, positions))]


# ---- moved elements ----


def moved(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Run the operation on the numbers of its input elements; the result tells where each output element comes from."""
    if call.kind == "view" and call.result.dtype != call.sources[0].dtype:
        raise ValueError("it reinterprets the bits of its elements as another type")
    others = [source for source in call.sources if source is not call.args[0]]
    if call.kind in INDEXING and any(not source.is_floating_point() for source in others):
        if call.kind == "setitem" and all(source.shape == call.args[0].shape for source in call.sources):
            return pointwise(call, states)  # such as x[x < 0] = 0
        raise ValueError(VALUE_DEPENDENT)
    if len(states) > 1 and len({source.shape[-2:] for source in call.sources}) == 1:
        states = on_common_map(states, call.sources[0].shape)
    states = in_common_units(states)
    replaced, table = numbered(call, states)
    results = []
    for output in tensors_in(call.run(replaced)):
        numbers = shrunk(compact(output)) - FIRST_NUMBER
        is_number = (numbers > 0) & (numbers < table.shape[1])
        columns = numbers.where(is_number, 0).long()
        extents = table.index_select(1, columns.flatten()).unflatten(1, columns.shape)
        results.append(states[0].with_extents(extents.expand(-1, *output.shape)))
    return results


def numbered(call: Call, states: Sequence[FieldState]) -> tuple[dict[int, Tensor], Tensor]:
    """Return tensors of numbers in place of the inputs of ``call``, by id, and a table with the extents of each number.

    Elements that share their extents share a number. Number 0, the first column, is for constants, which see nothing.
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


def moved_between_maps(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Padding and pixel shuffles: move the elements, and give the new map its own borders and jump."""
    result, state = moved(call, states)[0], states[0]
    if not state.fields:
        return [result]
    arguments, windows = named_arguments(call), []
    for i, (length, out_length) in enumerate(zip(call.sources[0].shape[2:], call.result.shape[2:], strict=True)):
        windows.append(MOVING_WINDOWS[call.kind](arguments, Axis(i, length, out_length)))
    return [state_through(windows, state, result.extents[:6])]


def masked(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """``where`` and ``masked_fill``: a mask chooses between two elements at the same position."""
    mask_reads_image = any(source.dtype == torch.bool for source in call.sources)
    return pointwise(call, states) if mask_reads_image else moved(call, states)


def concatenated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """As ``moved`` would find out, but faster."""
    arguments, shape = named_arguments(call), call.result.shape
    dim = arguments.get("dim", arguments.get("axis", 0)) % len(shape)
    states = on_common_map(states, shape) if dim == 1 and len(shape) == 4 else in_common_units(states)
    by_source = {id(source): state.extents for source, state in zip(call.sources, states, strict=True)}
    nothing = torch.tensor(NOTHING)
    parts = []
    for part in arguments["tensors"]:
        parts.append(by_source.get(id(part), nothing.expand(len(states[0].extents), *part.shape)))
    return [states[0].with_extents(joined(parts, dim + 1))]
