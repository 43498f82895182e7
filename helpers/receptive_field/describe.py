"""What a reader is told of an operation beside its field: its text, its cost, and what to know of it."""

from helpers.receptive_field.calls import Call, Step
from helpers.receptive_field.operations import DROPOUTS, NORMS, WEIGHTED, factors, names, settings

SHOWN = names("""in_channels out_channels in_features out_features num_groups num_features p output_size kernel_size
    scale_factor upscale_factor""")
USUAL = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "track_running_stats": True}


def describe(step: Step) -> str:
    """Return an operation as a reader writes it: the class of a layer with its sizes, and what is not usual."""
    pools = {"maxpool2d", "avgpool2d"} & {call.kind for call in step.calls}
    kind = type(step.layer).__name__ if step.layer else step.calls[-1].name
    words = []
    for word, value in (vars(step.layer) if step.layer else settings(step.calls[-1])).items():
        value = value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value
        if (word in SHOWN and value is not None) or (word == "stride" and pools):
            words.append(str(value))
        elif word in USUAL and value != USUAL[word]:
            words.append(f"{word}={value}")
    return f"{kind}({', '.join(words)})" if words else kind


def multiply_adds(call: Call) -> int:
    """Return the multiplications of a ``call`` for one image, each with its addition, biases left out.

    Counted are convolutions, linear layers and products with a matrix. Of two images, as ``layer_table`` runs.
    """
    given, result = settings(call), call.result
    if call.kind in WEIGHTED:
        return result.numel() // 2 * factors(call)[0].shape[-1]
    if call.kind.startswith("convtranspose"):
        return given["input"].numel() // 2 * given["weight"][0].numel()
    if call.kind.startswith("conv"):
        return result.numel() // 2 * given["weight"][0].numel()
    return 0


def remark(call: Call) -> str | None:
    """Return what a reader has to know of a ``call``, with a gap for the name of its row."""
    given = settings(call)
    if call.kind in NORMS and given.get("use_input_stats", True):
        return "the statistics of {} count as constants, as those of batch norm do in evaluation mode."
    if call.kind in DROPOUTS and given.get("training", True) and given.get("p", 0.5):
        return "the dropout of {} stays active in evaluation mode: give it training=self.training."
    if call.makes_parameters:
        return "the parameters of {} are made in the forward pass, where they are neither trained nor counted."
    return None
