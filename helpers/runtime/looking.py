"""Looking at a model without changing it: a copy, eval mode within a block, outputs of layers, the random state."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.utils._pytree import tree_leaves

Wrapper = nn.DataParallel | nn.parallel.DistributedDataParallel


@torch.inference_mode(False)
def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` in its mode and on its device, without the hooks that its user added.

    The wrappers of ``torch.compile`` and for several GPUs are removed, too. PyTorch's own hooks, which compute a weight
    or give a lazy layer its parameters, stay. Raises ``ValueError`` for a model that cannot be copied.
    """
    model = _unwrapped(model)
    tensors = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    copied = {id(value): value.detach().clone() for value in tensors if not value.is_leaf}  # computed by weight_norm
    for buffer in filter(is_lazy, model.buffers()):
        copied[id(buffer)] = UninitializedBuffer(device=buffer.device, dtype=buffer.dtype)
    try:
        duplicate = copy.deepcopy(model, copied)
    except Exception as error:
        raise ValueError(f"{type(model).__name__} cannot be copied: {first_line(error)}") from error
    for module in duplicate.modules():
        for hooks in (module._forward_hooks, module._backward_hooks, module._backward_pre_hooks):
            hooks.clear()
        for key, hook in list(module._forward_pre_hooks.items()):
            if not str(hook.__module__).startswith("torch.nn."):
                del module._forward_pre_hooks[key]
        for name, child in module.named_children():
            setattr(module, name, _unwrapped(child))
    return duplicate


def initialise(model: nn.Module, *inputs: Tensor) -> None:
    """Run ``model`` once if it has lazy layers, which get their parameters from their first input."""
    if any(is_lazy(parameter) for parameter in model.parameters()):
        with torch.no_grad():
            model(*inputs)


def _unwrapped(module: nn.Module) -> nn.Module:
    while isinstance(module, Wrapper) or hasattr(module, "_orig_mod"):
        module = module.module if isinstance(module, Wrapper) else module._orig_mod
    return module


def tensors_in(values: object) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dictionaries."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def first_line(error: Exception) -> str:
    """Return what ``error`` says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def outputs_of(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the submodules with these names within the block, by name; the last call counts."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        outputs[name] = output.clone()  # a layer after it may change it in place

    hooks = [model.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode within the block; afterwards restore the mode of each of its modules."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Restore the random state of the CPU and of ``device`` after the block, as if nothing had been drawn in it."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)
