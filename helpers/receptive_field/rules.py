"""A rule for each kind of operation: what its outputs see, given what its inputs see."""

from collections.abc import Sequence
from math import inf
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.receptive_field.calls import Call, Refusal
from helpers.receptive_field.geometry import Slide, Window, positions, read
from helpers.receptive_field.operations import OVER_DIMENSION, POINTWISE, REARRANGING, REDUCING, WINDOWS, settings
from helpers.receptive_field.sight import Sight, merged, settled, together, units_of

ATTENTION = "nativemultiheadattention multiheadattentionforward scaleddotproductattention bmm einsum lstm gru rnntanh"
MOVES = ("pad", "pixelshuffle", "pixelunshuffle")  # windows of a single position, and channels that change


def see(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    """Return what the outputs of ``call`` see, whose sources see ``sights``; ``slide`` is the rule of a window."""
    if call.kind in ATTENTION.split():
        refuse(call, "its units may read any other: there is no window to tell")
    if not images_of(call.result):
        refuse(call, "it takes all images together, or gives something else than a tensor for each")
    if not all(output.numel() for output in call.outputs()):
        refuse(call, "it leaves nothing of the map")
    kinds = ((WINDOWS, through_window), (POINTWISE.split(), pointwise), (REARRANGING.split(), rearranged))
    kinds += (
        (REDUCING.split(), reduced),
        (OVER_DIMENSION.split(), over_dimension),
        (("cat", "concat", "stack"), joined),
    )
    kinds += ((("linear", "matmul"), linear), (("localresponsenorm",), across_channels))
    for names, rule in kinds:
        if call.kind in names:
            try:
                return [settled(sight, slide) for sight in rule(call, sights, slide)]
            except ValueError as error:
                refuse(call, str(error))
    refuse(call, f"which positions it reads is not known; {advice(call)}")


def through_window(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    (sight, *_), given = sights, settings(call)
    outputs = call.outputs()
    if len(sights) > 1:
        raise ValueError("its weights come from the image")
    if not sight.is_map:
        raise ValueError("its input is not a map (channels, rows, columns)")
    shape, fields = outputs[0].shape[1:], []
    reach = channels_read(call.kind, given, sight.reach, shape[0])
    for axis, field in enumerate(sight.fields):
        window = WINDOWS[call.kind](given, axis, field.length, shape[1 + axis])
        reads = window.pattern()[0]
        if not all(len(read) for read in reads):
            raise ValueError("some of its units read nothing")
        fields.append(field.through(window, shape[1 + axis], slide))
        if call.kind not in MOVES:
            reach = read(reach, 2 + axis, positions(window, shape[1 + axis], field.length))
    if call.kind in MOVES:
        reach = run_on(call, reach.expand(4, *call.sources[0].shape[1:]))
    return [Sight(reach.expand(4, *shape), tuple(fields))] * len(outputs)


def channels_read(kind: str, given: dict, reach: Tensor, out: int) -> Tensor:
    """Return what of the channels each output channel reads: one channel where all see the same."""
    if reach.stride(1) == 0 and kind not in MOVES:
        return reach[:, :1]
    if "weight" not in given:
        return reach
    groups = given.get("groups", 1)
    return reach.unflatten(1, (groups, -1)).amax(2).repeat_interleave(out // groups if groups > 1 else 1, 1)


def pointwise(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    given = settings(call)
    if call.kind == "batchnorm" and given.get("training"):
        raise ValueError("it normalises with the statistics of all images together, which it mixes so")
    if len(sights) == 1:
        return [sights[0]]
    if len({source.ndim for source in call.sources}) > 1:
        raise ValueError("its inputs have unlike numbers of dimensions")
    fields, units = together(sights)
    same = all(sight.reach.stride(1) == 0 for sight in sights)
    reach = merged([sight.reach[:, :1] if same else sight.reach for sight in sights])
    return [Sight(reach.expand(4, *call.result.shape[1:]), fields, None if units[0] is None else merged(units))]


def rearranged(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    sight, source = sights[0], call.sources[0]
    of_image = torch.stack([torch.full(source.shape[1:], float(i)) for i in range(2)])
    moved = call.run(lambda x: of_image if x is source else x)
    for tensor in moved if isinstance(moved, tuple | list) else [moved]:
        if tensor[0].any() or not tensor[1].all():
            raise ValueError("it mixes images")
    reaches, units = run_on(call, sight.reach), run_on(call, units_of(sight))
    if isinstance(reaches, Tensor):
        return [Sight(reaches, sight.fields, units)]
    return [Sight(reach, sight.fields, unit) for reach, unit in zip(reaches, units, strict=True)]


def run_on(call: Call, reach: Tensor) -> Tensor | list[Tensor]:
    """Return what an operation that computes nothing makes of ``reach`` (4, ...): two of it for the two images."""
    source, padded = call.sources[0], call.kind == "pad" and settings(call).get("mode", "constant") == "constant"
    halves = []
    for half in reach.split(2):
        if padded:
            halves.append(F.pad(half, settings(call)["pad"], value=-inf))
        else:
            halves.append(call.run(lambda x, half=half: half if x is source else x))
    if isinstance(halves[0], Tensor):
        return torch.cat(halves)
    return [torch.cat(pieces) for pieces in zip(*halves, strict=True)]


def dimensions(call: Call, usual: object) -> list[int]:
    """Return the dimensions that ``call`` reads along."""
    source, dims = call.sources[0], settings(call).get("dim")
    dims = usual if dims is None else dims
    if dims is None:
        raise ValueError("it mixes images: give its dim")
    dims = [dim % source.ndim for dim in ([dims] if isinstance(dims, int) else dims)]
    if 0 in dims:
        raise ValueError("it mixes images: its dim is 0")
    return dims


def reduced(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    if len(sights) > 1 and call.kind in ("max", "min"):
        return pointwise(call, sights, slide)
    dims, keepdim = dimensions(call, None), settings(call).get("keepdim", False)
    reach, units = (tensor.amax(dims, keepdim) for tensor in (sights[0].reach, units_of(sights[0])))
    return [Sight(reach, sights[0].fields, units)] * len(call.outputs())


def over_dimension(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    usual = 1 if call.sources[0].ndim in (2, 4) or call.kind == "normalize" else 0
    dims = dimensions(call, usual)
    reach, units = (x.amax(dims, True).expand_as(x) for x in (sights[0].reach, units_of(sights[0])))
    return [Sight(reach, sights[0].fields, units)]


def linear(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    if len(sights) > 1 or (call.args and call.args[0] is not call.sources[0]):
        raise ValueError("its weights come from the image: its units may read any other")
    shape = call.result.shape[1:]
    reach, units = (x.amax(-1, True).expand(4, *shape) for x in (sights[0].reach, units_of(sights[0])))
    return [Sight(reach, sights[0].fields, units)]


def across_channels(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    size, channels = settings(call)["size"], call.result.shape[1]
    reads = positions(Window(size, padding=size // 2), channels, channels)
    reach, units = (read(x, 1, reads) for x in (sights[0].reach, units_of(sights[0])))
    return [Sight(reach, sights[0].fields, units)]


def joined(call: Call, sights: Sequence[Sight], slide: Slide) -> list[Sight]:
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    fields, units = together(sights)
    own_units = [units_of(sight) if unit is None else unit for sight, unit in zip(sights, units, strict=True)]
    both = []
    for tensors in ([sight.reach for sight in sights], own_units):
        queue = iter(tensors)
        parts = [
            next(queue) if any(part is source for source in call.sources) else torch.full((4, *part.shape[1:]), -inf)
            for part in call.args[0]
        ]
        both.append(call.function(parts, dim))
    return [Sight(both[0], fields, both[1])]


def advice(call: Call) -> str:
    """Return what to do about a call that has no rule."""
    place = "in helpers/receptive_field/operations.py"
    before, after = (getattr(tensor, "shape", None) for tensor in (call.sources[0], call.result))
    if before == after:
        return f"if each unit reads its own position alone, no statistics of others, add it to POINTWISE {place}"
    return f"if a window tells what a unit reads, add a rule to WINDOWS {place}"


def refuse(call: Call, why: str) -> NoReturn:
    raise Refusal(f"{call.label} cannot be followed: {why}")


def images_of(result: object) -> bool:
    """Tell whether all tensors of a result have the two images first."""
    tensors = result if isinstance(result, tuple | list) else [result]
    return all(isinstance(tensor, Tensor) and tensor.ndim and len(tensor) == 2 for tensor in tensors)
