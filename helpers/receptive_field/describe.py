"""What the layer table says about an operation besides its receptive field: its text, its cost and its notes."""

from helpers.receptive_field.calls import Call, Step
from helpers.receptive_field.operations import DROPOUTS, NORMS, WEIGHTED, left_factor, named_arguments, names

SHOWN = names(
    """in_channels out_channels in_features out_features num_groups num_features p output_size kernel_size scale_factor
    upscale_factor"""
)
DEFAULTS = {  # shown, with their names, where the value is another one
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "padding_mode": "zeros",
    "track_running_stats": True,
}


def describe(step: Step) -> str:
    """Return an operation as it is written in code: its class or function, its sizes, and what is not the default."""
    if step.layer:
        kind, arguments = type(step.layer).__name__, vars(step.layer)
    else:
        kind, arguments = step.calls[-1].name, named_arguments(step.calls[-1])
    is_pooling = any(call.kind in ("maxpool2d", "avgpool2d") for call in step.calls)
    words = []
    for name, value in arguments.items():
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if (name in SHOWN and value is not None) or (name == "stride" and is_pooling):
            words.append(str(value))
        elif name in DEFAULTS and value != DEFAULTS[name]:
            words.append(f"{name}={value}")
    return f"{kind}({', '.join(words)})" if words else kind


def multiply_adds(call: Call) -> int:
    """Return the number of multiply-adds of ``call`` for one image, without biases.

    Only convolutions, linear layers and matrix products count. ``call`` was run on two images, as by ``layer_table``.
    """
    arguments, result = named_arguments(call), call.result
    if call.kind in WEIGHTED:
        return result.numel() // 2 * left_factor(call).shape[-1]
    if call.kind.startswith("conv"):
        positions = arguments["input"] if call.kind.startswith("convtranspose") else result
        return positions.numel() // 2 * arguments["weight"][0].numel()
    return 0


def note_on(call: Call) -> str | None:
    """Return what the reader should know about ``call``, with ``{}`` for the name of its row; None for nothing."""
    arguments = named_arguments(call)
    if call.kind in NORMS and arguments.get("use_input_stats", True):
        return "the statistics of {} count as constants, as those of batch norm do in evaluation mode."
    if call.kind in DROPOUTS and arguments.get("training", True) and arguments.get("p", 0.5):
        return "the dropout of {} stays active in evaluation mode: give it training=self.training."
    if call.makes_parameters:
        return "the parameters of {} are made in the forward pass, where they are neither trained nor counted."
    return None
