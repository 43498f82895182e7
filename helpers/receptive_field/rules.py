"""A rule for each kind of operation: what its outputs see, given what its inputs see."""

import re
from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from helpers.receptive_field.calls import Call, UnsupportedOperation
from helpers.receptive_field.geometry import NOTHING, Pattern, Window, read, rectangular
from helpers.receptive_field.operations import (
    CUMULATIVE,
    MOVING,
    MOVING_WINDOWS,
    OVER_DIMENSION,
    POINTWISE,
    REDUCING,
    WEIGHTED,
    WINDOWS,
    factors,
    interpolated,
    settings,
)
from helpers.receptive_field.state import FieldState, alike, compact, joined, merged, of_one_map, settled, shrunk
from helpers.runtime.looking import first_line, tensors_in

FIRST_NUMBER = 1 << 40  # elements are numbered from here on, where no constant of a network lies
BEFORE_IT = "make a table of the layers before it, as a network of their own"
ATTENTION = (
    f"its weights come from the image, as in attention, so that no window tells what its units read; {BEFORE_IT}"
)
RECURRENT = f"it is recurrent: what it gives for one step depends on the steps before; {BEFORE_IT}"
PLACES = f"which positions it reads depends on the values of the image; {BEFORE_IT}"
GRID = f"where it samples its input is told by a grid, not by a window; {BEFORE_IT}"
EVERYTHING = f"each of its values reads the whole map, so that no window tells what its units read; {BEFORE_IT}"
UNSUPPORTED = {  # why, by kind
    **dict.fromkeys(("nativemultiheadattention", "multiheadattentionforward", "scaleddotproductattention"), ATTENTION),
    **dict.fromkeys(("lstm", "gru", "rnntanh", "rnnrelu", "lstmcell", "grucell", "rnntanhcell"), RECURRENT),
    **dict.fromkeys(("deformconv2d", "maxunpool2d", "nonzero", "maskedselect", "embedding"), PLACES),
    **dict.fromkeys(("gridsample", "gridsampler", "affinegrid"), GRID),
    **dict.fromkeys(("fftfft2", "fftrfft2", "fftfft", "fftrfft", "fftfftn", "fftrfftn"), EVERYTHING),
}


def see(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Return what the outputs of ``call`` see, given what its sources see.

    Raises ``UnsupportedOperation`` where that is not known.
    """
    rule = RULES.get(call.kind)
    if rule is None:
        refuse(call, UNSUPPORTED.get(call.kind) or f"which positions it reads is not known; {advice(call)}")
    if not all(output.numel() for output in call.outputs()):
        refuse(call, "it leaves nothing of the map")
    try:
        results = rule(call, states)
    except Exception as error:
        refuse(call, first_line(error))
    if any(state.mixes_images for state in results):
        refuse(call, "it mixes images: what it gives for one must not depend on the others of a batch")
    return [settled(state) for state in results]


def refuse(call: Call, why: str) -> NoReturn:
    raise UnsupportedOperation(f"{call.label} cannot be followed: {why}")


def advice(call: Call) -> str:
    """Return what to do about a call that has no rule."""
    place = "in helpers/receptive_field/operations.py"
    if getattr(call.result, "shape", None) == call.sources[0].shape:
        return f"if each element depends on the one at its own place alone, add {call.kind} to POINTWISE {place}"
    return f"if a window tells what a unit reads, give {call.kind} a rule in WINDOWS {place}; else {BEFORE_IT}"


# ---- windows ----


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
    """Local response norm: some neighbouring channels."""
    size, channels = settings(call)["size"], call.result.shape[1]
    positions = Window(size, padding=size // 2).positions(channels)
    return [states[0].after(read(states[0].extents, 2, positions))]


def gated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Gated linear unit: one half of the channels times the sigmoid of the other."""
    state = states[0].in_units()
    halves = state.extents.chunk(2, dimensions(call, -1)[0] + 1)
    return [state.after(merged(halves, call.result.shape))]


# ---- elements that are moved ----


def moved(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Number the elements of the sources, and let the operation itself tell where they go."""
    by_values = call.kind in ("getitem", "setitem", "gather", "takealongdim", "indexselect", "indexcopy", "indexfill")
    if by_values and any(not source.is_floating_point() for source in call.sources if source is not call.args[0]):
        if call.kind == "setitem" and len({source.shape for source in call.sources}) == 1:  # x[x < 0] = 0
            return pointwise(call, states)
        raise ValueError(PLACES)
    if len({source.shape[-2:] for source in call.sources}) == 1 and len(states) > 1:
        states = alike(states, call.sources[0].shape)
    if call.kind == "view" and call.result.dtype != call.sources[0].dtype:
        raise ValueError("it reads the bits of its elements as numbers of another type")
    states = of_one_map(states)
    replaced = {}
    for tensor in tensors_in((call.args, call.kwargs)):
        if tensor.is_floating_point():
            replaced[id(tensor)] = torch.zeros_like(tensor, dtype=torch.float64)
        elif call.in_place:
            replaced[id(tensor)] = tensor.clone()
    columns = [torch.full((len(states[0].extents), 1), NOTHING)]  # number 0 is a constant
    count = 1
    for source, state in zip(call.sources, states, strict=True):
        extents = compact(state.extents)
        numbers = torch.arange(extents[0].numel(), dtype=torch.float64) + count + FIRST_NUMBER
        numbers = numbers.reshape(extents.shape[1:]).expand(source.shape)
        as_in_memory = call.in_place or call.kind.startswith("view")
        replaced[id(source)] = numbers.contiguous() if as_in_memory else numbers
        columns.append(extents.flatten(1))
        count += extents[0].numel()
    table, results = torch.cat(columns, 1), []
    for output in tensors_in(call.run(replaced)):
        numbers = shrunk(compact(output)) - FIRST_NUMBER
        numbers = numbers.masked_fill((numbers < 1) | (numbers >= count), 0).long()
        extents = table.index_select(1, numbers.flatten()).unflatten(1, numbers.shape)
        results.append(states[0].after(extents.expand(-1, *output.shape)))
    return results


def moved_in_theory(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Moved, on a map whose borders or whose jump change."""
    result, given, state = moved(call, states)[0], settings(call), states[0]
    if not state.own:
        return [result]
    windows = []
    for axis, (length, out) in enumerate(zip(call.sources[0].shape[2:], call.result.shape[2:], strict=True)):
        windows.append(MOVING_WINDOWS[call.kind](given, axis, length, out))
    return [seen_through(windows, state, result.extents[:6])]


def chosen(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Where and masked_fill: one of two at each position, which one a mask tells."""
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


# ---- all along some dimensions ----


def dimensions(call: Call, usual: int | None) -> list[int]:
    """Return the dimensions that ``call`` reads along, all of them for None."""
    given, num_dims = settings(call), call.sources[0].ndim
    dims = given.get("dim", given.get("axis"))
    dims = usual if dims is None or dims == () else dims
    if dims is None:
        return list(range(num_dims))
    return [dim % num_dims for dim in ([dims] if isinstance(dims, int) else dims)]


def reduced(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    if call.kind in ("max", "min") and (len(states) > 1 or isinstance(settings(call).get("dim", 0), Tensor)):
        return pointwise(call, states)  # the larger one of two tensors
    if call.kind in ("max", "min") and "other" in call.kwargs:
        return pointwise(call, states)
    return [over(call, states[0], dimensions(call, None))] * len(call.outputs())


def over(call: Call, state: FieldState, dims: Sequence[int]) -> FieldState:
    """Return the state of elements that read all along ``dims``."""
    state, shape = state.in_units(), call.outputs()[0].shape
    dims = [dim + 1 for dim in dims]
    extents = compact(state.extents).amax(dims, keepdim=True)
    if len(shape) + 1 < extents.ndim:
        extents = extents.squeeze(dims)
    return state.after(extents.expand(-1, *shape))


def over_dimension(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    num_dims, usual = call.sources[0].ndim, -1
    if call.kind in ("normalize", "cosinesimilarity"):
        usual = 1
    elif "softm" in call.kind:  # as torch chooses, with a warning
        usual = 0 if num_dims in (0, 1, 3) else 1
    if len(states) > 1:
        states = alike(states, call.sources[0].shape)
        states = [states[0].after(merged([state.extents for state in states], call.sources[0].shape))]
    return [over(call, states[0], dimensions(call, usual))] * len(call.outputs())


def cumulated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    state = states[0].in_units()
    return [state.after(state.extents.cummax(dimensions(call, -1)[0] + 1).values)] * len(call.outputs())


def weighted(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Linear, and products with a matrix or a vector of constants."""
    source = call.sources[0]
    left, right = factors(call)
    if len(states) > 1 or (call.kind == "linear" and source is not left):
        raise ValueError(ATTENTION)
    dim, other = (-1, right) if source is left else (-min(source.ndim, 2), left)
    state = states[0].in_units()
    extents = compact(state.extents).amax(dim, keepdim=other.ndim > 1)
    return [state.after(merged([extents], call.result.shape))]


def einsum(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Of constants and one tensor from the image, which is read all along each dimension that the result lacks."""
    if len(states) > 1:
        raise ValueError(ATTENTION)
    equation, *operands = call.args
    operands = operands[0] if isinstance(operands[0], list | tuple) else operands
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    position = next(i for i, operand in enumerate(operands) if operand is call.sources[0])
    labels = inputs.split(",")[position]
    if not arrow or "." in equation or len(set(labels)) < len(labels):
        raise ValueError("only an equation that names each dimension once, and those of the result, can be followed")
    state = states[0].in_units()
    extents = compact(state.extents)
    for dim in reversed(range(len(labels))):
        if labels[dim] not in output:
            extents = extents.amax(dim + 1)
    kept = [label for label in labels if label in output]
    extents = extents.permute(0, *[1 + kept.index(label) for label in output if label in kept])
    for dim, label in enumerate(output):
        if label not in kept:
            extents = extents.unsqueeze(dim + 1)
    return [state.after(extents.expand(-1, *call.result.shape))]


Rule = Callable[[Call, Sequence[FieldState]], list[FieldState]]
RULES: dict[str, Rule] = {
    **dict.fromkeys(WINDOWS, through_window),
    **dict.fromkeys(POINTWISE.split(), pointwise),
    **dict.fromkeys(MOVING.split(), moved),
    **dict.fromkeys(MOVING_WINDOWS, moved_in_theory),
    **dict.fromkeys(("where", "maskedfill"), chosen),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
    **dict.fromkeys(REDUCING.split(), reduced),
    **dict.fromkeys(OVER_DIMENSION.split(), over_dimension),
    **dict.fromkeys(CUMULATIVE.split(), cumulated),
    **dict.fromkeys(WEIGHTED.split(), weighted),
    "einsum": einsum,
    "glu": gated,
    "localresponsenorm": across_channels,
}
