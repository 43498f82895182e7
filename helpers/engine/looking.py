"""Looking at a model without leaving a trace: eval mode for a while, and the random state put back."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Have ``model`` in eval mode within the block; after it, or an error, each of its modules is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Put the CPU's and the ``device``'s random state back after the block, as if nothing had been drawn in it."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
