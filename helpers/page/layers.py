"""The layers of a network in the order in which the page computes them.

``network.js`` computes each kind of layer in ``SETTINGS``. A network that needs anything else is refused before a page
is written.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helpers.receptive_field import Row, stages
from helpers.runtime.looking import eval_mode

SETTINGS = {  # what the page needs to know of a layer, besides its parameters
    nn.Conv2d: ("stride", "padding"),
    nn.BatchNorm2d: ("eps",),
    nn.ReLU: (),
    nn.MaxPool2d: ("kernel_size", "stride"),
    nn.AvgPool2d: ("kernel_size", "stride"),
    nn.Linear: (),
}
FIXED = {  # other settings, with the only value that the page supports
    nn.Conv2d: {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"},
    nn.BatchNorm2d: {"affine": True},
    nn.MaxPool2d: {"padding": 0, "dilation": 1, "ceil_mode": False},
    nn.AvgPool2d: {"padding": 0, "ceil_mode": False, "divisor_override": None},
}
# These make no difference to the page's answer.
NOT_NEEDED = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten, nn.LogSoftmax)
NUM_DIGITS = 10


@torch.no_grad()
def layers_in_order(model: nn.Module, table: Sequence[Row], images: Tensor) -> list[dict]:
    """Return name, kind, stage and settings of each layer that the page computes, in the order of ``table``.

    ``table`` is the model's layer table. To check that the layers alone give the model's answer, ``images``
    ``(B, 1, 28, 28)`` go through the layers and through the model, in eval mode. Raises ``ValueError`` where the
    answers differ, and for a layer or a setting that the page does not support.
    """
    modules = dict(model.named_modules())
    stage_names = [stage.name for stage in stages(table)]
    layers, x = [], images
    with eval_mode(model):
        answers = model(images)
        for i, row in enumerate(table):
            module = modules.get(row.name)
            if module is None or type(module) in NOT_NEEDED:
                continue
            stage = stage_names[len(stages(table[: i + 1])) - 1]  # the last one of the rows so far
            settings = _settings(row.name, module)
            layers.append({"name": row.name, "kind": type(module).__name__, "stage": stage, **settings})
            x = x.flatten(1) if isinstance(module, nn.Linear) else x
            if tuple(x.shape[1:]) != row.input_shape:
                break
            x = module(x)
    x = x.flatten(1)
    if x.shape != answers.shape or not torch.allclose(x.log_softmax(1), answers.log_softmax(1), atol=1e-4):
        functions = ", ".join(row.name for row in table if row.name not in modules) or "no functions"
        reason = f"its layers, run one after another, do not give its answer (beside them it calls {functions})"
        raise ValueError(f"the page cannot show this network: {reason}")
    if x.shape[1] != NUM_DIGITS:
        raise ValueError(f"the page cannot show this network: it has {x.shape[1]} outputs, not {NUM_DIGITS}")
    return layers


def _settings(name: str, module: nn.Module) -> dict:
    """Return the settings of a layer for the page, sizes as pairs (height, width).

    Raises ``ValueError`` for a layer or a setting that the page does not support.
    """
    kind = type(module)
    if kind not in SETTINGS:
        known = ", ".join(known.__name__ for known in (*SETTINGS, *NOT_NEEDED))
        raise ValueError(f"the page cannot show layer {name}: {kind.__name__} is none of those it knows ({known})")
    for setting, value in FIXED.get(kind, {}).items():
        actual = getattr(module, setting)
        if actual != value:
            raise ValueError(
                f"the page cannot show layer {name}: its {setting} is {actual}, the page knows only {value}"
            )
    settings = {setting: getattr(module, setting) for setting in SETTINGS[kind]}
    if isinstance(settings.get("padding"), str):
        raise ValueError(f"the page cannot show layer {name}: its padding is {module.padding!r}, give it in pixels")
    return {setting: [value, value] if isinstance(value, int) else value for setting, value in settings.items()}
