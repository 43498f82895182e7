"""torchsummary's summary as text, without its side effects on the model, and with the parameters counted right."""

import contextlib
import io
import re
from collections import Counter

import torch
import torchsummary
from torch import nn

from helpers.runtime.looking import copy_of, first_line

MEMORY = ("Input size", "Forward/backward pass size", "Params size", "Estimated Total Size")  # torchsummary's lines


def summary(model: nn.Module, input_size: tuple[int, ...] = (1, 28, 28)) -> str:
    """Return torchsummary's table for inputs ``(B, *input_size)``.

    torchsummary runs the model once in the mode it finds it in. Here that is a copy in eval mode on the CPU, with
    a random state of its own, so that mode, device, batch norm's statistics and random numbers stay as they were.
    It counts a layer each time it is used, and only what is named weight or bias: where its totals are not those of
    ``model.parameters()``, these are printed instead, and a line says why. Raises ``ValueError`` where the model does
    not take such an input, or gives what torchsummary has no line for.
    """
    network = copy_of(model).cpu().eval()
    counts, text = _count_as_torchsummary(network), io.StringIO()
    try:
        with contextlib.redirect_stdout(text), torch.random.fork_rng(devices=[]), torch.no_grad():
            torchsummary.summary(network, input_size, device="cpu")
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"the model does not take an input of size {input_size}: {first_line(error)}") from error
    except (AttributeError, IndexError) as error:
        raise ValueError(
            f"torchsummary has no table for {type(model).__name__}, be it that it has no parameters, or a layer whose "
            f"inputs and outputs are not plain tensors: {first_line(error)}"
        ) from error
    return _with_true_totals(text.getvalue().strip("\n"), network, counts)


def _count_as_torchsummary(network: nn.Module) -> Counter:
    """Return how often torchsummary will have counted each parameter of ``network``, by id, once it has run."""
    counts = Counter()
    for module in network.modules():
        if module is not network and not isinstance(module, nn.Sequential | nn.ModuleList):
            module.register_forward_hook(lambda module, *_: counts.update(map(id, module._parameters.values())))
    return counts


def _with_true_totals(table: str, network: nn.Module, counts: Counter) -> str:
    """Return torchsummary's ``table`` with the totals of ``network``'s parameters; where they are others, say why."""
    named = dict(network.named_parameters())
    total = sum(parameter.numel() for parameter in named.values())
    trainable = sum(parameter.numel() for parameter in named.values() if parameter.requires_grad)
    true = {"Total params": total, "Trainable params": trainable, "Non-trainable params": total - trainable}
    printed = {title: int(re.search(rf"^{title}: ([\d,]+)", table, re.M)[1].replace(",", "")) for title in true}
    if printed == true:
        return table
    for title, number in true.items():
        table = re.sub(rf"^{title}: .*$", f"{title}: {number:,}", table, flags=re.M)
    sizes = {title: float(re.search(rf"^{title} \(MB\): ([\d.]+)", table, re.M)[1]) for title in MEMORY}
    sizes["Params size"] = 4 * total / 1024**2
    sizes["Estimated Total Size"] = sum(sizes[title] for title in MEMORY[:3])
    for title, size in sizes.items():
        table = re.sub(rf"^{title} \(MB\): .*$", f"{title} (MB): {size:.2f}", table, flags=re.M)
    return f"{table}\nNote: these totals are model.parameters(); {_why(named, counts, printed['Total params'])}."


def _why(named: dict[str, nn.Parameter], counts: Counter, printed: int) -> str:
    """Return why torchsummary's total is another one."""
    counted = {path: counts[id(p)] if path.rpartition(".")[2] in ("weight", "bias") else 0 for path, p in named.items()}
    again, never = [p for p, n in counted.items() if n > 1], [p for p, n in counted.items() if not n]
    reasons = [f"counts again what is used again ({_some(again)})"] if again else []
    reasons += [f"leaves out what is no layer's weight or bias, or is not run ({_some(never)})"] if never else []
    return f"torchsummary's {printed:,} {' and '.join(reasons) or 'differ in what is trainable within a layer'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
