"""Where a run takes place: which device, and a model laid out for it."""

import torch
from torch import nn

from helpers.runtime.cpu_layers import use_cheaper_layers

# Decorates a function that has to give the same bits each time on a GPU: cuDNN takes deterministic algorithms alone.
reproducibly = torch.backends.cudnn.flags(enabled=True, deterministic=True)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else MPS, else the CPU.

    Raises ``ValueError`` for a name that is unknown or whose device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [device for device in there if there[device]]
    if name == "auto":
        return torch.device(names[0])
    if name not in names:
        raise ValueError(f"device {name!r} is unknown or not there: choose {', '.join(names)} or auto")
    return torch.device(name)


def place(model: nn.Module, device: torch.device) -> None:
    """Move ``model`` to ``device``, laid out and computed in the way that is fastest there; its function stays.

    On a CPU convolutions are channels last, and batch norm and dropout are computed in a cheaper way. Names and
    values of the state dict stay.
    """
    model.to(device)
    if device.type == "cpu":
        use_channels_last(model)
        use_cheaper_layers(model)


def use_channels_last(model: nn.Module) -> None:
    """Put convolutions into this layout, but for those of images with one channel, which it would slow down."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 1:
            module.to(memory_format=torch.channels_last)
