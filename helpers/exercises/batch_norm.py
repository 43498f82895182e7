"""Exercise: write batch normalization."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import BatchNorm2d  # imported directly: a reader may have replaced nn.BatchNorm2d
from torch.overrides import TorchFunctionMode

from helpers.exercises import mistakes
from helpers.exercises.result import (
    NotYet,
    Result,
    build_module,
    call,
    check_given,
    described,
    ends_with_not_yet,
    gives,
    right,
)

Layer = Callable[[int], nn.Module]


def _for_channels(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(1, -1, 1, 1)


NUM_CHANNELS = 3
SHAPE, OTHER_SHAPE = (4, NUM_CHANNELS, 2, 5), (2, NUM_CHANNELS, 4, 3)  # small: it matters whether n or n - 1 divides
START = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
WEIGHT, BIAS = _for_channels(1.5, 0.5, 2.0), _for_channels(0.25, -1.0, 0.5)
STORED = {"running_mean": _for_channels(0.002, -1.0, 1.5), "running_var": _for_channels(1e-5, 0.5, 4.0)}
# As a fraction of the largest number in a channel: far above float32's rounding, far below what a mistake changes.
TOLERANCE = 1e-3


@ends_with_not_yet
def check_batch_norm(layer: Layer) -> Result:
    """Say what still differs between ``layer(num_channels)`` and ``nn.BatchNorm2d``, or that it is right.

    The layer needs the parameters ``weight`` and ``bias`` and the buffers ``running_mean`` and ``running_var``, each
    with a number for each channel, in any shape. It must not call PyTorch's own batch norm.
    """
    check_given(layer, "MyBatchNorm")
    new = partial(build_module, layer, NUM_CHANNELS)
    if _leaves_it_to_torch(new()):
        raise NotYet("PyTorch's own batch norm does the work here: write the mean, the variance and the rest yourself.")
    with torch.enable_grad():
        _check_start(new())
        _check_normalisation(new())
        _check_scale_and_shift(new())
        trained = new()
        _check_updates(trained)
        _check_eval_mode(new())
    same = "values, gradients and running statistics are those of nn.BatchNorm2d, in both modes."
    return right(" ".join([same, *_remarks(trained)]))


class _BatchNormCalls(TorchFunctionMode):
    """Notices whether torch's own batch norm is called within the block."""

    found = False

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if "batch_norm" in getattr(function, "__name__", ""):
            self.found = True
        return function(*args, **(kwargs or {}))


def _leaves_it_to_torch(norm: nn.Module) -> bool:
    calls = _BatchNormCalls()
    for training in (True, False):
        with suppress(Exception), calls:  # a later check reports it
            norm.train(training)(_batch(1))
    return calls.found


def _batch(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Return a batch ``(B, 3, H, W)`` whose channels differ, the first with a variance about as small as eps."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return x * _for_channels(0.003, 1.0, 3.0) + _for_channels(0.002, -1.0, 2.0)


def _set(norm: nn.Module, **numbers: Tensor) -> None:
    for name, values in numbers.items():
        tensor = getattr(norm, name)
        tensor.data.copy_(values.view_as(tensor))


def _same(found: Tensor, expected: Tensor) -> bool:
    """Tell whether two tensors ``(N, C, ...)`` are the same in each channel; not where ``found`` is not finite."""
    return bool((_largest(found - expected) <= TOLERANCE * _largest(expected) + 1e-7).all())


def _largest(numbers: Tensor) -> Tensor:
    """Return the largest absolute value in each channel ``(C,)`` of a tensor ``(N, C, ...)``."""
    return numbers.detach().abs().transpose(0, 1).flatten(1).amax(1)


def _known(known: mistakes.Mistakes, found: Tensor) -> str | None:
    """Return what to say about the first mistake that leads to ``found``, None if none does."""
    return next((mistake for mistake, output in known if _same(found, output)), None)


def _run(norm: nn.Module, x: Tensor) -> Tensor:
    """Return the layer's output for ``x``; raises ``NotYet`` for another shape or type, and if ``x`` was changed."""
    mode, shape, before = "train" if norm.training else "eval", tuple(x.shape), x.detach().clone()
    try:
        output = call(f"in {mode} mode, for a batch {shape}, it", norm, x)
    except NotYet as fault:
        if "size of tensor" not in str(fault):
            raise
        raise NotYet(f"{fault}. Give numbers for each channel the shape of a batch: .view(1, -1, 1, 1).") from fault
    if not isinstance(output, Tensor):
        raise NotYet(f"in {mode} mode forward {gives(output, 'return the batch alone.')}")
    if output.shape != x.shape:
        raise NotYet(f"in {mode} mode a batch {shape} comes out as {tuple(output.shape)}: its shape has to stay.")
    if output.dtype != x.dtype:
        raise NotYet(f"in {mode} mode a batch of {x.dtype} comes out as {output.dtype}: what in it has that type?")
    if not torch.equal(x.detach(), before):
        raise NotYet(f"in {mode} mode the batch that goes in is changed, as by x -= mean: write x = x - mean.")
    return output


def _listed(numbers: Tensor) -> str:
    return f"[{', '.join(f'{number:.3g}' for number in numbers.detach().flatten().tolist())}]"


# --- What the layer holds -----------------------------------------------------------------------------------------


def _check_start(norm: nn.Module) -> None:
    parameters, buffers = dict(norm.named_parameters()), dict(norm.named_buffers())
    for name, start in START.items():
        is_learned = name in ("weight", "bias")
        tensors = parameters if is_learned else buffers
        kind = "an nn.Parameter" if is_learned else "stored with register_buffer"
        remedy = f"it should be {kind}, with a {start:g} for each channel."
        if name not in tensors:
            raise NotYet(f"{_instead_of(name, norm, list(tensors))}: {remedy}")
        values = tensors[name].detach()
        if values.numel() != NUM_CHANNELS:
            raise NotYet(f"for {NUM_CHANNELS} channels {name} has the shape {tuple(values.shape)}: {remedy}")
        if (values != start).any():
            raise NotYet(f"{name} starts as {_listed(values)}: {remedy}")


def _instead_of(name: str, norm: nn.Module, there: list[str]) -> str:
    """Say what there is where a parameter or buffer called ``name`` should be."""
    value = getattr(norm, name, None)
    if isinstance(value, nn.Parameter):
        return f"{name} is an nn.Parameter, which the optimizer would change"
    if name in dict(norm.named_buffers()):
        return f"{name} is a buffer, which no optimizer changes"
    if value is not None:
        return f"{name} is {described(value)}, which is neither saved nor moved with the layer"
    return f"there is no {name}" + (f" (there is {', '.join(there)})" if there else "")


def _remarks(trained: nn.Module) -> Iterator[str]:
    """Yield remarks on what the exercise does not ask for, but would surprise whoever uses the layer."""
    if lost := [name for name in START if name not in trained.state_dict()]:
        yield f"(But {' and '.join(lost)} will be missing from a saved model: leave out persistent=False.)"
    for name, value in vars(trained).items():
        if isinstance(value, Tensor) and value.grad_fn is not None:
            yield f"(But self.{name} keeps the graph of the last batch, so that the layer cannot be copied: detach it.)"


# --- Train mode ---------------------------------------------------------------------------------------------------


def _check_normalisation(norm: nn.Module) -> None:
    """Check the output in train mode with the scale and shift of a new layer, 1 and 0."""
    x = _batch(1)
    found, expected = _run(norm.train(), x.clone()), BatchNorm2d(NUM_CHANNELS)(x)
    if _same(found, expected):
        return
    if mistake := _known(mistakes.wrong_normalisations(x), found):
        raise NotYet(f"in train mode {mistake}.")
    (mean, var), (true_mean, true_var) = mistakes.mean_and_var(found.detach()), mistakes.mean_and_var(expected)
    _compare("mean", "look at what you subtract", mean, true_mean)
    _compare("standard deviation", "look at what you divide by", var.sqrt(), true_var.sqrt())
    raise NotYet(
        "in train mode each channel comes out with the right mean and standard deviation, but its numbers are not in "
        "their places: look at the order of the axes."
    )


def _compare(what: str, remedy: str, found: Tensor, expected: Tensor) -> None:
    """Raise ``NotYet`` for the channel with the largest error in ``what`` (mean or standard deviation), if any."""
    off = (found - expected).abs().flatten().nan_to_num(torch.inf)
    worst = int(off.argmax())
    if off[worst] > 0.005:
        value, true = found.flatten()[worst].item(), round(expected.flatten()[worst].item(), 3)
        numbers = f"{what} {value:.3g} instead of {abs(true):.3g}"
        raise NotYet(f"in train mode the numbers of channel {worst} come out with the {numbers}: {remedy}.")


def _check_scale_and_shift(norm: nn.Module) -> None:
    """Check output and gradients in train mode with another weight and bias than a new layer has."""
    theirs = BatchNorm2d(NUM_CHANNELS)
    for module in (norm, theirs):
        _set(module, weight=WEIGHT, bias=BIAS)
    x, y = _batch(1).requires_grad_(), _batch(1).requires_grad_()
    found, expected = _run(norm.train(), x.clone()), theirs(y)
    if not _same(found, expected):
        normalised = BatchNorm2d(NUM_CHANNELS)(y)
        if mistake := _known(mistakes.wrong_scales_and_shifts(normalised, WEIGHT, BIAS), found):
            raise NotYet(f"in train mode {mistake}.")
        mean, var = mistakes.mean_and_var(found)
        raise NotYet(
            f"in train mode, with weight {_listed(WEIGHT)} and bias {_listed(BIAS)}, the channels come out with the "
            f"means {_listed(mean)} and the standard deviations {_listed(var.sqrt())}: multiply by weight, then add "
            "bias."
        )
    if not found.requires_grad:
        raise NotYet("the output has no graph, so that nothing is learned: do without no_grad, .data and numpy.")
    factors = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    call("the backward pass", found.backward, factors)
    expected.backward(factors)
    for name in ("weight", "bias"):
        mine, true = getattr(norm, name).grad, getattr(theirs, name).grad
        if mine is None:
            raise NotYet(f"no gradient reaches {name}: use self.{name} itself, not its .data or a detached copy.")
        if not _same(mine.reshape(1, -1), true.reshape(1, -1)):
            raise NotYet(f"the gradient of {name} is {_listed(mine)}, and that of nn.BatchNorm2d {_listed(true)}.")
    if x.grad is None:
        raise NotYet("no gradient reaches the input: compute the output from x without .data, detach and numpy.")
    if not _same(x.grad, y.grad):
        remedy = "detach nothing that is computed from x, and compute it outside of no_grad"
        mistake = _known(mistakes.wrong_gradients(x, WEIGHT, factors), x.grad)
        raise NotYet(f"the gradient of the input differs: {mistake or remedy}.")


def _check_updates(norm: nn.Module) -> None:
    """Check what is stored after one batch and after a second one."""
    theirs = BatchNorm2d(NUM_CHANNELS)
    batches = [_batch(1, SHAPE), _batch(2, OTHER_SHAPE)]
    found = {name: torch.empty(len(batches), NUM_CHANNELS) for name in STORED}
    true = {name: torch.empty(len(batches), NUM_CHANNELS) for name in STORED}
    for i, batch in enumerate(batches):
        _run(norm.train(), batch.clone().requires_grad_())
        theirs(batch)
        for name in STORED:
            stored = getattr(norm, name)
            if not isinstance(stored, Tensor) or stored.numel() != NUM_CHANNELS:
                raise NotYet(f"after a batch {name} is {described(stored)}: keep a number for each channel.")
            if stored.requires_grad:
                raise NotYet(
                    f"{name} requires a gradient and so keeps the graph of every batch, until memory is full: update "
                    "it under torch.no_grad()."
                )
            found[name][i], true[name][i] = stored.flatten(), getattr(theirs, name)
    for name in STORED:
        if not _same(found[name], true[name]):
            mistake = _known(mistakes.wrong_updates(name, START[name], batches), found[name])
            raise NotYet(f"in train mode {name} {mistake or _unlike(found[name], true[name])}.")


def _unlike(found: Tensor, true: Tensor) -> str:
    """Say after which of two batches what is stored is wrong."""
    wrong, ordinal = (1, "second") if _same(found[:1], true[:1]) else (0, "first")
    return f"is {_listed(found[wrong])} after the {ordinal} batch and should be {_listed(true[wrong])}: {mistakes.KEEP}"


# --- Eval mode ----------------------------------------------------------------------------------------------------


def _check_eval_mode(norm: nn.Module) -> None:
    """Check the output in eval mode, of a batch and of a single image, and that nothing stored changes."""
    theirs = BatchNorm2d(NUM_CHANNELS).eval()
    for module in (norm, theirs):
        _set(module, weight=WEIGHT, bias=BIAS, **STORED)
    norm.eval()
    for batch in (_batch(3), _batch(4, (1, *SHAPE[1:]))):
        found, expected = _run(norm, batch.clone()), theirs(batch)
        for name in STORED:
            if not torch.equal(getattr(norm, name).flatten(), getattr(theirs, name)):
                raise NotYet(f"in eval mode {name} changes: update it only where self.training is True.")
        if not _same(found, expected):
            known = mistakes.wrong_in_eval_mode(batch, STORED["running_mean"], STORED["running_var"], WEIGHT, BIAS)
            raise NotYet(f"in eval mode {_known(known, found) or _example(found, expected, batch)}.")


def _example(found: Tensor, expected: Tensor, x: Tensor) -> str:
    """Say what one number of the channel with the largest error becomes in eval mode, and what it should become."""
    worst = int(_largest(found - expected).nan_to_num(torch.inf).argmax())
    number, wrong, true, mean, var, weight, bias = [
        f"{tensor[0, worst, 0, 0].item():.3g}" for tensor in (x, found, expected, *STORED.values(), WEIGHT, BIAS)
    ]
    stored = f"mean {mean} and variance {var} are stored, weight is {weight} and bias {bias}"
    return f"{number} comes out as {wrong} where {stored}: normalised by these it is {true}"
