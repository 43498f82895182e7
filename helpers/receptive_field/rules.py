"""A rule for each kind of operation: what its outputs see, given what its inputs see."""

from collections.abc import Callable, Sequence
from typing import NoReturn

from torch import Tensor

from helpers.receptive_field.calls import Call, UnsupportedOperation
from helpers.receptive_field.elementwise import across_channels, chosen, concatenated, moved, moved_in_theory, pointwise
from helpers.receptive_field.extents import compact, merged
from helpers.receptive_field.operations import (
    ATTENTION,
    BEFORE_IT,
    CUMULATIVE,
    MOVING,
    OVER_DIMENSION,
    POINTWISE,
    REDUCING,
    UNSUPPORTED,
    WEIGHTED,
    factors,
    settings,
)
from helpers.receptive_field.state import FieldState, alike, settled
from helpers.receptive_field.windows import MOVING_WINDOWS, WINDOWS, through_window
from helpers.runtime.looking import first_line


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
    if getattr(call.result, "shape", None) == call.sources[0].shape:
        table, module, reads = "POINTWISE", "operations.py", "each element depends on the one at its own place alone"
    else:
        table, module, reads = "WINDOWS", "windows.py", "a window tells what a unit reads"
    return f"if {reads}, add {call.kind} to {table} in helpers/receptive_field/{module}; else {BEFORE_IT}"


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
    given = settings(call)
    if len(states) > 1 or isinstance(given.get("dim"), Tensor) or "other" in given:
        return pointwise(call, states)  # max or min: the larger or smaller one of two tensors
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


def gated(call: Call, states: Sequence[FieldState]) -> list[FieldState]:
    """Gated linear unit: one half of the channels times the sigmoid of the other."""
    state = states[0].in_units()
    halves = state.extents.chunk(2, dimensions(call, -1)[0] + 1)
    return [state.after(merged(halves, call.result.shape))]


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
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(MOVING, moved),
    **dict.fromkeys(MOVING_WINDOWS, moved_in_theory),
    **dict.fromkeys(("where", "maskedfill"), chosen),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
    **dict.fromkeys(REDUCING, reduced),
    **dict.fromkeys(OVER_DIMENSION, over_dimension),
    **dict.fromkeys(CUMULATIVE, cumulated),
    **dict.fromkeys(WEIGHTED, weighted),
    "einsum": einsum,
    "glu": gated,
    "localresponsenorm": across_channels,
}
