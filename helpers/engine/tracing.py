"""Follow one image through any network that torch.fx can trace: what every operation's units see of it."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
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


def see(label: str, kind: str, layer: nn.Module | None, branches: Sequence[tuple], value: object) -> tuple:
    """Return what the units of an operation's ``value`` see, given the same of its inputs, the ``branches``.

    That is a pair: theory ``(3, 2)``, rows size, jump and start, columns height and width; and ``Row.reach``.
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
        raise ValueError(
            f"{label} cannot be followed: which positions it reads is not known; if each unit reads its own position "
            "alone, add it to POINTWISE in helpers/engine/tracing.py"
        )
    span = (kernel - 1) * dilation
    missing = (out - 1) * stride + span + 1 - n  # positions that the windows need beyond the map's, or leave of them
    before = missing.clamp(min=0) // 2 if isinstance(padding, str) else torch.tensor(padding).expand(2)
    (top, left), (bottom, right) = before.tolist(), (missing - before).tolist()
    reach = F.pad(reach, (left, right, top, bottom), value=-inf)
    reach = F.max_pool2d(reach, kernel.tolist(), stride.tolist(), dilation=dilation.tolist())
    return torch.stack([size + span * jump, jump * stride, start - before * jump]), reach
