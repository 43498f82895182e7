"""Follow one image through any network that torch.fx can trace: what every operation's units see of it."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

# All that is followed, by the name that modules and functions share (nn.LeakyReLU, F.leaky_relu).
POOLS = {"maxpool2d": nn.MaxPool2d, "avgpool2d": nn.AvgPool2d}
ADAPTIVE = "adaptiveavgpool2d adaptivemaxpool2d"
GLOBAL = "mean sum amax amin linear"  # make one unit of a map
FOLDED = "flatten view reshape squeeze softmax logsoftmax"  # so do these, which a table of stages need not show
POINTWISE = """identity clone contiguous dropout dropout2d alphadropout stochasticdepth batchnorm1d batchnorm2d
    syncbatchnorm relu relu6 leakyrelu prelu elu selu celu gelu silu mish sigmoid logsigmoid tanh hardtanh hardsigmoid
    hardswish softplus softsign abs clamp exp neg pow sqrt maximum minimum add sub mul div truediv cat concat"""


@dataclass(frozen=True)
class Window:
    """What slides over a map, each setting for (rows, columns)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]  # before the first position
    dilation: tuple[int, int]


SHOWN = "in_channels out_channels in_features out_features num_features p output_size kernel_size"
USUAL = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "track_running_stats": True}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def walk(model: nn.Module, images: Tensor) -> Iterator[tuple[fx.Node, str, fx.Interpreter]]:
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
        raise ValueError(f"{place} cannot be followed by torch.fx: {_first_line(error)}") from error
    runner.args_iter = iter([images])
    for node in runner.graph.nodes:
        name = node.target if node.op == "call_module" else node.name
        uses[name] += node.op.startswith("call")
        name = f"{name} ({uses[name]})" if uses[name] > 1 else name
        try:
            runner.env[node] = runner.run_node(node)
        except Exception as error:
            raise ValueError(f"{name} cannot take its input (check input_size): {_first_line(error)}") from error
        yield node, name, runner
        for done in runner.user_to_last_uses.get(node, ()):
            del runner.env[done]


def identify(node: fx.Node, network: fx.Interpreter) -> tuple[str, nn.Module | None, str]:
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


def meet(label: str, branches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return what each unit sees where ``branches`` are added or concatenated: theory and reach.

    A branch's theory is ``(3, 2)``: rows size, jump and start, columns height and width; its reach is ``Row.reach``.
    """
    size, jump, start = torch.stack([theory for theory, _ in branches], dim=1)  # (branches, 2) each
    length = torch.tensor([reach.shape[1:] for _, reach in branches])
    longest = length.amax(0)
    still = ((length < longest) | (jump == 0)).any(0)  # one branch is broadcast, so that each unit sees all of it
    if ((jump != jump[0]).any(0) & ~still & (longest > 1)).any():
        raise ValueError(f"{label} cannot be followed: its branches have different jumps, {jump.tolist()}")
    size = (start + size + still * (length - 1) * jump).amax(0) - start.amin(0)
    reach = torch.stack(torch.broadcast_tensors(*(reach for _, reach in branches))).amax(0)
    return torch.stack([size, jump.amax(0) * ~still, start.amin(0)]), reach


def window_of(label: str, kind: str, layer: nn.Module | None, length: Sequence[int], value: object) -> Window:
    """Return the window that an operation slides over a map of ``length`` (rows, columns) to give ``value``."""
    if not isinstance(value, Tensor) or value.ndim not in (2, 4) or len(value) != 2:
        raise ValueError(f"{label} cannot be followed: its output is neither a map nor a vector for each image")
    n, out = torch.tensor(length), torch.tensor(value.shape[2:] or (1, 1))
    if layer and (kind in [*POOLS, "zeropad2d"] or (kind == "conv2d" and layer.padding_mode == "zeros")):
        kernel, stride, dilation = (_pair(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "dilation"))
        if kind == "zeropad2d":
            return Window(kernel, stride, layer.padding[2::-2], dilation)  # (left, right, top, bottom)
        if isinstance(layer.padding, str):  # same, the smaller half before the first position, or valid
            span = (torch.tensor(kernel) - 1) * torch.tensor(dilation)
            return Window(kernel, stride, tuple(((out - n + span).clamp(min=0) // 2).tolist()), dilation)
        return Window(kernel, stride, _pair(layer.padding), dilation)
    kernel = n // out  # equal parts of the map, be they single positions
    if not (
        (kind in POINTWISE.split() and n.equal(out) and getattr(layer, "running_mean", kind) is not None)
        or (kind in f"{GLOBAL} {FOLDED}".split() and out.max() == 1)
        or (kind in ADAPTIVE.split() and n.equal(kernel * out))
    ):
        raise ValueError(
            f"{label} cannot be followed: which positions it reads is not known; if each unit reads its own position "
            "alone, add it to POINTWISE in helpers/engine/tracing.py"
        )
    return Window(tuple(kernel.tolist()), tuple(kernel.where(out > 1, 1).tolist()), (0, 0), (1, 1))


def _pair(setting: int | Sequence[int]) -> tuple[int, int]:
    return (setting, setting) if isinstance(setting, int) else tuple(setting)


def reach_through(window: Window, reach: Tensor, out: Sequence[int]) -> Tensor:
    """Return the reach of the ``out`` (rows, columns) units that see through ``window`` what ``reach`` tells."""
    sides = []
    for axis, (before, units) in enumerate(zip(window.padding, out, strict=True)):
        span = (window.kernel_size[axis] - 1) * window.dilation[axis]
        needed = (units - 1) * window.stride[axis] + span + 1  # positions, of which the map has too few or too many
        sides = [before, needed - reach.shape[axis + 1] - before, *sides]
    padded = F.pad(reach, sides, value=-inf)
    return F.max_pool2d(padded, window.kernel_size, window.stride, dilation=window.dilation)
