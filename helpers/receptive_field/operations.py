"""What each operation reads of its input: the tables that ``layer_table`` looks up, and a student may extend.

Operations have one name for nn.LeakyReLU, F.leaky_relu and Tensor.leaky_relu_: leakyrelu.
"""

from helpers.receptive_field.calls import Call


def names(text: str) -> frozenset[str]:
    """Return the words of ``text``."""
    return frozenset(text.split())


# ---- which of its arguments' values an operation reads ----

# Of the first argument only shape, type and device: what these give does not come from it.
READ_NO_VALUES = names("""
    zeroslike oneslike fulllike emptylike randlike randnlike randintlike newzeros newones newfull
    newempty new newtensor newemptystrided""")
# Of the other one only shape, type and device.
READ_FIRST_VALUES = names("typeas viewas reshapeas expandas to resizeas")

# ---- what each element of the result reads ----

NORMS = names("groupnorm layernorm instancenorm rmsnorm")  # their statistics count as constants: own position only
DROPOUTS = names("dropout dropout1d dropout2d dropout3d alphadropout featurealphadropout featuredropout")
# Its own position in each input, broadcast.
POINTWISE = NORMS | DROPOUTS
POINTWISE |= names("""
    batchnorm clone contiguous detach data to float double half bfloat16 type typeas cpu
    cuda real requiresgrad relu relu6 leakyrelu prelu rrelu elu selu celu gelu silu mish sigmoid expit logsigmoid tanh
    hardtanh hardsigmoid hardswish hardshrink softshrink tanhshrink threshold softplus softsign abs absolute clamp
    clampmin clampmax clip exp exp2 expm1 log log1p log2 log10 logit neg negative positive sign sgn pow rpow floatpower
    sqrt rsqrt square reciprocal sin cos tan asin acos atan arctan sinh cosh asinh acosh atanh sinc erf erfc round floor
    ceil trunc fix frac nantonum maximum minimum fmax fmin add radd sub rsub subtract mul rmul multiply div rdiv divide
    truedivide truediv rtruediv floordiv rfloordiv floordivide remainder fmod lerp addcmul addcdiv atan2 hypot logaddexp
    xlogy where maskedfill gt lt ge le eq ne greater less logicaland logicalor logicalnot logicalxor isnan isinf
    isfinite and or xor invert tensor astensor asarray deepcopy newtensor""")
# Elements are moved, left out or repeated, none is computed: the operation itself tells where each comes from.
MOVING = names("""
    flatten unflatten view viewas reshape reshapeas ravel squeeze unsqueeze permute transpose swapaxes swapdims
    movedim moveaxis t mt adjoint atleast3d expand expandas broadcastto broadcasttensors repeat repeatinterleave tile
    chunk split splitwithsizes tensorsplit unsafechunk unsafesplit hsplit vsplit unbind select narrow getitem setitem
    indexselect indexcopy indexfill gather takealongdim flip fliplr flipud rot90 roll channelshuffle unfold
    diagonal tril triu copy fill zero stack hstack vstack dstack""")
# By the values of an index or mask.
CHOOSING = names("getitem setitem gather takealongdim indexselect indexcopy indexfill")
# Over the dimensions given.
REDUCING = names("""
    mean sum nansum nanmean amax amin max min prod std var stdmean varmean norm linalgnorm linalgvectornorm
    logsumexp median nanmedian quantile argmax argmin aminmax any all countnonzero""")
# Each element reads all along one dimension.
OVER_DIMENSION = names("softmax logsoftmax softmin normalize sort argsort topk kthvalue cosinesimilarity gumbelsoftmax")
CUMULATIVE = names("cumsum cumprod cummax cummin logcumsumexp")  # along one dimension, what comes before and itself
WEIGHTED = names("linear matmul rmatmul mm bmm mv addmm addmv baddbmm")  # by constants, along one dimension
FUSED = names("flatten view reshape squeeze softmax logsoftmax")  # what a table of stages need not show

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
    **dict.fromkeys(DROPOUTS, "input p training"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "tensors dim"),
    **dict.fromkeys(OVER_DIMENSION | CUMULATIVE | REDUCING, "input dim keepdim"),
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


def factors(call: Call) -> tuple[object, object]:
    """Return the left and the right one of what a ``call`` of WEIGHTED multiplies."""
    given = [*call.args, *call.kwargs.values()]
    if call.kind in ("addmm", "addmv", "baddbmm"):
        return given[1], given[2]
    return (given[1], given[0]) if call.kind == "rmatmul" else (given[0], given[1])


# ---- what stays unsupported, and why ----

BEFORE_IT = "make a table of the layers before it, as a network of their own"
ATTENTION = (
    "its weights come from the image, as in attention, so that its units may read any other and no window tells which; "
    f"{BEFORE_IT}"
)
RECURRENT = f"it is recurrent: what it gives for one step depends on the steps before; {BEFORE_IT}"
PLACES = f"which positions it reads depends on the values of the image; {BEFORE_IT}"
GRID = f"where it samples its input is told by a grid, not by a window; {BEFORE_IT}"
EVERYTHING = f"each of its values reads the whole map, so that no window tells what its units read; {BEFORE_IT}"
UNSUPPORTED = {  # why, by kind
    **dict.fromkeys(("nativemultiheadattention", "multiheadattentionforward", "scaleddotproductattention"), ATTENTION),
    **dict.fromkeys(("lstm", "gru", "rnntanh", "rnnrelu", "lstmcell", "grucell", "rnntanhcell"), RECURRENT),
    **dict.fromkeys(("deformconv2d", "maxunpool2d", "nonzero", "maskedselect", "embedding"), PLACES),
    **dict.fromkeys(("gridsample", "gridsampler", "affinegrid"), GRID),
    **dict.fromkeys(("fftfft2", "fftrfft2", "fftfft", "fftrfft", "fftfftn", "fftrfftn"), EVERYTHING),
}
