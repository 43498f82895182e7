"""Exercise: compare your own network with the assignment's after one epoch; likewise your own batch norm."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor, nn

from helpers.data import Batches, Split
from helpers.exercises.batch_norm import Layer, check_batch_norm
from helpers.exercises.result import (
    NotYet,
    Result,
    build_module,
    call,
    check_given,
    ends_with_not_yet,
    gives,
    name_of,
    not_yet,
    right,
)
from helpers.model import Net
from helpers.receptive_field import Row, layer_table, stages, to_markdown
from helpers.recipe import ASSIGNMENT
from helpers.runtime.looking import first_line
from helpers.runtime.markdown import markdown_table
from helpers.training import evaluate, fit

NUM_IMAGES = 16_000  # a quarter of them is held out: seconds instead of minutes
EPOCH = replace(ASSIGNMENT, num_epochs=1, lr=0.01)  # ten times the assignment's rate, as there are few steps
BATCH, CLASSES = 4, 10
NEXT = "try one more layer, more channels, or a batch norm where there is none"
LUCK = 0.005  # how much the accuracy may change with the seed, after so short an epoch


def one_epoch(build: Callable[[], nn.Module], train: Split) -> tuple[nn.Module, Batches]:
    """Build a network and train it for an epoch on three quarters of the first ``NUM_IMAGES`` images of ``train``.

    Returns the network and batches of the images held out.
    """
    some = train[:NUM_IMAGES]
    learned, held_out = some.hold_out(len(some) // 4, seed=0)
    torch.manual_seed(EPOCH.seed)
    network = build()
    fit(network, learned, held_out, EPOCH)
    return network, Batches(held_out, 250, device=next(network.parameters()).device)


@ends_with_not_yet
def check_network(network: Callable[[], nn.Module], train: Split) -> Result:
    """Say whether ``network()`` reads digits after one epoch as well as the assignment's, with no more parameters.

    Both learn from the same images of ``train`` and are tested on the same images held out; half a point less is
    accepted. The layer table and both networks' numbers are printed above the sentence.
    """
    check_given(network, "MyNet")
    model = build_module(network)
    _check_log_probabilities(model)
    try:
        rows = stages(layer_table(model))
        table = to_markdown(rows)
    except Exception as error:  # the network may be right all the same
        rows, table = [], f"There is no layer table: {first_line(error)}"
    name, own, theirs = name_of(network), _num_parameters(model), _num_parameters(Net())
    what = f"an epoch of {name}, in batches of {EPOCH.batch_size} and a shorter last one,"
    trained, held_out = call(what, one_epoch, network, train)
    _, own_accuracy = evaluate(trained, held_out)
    their_accuracy = accuracy_of_the_assignments(train)
    lines = [
        [name, f"{own:,}", f"≈ {own_accuracy:.2%}"],
        ["the assignment's", f"{theirs:,}", f"≈ {their_accuracy:.2%}"],
    ]
    seen = "\n\n".join([table, markdown_table(["network", "parameters", "accuracy on images held out"], lines)])
    if own > theirs:
        return not_yet(f"{name} has {own - theirs:,} parameters too many{_most_of_them(rows)}.", seen)
    if own_accuracy < their_accuracy - LUCK:
        return not_yet(f"{name} is less accurate than the assignment's network{_last_field(rows)}: {NEXT}.", seen)
    return right(f"{name} reads as well as the assignment's network, with no more parameters.", seen)


@cache
def accuracy_of_the_assignments(train: Split) -> float:
    """Return the accuracy of the assignment's network, measured only once however often a reader tries."""
    trained, held_out = one_epoch(Net, train)
    return evaluate(trained, held_out)[1]


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _check_log_probabilities(model: nn.Module) -> None:
    """Raise ``NotYet`` unless ``model`` turns images into log-probabilities of ten digits."""
    if _num_parameters(model) == 0:
        raise NotYet("the network has no parameters, so that there is nothing to learn: give it layers in __init__.")
    images = torch.rand(BATCH, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    try:
        output = call(f"for a batch {tuple(images.shape)} it", model, images.clone())
    except NotYet as fault:
        raise NotYet(f"{fault}{_wrong_linear(str(fault))}") from fault
    if not isinstance(output, Tensor):
        raise NotYet(f"forward {gives(output, 'return the log-probabilities alone.')}")
    if output.shape != (BATCH, CLASSES):
        shapes = f"a batch {tuple(images.shape)} comes out as {tuple(output.shape)} instead of ({BATCH}, {CLASSES})"
        has_rows = output.ndim == 2 and len(output) == BATCH
        remedy = "give the last layer ten outputs." if has_rows else "x.flatten(1) makes a row of each image."
        raise NotYet(f"{shapes}: {remedy}")
    sums = output.detach().exp().sum(dim=1)
    if not (sums - 1).abs().max() < 1e-3:
        raise NotYet(
            f"the ten outputs are no log-probabilities (their exp adds up to {sums[0]:.3g}, not 1): end with "
            "torch.log_softmax(x, dim=1)."
        )


def _wrong_linear(fault: str) -> str:
    """Explain torch's message about a linear layer whose input has the wrong shape."""
    shapes = re.search(r"\((\d+)x(\d+) and (\d+)x(\d+)\)", fault)
    if not shapes:
        return ""
    rows, given, expected, outputs = map(int, shapes.groups())
    if rows != BATCH:
        return f". The linear layer gets {rows} rows for {BATCH} images: x.flatten(1) makes a row of each."
    numbers = f"gets {given:,} numbers of each image and expects {expected:,}"
    return f". The linear layer {numbers}: nn.Linear({given}, {outputs})."


def _most_of_them(rows: list[Row]) -> str:
    if not rows:
        return ""
    largest = max(rows, key=lambda row: row.params)
    return f": {largest.params:,} are in {largest.name}, so begin there"


def _last_field(rows: list[Row]) -> str:
    """Say how large the receptive field of the last feature map is."""
    maps = [row for row in rows if max(row.output_shape[1:], default=1) > 1]
    if not maps:
        return ""
    height, width = maps[-1].receptive_field
    return f" (its last map, {maps[-1].name}, sees {height}x{width} pixels)"


def batch_norm_at_work(layer: Layer, train: Split) -> str:
    """Return a Markdown table of the accuracy of the assignment's network with three batch norms, after one epoch.

    These are PyTorch's, ``layer``, and ``layer`` with running statistics that were never updated. Training does not
    read running statistics, so without updates it would end with the same weights: the third network is the second one
    with its running statistics reset. Returns what ``check_batch_norm`` says instead, while ``layer`` is not right.
    """
    result = check_batch_norm(layer)
    if not result.passed:
        return f"The epoch waits for a layer that is right. {result}"
    rows = [["BatchNorm2d", "updated", f"≈ {accuracy_of_the_assignments(train):.2%}"]]
    network, held_out = one_epoch(partial(Net, norm=layer), train)
    rows.append([name_of(layer), "updated", f"≈ {evaluate(network, held_out)[1]:.2%}"])
    for module in network.modules():
        if hasattr(module, "running_mean"):
            nn.init.zeros_(module.running_mean)
            nn.init.ones_(module.running_var)
    rows.append([name_of(layer), "never updated", f"≈ {evaluate(network, held_out)[1]:.2%}"])
    return markdown_table(["batch norm", "running statistics", "accuracy on images held out"], rows, num_left=2)
