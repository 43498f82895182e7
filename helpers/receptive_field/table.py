"""The layer table: a row for each operation of a network, in the order of execution."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import groupby
from numbers import Integral

import torch
from torch import Tensor, nn

from helpers.receptive_field.calls import Call, Step
from helpers.receptive_field.describe import describe, multiply_adds, note_on
from helpers.receptive_field.extents import at, box_of
from helpers.receptive_field.geometry import Box, Pair
from helpers.receptive_field.operations import FUSED, POINTWISE
from helpers.receptive_field.perturbation import bands_reaching, search
from helpers.receptive_field.rules import propagate
from helpers.receptive_field.state import FieldState, after_write, image
from helpers.receptive_field.tracing import Tracer
from helpers.runtime.looking import copy_of, initialise

VARIES = (
    "the jump of {} varies: neighbouring units are not equally far apart. Its receptive field is the largest part of "
    "the image that one of its units sees."
)


@dataclass(frozen=True)
class Row:
    """One operation. Shapes are ``(channels, height, width)`` or ``(features,)``; pairs are (height, width) in pixels.

    In theory unit ``(i, j)`` sees the ``receptive_field`` pixels from ``start + (i, j) * jump`` on. These include
    padding and the holes of a dilated kernel; ``box`` returns the pixels of the image that it really sees. A vector
    counts as one unit.

    ``jump`` is 0 if all units see the same, as after squeeze-and-excitation. After upsampling it may be a fraction, the
    mean over neighbouring units, and ``receptive_field`` is the largest of all units. ``jump`` is None if units are not
    equally far apart, as when an upsampled map (``align_corners=True``) meets a skip connection; ``receptive_field`` is
    then the largest part of the image that a unit sees.
    """

    name: str
    operation: str
    input_shape: tuple[int, ...]  # of the first input where branches meet
    output_shape: tuple[int, ...]
    receptive_field: Pair
    jump: tuple[int | Fraction | None, int | Fraction | None]
    start: Pair
    params: int  # not used by any row above
    multiply_adds: int  # for one image, of convolutions, linear layers and matrix products
    fused: bool  # with the layer above: pointwise on its output, with no other input
    # Last row, last column, minus first row, minus first column of the pixels that each unit sees: (4, h, w).
    extents: Tensor = field(repr=False, compare=False)
    modules: dict[str, str] = field(default_factory=dict, repr=False)  # names and classes around it, outermost first
    notes: tuple[tuple[str, str], ...] = ()  # (sentence with {} for the name, name)

    def box(self, unit: Pair | None = None) -> Box | None:
        """Return the box of pixels that ``unit`` (row, column) sees, by default the central one.

        Returns None if the unit sees only padding. Raises ``ValueError`` if there is no such unit.
        """
        return box_of(at(self.extents, unit))


def layer_table(model: nn.Module, input_size: Sequence[int] = (1, 28, 28)) -> list[Row]:
    """Return a row for each operation that ``model`` executes on an image of ``input_size`` (channels, height, width).

    ``model`` is not changed: a copy without hooks runs in evaluation mode. A layer is named by its path, a function by
    its name in torch, a second use as ``path (2)``. Operations whose result is neither a map nor one vector for each
    image have no row; their parameters count in the next row. Raises ``ValueError`` for an operation that cannot take
    its input or is not supported.
    """
    network = _network(model, _checked(input_size), torch.float32)
    uncounted = {path: parameter.numel() for path, parameter in network.named_parameters()}
    rows: list[Row] = []
    waiting: list[Step] = []  # steps since the last row
    output_above = None

    def on_call(call: Call) -> list[FieldState]:
        call.result = call.run()
        if not call.outputs():
            return []
        return propagate(call, [tracer.states[source] for source in call.sources])

    def add_row(reads_row_above_only: bool) -> None:
        last = waiting[-1]
        params = sum(uncounted.pop(path) for path in last.params & uncounted.keys())
        rows.append(_row(waiting, tracer.states[last.output], params, reads_row_above_only))

    def on_step(step: Step) -> bool:
        nonlocal output_above
        waiting.append(step)
        state = tracer.states[step.output]
        if not state.has_images_first or not (state.is_map or step.output.ndim == 2):
            return False
        add_row(reads_row_above_only=all(source is output_above for source in step.sources))
        waiting.clear()
        output_above = step.output
        return True

    tracer = Tracer(network, on_call, on_step, after_write)
    tracer.follow(torch.ones(2, *input_size), image(2, *input_size))  # two images: squeeze() drops a batch of one
    if not rows and not waiting:
        raise ValueError(f"{type(model).__name__} cannot be followed: none of its operations reads the image")
    if waiting and (not rows or waiting[-1].params & uncounted.keys()):  # they have no row yet: give them one
        if not tracer.states[waiting[-1].output].has_images_first:
            raise ValueError(f"{waiting[-1].name} cannot be followed: its output is not a tensor for each image")
        add_row(reads_row_above_only=False)
    if uncounted:
        rows[-1] = replace(rows[-1], notes=(*rows[-1].notes, (_unreached(uncounted), "")))
    return rows


def _unreached(uncounted: dict[str, int]) -> str:
    """Return the note on the parameters that the image never reaches; ``uncounted`` has their sizes by path."""
    modules = Counter()
    for path, number in uncounted.items():
        modules[path.partition(".")[0]] += number
    listed = ", ".join(f"{name} ({number:,})" for name, number in modules.items())
    return f"{modules.total():,} more parameters are reached by no image: {listed}."


def _row(steps: Sequence[Step], state: FieldState, params: int, reads_row_above_only: bool) -> Row:
    """Return the row of the last of ``steps``; the steps before it have no row of their own."""
    last, calls = steps[-1], [call for step in steps for call in step.calls]
    is_pointwise = all(call.kind in FUSED | POINTWISE for call in calls)
    receptive_field, jump, start = zip(*state.receptive_fields(), strict=True)
    extents = state.pixels[:, 0]  # of the first image
    extents = extents.amax(1) if state.is_map else extents.reshape(4, -1).amax(1)[:, None, None]
    notes = []
    for step in steps:
        sentences = dict.fromkeys(note_on(call) for call in step.calls)  # each once
        notes += [(sentence, step.name) for sentence in sentences if sentence]
    if state.is_map and None in jump:
        notes.append((VARIES, last.name))
    return Row(
        name=last.name,
        operation=describe(last),
        input_shape=tuple(steps[0].sources[0].shape[1:]),
        output_shape=tuple(last.output.shape[1:]),
        receptive_field=receptive_field,
        jump=jump,
        start=start,
        params=params,
        multiply_adds=sum(map(multiply_adds, calls)),
        fused=reads_row_above_only and is_pointwise,
        extents=extents,
        modules=last.modules,
        notes=tuple(notes),
    )


def measured_receptive_field(
    model: nn.Module, layer: str, unit: Pair | None = None, input_size: Sequence[int] = (1, 28, 28)
) -> Box | None:
    """Return the box of pixels that ``unit`` (row, column) of ``layer`` sees, measured by perturbing the image.

    It should equal ``row.box(unit)`` for the row of ``layer_table`` named ``layer``. ``unit`` is the central one by
    default; None is returned if it sees no pixel.

    Each image of a batch is 1 everywhere but NaN in a band of rows or columns. Bands from which NaN reaches the unit
    are then narrowed down. Whatever reads a NaN becomes NaN: no ReLU, max pooling or zero weight hides it. The network
    runs in float64, for which torch has no fast convolution (such as FFT) that would spread NaN to other positions.

    Raises ``ValueError`` if there is no such layer or unit, if the model cannot take ``input_size``, and for an
    operation that hides NaN or mixes images.
    """
    network = _network(model, _checked(input_size), torch.float64)
    return search(input_size, partial(bands_reaching, network, layer, unit, input_size))


def stages(rows: Sequence[Row]) -> list[Row]:
    """Return ``rows`` with pointwise operations, such as ReLU and batch norm, fused into the layer above.

    A fused row adds its parameters to that layer. An operation with parameters is not fused into one without: a batch
    norm after a pooling is a stage of its own. A stage takes the name of the module around it if it is the only stage
    in there: ``conv1`` instead of ``conv1.0``.
    """
    result: list[Row] = []
    for row in rows:
        if result and row.fused and (result[-1].params or not row.params):
            result[-1] = _sum([result[-1], row])
        else:
            result.append(row)
    parents = [row.name.rpartition(".")[0] or row.name for row in result]
    for i, parent in enumerate(parents):
        if parents.count(parent) == 1:
            result[i] = replace(result[i], name=parent)
    return result


def blocks(rows: Sequence[Row], depth: int = 1) -> list[Row]:
    """Return one row for each module at nesting depth ``depth``, which sums up the consecutive ``rows`` inside it.

    For ResNet-18, depth 1 gives ``layer1``, depth 2 ``layer1.0`` and ``layer1.1``. The receptive field of a block is
    that of its last row.
    """
    result = []
    for name, group in groupby(rows, lambda row: _block_name(row, depth)):
        inside = list(group)
        if len(inside) == 1:
            result += inside
            continue
        block = _sum(inside[::-1])
        operation = inside[-1].modules.get(name, inside[0].operation)
        result.append(replace(block, name=name, operation=operation, input_shape=inside[0].input_shape, fused=False))
    return result


def _block_name(row: Row, depth: int) -> str:
    """Return the name of the module around ``row`` at nesting depth ``depth``, or its own if it lies less deep."""
    names = [*row.modules, row.name]
    return names[:depth][-1]


def _sum(rows: Sequence[Row]) -> Row:
    """Return the first of ``rows`` with the parameters, multiply-adds and notes of all."""
    params, multiply_adds = sum(row.params for row in rows), sum(row.multiply_adds for row in rows)
    return replace(
        rows[0], params=params, multiply_adds=multiply_adds, notes=tuple(note for row in rows for note in row.notes)
    )


@torch.inference_mode(False)
def _network(model: nn.Module, input_size: Sequence[int], dtype: torch.dtype) -> nn.Module:
    """Return a copy of ``model`` on the CPU, in ``dtype`` and in evaluation mode."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            name = path or type(model).__name__
            raise ValueError(f"{name} is compiled by torch.jit, which hides its operations: give what it was made of")
    network = copy_of(model).cpu().eval()  # before the cast: not every device has float64
    initialise(network, torch.zeros(2, *input_size))
    return network.to(dtype).requires_grad_(False)


def _checked(input_size: Sequence[int]) -> Sequence[int]:
    """Return ``input_size``; raise ``ValueError`` if it is not three positive integers."""
    sides = [*input_size] if isinstance(input_size, Sequence) else []
    if len(sides) != 3 or not all(isinstance(side, Integral) and side >= 1 for side in sides):
        raise ValueError(f"input_size is {input_size}: give (channels, height, width), each at least 1")
    return input_size
