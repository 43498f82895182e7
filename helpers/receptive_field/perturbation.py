"""Measure which pixels a unit sees: set pixels to NaN and look whether the unit becomes NaN."""

from collections.abc import Callable, Sequence
from math import nan, prod

import torch
from torch import Tensor, nn

from helpers.receptive_field.calls import Call, Step, UnsupportedOperation
from helpers.receptive_field.extents import at
from helpers.receptive_field.geometry import Box, Pair
from helpers.receptive_field.operations import NORMS
from helpers.receptive_field.tracing import Tracer
from helpers.runtime.looking import tensors_in

CHUNK = 1 << 20  # about how many input values a batch of perturbed images has
Band = tuple[int, range]  # axis (0 for rows, 1 for columns), and which of its lines


def bands_reaching(
    network: nn.Module, layer: str, unit: Pair | None, input_size: Sequence[int], bands: list[Band]
) -> set[Band]:
    """Return those of ``bands`` from which NaN reaches ``unit`` of ``layer``. ``network`` is in float64."""
    # One image for each band, and a last one without NaN. At least two, as squeeze() drops a batch of one.
    images = torch.ones(max(2, len(bands) + 1), *input_size, dtype=torch.float64)
    for image, (axis, lines) in zip(images, bands, strict=False):
        image.narrow(axis + 1, lines.start, len(lines)).fill_(nan)
    output = _output_of(network, layer, images)
    maps = output if output.ndim == 4 else output.reshape(len(output), -1, 1, 1)
    is_nan = at(maps, unit).isnan().flatten(1).any(1).tolist()
    if is_nan[-1] and bands:
        bands_reaching(network, layer, unit, input_size, [])  # raises if an image of ones alone gives NaN
        raise ValueError(f"{layer} mixes images: its output for one depends on the others of the batch")
    if is_nan[-1]:
        raise ValueError(f"{layer} turns an image of ones into NaN: mend the weights or statistics")
    return {band for band, hit in zip(bands, is_nan, strict=False) if hit}


def search(input_size: Sequence[int], reaching: Callable[[list[Band]], set[Band]]) -> Box | None:
    """Return the box of pixels from which NaN reaches a unit; None if it reaches it from nowhere.

    ``reaching`` returns which of the given bands reach the unit. Each of the four edges of the box is searched for in a
    range of lines, at first the whole side of the image. In every round all ranges are cut into bands, and each range
    shrinks to the outermost band that reaches the unit. A range is cut into as many bands as fit into CHUNK values, but
    at least two.
    """
    _, height, width = input_size
    whole_image = (0, range(height))
    if whole_image not in reaching([whole_image]):
        return None
    num_bands = max(2, CHUNK // (4 * prod(input_size)))
    ranges = {(axis, end): range(side) for axis, side in enumerate((height, width)) for end in ("first", "last")}
    while any(len(lines) > 1 for lines in ranges.values()):
        cuts = {}  # for each edge from the outside to the inside
        for (axis, end), lines in ranges.items():
            size = -(-len(lines) // num_bands)  # rounded up
            cut = [lines[i : i + size] for i in range(0, len(lines), size)]
            cuts[axis, end] = cut if end == "first" else cut[::-1]
        # Some line of the range reaches the unit: if no other band does, the innermost one must.
        bands = {(axis, lines): None for (axis, _), cut in cuts.items() for lines in cut[:-1]}
        hits = reaching(list(bands))
        for (axis, end), cut in cuts.items():
            reached = [lines for lines in cut[:-1] if (axis, lines) in hits]
            ranges[axis, end] = reached[0] if reached else cut[-1]
    rows = (ranges[0, "first"].start, ranges[0, "last"].start)
    columns = (ranges[1, "first"].start, ranges[1, "last"].start)
    return rows, columns


class _Reached(BaseException):
    """Ends the run as soon as the layer has its output."""


def _output_of(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Return the output of ``layer`` for ``images``, with NaN wherever it depends on a NaN.

    Raises ``ValueError`` if there is no such layer, and for an operation that hides NaN.
    """

    def on_call(call: Call) -> list[bool]:
        """Run ``call`` and return for each output whether it can show NaN, as floating-point numbers can."""
        inputs_show_nan = all(tracer.states[source] for source in call.sources)
        has_nan = any(source.is_floating_point() and source.isnan().any() for source in call.sources)
        source = call.sources[0]
        if call.kind in NORMS:  # statistics count as constants: those that ignore NaN leave it where it is
            call.result = call.run({id(source): source.nan_to_num(0)}) + 0 * source
        elif call.kind == "interpolate":  # in float32, as usual: rounding decides which positions it reads
            call.result = call.run({id(source): source.float()}).double()
        else:
            call.result = call.run()
        hides_nan = not inputs_show_nan or (has_nan and not _shows_nan(call))
        if call.outputs() and hides_nan:
            raise UnsupportedOperation(
                f"{call.label} cannot be measured: its result does not show which of its inputs are NaN"
            )
        return [output.is_floating_point() for output in call.outputs()]

    def on_write(tensor: Tensor, shows_nan: bool | None, part: Tensor, part_shows_nan: bool) -> bool:
        return part_shows_nan and shows_nan is not False  # None: it was not computed from the image

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


def _shows_nan(call: Call) -> bool:
    """Tell whether the result of a ``call`` that read NaN contains NaN, or does not depend on what is NaN."""
    numbers = [output for output in call.outputs() if output.is_floating_point()]
    if not numbers:
        return False
    if any(output.isnan().any() for output in numbers):
        return True
    if call.name.endswith("_"):  # its input is overwritten: it cannot be run again
        return False
    results = []
    for value in (-1e3, 1e3):  # in place of NaN
        results.append(tensors_in(call.run({id(source): source.nan_to_num(value) for source in call.sources})))
    return all(low.equal(high) for low, high in zip(*results, strict=True))
