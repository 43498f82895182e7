"""The device of a run: choosing it, and preparing a model for it."""

from contextlib import AbstractContextManager

import torch
from torch import nn

from helpers.runtime.cpu_layers import use_cheaper_layers


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is CUDA if it is available, else MPS if available, else the CPU.

    Raises ``ValueError`` for an unknown name or a device that is not available.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [device for device in there if there[device]]
    if name == "auto":
        return torch.device(names[0])
    if name not in names:
        raise ValueError(f"device {name!r} is unknown or not there: choose {', '.join(names)} or auto")
    return torch.device(name)


def prepare_for(device: torch.device, model: nn.Module) -> None:
    """Move ``model`` to ``device``, in the memory layout and with the layers that are fastest there.

    What it computes and the names and values of its state dict stay the same.
    """
    model.to(device)
    if device.type == "cpu":
        use_channels_last(model)
        use_cheaper_layers(model)


def use_channels_last(model: nn.Module) -> None:
    """Convert the weights of convolutions to this layout, except with one input channel, where it would be slower."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 1:
            module.to(memory_format=torch.channels_last)


def deterministic_cudnn() -> AbstractContextManager[None]:
    """Have cuDNN use only deterministic algorithms within the block, so that a GPU gives the same bits each time."""
    tf32 = torch.backends.cudnn.allow_tf32  # stays as it is
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=tf32)
