"""What each operation reads of its input: the table that ``layer_table`` looks up, and a student may extend."""

from collections.abc import Callable, Sequence
from math import gcd

from helpers.receptive_field.calls import Call
from helpers.receptive_field.geometry import Pattern, Window

# Operations by the one name of nn.LeakyReLU, F.leaky_relu and Tensor.leaky_relu_: leakyrelu.
NORMS = "groupnorm layernorm instancenorm rmsnorm"  # their statistics count as constants: own position only
DROPOUTS = "dropout dropout1d dropout2d dropout3d alphadropout featurealphadropout featuredropout"
# Each unit reads its own position alone.
POINTWISE = f"""{NORMS} {DROPOUTS} batchnorm clone contiguous detach data to float double half bfloat16 type
    typeas cpu relu relu6 leakyrelu prelu rrelu elu selu celu gelu silu mish sigmoid logsigmoid tanh hardtanh
    hardsigmoid hardswish hardshrink softshrink tanhshrink threshold softplus softsign abs clamp clampmin exp log log1p
    neg sign pow sqrt rsqrt square reciprocal sin cos erf round floor maximum minimum add radd sub rsub mul rmul div
    rdiv truediv rtruediv floordivide remainder lerp addcmul where gt lt ge le eq ne logicaland logicalor logicalnot"""
# Elements are moved, left out or repeated, none is computed: the operation itself tells where they come from.
REARRANGING = """flatten unflatten view viewas reshape reshapeas squeeze unsqueeze permute transpose swapaxes swapdims
    movedim t expand expandas broadcastto repeat repeatinterleave tile chunk split splitwithsizes tensorsplit unbind
    select narrow getitem indexselect flip roll channelshuffle"""
REDUCING = "mean sum amax amin max min prod std var norm logsumexp"  # over the dimensions given
OVER_DIMENSION = "softmax logsoftmax softmin normalize"  # each element reads all along one dimension
FOLDED = "flatten view reshape squeeze softmax logsoftmax"  # what a table of stages need not show

SIGNATURES = {
    "conv2d": "input weight bias stride padding dilation groups",
    "convtranspose2d": "input weight bias stride padding output_padding groups dilation",
    **dict.fromkeys(("maxpool2d", "maxpool2dwithindices"), "input kernel_size stride padding dilation ceil_mode"),
    "avgpool2d": "input kernel_size stride padding ceil_mode count_include_pad",
    "lppool2d": "input norm_type kernel_size stride ceil_mode",
    "interpolate": "input size scale_factor mode align_corners recompute_scale_factor antialias",
    "pixelshuffle": "input upscale_factor",
    "pixelunshuffle": "input downscale_factor",
    "localresponsenorm": "input size",
    "pad": "input pad mode value",
    "linear": "input weight bias",
    "batchnorm": "input running_mean running_var weight bias training",
    "instancenorm": "input running_mean running_var weight bias use_input_stats",
    "normalize": "input p dim",
    **dict.fromkeys(DROPOUTS.split(), "input p training"),
    **dict.fromkeys(("softmax", "logsoftmax", "softmin"), "input dim"),
    **dict.fromkeys(REDUCING.split(), "input dim keepdim"),
    **dict.fromkeys(("std", "var"), "input dim unbiased keepdim"),
    "norm": "input p dim keepdim",
}


def settings(call: Call) -> dict[str, object]:
    """Return the arguments of ``call`` by name."""
    return dict(zip(SIGNATURES.get(call.kind, "input").split(), call.args, strict=False)) | call.kwargs


def pair(setting: float | Sequence[float]) -> Sequence[float]:
    """Return (rows, columns) of a setting that may be given once for both."""
    return (setting, setting) if isinstance(setting, int | float) else tuple(setting) * (2 // len(setting))


# ---- windows: given the arguments, the axis (0 for rows), the length of the map and of the output ----


def convolution(given: dict, axis: int, length: int, out: int) -> Window:
    kernel_size = given["weight"].shape[2 + axis]
    stride, dilation = pair(given.get("stride", 1))[axis], pair(given.get("dilation", 1))[axis]
    padding = given.get("padding", 0)
    if isinstance(padding, str):  # valid, or same: the smaller half before the first position
        padding = (kernel_size - 1) * dilation // 2 if padding == "same" else 0
    return Window(kernel_size, stride, pair(padding)[axis], dilation)


def pooling(given: dict, axis: int, length: int, out: int) -> Window:
    setting = lambda name, usual: pair(given.get(name) or usual)[axis]  # noqa: E731
    kernel_size = setting("kernel_size", None)
    return Window(kernel_size, setting("stride", kernel_size), setting("padding", 0), setting("dilation", 1))


def adaptive(given: dict, axis: int, length: int, out: int) -> Window | Pattern:
    """Parts of the map, which overlap by a row where they cannot be equal."""
    if length % out == 0:
        return Window(length // out, length // out if out > 1 else 1)
    parts = gcd(length, out)
    reads = [range(i * length // out, -(-(i + 1) * length // out)) for i in range(out // parts)]
    return Pattern(reads, length // parts)


def transposed(given: dict, axis: int, length: int, out: int) -> Pattern:
    """Input i writes to the outputs ``i * stride - padding + k * dilation``: the same, seen from the output."""
    kernel_size = given["weight"].shape[2 + axis]
    stride, padding, dilation = (
        pair(given.get(name, usual))[axis] for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    places = [[unit + padding - k * dilation for k in reversed(range(kernel_size))] for unit in range(stride)]
    return Pattern([[place // stride for place in row if place % stride == 0] for row in places], 1)


def upsampling(given: dict, axis: int, length: int, out: int) -> Window | Pattern:
    """Nearest: unit i reads position ``i * length // out``; linear: the two that its centre lies between."""
    mode, corners = given.get("mode", "nearest"), given.get("align_corners")
    factor = given.get("scale_factor")
    if given.get("antialias") or mode not in ("nearest", "nearest-exact", "bilinear", "area"):
        raise ValueError(f"mode {mode!r} with its antialias={given.get('antialias')} has no rule")
    if factor is not None and not given.get("recompute_scale_factor") and pair(factor)[axis] * length != out:
        raise ValueError(f"a scale factor of {factor} does not fit a side of {length}")
    if mode == "area":
        return adaptive(given, axis, length, out)
    if length == out:
        return Window(1)
    if mode != "bilinear":
        half = mode == "nearest-exact"
        reads = [[(2 * i + half) * length // (2 * out)] for i in range(out // gcd(length, out))]
        return Pattern(reads, length // gcd(length, out))
    if corners:  # from corner to corner
        steps, parts = length - 1, max(out - 1, 1)
        if any(int(i * (steps / parts)) != i * steps // parts for i in range(out)):
            raise ValueError("rounding decides which positions it reads")
        first = [i * steps // parts for i in range(parts // gcd(steps, parts))]
        return Pattern([[i, i + 1] for i in first], steps // gcd(steps, parts), linear=True)
    first = [((2 * i + 1) * length - out) // (2 * out) for i in range(out // gcd(length, out))]
    return Pattern([[i, i + 1] for i in first], length // gcd(length, out), linear=True)


def padding(given: dict, axis: int, length: int, out: int) -> Window:
    sides = [*given["pad"], 0, 0, 0, 0]  # left, right, top, bottom
    return Window(1, padding=sides[2 - 2 * axis])


WINDOWS: dict[str, Callable[[dict, int, int, int], Window | Pattern]] = {
    "conv2d": convolution,
    "convtranspose2d": transposed,
    **dict.fromkeys(("maxpool2d", "maxpool2dwithindices", "avgpool2d", "lppool2d"), pooling),
    **dict.fromkeys(("adaptiveavgpool2d", "adaptivemaxpool2d"), adaptive),
    "interpolate": upsampling,
    "pad": padding,
    "pixelshuffle": lambda given, axis, length, out: Pattern([[0]] * given["upscale_factor"], 1),
    "pixelunshuffle": lambda given, axis, length, out: Window(given["downscale_factor"], given["downscale_factor"]),
}
