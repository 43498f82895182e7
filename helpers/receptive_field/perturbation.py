"""Find by NaN which pixels of an image reach a unit."""

from collections.abc import Callable, Sequence
from math import nan

import torch
from torch import Tensor, nn

from helpers.receptive_field.calls import Call, Step, UnsupportedOperation
from helpers.receptive_field.extents import at
from helpers.receptive_field.geometry import Box, Pair
from helpers.receptive_field.operations import NORMS
from helpers.receptive_field.tracing import Tracer
from helpers.runtime.looking import tensors_in

CHUNK = 1 << 20  # input values that are perturbed at a time
Spot = tuple[int, range]  # axis (0 for rows) and the lines along it


def reaches(
    network: nn.Module, layer: str, unit: Pair | None, input_size: Sequence[int], spots: list[Spot]
) -> set[Spot]:
    """Return those of ``spots`` from which NaN reaches ``unit`` of ``layer`` in ``network``, a copy in float64."""
    # The last image is clean. There are two at least: a batch of one might be squeezed away.
    images = torch.ones(max(2, len(spots) + 1), *input_size, dtype=torch.float64)
    for picture, (axis, lines) in zip(images, spots, strict=False):
        picture.narrow(axis + 1, lines.start, len(lines)).fill_(nan)
    output = _output_of(network, layer, images)
    maps = output if output.ndim == 4 else output.flatten(1)[..., None, None]
    hits = at(maps, unit).isnan().flatten(1).any(1).tolist()
    if hits[-1] and spots:
        reaches(network, layer, unit, input_size, [])  # raises if the clean image gives NaN without the others, too
        raise ValueError(f"{layer} mixes images: what it gives for one depends on those beside it")
    if hits[-1]:
        raise ValueError(f"{layer} turns an image of ones into NaN: mend the weights or statistics")
    return {spot for spot, hit in zip(spots, hits, strict=False) if hit}


def search(sides: Pair, num_values: int, reaching: Callable[[list[Spot]], set[Spot]]) -> Box | None:
    """Return the box of the lines from which NaN reaches a unit, None if it does from none.

    Each of its four edges is sought in a range of lines. All ranges are cut into parts at a time, into as many as give
    images of at most CHUNK values together, ``num_values`` each, but two at least.
    """
    everything, parts = (0, range(sides[0])), max(2, CHUNK // (4 * num_values))
    ranges = {(axis, end): range(sides[axis]) for axis in range(2) for end in (1, -1)}  # 1: first line, -1: last line
    while everything or any(len(lines) > 1 for lines in ranges.values()):
        cuts = {edge: _cut(lines, parts)[:: edge[1]] for edge, lines in ranges.items()}
        spots = dict.fromkeys((axis, lines) for (axis, _), cut in cuts.items() for lines in cut[:-1])
        hits = reaching([*spots, everything] if everything else [*spots])
        if everything and everything not in hits:
            return None
        everything = None
        ranges = {edge: next((x for x in cut[:-1] if (edge[0], x) in hits), cut[-1]) for edge, cut in cuts.items()}
    return tuple((ranges[axis, 1].start, ranges[axis, -1].start) for axis in range(2))


def _cut(lines: range, parts: int) -> list[range]:
    size = -(-len(lines) // parts)
    return [lines[i : i + size] for i in range(0, len(lines), size)]


class _Reached(BaseException):
    """Ends a run: the layer has its output."""


def _output_of(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Return what ``layer`` gives for ``images``: NaN where it has read NaN.

    Raises ``ValueError`` where there is no such layer, and for an operation that hides NaN.
    """

    def on_call(call: Call) -> list[bool]:
        """Return for each output whether it can be NaN."""
        shown = all(tracer.seen[source] for source in call.sources)
        tainted = any(source.is_floating_point() and source.isnan().any() for source in call.sources)
        if call.kind in NORMS:
            call.result = _run_without_statistics(call)
        elif call.kind == "interpolate":  # which positions it reads depends on rounding: as in a network's usual type
            call.result = call.run({id(call.sources[0]): call.sources[0].float()}).double()
        else:
            call.result = call.run()
        if call.outputs() and not (shown and (not tainted or _shows(call))):
            raise UnsupportedOperation(
                f"{call.label} cannot be measured: its result does not show which of its inputs are NaN"
            )
        return [output.is_floating_point() for output in call.outputs()]

    def on_write(tensor: Tensor, shown: bool | None, part: Tensor, written_shown: bool) -> bool:
        return written_shown and shown is not False  # None: it did not come from the image

    def on_step(step: Step) -> bool:
        if step.name == layer:
            raise _Reached(step.output)
        return True

    try:
        tracer = Tracer(network, on_call, on_step, on_write)
        tracer.follow(images, True)
    except _Reached as reached:
        return reached.args[0]
    raise ValueError(f"there is no layer {layer!r}: take the name of a row of layer_table")


def _run_without_statistics(call: Call) -> Tensor:
    """Run a normalisation so that NaN stays in its place: the statistics, which it would spoil, count as constants."""
    (source,) = call.sources
    return call.run({id(source): source.nan_to_num(0)}) + 0 * source


def _shows(call: Call) -> bool:
    """Tell whether the result of a ``call`` that has read NaN has some, or does not depend on what is NaN."""
    numbers = [output for output in call.outputs() if output.is_floating_point()]
    if not numbers or any(output.isnan().any() for output in numbers):
        return bool(numbers)
    if call.name.endswith("_"):  # it has replaced its input
        return False
    results = []
    for value in (-1e3, 1e3):
        results.append(tensors_in(call.run({id(source): source.nan_to_num(value) for source in call.sources})))
    return all(low.equal(high) for low, high in zip(*results, strict=True))
