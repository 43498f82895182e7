"""Receptive fields of any network that torch.fx can follow: computed along the dataflow, proved by perturbation."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf, nan, prod

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

Pair = tuple[int, int]  # (height, width), (row, column) or (first, last)
Box = tuple[Pair, Pair]  # ((top, bottom), (left, right)): pixels, the last ones included
CHUNK = 1 << 20  # input values that are perturbed at a time

# All that is followed, by the name that modules and functions share (nn.LeakyReLU, F.leaky_relu).
POOLS = {"maxpool2d": nn.MaxPool2d, "avgpool2d": nn.AvgPool2d}
ADAPTIVE = "adaptiveavgpool2d adaptivemaxpool2d"
GLOBAL = "mean sum amax amin linear"  # make one unit of a map
FOLDED = "flatten view reshape squeeze softmax logsoftmax"  # so do these, which a table of stages need not show
POINTWISE = """identity clone contiguous dropout dropout2d alphadropout stochasticdepth batchnorm1d batchnorm2d
    syncbatchnorm relu relu6 leakyrelu prelu elu selu celu gelu silu mish sigmoid logsigmoid tanh hardtanh hardsigmoid
    hardswish softplus softsign abs clamp exp neg pow sqrt maximum minimum add sub mul div truediv cat concat"""

SHOWN = "in_channels out_channels in_features out_features num_features p output_size kernel_size"
USUAL = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "track_running_stats": True}


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


@torch.random.fork_rng(devices=())
def layer_table(model: nn.Module, input_size: Sequence[int] = (1, 28, 28)) -> list[Row]:
    """Return a row for each operation on an image of ``input_size`` (channels, height, width), as executed.

    ``model`` stays as it is: a copy without hooks, in evaluation mode, is traced by torch.fx and sees ones. Modules
    are named by their path, functions as torch.fx names them, a second use is ``path (2)``. Raises ``ValueError``
    for a layer that cannot take its input or cannot be followed, and for parameters that act on no image.
    """
    _, height, width = _checked(input_size)
    uncounted = {path: parameter.numel() for path, parameter in model.named_parameters()}
    rows, seen, brought, above = [], {}, {}, None
    for node, name, network in _run(model, torch.ones(2, *input_size)):  # with one, squeeze() would pass for sound
        value, sources = network.env[node], [source for source in node.all_input_nodes if source in seen]
        owned = [
            p for p in uncounted if node.op in ("call_module", "get_attr") and f"{p}.".startswith(f"{node.target}.")
        ]
        brought[node] = set(owned).union(*(brought[source] for source in node.all_input_nodes))
        if node.op == "placeholder" and not seen:
            ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            seen[node] = torch.tensor([(1, 1), (1, 1), (0, 0)]), torch.stack([ys, xs, -ys, -xs]).float()
        elif node.op == "output":
            again = network.module(torch.ones(2, *input_size))
            if isinstance(value, Tensor) and not torch.allclose(value, again, equal_nan=True):
                raise ValueError(f"{type(model).__name__} does not compute what torch.fx has traced of it")
        elif sources and not isinstance(value, int | torch.Size):
            kind, layer, operation = _identify(node, network)
            label = f"{name} ({operation})"
            theory, reach = seen[node] = _see(label, kind, layer, [seen[source] for source in sources], value)
            shapes = tuple(network.env[sources[0]].shape[1:]), tuple(value.shape[1:])
            folds = sources == [above] and kind in f"{FOLDED} {POINTWISE}".split()
            params = sum(uncounted.pop(path) for path in brought[node] & uncounted.keys())
            rows.append(Row(name, operation, *shapes, *map(tuple, theory.tolist()), params, folds, reach))
            above = node
    if uncounted:
        raise ValueError(f"{type(model).__name__} has parameters that act on no image: {', '.join(uncounted)}")
    return rows


@torch.random.fork_rng(devices=())
def measured_receptive_field(
    model: nn.Module, layer: str, unit: Pair | None = None, input_size: Sequence[int] = (1, 28, 28)
) -> Box | None:
    """Return the box that ``layer_table``'s row ``layer`` should have for ``unit``, found by perturbation.

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
        run = _run(model, chunk.repeat(1, channels, 1, 1))
        output = next((network.env[node] for node, name, network in run if name == layer), None)
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
    lines = [f"| {' | '.join(line)} |" for line in padded] + ["", f"Total: {sum(r.params for r in rows):,} parameters"]
    image = rows[0].input_shape[1:]
    outgrown = [row.name for row in rows if any(f > n for f, n in zip(row.receptive_field, image, strict=False))]
    if outgrown:
        lines += [
            "",
            f"Note: {len(outgrown)} fields, {outgrown[0]}'s the first, are larger than the {_by(*image)} image.",
        ]
    maps = [row for row in rows if max(row.output_shape[1:], default=1) > 1]
    if maps and maps[-1].box() != tuple((0, n - 1) for n in image):
        seen = _by(*(last - first + 1 for first, last in maps[-1].box() or ()))
        lines += [
            "",
            f"Note: {maps[-1].name}, the last map, sees {seen or 'none'} of {_by(*image)} pixels from its centre.",
        ]
    return "\n".join(lines)


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


def _run(model: nn.Module, images: Tensor) -> Iterator[tuple[fx.Node, str, fx.Interpreter]]:
    """Trace a copy of ``model``, show it ``images``, and yield each node, its name and what holds the values so far."""
    tracer, uses = fx.Tracer(), Counter()
    stock = tracer.is_leaf_module  # our own batch norms and dropouts are leaves, too: fx cannot follow their choices
    tracer.is_leaf_module = lambda module, path: stock(module, path) or isinstance(module, nn.BatchNorm2d | nn.Dropout)
    try:
        network = copy.deepcopy(model).requires_grad_(False).to("cpu", images.dtype).eval()
        for module in network.modules():
            module._forward_hooks = module._forward_pre_hooks = {}
        runner = fx.Interpreter(network, graph=tracer.trace(network))
    except Exception as error:
        place = next(reversed(tracer.module_stack), type(model).__name__)
        raise ValueError(f"{place} cannot be followed by torch.fx: {str(error).splitlines()[0]}") from error
    runner.args_iter = iter([images])
    for node in runner.graph.nodes:
        name = node.target if node.op == "call_module" else node.name
        uses[name] += node.op.startswith("call")
        name = f"{name} ({uses[name]})" if uses[name] > 1 else name
        try:
            runner.env[node] = runner.run_node(node)
        except Exception as error:
            raise ValueError(f"{name} cannot take its input: {str(error).splitlines()[0]}") from error
        yield node, name, runner
        for done in runner.user_to_last_uses.get(node, ()):
            del runner.env[done]


def _identify(node: fx.Node, network: fx.Interpreter) -> tuple[str, nn.Module | None, str]:
    """Return what the lists above call a node, its layer (a function that pools has one, too), and its text."""
    if node.op == "call_module":
        layer = network.fetch_attr(node.target)
    else:
        name = getattr(node.target, "__name__", node.target)
        kind = name if name.endswith("_") else name.replace("_", "")  # add_ would change what others read: not listed
        if kind not in POOLS:
            return kind, None, name
        args, kwargs = network.fetch_args_kwargs_from_env(node)
        layer = POOLS[kind](*args[1:], **{word: value for word, value in kwargs.items() if word != "input"})
    kind, words = type(layer).__name__.lower(), []
    for word, value in vars(layer).items():
        value = value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value
        if word in SHOWN.split() or (word == "stride" and kind in POOLS):
            words.append(str(value))
        elif word in USUAL and value != USUAL[word]:
            words.append(f"{word}={value}")
    return kind, layer, f"{type(layer).__name__}({', '.join(words)})" if words else type(layer).__name__


def _see(label: str, kind: str, layer: nn.Module | None, branches: Sequence[tuple], value: object) -> tuple:
    """Return what the units of an operation's ``value`` see, in theory and reach, given the same of its inputs.

    The equations are those of Araujo, Norris and Sim, "Computing Receptive Fields of CNNs", Distill 2019.
    """
    if not isinstance(value, Tensor) or value.ndim not in (2, 4) or len(value) != 2:
        raise ValueError(f"{label} cannot be followed: its output is neither a map nor a vector for each image")
    # First the inputs meet.
    size, jump, start = torch.stack([theory for theory, _ in branches], dim=1)  # (branches, 2) each
    length = torch.tensor([reach.shape[1:] for _, reach in branches])
    n, out = length.amax(0), torch.tensor(value.shape[2:] or (1, 1))
    still = ((length < n) | (jump == 0)).any(0)  # one branch is broadcast, so that each unit sees all of it
    if ((jump != jump[0]).any(0) & ~still & (n > 1)).any():
        raise ValueError(f"{label} cannot be followed: its branches have different jumps, {jump.tolist()}")
    size = (start + size + still * (length - 1) * jump).amax(0) - start.amin(0)
    jump, start = jump.amax(0) * ~still, start.amin(0)
    reach = torch.stack(torch.broadcast_tensors(*(reach for _, reach in branches))).amax(0)
    # Then a window slides over them: that of the layer, or equal parts of the map, be they single positions.
    kernel, padding, dilation = n // out, 0, torch.ones_like(n)
    stride = kernel.where(out > 1, 1)
    if layer and (kind in [*POOLS, "zeropad2d"] or (kind == "conv2d" and layer.padding_mode == "zeros")):
        settings = (getattr(layer, name, 1) for name in ("kernel_size", "stride", "dilation"))
        kernel, stride, dilation = (torch.tensor(setting).expand(2) for setting in settings)
        padding = layer.padding[2::-2] if kind == "zeropad2d" else layer.padding  # (left, right, top, bottom)
    elif not (
        (kind in POINTWISE.split() and n.equal(out) and getattr(layer, "running_mean", kind) is not None)
        or (kind in f"{GLOBAL} {FOLDED}".split() and out.max() == 1)
        or (kind in ADAPTIVE.split() and n.equal(kernel * out))
    ):
        raise ValueError(f"{label} cannot be followed: which positions it reads is not known here")
    span = (kernel - 1) * dilation
    missing = (out - 1) * stride + span + 1 - n  # positions that the windows need beyond the map's, or leave of them
    before = missing.clamp(min=0) // 2 if isinstance(padding, str) else torch.tensor(padding).expand(2)
    (top, left), (bottom, right) = before.tolist(), (missing - before).tolist()
    reach = F.pad(reach, (left, right, top, bottom), value=-inf)
    reach = F.max_pool2d(reach, kernel.tolist(), stride.tolist(), dilation=dilation.tolist())
    return torch.stack([size + span * jump, jump * stride, start - before * jump]), reach
