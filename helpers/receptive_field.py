"""Receptive fields of any network that torch.fx can follow: computed along the dataflow, proved by perturbation."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, nan, prod

import torch
from torch import Tensor, nn

from helpers.engine.tracing import FOLDED, POINTWISE, Window, identify, meet, reach_through, walk, window_of

Pair = tuple[int, int]  # (height, width), (row, column) or (first, last)
Box = tuple[Pair, Pair]  # ((top, bottom), (left, right)): pixels, the last ones included
CHUNK = 1 << 20  # input values that are perturbed at a time


@dataclass(frozen=True)
class Row:
    """One operation. Shapes are ``(channels, height, width)`` or ``(features,)``, pairs (height, width), in pixels.

    In theory unit ``(i, j)`` sees ``receptive_field`` pixels from ``start + (i, j) * jump`` on, padding and holes
    included; ``box`` tells what it really sees. A vector is one unit.
    """

    name: str
    operation: str
    input_shape: tuple[int, ...]  # of the first one where branches meet
    output_shape: tuple[int, ...]
    receptive_field: Pair
    jump: Pair  # 0 where all units see the same, as after squeeze-and-excitation
    start: Pair
    params: int  # without those that a row above uses, too
    folds: bool  # acts on each position of the row above, alone: a stage need not show it
    # (4, h, w): last row, last column, minus first row, minus first column of the pixels that influence each unit,
    # -inf if none do. So the union of what units see is a maximum, and what a window of units sees a max pooling.
    reach: Tensor = field(repr=False, compare=False)

    def box(self, unit: Pair | None = None) -> Box | None:
        """Return what ``unit`` (row, column; the central one) sees of the image; None where only padding."""
        bottom, right, top, left = _at(self.reach, unit).tolist()
        return None if bottom == -inf else ((int(-top), int(bottom)), (int(-left), int(right)))


def slide(
    receptive_field: int, jump: int, start: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> tuple[int, int, int]:
    """Return receptive field, jump and start after a window has slid over a map that has the given ones.

    All along one axis: ``receptive_field`` pixels are seen by a unit, ``jump`` lie between two neighbours, ``start`` is
    the first one that the first unit sees. Araujo, Norris and Sim, "Computing Receptive Fields of CNNs", Distill 2019.
    """
    receptive_field = receptive_field + (kernel_size - 1) * dilation * jump
    start = start - padding * jump
    jump = jump * stride
    return receptive_field, jump, start


@torch.random.fork_rng(devices=())
def layer_table(model: nn.Module, input_size: Sequence[int] = (1, 28, 28)) -> list[Row]:
    """Return a row for each operation on an image of ``input_size`` (channels, height, width), as executed.

    ``model`` stays as it is: a copy without hooks, in evaluation mode, is traced by torch.fx and sees ones. Modules
    are named by their path, functions as torch.fx names them, a second use is ``path (2)``. Raises ``ValueError``
    for a layer that cannot take its input or cannot be followed, and for parameters that act on no image.
    """
    image = _image(*_checked(input_size)[1:])
    uncounted = {path: parameter.numel() for path, parameter in model.named_parameters()}
    rows, seen, brought, above = [], {}, {}, None
    for node, name, network in walk(model, torch.ones(2, *input_size)):  # two: one might be squeezed away
        value, sources = network.env[node], [source for source in node.all_input_nodes if source in seen]
        owner = f"{node.target}." if node.op in ("call_module", "get_attr") else "nobody "
        owned = {path for path in uncounted if f"{path}.".startswith(owner)}
        brought[node] = owned.union(*(brought[source] for source in node.all_input_nodes))
        if node.op == "placeholder" and not seen:
            seen[node] = image
        elif node.op == "output":
            again = network.module(torch.ones(2, *input_size))
            if isinstance(value, Tensor) and not torch.allclose(value, again, equal_nan=True):
                raise ValueError(f"{type(model).__name__} computes something else than torch.fx has traced of it")
        elif sources and not isinstance(value, int | torch.Size):
            kind, layer, operation = identify(node, network)
            label = f"{name} ({operation})"
            theory, reach = meet(label, [seen[source] for source in sources])
            window = window_of(label, kind, layer, reach.shape[1:], value)
            theory, reach = seen[node] = (
                _through(window, theory),
                reach_through(window, reach, value.shape[2:] or (1, 1)),
            )
            shapes = tuple(network.env[sources[0]].shape[1:]), tuple(value.shape[1:])
            folds = sources == [above] and kind in f"{FOLDED} {POINTWISE}".split()
            params = sum(uncounted.pop(path) for path in brought[node] & uncounted.keys())
            rows.append(Row(name, operation, *shapes, *map(tuple, theory.tolist()), params, folds, reach))
            above = node
    if uncounted:
        raise ValueError(f"{type(model).__name__} has parameters that act on no image: {', '.join(uncounted)}")
    return rows


def _image(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return theory and reach of the image: each pixel sees itself."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.tensor([(1, 1), (1, 1), (0, 0)]), torch.stack([ys, xs, -ys, -xs]).float()


def _through(window: Window, theory: Tensor) -> Tensor:
    """Return the theory ``(3, 2)`` of the units that see through ``window``: the rule for rows and for columns."""
    settings = window.kernel_size, window.stride, window.padding, window.dilation
    axes = zip(theory.T.tolist(), zip(*settings, strict=True), strict=True)
    return torch.tensor([slide(*before, *setting) for before, setting in axes]).T


@torch.random.fork_rng(devices=())
def measured_receptive_field(
    model: nn.Module, layer: str, unit: Pair | None = None, input_size: Sequence[int] = (1, 28, 28)
) -> Box | None:
    """Return the box that ``layer_table``'s row ``layer`` should have for ``unit``, found by perturbation.

    It is None where no pixel reaches the unit.

    One image for each row and column has NaN there, and ones elsewhere. What reads a NaN becomes NaN: no ReLU, max
    pooling or zero weight hides it. In float64 no fast convolution, which would mix positions, is at work. Raises
    ``ValueError`` where there is no such layer or unit, and for a model that cannot take ``input_size``.
    """
    channels, height, width = _checked(input_size)
    images = torch.ones(height + width + 1, 1, height, width, dtype=torch.float64)  # the last one stays clean
    images[range(height), :, range(height)] = nan
    images[range(height, height + width), :, :, range(width)] = nan
    tainted = []
    for chunk in images.split(max(1, CHUNK // prod(input_size))):
        run = walk(model, chunk.repeat(1, channels, 1, 1))
        outputs = (network.env[node] for node, name, network in run if name == layer and node.op.startswith("call"))
        output = next(outputs, None)
        if not isinstance(output, Tensor):
            raise ValueError(f"there is no layer {layer!r}: take the name of a row of layer_table")
        tainted += _at(output if output.ndim == 4 else output[..., None, None], unit).isnan().any(1).tolist()
    if tainted.pop():
        raise ValueError(f"{layer} turns an image of ones into NaN: mend the weights or statistics")
    sides = [[i for i, hit in enumerate(hits) if hit] for hits in (tainted[:height], tainted[height:])]
    return tuple((side[0], side[-1]) for side in sides) if all(sides) else None


def stages(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that change what is seen, with the parameters of those that fold into them.

    A stage has the name of the module around it if it is the only one there: ``conv1`` instead of ``conv1.0``.
    """
    heads: list[Row] = []
    for row in rows:
        if heads and row.folds:
            heads[-1] = replace(heads[-1], params=heads[-1].params + row.params)
        else:
            heads.append(row)
    parents = [row.name.rpartition(".")[0] or row.name for row in heads]
    return [replace(row, name=p if parents.count(p) == 1 else row.name) for row, p in zip(heads, parents, strict=True)]


def to_markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table (sizes as height×width×channels), its total, and notes on fields and image."""
    cells = [["Layer", "Operation", "Input", "Output", "Receptive field", "Jump", "Parameters"]]
    for row in rows:
        shapes = [_by(*shape[1:], shape[0]) for shape in (row.input_shape, row.output_shape)]
        cells.append([row.name, row.operation, *shapes, _by(*row.receptive_field), _by(*row.jump), f"{row.params:,}"])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths[:2]] + ["-" * (width - 1) + ":" for width in widths[2:]])
    padded = [[f"{cell:{'<>'[i > 1]}{widths[i]}}" for i, cell in enumerate(line)] for line in cells]
    table = "\n".join(f"| {' | '.join(line)} |" for line in padded)
    paragraphs = [table, f"Total: {sum(row.params for row in rows):,} parameters"]
    image = rows[0].input_shape[1:]
    outgrown = [row.name for row in rows if any(f > n for f, n in zip(row.receptive_field, image, strict=False))]
    if outgrown:
        fields = f"receptive fields of {len(outgrown)} layers, the first of them {outgrown[0]}, are"
        fields = fields if outgrown[1:] else f"receptive field of {outgrown[0]} is"
        paragraphs.append(f"Note: the {fields} larger than the {_by(*image)} image.")
    maps = [row for row in rows if max(row.output_shape[1:], default=1) > 1]
    if maps and maps[-1].box() != tuple((0, n - 1) for n in image):
        seen = _by(*(last - first + 1 for first, last in maps[-1].box() or ())) or "none"
        last = f"the central unit of {maps[-1].name}, the last layer with a map,"
        paragraphs.append(f"Note: {last} sees {seen} of {_by(*image)} pixels.")
    return "\n\n".join(paragraphs)


def _by(*numbers: int) -> str:
    return "×".join(map(str, numbers))


def _checked(input_size: Sequence[int]) -> Sequence[int]:
    if len(input_size) != 3 or min(input_size) < 1:
        raise ValueError(f"input_size is {input_size}: give (channels, height, width), each at least 1")
    return input_size


def _at(maps: Tensor, unit: Pair | None) -> Tensor:
    """Return the values of ``maps`` ``(..., h, w)`` at ``unit``, by default the central one."""
    height, width = maps.shape[-2:]
    row, column = unit or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"unit is {unit}: give (row, column) within {height}×{width}")
    return maps[..., row, column]
