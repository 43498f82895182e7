"""What each operation reads of its input: the tables that ``layer_table`` looks up, and a student may extend.

Operations have one name for nn.LeakyReLU, F.leaky_relu and Tensor.leaky_relu_: leakyrelu.
"""

from collections.abc import Callable, Sequence
from math import gcd, nan

import torch
from torch.nn import functional as F

from helpers.receptive_field.calls import Call
from helpers.receptive_field.geometry import Pattern, Window

# ---- which of its arguments' values an operation reads ----

# Of the first argument only shape, type and device: what these give does not come from it.
READ_NO_VALUES = """zeroslike oneslike fulllike emptylike randlike randnlike randintlike newzeros newones newfull
    newempty new newtensor newemptystrided"""
READ_FIRST_VALUES = "typeas viewas reshapeas expandas to resizeas"  # of the other one only shape, type and device

# ---- what each element of the result reads ----

NORMS = "groupnorm layernorm instancenorm rmsnorm"  # their statistics count as constants: own position only
DROPOUTS = "dropout dropout1d dropout2d dropout3d alphadropout featurealphadropout featuredropout"
# Its own position in each input, broadcast.
POINTWISE = f"""{NORMS} {DROPOUTS} batchnorm clone contiguous detach data to float double half bfloat16 type typeas cpu
    cuda real requiresgrad relu relu6 leakyrelu prelu rrelu elu selu celu gelu silu mish sigmoid expit logsigmoid tanh
    hardtanh hardsigmoid hardswish hardshrink softshrink tanhshrink threshold softplus softsign abs absolute clamp
    clampmin clampmax clip exp exp2 expm1 log log1p log2 log10 logit neg negative positive sign sgn pow rpow floatpower
    sqrt rsqrt square reciprocal sin cos tan asin acos atan arctan sinh cosh asinh acosh atanh sinc erf erfc round floor
    ceil trunc fix frac nantonum maximum minimum fmax fmin add radd sub rsub subtract mul rmul multiply div rdiv divide
    truedivide truediv rtruediv floordiv rfloordiv floordivide remainder fmod lerp addcmul addcdiv atan2 hypot logaddexp
    xlogy where maskedfill gt lt ge le eq ne greater less logicaland logicalor logicalnot logicalxor isnan isinf
    isfinite and or xor invert tensor astensor asarray deepcopy newtensor"""
# Elements are moved, left out or repeated, none is computed: the operation itself tells where each comes from.
MOVING = """flatten unflatten view viewas reshape reshapeas ravel squeeze unsqueeze permute transpose swapaxes swapdims
    movedim moveaxis t mt adjoint atleast3d expand expandas broadcastto broadcasttensors repeat repeatinterleave tile
    chunk split splitwithsizes tensorsplit unsafechunk unsafesplit hsplit vsplit unbind select narrow getitem setitem
    indexselect indexcopy indexfill gather scatter takealongdim flip fliplr flipud rot90 roll channelshuffle unfold
    diagonal tril triu copy fill zero stack hstack vstack dstack pad pixelshuffle pixelunshuffle"""
REDUCING = """mean sum nansum nanmean amax amin max min prod std var stdmean varmean norm linalgnorm linalgvectornorm
    logsumexp median nanmedian quantile argmax argmin aminmax any all countnonzero"""  # over the dimensions given
# Each element reads all along one dimension.
OVER_DIMENSION = "softmax logsoftmax softmin normalize sort argsort topk kthvalue cosinesimilarity gumbelsoftmax"
CUMULATIVE = "cumsum cumprod cummax cummin logcumsumexp"  # along one dimension, what comes before and itself
WEIGHTED = "linear matmul rmatmul mm bmm mv addmm addmv baddbmm"  # by constants, along one dimension
FUSED = "flatten view reshape squeeze softmax logsoftmax"  # what a table of stages need not show

SIGNATURES = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), "input weight bias stride padding dilation groups"),
    **dict.fromkeys(
        ("convtranspose1d", "convtranspose2d", "convtranspose3d"),
        "input weight bias stride padding output_padding groups dilation",
    ),
    **{
        f"maxpool{n}d{indices}": "input kernel_size stride padding dilation ceil_mode"
        for n in (1, 2, 3)
        for indices in ("", "withindices")
    },
    **{f"avgpool{n}d": "input kernel_size stride padding ceil_mode count_include_pad" for n in (1, 2, 3)},
    **{f"lppool{n}d": "input norm_type kernel_size stride ceil_mode" for n in (1, 2, 3)},
    "interpolate": "input size scale_factor mode align_corners recompute_scale_factor antialias",
    "pixelshuffle": "input upscale_factor",
    "pixelunshuffle": "input downscale_factor",
    "localresponsenorm": "input size",
    "pad": "input pad mode value",
    "linear": "input weight bias",
    "glu": "input dim",
    "batchnorm": "input running_mean running_var weight bias training",
    "instancenorm": "input running_mean running_var weight bias use_input_stats",
    **dict.fromkeys(DROPOUTS.split(), "input p training"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "tensors dim"),
    **dict.fromkeys((*OVER_DIMENSION.split(), *CUMULATIVE.split(), *REDUCING.split()), "input dim keepdim"),
    **dict.fromkeys(("std", "var", "stdmean", "varmean"), "input dim unbiased keepdim"),
    **dict.fromkeys(("norm", "linalgnorm", "linalgvectornorm", "quantile"), "input p dim keepdim"),
    "normalize": "input p dim",
    "cosinesimilarity": "input other dim",
    "gumbelsoftmax": "input tau hard eps dim",
    **dict.fromkeys(("topk", "kthvalue"), "input k dim"),
}


def settings(call: Call) -> dict[str, object]:
    """Return the arguments of ``call`` by name."""
    return dict(zip(SIGNATURES.get(call.kind, "input").split(), call.args, strict=False)) | call.kwargs


def along(setting: float | Sequence[float], axis: int) -> float:
    """Return what ``setting`` is along ``axis``; it may be given once for all axes."""
    if isinstance(setting, int | float):
        return setting
    return setting[axis] if len(setting) > 1 else setting[0]


def factors(call: Call) -> tuple[object, object]:
    """Return the left and the right one of what a ``call`` of WEIGHTED multiplies."""
    given = [*call.args, *call.kwargs.values()]
    if call.kind in ("addmm", "addmv", "baddbmm"):
        return given[1], given[2]
    return (given[1], given[0]) if call.kind == "rmatmul" else (given[0], given[1])


# ---- windows: given the arguments, the axis (0 for the first after the channels), the length of input and output ----


def convolution(given: dict, axis: int, length: int, out: int) -> Window:
    kernel_size = given["weight"].shape[2 + axis]
    stride, dilation = along(given.get("stride", 1), axis), along(given.get("dilation", 1), axis)
    padding = given.get("padding", 0)
    if isinstance(padding, str):  # valid, or same: the smaller half before the first position
        padding = (kernel_size - 1) * dilation // 2 if padding == "same" else 0
    return Window(kernel_size, stride, along(padding, axis), dilation)


def pooling(given: dict, axis: int, length: int, out: int) -> Window:
    kernel_size = along(given["kernel_size"], axis)
    stride = along(given.get("stride") or kernel_size, axis)  # None or () means the kernel's size
    return Window(kernel_size, stride, along(given.get("padding", 0), axis), along(given.get("dilation", 1), axis))


def adaptive_pooling(given: dict, axis: int, length: int, out: int) -> Window | Pattern:
    """Parts of the map, which overlap by a position where they cannot be equal."""
    if length % out == 0:
        return Window(length // out, length // out if out > 1 else 1)
    parts = gcd(length, out)
    reads = [range(i * length // out, -(-(i + 1) * length // out)) for i in range(out // parts)]
    return Pattern(reads, length // parts)


def transposed_convolution(given: dict, axis: int, length: int, out: int) -> Pattern:
    """Input i writes to the outputs ``i * stride - padding + k * dilation``: the same, seen from the output."""
    kernel_size = given["weight"].shape[2 + axis]
    stride, padding = along(given.get("stride", 1), axis), along(given.get("padding", 0), axis)
    dilation, reads = along(given.get("dilation", 1), axis), []
    for unit in range(stride):
        places = [unit + padding - k * dilation for k in reversed(range(kernel_size))]
        reads.append([place // stride for place in places if place % stride == 0])
    return Pattern(reads, 1)


def upsampling(given: dict, axis: int, length: int, out: int) -> Window | Pattern | None:
    """What an interpolation should read, by the ratio of the sizes: the positions around unit i's place in the input.

    What it does read, at the borders and where torch rounds, tells ``interpolated``; None where that follows no ratio.
    """
    mode = given.get("mode", "nearest")
    if length == 1:
        return Window(1, stride=0)  # all units see the same
    if length == out:
        return Window(1)
    if mode == "area":
        return adaptive_pooling(given, axis, length, out)
    steps, parts = length, out
    if given.get("align_corners"):
        steps, parts = length - 1, max(out - 1, 1)
    shared = gcd(steps, parts)
    reads = []
    for unit in range(parts // shared):
        if mode == "nearest":
            place = unit * length // out
        elif mode == "nearest-exact":
            place = (2 * unit + 1) * length // (2 * out)
        elif given.get("align_corners"):
            place = unit * steps // parts
        else:
            place = ((2 * unit + 1) * length - out) // (2 * out)
        more = {"nearest": (0, 1), "nearest-exact": (0, 1), "bicubic": (-1, 3)}.get(mode, (0, 2))
        reads.append(range(place + more[0], place + more[1]))
    return Pattern(reads, steps // shared)


def interpolated(given: dict, axis: int, length: int, out: int, axes: int) -> list[list[int]]:
    """Return what each unit of an interpolation reads: those that are NaN where one position is, as torch computes it.

    Its rounding differs from a division's for some sizes.
    """
    sides, sizes, factors = [2] * axes, [2] * axes, [1.0] * axes  # the other axes stay as they are
    sides[axis], sizes[axis] = length, out
    probe = torch.zeros(length, 1, *sides, dtype=given["input"].dtype)
    for position in range(length):
        probe[position].select(1 + axis, position).fill_(nan)
    setting = {name: value for name, value in given.items() if name != "input"}
    if setting.get("size") is not None:
        setting["size"] = sizes
    if setting.get("scale_factor") is not None:
        factors[axis] = along(setting["scale_factor"], axis)
        setting["scale_factor"] = factors
    result = F.interpolate(probe, **setting).movedim(2 + axis, 1).flatten(2)[..., 0].isnan()  # (positions, units)
    return [column.nonzero().flatten().tolist() for column in result.T]


Rule = Callable[[dict, int, int, int], Window | Pattern | None]
WINDOWS: dict[str, Rule] = {
    **{f"conv{n}d": convolution for n in (1, 2, 3)},
    **{f"convtranspose{n}d": transposed_convolution for n in (1, 2, 3)},
    **{f"{kind}pool{n}d": pooling for n in (1, 2, 3) for kind in ("max", "avg", "lp")},
    **{f"maxpool{n}dwithindices": pooling for n in (1, 2, 3)},
    **{f"adaptive{kind}pool{n}d": adaptive_pooling for n in (1, 2, 3) for kind in ("max", "avg")},
    **{f"adaptivemaxpool{n}dwithindices": adaptive_pooling for n in (1, 2, 3)},
    "interpolate": upsampling,
}


def padding(given: dict, axis: int, length: int, out: int) -> Window:
    sides = [*given["pad"], 0, 0, 0, 0]  # left, right, top, bottom
    return Window(1, padding=sides[2 - 2 * axis])


def pixel_shuffle(given: dict, axis: int, length: int, out: int) -> Pattern:
    return Pattern([[0]] * given["upscale_factor"], 1)


def pixel_unshuffle(given: dict, axis: int, length: int, out: int) -> Window:
    return Window(given["downscale_factor"], given["downscale_factor"])


# Of those of MOVING that read over the border of a map or make it finer, what they do to it in theory.
MOVING_WINDOWS: dict[str, Rule] = {"pad": padding, "pixelshuffle": pixel_shuffle, "pixelunshuffle": pixel_unshuffle}
