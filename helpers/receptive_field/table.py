"""The layer table: a row for each operation of a network, as it is executed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby
from math import prod
from numbers import Integral

import torch
from torch import Tensor, nn

from helpers.receptive_field.calls import Call, Step
from helpers.receptive_field.describe import describe, multiply_adds, remark
from helpers.receptive_field.extents import at, box_of
from helpers.receptive_field.geometry import Box, Pair
from helpers.receptive_field.operations import FUSED, POINTWISE
from helpers.receptive_field.perturbation import reaches, search
from helpers.receptive_field.rules import see
from helpers.receptive_field.state import FieldState, image, rewritten
from helpers.receptive_field.tracing import Tracer
from helpers.runtime.looking import copy_of, initialise

VARIES = (
    "the jump of {} varies: neighbouring units are not all equally far apart, so that its receptive field is the most "
    "of the image that one of them sees."
)


@dataclass(frozen=True)
class Row:
    """One operation. Shapes are ``(channels, height, width)`` or ``(features,)``; pairs are (height, width), in pixels.

    In theory unit ``(i, j)`` sees ``receptive_field`` pixels from ``start + (i, j) * jump`` on, those that lie in
    padding or in the holes of a dilation included; ``box`` tells which it really sees. A vector is one unit.

    ``jump`` is 0 where all units see the same, as after squeeze-and-excitation. After an upsampling several units may
    see the same: it is the mean, maybe a fraction, and ``receptive_field`` the most that a unit sees. It is None where
    neighbours are not equally far apart, as where an upsampling from corner to corner meets a skip connection;
    ``receptive_field`` is then the most of the image that a unit sees.
    """

    name: str
    operation: str
    input_shape: tuple[int, ...]  # of the first one where branches meet
    output_shape: tuple[int, ...]
    receptive_field: Pair
    jump: tuple[int | Fraction | None, int | Fraction | None]
    start: Pair
    params: int  # those that no row above uses
    multiply_adds: int  # for one image, in convolutions, linear layers and products with a matrix
    fused: bool  # into the layer above: it acts on each unit of that row alone, and on no other row
    # Last row, last column, minus first row, minus first column of the pixels that influence each unit, (4, h, w).
    extents: Tensor = field(repr=False, compare=False)
    modules: dict[str, str] = field(default_factory=dict, repr=False)  # names and classes around it, outermost first
    notes: tuple[tuple[str, str], ...] = ()  # (sentence with a gap for names, name)

    def box(self, unit: Pair | None = None) -> Box | None:
        """Return the box of the image that ``unit``, (row, column), sees, by default the central one.

        It is None for a unit that sees nothing but padding.
        """
        return box_of(at(self.extents, unit))


def layer_table(model: nn.Module, input_size: Sequence[int] = (1, 28, 28)) -> list[Row]:
    """Return a row for each operation on an image of ``input_size`` (channels, height, width), as executed.

    ``model`` stays as it is: a copy without hooks, in evaluation mode, is run on two images. A layer is named by its
    path, a function as torch calls it; a second use is ``path (2)``. What gives neither a map nor a vector for each
    image has no row: its parameters count in the next one. Raises ``ValueError`` for an operation that cannot take its
    input, or that is not supported.
    """
    network = _network(model, _checked(input_size), torch.float32)
    uncounted = {path: parameter.numel() for path, parameter in network.named_parameters()}
    rows, waiting, above = [], [], None

    def on_call(call: Call) -> list[FieldState]:
        call.result = call.run()
        return see(call, [tracer.seen[source] for source in call.sources]) if call.outputs() else []

    def add_row(alone: bool) -> None:
        last = waiting[-1]
        params = sum(uncounted.pop(path) for path in last.params & uncounted.keys())
        rows.append(_row(waiting, tracer.seen[last.output], params, alone))

    def on_step(step: Step) -> bool:
        nonlocal above
        waiting.append(step)
        state = tracer.seen[step.output]
        if not state.has_images_first or not (state.is_map or step.output.ndim == 2):
            return False
        add_row(alone=all(source is above for source in step.sources))
        waiting.clear()
        above = step.output
        return True

    tracer = Tracer(network, on_call, on_step, rewritten)
    tracer.follow(torch.ones(2, *input_size), image(2, *input_size))  # two images: one might be squeezed away
    if not rows or tracer.reached & uncounted.keys():  # what comes last has no row: it is taken for a vector
        if not waiting:
            raise ValueError(f"{type(model).__name__} cannot be followed: none of its operations reads the image")
        if not tracer.seen[waiting[-1].output].has_images_first:
            raise ValueError(f"{waiting[-1].name} cannot be followed: its output is not a tensor for each image")
        add_row(alone=False)
    if uncounted:
        rows[-1] = replace(rows[-1], notes=(*rows[-1].notes, (_unreached(uncounted), "")))
    return rows


def _unreached(uncounted: dict[str, int]) -> str:
    """Return what to say of the parameters, by path, that act on no image."""
    modules = Counter()
    for path, number in uncounted.items():
        modules[path.partition(".")[0]] += number
    listed = ", ".join(f"{name} ({number:,})" for name, number in modules.items())
    return f"{modules.total():,} more parameters are reached by no image: {listed}."


def _row(steps: Sequence[Step], state: FieldState, params: int, alone: bool) -> Row:
    """Return the row of the last of ``steps``, the others having none; ``alone``: it reads the row above alone."""
    step, calls = steps[-1], [call for step in steps for call in step.calls]
    rows, columns = state.described()
    extents = state.seen[:, 0].amax(1)  # of the first image, over its channels
    notes = []
    for s in steps:
        sentences = dict.fromkeys(remark(call) for call in s.calls)
        notes += [(sentence, s.name) for sentence in sentences if sentence]
    if state.is_map and None in (rows[1], columns[1]):
        notes.append((VARIES, step.name))
    return Row(
        name=step.name,
        operation=describe(step),
        input_shape=tuple(steps[0].sources[0].shape[1:]),
        output_shape=tuple(step.output.shape[1:]),
        receptive_field=(rows[0], columns[0]),
        jump=(rows[1], columns[1]),
        start=(rows[2], columns[2]),
        params=params,
        multiply_adds=sum(map(multiply_adds, calls)),
        fused=alone and {call.kind for call in calls} <= FUSED | POINTWISE,
        extents=extents if state.is_map else extents[:, None, None],
        modules=step.modules,
        notes=tuple(notes),
    )


def measured_receptive_field(
    model: nn.Module, layer: str, unit: Pair | None = None, input_size: Sequence[int] = (1, 28, 28)
) -> Box | None:
    """Return the box that ``box`` of ``layer_table``'s row ``layer`` should give for ``unit``, found by perturbation.

    It is None where no pixel reaches the unit. Each of many images has NaN in some of its rows or columns and ones
    elsewhere; where that reaches the unit, fewer of these lines are tried. Whatever reads a NaN becomes NaN: no ReLU,
    max pooling or zero weight hides it. It is run in float64, for which torch has no fast convolution that would mix
    positions. Raises ``ValueError`` where there is no such layer or unit, for a model that cannot take ``input_size``,
    and for an operation that hides NaN or mixes images.
    """
    _, *sides = _checked(input_size)
    network = _network(model, input_size, torch.float64)
    return search(sides, prod(input_size), lambda spots: reaches(network, layer, unit, input_size, spots))


def stages(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that change what is seen; what is fused into them adds its parameters to theirs.

    A layer with parameters is not fused into one without: a batch norm after a pooling is a stage of its own. A stage
    has the name of the module around it if it is the only one there: ``conv1`` instead of ``conv1.0``.
    """
    heads: list[Row] = []
    for row in rows:
        if heads and row.fused and (heads[-1].params or not row.params):
            heads[-1] = _sum([heads[-1], row])
        else:
            heads.append(row)
    parents = [row.name.rpartition(".")[0] or row.name for row in heads]
    return [replace(row, name=p if parents.count(p) == 1 else row.name) for row, p in zip(heads, parents, strict=True)]


def blocks(rows: Sequence[Row], depth: int = 1) -> list[Row]:
    """Return a row for each group of neighbouring ``rows`` inside the same module, ``depth`` names deep.

    Of ResNet-18, depth 1 has ``layer1``, depth 2 ``layer1.0`` and ``layer1.1``. A block sees what its last row sees.
    """
    result = []
    for name, group in groupby(rows, lambda row: [*row.modules, row.name][:depth][-1]):
        inside = list(group)
        if len(inside) == 1:
            result += inside
            continue
        block = _sum(inside[::-1])
        operation = inside[-1].modules.get(name, inside[0].operation)
        result.append(replace(block, name=name, operation=operation, input_shape=inside[0].input_shape, fused=False))
    return result


def _sum(rows: Sequence[Row]) -> Row:
    """Return the first of ``rows`` with the parameters, multiply-adds and notes of all."""
    params, multiply_adds = sum(row.params for row in rows), sum(row.multiply_adds for row in rows)
    return replace(
        rows[0], params=params, multiply_adds=multiply_adds, notes=tuple(note for row in rows for note in row.notes)
    )


@torch.inference_mode(False)
def _network(model: nn.Module, input_size: Sequence[int], dtype: torch.dtype) -> nn.Module:
    """Return a copy of ``model`` that can be run on the CPU in ``dtype``, in evaluation mode."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            name = path or type(model).__name__
            raise ValueError(f"{name} is compiled by torch.jit, which hides its operations: give what it was made of")
    network = copy_of(model).cpu().eval()  # on the CPU first: a device may lack the type
    initialise(network, torch.zeros(2, *input_size))
    return network.to(dtype).requires_grad_(False)


def _checked(input_size: Sequence[int]) -> Sequence[int]:
    sides = [*input_size] if isinstance(input_size, Sequence) else []
    if len(sides) != 3 or not all(isinstance(side, Integral) and side >= 1 for side in sides):
        raise ValueError(f"input_size is {input_size}: give (channels, height, width), each at least 1")
    return input_size
