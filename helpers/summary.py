"""torchsummary's summary as text, without its side effects on the model, and right where torchsummary's is not."""

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

MEGABYTE = 1024**2
WITHOUT_LINE = nn.Sequential | nn.ModuleList | torch.jit.ScriptModule  # the last takes no hook


@dataclass
class Line:
    """A call of a module, which has a line in the table."""

    module: nn.Module
    shapes: list[list[int]]  # of all that it puts out, -1 standing for the batch
    params: int = 0  # those that are used here first


def summary(model: nn.Module, input_size: tuple[int, ...] | Sequence[tuple[int, ...]] = (1, 28, 28)) -> str:
    """Return torchsummary's table for an input ``(B, *input_size)``, or for several inputs, given a list of sizes.

    torchsummary runs the model once in the mode it finds it in. Here that is a copy in eval mode on the CPU, with a
    random state of its own, so that mode, device, batch norm's statistics and random numbers stay as they were.

    It counts a layer each time it is used, of it only what is named weight or bias, and takes the outputs of a tuple
    for one tensor; for some models it has no table. Where its lines or totals are not those of the model, the table is
    made here under the same heads, and a note says so: each parameter counts where it is used first, or in the last
    line if no layer that is run uses it. Raises ``ValueError`` where the model cannot be run on such an input.
    """
    sizes = [tuple(input_size)] if isinstance(input_size[0], int) else [tuple(size) for size in input_size]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        network = copy_of(model).cpu().eval()
        try:
            lines = _lines(network, sizes)
        except Exception as error:
            raise ValueError(f"the model does not take an input of size {input_size}: {_named(error)}") from error
        ours = _table(network, lines, sizes)
        theirs = _torchsummary(network, sizes)
    return theirs if theirs == ours else f"{ours}\nNote: this table is not torchsummary's, which {_fault(theirs)}."


def _lines(network: nn.Module, sizes: Sequence[tuple[int, ...]]) -> list[Line]:
    """Run ``network`` and return a line for each call of a module, in the order in which they end, as torchsummary."""
    dtypes = [parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()]
    inputs = [torch.rand(2, *size).to(dtypes[0] if dtypes else torch.float32) for size in sizes]
    initialise(network, *inputs)
    lines: list[Line] = []

    def note(module: nn.Module, args: tuple, output: object) -> None:
        lines.append(Line(module, [[-1, *tensor.shape[1:]] for tensor in tensors_in(output)]))

    hooks = []
    for path, module in network.named_modules():
        if path and not isinstance(module, WITHOUT_LINE) and "parametrizations." not in path:
            hooks.append(module.register_forward_hook(note))
    output = network(*inputs)
    for hook in hooks:
        hook.remove()
    uncounted = _parameters_by_user(network, {line.module for line in lines})
    for line in lines:
        line.params = uncounted.pop(line.module, 0)
    if uncounted or not lines:  # what the network itself uses, or nothing
        note(network, (), output)
        lines[-1].params = uncounted.total()
    return lines


def _parameters_by_user(network: nn.Module, called: set[nn.Module]) -> Counter[nn.Module]:
    """Return the number of parameters of each module that was called, with those of modules inside that were not."""
    modules, numbers = dict(network.named_modules(remove_duplicate=False)), Counter()
    for path, parameter in network.named_parameters():
        user = path.rpartition(".")[0]
        while user and modules[user] not in called:
            user = user.rpartition(".")[0]
        numbers[modules[user]] += parameter.numel()
    return numbers


def _table(network: nn.Module, lines: Sequence[Line], sizes: Sequence[tuple[int, ...]]) -> str:
    """Return the table in torchsummary's form: four bytes a number, and the outputs twice, for their gradients."""
    total = sum(parameter.numel() for parameter in network.parameters())
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    num_outputs = sum(prod(shape[1:]) for line in lines for shape in line.shapes)
    megabytes = [4 * number / MEGABYTE for number in (sum(map(prod, sizes)), 2 * num_outputs, total)]
    rule, double_rule = "-" * 64, "=" * 64
    text = [rule, f"{'Layer (type)':>20}  {'Output Shape':>25} {'Param #':>15}", double_rule]
    for i, line in enumerate(lines, start=1):
        shapes = ", ".join(map(str, line.shapes)) or "no tensor"
        text.append(f"{f'{type(line.module).__name__}-{i}':>20}  {shapes:>25} {line.params:>15,}")
    text += [double_rule, f"Total params: {total:,}", f"Trainable params: {trainable:,}"]
    text += [f"Non-trainable params: {total - trainable:,}", rule]
    text += [f"Input size (MB): {megabytes[0]:.2f}", f"Forward/backward pass size (MB): {megabytes[1]:.2f}"]
    text += [f"Params size (MB): {megabytes[2]:.2f}", f"Estimated Total Size (MB): {sum(megabytes):.2f}", rule]
    return "\n".join(text)


def _torchsummary(network: nn.Module, sizes: Sequence[tuple[int, ...]]) -> str:
    """Return what torchsummary prints, or why it fails; ``network`` is in float32 afterwards."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            torchsummary.summary(network.float(), list(sizes), device="cpu")
    except Exception as error:
        return _named(error)
    return text.getvalue().strip("\n")


def _fault(theirs: str) -> str:
    """Return what is wrong with torchsummary's text."""
    numbers = re.findall(r"^(?:Total params|Trainable params|Estimated Total Size \(MB\)): (\S+)", theirs, re.M)
    if not numbers:
        return f"has none for this model ({theirs})"
    return (
        f"has {numbers[0]} parameters, {numbers[1]} of them trainable, and {numbers[2]} MB: it counts a layer at each "
        "use and once more for each further place, of it only what is named weight or bias, tells what is trainable "
        "in it by the weight, and takes the outputs of a tuple for one tensor"
    )


def _named(error: Exception) -> str:
    """Return what ``error`` says, in one line: of some, the words mean nothing without the name."""
    name = type(error).__name__
    return f"{name}: {first_line(error)}" if str(error) else name
