"""A copy of a model that can be looked at without a trace on the model."""

import copy

import torch
from torch import Tensor, nn

Wrapper = nn.DataParallel | nn.parallel.DistributedDataParallel


@torch.inference_mode(False)
def duplicate(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Return a copy of ``model`` on the CPU, in evaluation mode, without the hooks of its user.

    The wrappers of ``torch.compile`` and of several GPUs are taken off. Hooks that compute a weight are kept. Raises
    ``ValueError`` for a model that has parameters without a shape, or cannot be copied.
    """
    model = _unwrapped(model)
    tensors = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    computed = {id(value): value.detach().clone() for value in tensors if not value.is_leaf}  # by weight_norm
    try:
        network = copy.deepcopy(model, computed).requires_grad_(False).to("cpu", dtype).eval()
    except Exception as error:
        raise ValueError(f"{type(model).__name__} cannot be copied: {first_line(error)}") from error
    for module in network.modules():
        module._forward_hooks = type(module._forward_hooks)()
        for key, hook in list(module._forward_pre_hooks.items()):
            if not type(hook).__module__.startswith("torch.nn.utils"):
                del module._forward_pre_hooks[key]
        for name, child in module.named_children():
            setattr(module, name, _unwrapped(child))
    return network


def _unwrapped(module: nn.Module) -> nn.Module:
    while isinstance(module, Wrapper) or hasattr(module, "_orig_mod"):
        module = module.module if isinstance(module, Wrapper) else module._orig_mod
    return module


def first_line(error: Exception) -> str:
    """Return what is said of ``error`` in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
