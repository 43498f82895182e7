"""A rule for each kind of operation: from the states of its inputs to those of its outputs."""

from collections.abc import Callable, Sequence

from torch import Tensor

from helpers.receptive_field.calls import Call, UnsupportedOperation
from helpers.receptive_field.elementwise import (
    across_channels,
    concatenated,
    masked,
    moved,
    moved_between_maps,
    pointwise,
    united,
)
from helpers.receptive_field.extents import compact, merged
from helpers.receptive_field.operations import (
    ATTENTION,
    CUMULATIVE,
    MOVING,
    OVER_DIMENSION,
    POINTWISE,
    REDUCING,
    STOP_BEFORE_IT,
    UNSUPPORTED,
    WEIGHTED,
    left_factor,
    named_arguments,
)
from helpers.receptive_field.state import FieldState, as_map_if_it_is_one
from helpers.receptive_field.windows import MOVING_WINDOWS, WINDOWS, through_window
from helpers.runtime.looking import first_line


def propagate(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Return the states of the outputs of ``call``, given the ``states`` of its sources.

    Raises ``UnsupportedOperation`` if there is no rule for it, or if the rule does not hold for this call.
    """
    try:
        if call.kind not in RULES:
            raise ValueError(UNSUPPORTED.get(call.kind) or f"which positions it reads is not known; {advice(call)}")
        if not all(output.numel() for output in call.outputs()):
            raise ValueError("its result is empty")
        results = RULES[call.kind](call, states)
        if any(state.mixes_images for state in results):
            raise ValueError("it mixes images: the result for one depends on the others of the batch")
    except Exception as error:
        raise UnsupportedOperation(f"{call.label} cannot be followed: {first_line(error)}") from error
    return [as_map_if_it_is_one(state) for state in results]


def advice(call: Call) -> str:
    """Return what the user can do about a call that has no rule."""
    if getattr(call.result, "shape", None) == call.sources[0].shape:
        table, module, reads = "POINTWISE", "operations.py", "each element depends only on the one at its own position"
    else:
        table, module, reads = "WINDOWS", "windows.py", "a window tells what a unit reads"
    return f"if {reads}, add {call.kind} to {table} in helpers/receptive_field/{module}; else {STOP_BEFORE_IT}"


# ---- operations that read whole dimensions ----


def dimensions(call: Call, default: int | None) -> list[int]:
    """Return the dimensions ``call`` reads along: its argument, else ``default``; None means all of them."""
    arguments, num_dims = named_arguments(call), call.sources[0].ndim
    dims = arguments.get("dim", arguments.get("axis"))
    dims = default if dims is None or dims == () else dims
    if dims is None:
        return list(range(num_dims))
    if isinstance(dims, int):
        dims = [dims]
    return [dim % num_dims for dim in dims]


def reduced(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    arguments = named_arguments(call)
    if len(states) > 1 or isinstance(arguments.get("dim"), Tensor) or "other" in arguments:
        return pointwise(call, states)  # elementwise max or min of two tensors
    return [read_along(call, states[0], dimensions(call, None))] * len(call.outputs())


def read_along(call: Call, state: FieldState, dims: Sequence[int]) -> FieldState:
    """Return the state of elements that each read all elements along ``dims``."""
    state, shape = state.in_map_units(), call.outputs()[0].shape
    dims = [dim + 1 for dim in dims]
    extents = compact(state.extents).amax(dims, keepdim=True)
    if len(shape) + 1 < extents.ndim:
        extents = extents.squeeze(dims)
    return state.with_extents(merged([extents], shape))


def over_dimension(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    num_dims, default = call.sources[0].ndim, -1
    if call.kind in ("normalize", "cosinesimilarity"):
        default = 1
    elif "softm" in call.kind:  # torch's choice, with a warning, if no dim is given
        default = 0 if num_dims in (0, 1, 3) else 1
    state = united(states, call.sources[0].shape)
    return [read_along(call, state, dimensions(call, default))] * len(call.outputs())


def gated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Gated linear unit: one half of the channels times the sigmoid of the other half."""
    state = states[0].in_map_units()
    halves = state.extents.chunk(2, dimensions(call, -1)[0] + 1)
    return [state.with_extents(merged(halves, call.result.shape))]


def cumulated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    state = states[0].in_map_units()
    return [state.with_extents(state.extents.cummax(dimensions(call, -1)[0] + 1).values)] * len(call.outputs())


def weighted(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Linear layers, and products with a constant matrix or vector."""
    source = call.sources[0]
    left = left_factor(call)
    if len(states) > 1 or (call.kind == "linear" and source is not left):
        raise ValueError(ATTENTION)
    summed_dim = source.ndim - 1 if source is left else max(source.ndim - 2, 0)
    return [read_along(call, states[0], [summed_dim])]


def einsum(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """One source and constants: each element reads the source along all dimensions that the result does not have."""
    if len(states) > 1:
        raise ValueError(ATTENTION)
    equation, operands = call.args[0], call.args[1:]
    if isinstance(operands[0], list | tuple):
        operands = operands[0]
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    labels = ""  # of the dimensions of the source
    for operand, operand_labels in zip(operands, inputs.split(","), strict=False):
        if operand is call.sources[0]:
            labels = operand_labels
    if not arrow or "." in equation or len(set(labels)) < len(labels):
        raise ValueError("write an equation with -> that names each dimension of the input once, without an ellipsis")
    state = states[0].in_map_units()
    extents = compact(state.extents)
    for dim in reversed(range(len(labels))):
        if labels[dim] not in output:
            extents = extents.amax(dim + 1)
    kept = [label for label in labels if label in output]
    order = [kept.index(label) + 1 for label in output if label in kept]
    index = [slice(None) if label in kept else None for label in output]
    extents = extents.permute(0, *order)[:, *index]
    return [state.with_extents(extents.expand(-1, *call.result.shape))]


Rule = Callable[[Call, Sequence[FieldState]], list[FieldState]]
RULES: dict[str, Rule] = {
    **dict.fromkeys(WINDOWS, through_window),
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(MOVING, moved),
    **dict.fromkeys(MOVING_WINDOWS, moved_between_maps),
    **dict.fromkeys(("where", "maskedfill"), masked),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
    **dict.fromkeys(REDUCING, reduced),
    **dict.fromkeys(OVER_DIMENSION, over_dimension),
    **dict.fromkeys(CUMULATIVE, cumulated),
    **dict.fromkeys(WEIGHTED, weighted),
    "einsum": einsum,
    "glu": gated,
    "localresponsenorm": across_channels,
}
