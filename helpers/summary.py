"""torchsummary's summary as text, without its side effects on the model."""

import contextlib
import copy
import io

import torch
import torchsummary
from torch import nn


def summary(model: nn.Module, input_size: tuple[int, ...] = (1, 28, 28)) -> str:
    """Return torchsummary's table for inputs ``(B, *input_size)``.

    torchsummary runs the model once in the mode it finds it in. Here that is a copy in eval mode on the CPU, with
    a random state of its own, so that mode, device, batch norm's statistics and random numbers stay as they were.
    Raises ``ValueError`` where the model does not take such an input.
    """
    duplicate = copy.deepcopy(model).cpu().eval()
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), torch.random.fork_rng(devices=[]), torch.no_grad():
            torchsummary.summary(duplicate, input_size, device="cpu")
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"the model does not take an input of size {input_size}: {error}") from error
    return text.getvalue().strip("\n")
