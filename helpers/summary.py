"""torchsummary's table as text, without its side effects on the model, and corrected where it is wrong."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torchsummary
from torch import nn

from helpers.runtime.looking import copy_of, first_line, initialise, tensors_in

MB = 1024**2
# Containers have no line; nor have compiled modules, which take no hooks.
WITHOUT_LINE = nn.Sequential | nn.ModuleList | torch.jit.ScriptModule


@dataclass
class Line:
    """One line of the table: a call of a module."""

    module: nn.Module
    shapes: list[list[int]]  # of all its outputs, with -1 for the batch size
    params: int = 0  # those used here for the first time


def summary(model: nn.Module, input_size: tuple[int, ...] | Sequence[tuple[int, ...]] = (1, 28, 28)) -> str:
    """Return torchsummary's table for an input ``(B, *input_size)``; a list of sizes is for several inputs.

    torchsummary runs the model in its current mode. Here it runs a copy in eval mode on the CPU, with a random state of
    its own, so that the model's mode, device and batch norm statistics and the random state stay as they were.

    torchsummary counts a layer each time it is used, counts only parameters named weight or bias, and takes a tuple of
    outputs for one tensor; for some models it fails. Where its table is wrong, a correct one of the same form is
    returned, with a note that says so: a parameter counts where it is first used, or in the last line if no layer that
    runs uses it. Raises ``ValueError`` if the model cannot run on an input of this size.
    """
    sizes = [tuple(input_size)] if isinstance(input_size[0], int) else [tuple(size) for size in input_size]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        network = copy_of(model).cpu().eval()
        try:
            lines = _lines(network, sizes)
        except Exception as error:
            raise ValueError(f"the model does not take an input of size {input_size}: {_named(error)}") from error
        correct = _table(network, lines, sizes)
        original = _torchsummary(network, sizes)
    if original == correct:
        return original
    return f"{correct}\nNote: this table is not torchsummary's, which {_fault(original)}."


def _lines(network: nn.Module, sizes: Sequence[tuple[int, ...]]) -> list[Line]:
    """Run ``network`` and return a line for each call of a module, in the order in which the calls end."""
    dtypes = [parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()]
    inputs = [torch.rand(2, *size).to(dtypes[0] if dtypes else torch.float32) for size in sizes]
    initialise(network, *inputs)
    lines: list[Line] = []

    def add_line(module: nn.Module, args: tuple, output: object) -> None:
        lines.append(Line(module, [[-1, *tensor.shape[1:]] for tensor in tensors_in(output)]))

    hooks = []
    for path, module in network.named_modules():
        if path and not isinstance(module, WITHOUT_LINE) and "parametrizations." not in path:
            hooks.append(module.register_forward_hook(add_line))
    output = network(*inputs)
    for hook in hooks:
        hook.remove()
    uncounted = _parameters_by_user(network, {line.module for line in lines})
    for line in lines:
        line.params = uncounted.pop(line.module, 0)
    if uncounted or not lines:  # a last line, for the parameters that no layer uses
        add_line(network, (), output)
        lines[-1].params = uncounted.total()
    return lines


def _parameters_by_user(network: nn.Module, called: set[nn.Module]) -> Counter[nn.Module]:
    """Return the number of parameters of each module in ``called``, including those of submodules that are not."""
    modules = dict(network.named_modules(remove_duplicate=False))
    numbers: Counter[nn.Module] = Counter()
    for path, parameter in network.named_parameters():
        user = path.rpartition(".")[0]
        while user and modules[user] not in called:
            user = user.rpartition(".")[0]
        numbers[modules[user]] += parameter.numel()
    return numbers


def _table(network: nn.Module, lines: Sequence[Line], sizes: Sequence[tuple[int, ...]]) -> str:
    """Return the table in torchsummary's form. Sizes are 4 bytes a number; outputs count twice, for their gradients."""
    total = sum(parameter.numel() for parameter in network.parameters())
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    num_outputs = sum(prod(shape[1:]) for line in lines for shape in line.shapes)
    num_inputs = sum(prod(size) for size in sizes)
    input_mb, forward_backward_mb, params_mb = 4 * num_inputs / MB, 4 * 2 * num_outputs / MB, 4 * total / MB
    total_mb = input_mb + forward_backward_mb + params_mb
    rule, double_rule = "-" * 64, "=" * 64
    text = [rule, f"{'Layer (type)':>20}  {'Output Shape':>25} {'Param #':>15}", double_rule]
    for i, line in enumerate(lines, start=1):
        shapes = ", ".join(map(str, line.shapes)) or "no tensor"
        text.append(f"{f'{type(line.module).__name__}-{i}':>20}  {shapes:>25} {line.params:>15,}")
    text += [double_rule, f"Total params: {total:,}", f"Trainable params: {trainable:,}"]
    text += [f"Non-trainable params: {total - trainable:,}", rule]
    text += [f"Input size (MB): {input_mb:.2f}", f"Forward/backward pass size (MB): {forward_backward_mb:.2f}"]
    text += [f"Params size (MB): {params_mb:.2f}", f"Estimated Total Size (MB): {total_mb:.2f}", rule]
    return "\n".join(text)


def _torchsummary(network: nn.Module, sizes: Sequence[tuple[int, ...]]) -> str:
    """Return what torchsummary prints, or its error. Converts ``network`` to float32."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            torchsummary.summary(network.float(), list(sizes), device="cpu")
    except Exception as error:
        return _named(error)
    return text.getvalue().strip("\n")


def _fault(original: str) -> str:
    """Return what is wrong with torchsummary's table, or that it has none."""
    numbers = re.findall(r"^(?:Total params|Trainable params|Estimated Total Size \(MB\)): (\S+)", original, re.M)
    if not numbers:
        return f"has none for this model ({original})"
    total, trainable, megabytes = numbers
    return (
        f"has {total} parameters, {trainable} of them trainable, and {megabytes} MB: it counts a layer each time it is "
        "used or registered, counts only parameters named weight or bias, judges what is trainable by the weight "
        "alone, and takes a tuple of outputs for one tensor"
    )


def _named(error: Exception) -> str:
    """Return ``error`` in one line with its class, without which some messages say little."""
    name = type(error).__name__
    return f"{name}: {first_line(error)}" if str(error) else name
