"""Which of its inputs each operation reads: the tables that ``layer_table`` looks up, and that you may extend.

nn.LeakyReLU, F.leaky_relu and Tensor.leaky_relu_ share one name here: leakyrelu.
"""

from helpers.receptive_field.calls import Call


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- operations that read the shape, type or device of an argument, but not its values ----

READ_NO_VALUES = names(  # of the first argument: the result does not depend on the image
    """zeroslike oneslike fulllike emptylike randlike randnlike randintlike newzeros newones newfull newempty new
    newtensor newemptystrided"""
)
READ_FIRST_VALUES = {"typeas", "viewas", "reshapeas", "expandas", "to", "resizeas"}  # of the first argument only

# ---- which input elements each output element reads ----

NORMS = {"groupnorm", "layernorm", "instancenorm", "rmsnorm"}  # pointwise, as their statistics count as constants
DROPOUTS = names("dropout dropout1d dropout2d dropout3d alphadropout featurealphadropout featuredropout")
# The element at the same position of each input, after broadcasting.
POINTWISE = NORMS | DROPOUTS
POINTWISE |= names(
    """batchnorm clone contiguous detach data to float double half bfloat16 type typeas cpu cuda real requiresgrad relu
    relu6 leakyrelu prelu rrelu elu selu celu gelu silu mish sigmoid expit logsigmoid tanh hardtanh hardsigmoid
    hardswish hardshrink softshrink tanhshrink threshold softplus softsign abs absolute clamp clampmin clampmax clip exp
    exp2 expm1 log log1p log2 log10 logit neg negative positive sign sgn pow rpow floatpower sqrt rsqrt square
    reciprocal sin cos tan asin acos atan arctan sinh cosh asinh acosh atanh sinc erf erfc round floor ceil trunc fix
    frac nantonum maximum minimum fmax fmin add radd sub rsub subtract mul rmul multiply div rdiv divide truedivide
    truediv rtruediv floordiv rfloordiv floordivide remainder fmod lerp addcmul addcdiv atan2 hypot logaddexp xlogy
    where maskedfill gt lt ge le eq ne greater less logicaland logicalor logicalnot logicalxor isnan isinf isfinite and
    or xor invert tensor astensor asarray deepcopy newtensor"""
)
# One element, moved from elsewhere: running the operation on numbered elements tells which.
MOVING = names(
    """flatten unflatten view viewas reshape reshapeas ravel squeeze unsqueeze permute transpose swapaxes swapdims
    movedim moveaxis t mt adjoint atleast3d expand expandas broadcastto broadcasttensors repeat repeatinterleave tile
    chunk split splitwithsizes tensorsplit unsafechunk unsafesplit hsplit vsplit unbind select narrow getitem setitem
    indexselect indexcopy indexfill gather takealongdim flip fliplr flipud rot90 roll channelshuffle unfold diagonal
    tril triu copy fill zero stack hstack vstack dstack"""
)
# Moving operations whose index or mask may be computed from the image.
INDEXING = {"getitem", "setitem", "gather", "takealongdim", "indexselect", "indexcopy", "indexfill"}
# All elements along the dimensions given, which the result no longer has.
REDUCING = names(
    """mean sum nansum nanmean amax amin max min prod std var stdmean varmean norm linalgnorm linalgvectornorm logsumexp
    median nanmedian quantile argmax argmin aminmax any all countnonzero"""
)
# All elements along one dimension, which the result keeps.
OVER_DIMENSION = names("softmax logsoftmax softmin normalize sort argsort topk kthvalue cosinesimilarity gumbelsoftmax")
# The element itself and all earlier ones along one dimension.
CUMULATIVE = {"cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"}
WEIGHTED = names("linear matmul rmatmul mm bmm mv addmm addmv baddbmm")  # products with a constant matrix
FUSED = {"flatten", "view", "reshape", "squeeze", "softmax", "logsoftmax"}  # not worth a stage of their own

SIGNATURES = {
    **{f"conv{n}d": "input weight bias stride padding dilation groups" for n in (1, 2, 3)},
    **{f"convtranspose{n}d": "input weight bias stride padding output_padding groups dilation" for n in (1, 2, 3)},
    **{f"maxpool{n}d": "input kernel_size stride padding dilation ceil_mode" for n in (1, 2, 3)},
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


def named_arguments(call: Call) -> dict[str, object]:
    """Return the arguments of ``call`` by name."""
    return dict(zip(SIGNATURES.get(call.kind, "input").split(), call.args, strict=False)) | call.kwargs


def left_factor(call: Call) -> object:
    """Return the left factor of the product that ``call``, one of WEIGHTED, computes."""
    values = [*call.args, *call.kwargs.values()]
    return values[1] if call.kind in ("addmm", "addmv", "baddbmm", "rmatmul") else values[0]


# ---- unsupported operations, with the reason ----

STOP_BEFORE_IT = "make a table of the layers before it, as a network of their own"
ATTENTION = (
    "its weights are computed from the image, as in attention, so a unit may read any position, not just a window; "
    f"{STOP_BEFORE_IT}"
)
RECURRENT = f"it is recurrent: its output at one step depends on the steps before; {STOP_BEFORE_IT}"
VALUE_DEPENDENT = f"which positions it reads depends on the values of the image; {STOP_BEFORE_IT}"
GRID = f"it samples its input where a grid says, not through a window; {STOP_BEFORE_IT}"
WHOLE_MAP = f"each of its values reads the whole map, not a window of it; {STOP_BEFORE_IT}"
UNSUPPORTED = {  # the reason, by kind
    **dict.fromkeys(("nativemultiheadattention", "multiheadattentionforward", "scaleddotproductattention"), ATTENTION),
    **dict.fromkeys(("lstm", "gru", "rnntanh", "rnnrelu", "lstmcell", "grucell", "rnntanhcell"), RECURRENT),
    **dict.fromkeys(("deformconv2d", "maxunpool2d", "nonzero", "maskedselect", "embedding"), VALUE_DEPENDENT),
    **dict.fromkeys(("gridsample", "gridsampler", "affinegrid"), GRID),
    **dict.fromkeys(("fftfft2", "fftrfft2", "fftfft", "fftrfft", "fftfftn", "fftrfftn"), WHOLE_MAP),
}
