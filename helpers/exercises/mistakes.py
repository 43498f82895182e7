"""Known mistakes in batch normalization: for each, what to say about it and the numbers that it leads to."""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

EPS, MOMENTUM = 1e-5, 0.1  # of nn.BatchNorm2d
AXES = {0: "images", 1: "channels", 2: "rows", 3: "columns"}  # of a batch
AVERAGED = (0, 2, 3)
KEEP = "keep nine tenths of the old value and add a tenth of the batch's"

Mistakes = Iterator[tuple[str, Tensor]]


def mean_and_var(x: Tensor, axes: tuple[int, ...] = AVERAGED) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance (over n) of a batch ``(B, C, H, W)`` over some axes, kept with length 1."""
    return x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)


def wrong_normalisations(x: Tensor) -> Mistakes:
    """Yield mistakes in train mode, each with its output for a batch ``x``, before scale and shift."""
    mean, var = mean_and_var(x)
    unbiased = x.var(AVERAGED, keepdim=True)
    root = (var + EPS).sqrt()
    yield (
        "the batch comes out as it went in: subtract its mean and divide by its standard deviation (self.training is "
        "True then)",
        x,
    )
    yield "the mean is subtracted, but nothing is divided by the standard deviation", x - mean
    yield "the batch is divided by its standard deviation, but its mean is not subtracted", x / root
    yield "you divide by the variance: take the square root of it", (x - mean) / (var + EPS)
    yield "you multiply by the standard deviation: divide by it", (x - mean) * root
    yield (
        "you divide by the root of the variance over n − 1: take the one over n (unbiased=False)",
        (x - mean) / (unbiased + EPS).sqrt(),
    )
    yield from wrong_eps(x, mean, var)
    stored_mean, stored_var = MOMENTUM * mean, (1 - MOMENTUM) + MOMENTUM * unbiased
    yield (
        "you normalise by the running statistics, which are for eval mode: take the batch's own",
        (x - stored_mean) / (stored_var + EPS).sqrt(),
    )
    for number in range(1, len(AXES) + 1):
        for axes in combinations(AXES, number):
            if axes != AVERAGED:
                mean, var = mean_and_var(x, axes)
                yield wrong_axes(axes), (x - mean) / (var + EPS).sqrt()


def wrong_axes(axes: tuple[int, ...]) -> str:
    """Say what is wrong about averaging over ``axes``."""
    averaged = " and ".join(AXES[axis] for axis in axes)
    missing = " and ".join(AXES[axis] for axis in AVERAGED if axis not in axes)
    remedies = [f"average over the {missing}, too"] if missing else []
    if 1 in axes:
        remedies.append("keep the channels apart")
    return f"you average over {averaged}: {', and '.join(remedies)}"


def wrong_eps(x: Tensor, mean: Tensor, var: Tensor) -> Mistakes:
    """Yield mistakes with eps (missing, misplaced or of another size), each with its output for a batch ``x``."""
    formula = "divide by the root of (variance + eps), with eps = 1e-5"
    yield f"eps is added to the standard deviation: {formula}", (x - mean) / (var.sqrt() + EPS)
    yield f"eps is missing, or far too small: {formula}", (x - mean) / var.sqrt()
    for eps in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6):
        yield f"eps is {eps:g}: {formula}", (x - mean) / (var + eps).sqrt()
        yield f"eps is {eps:g} and added to the standard deviation: {formula}", (x - mean) / (var.sqrt() + eps)


def wrong_scales_and_shifts(normalised: Tensor, weight: Tensor, bias: Tensor) -> Mistakes:
    """Yield mistakes with scale and shift, each with its output where the normalisation is right."""
    yield "weight and bias change nothing: multiply by weight and add bias", normalised
    yield "bias changes nothing: add it", weight * normalised
    yield "weight changes nothing: multiply by it", normalised + bias
    yield "bias is added before weight multiplies: multiply first", weight * (normalised + bias)
    yield "weight is added and bias multiplies: it is the other way round", bias * normalised + weight
    yield "bias is subtracted: add it", weight * normalised - bias
    yield "you divide by weight: multiply by it", normalised / weight + bias


def wrong_in_eval_mode(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Mistakes:
    """Yield mistakes in eval mode, each with its output for ``x``, given the stored ``mean`` and ``var``."""
    own_mean, own_var = mean_and_var(x)
    root, own_root = (var + EPS).sqrt(), (own_var + EPS).sqrt()
    remedy = "take the running statistics"
    yield f"the batch comes out as it went in: {remedy} to normalise it", x
    yield f"the batch is normalised by its own statistics: {remedy}", weight * (x - own_mean) / own_root + bias
    yield f"the batch's own mean is subtracted: {remedy}", weight * (x - own_mean) / root + bias
    yield f"you divide by the batch's own standard deviation: {remedy}", weight * (x - mean) / own_root + bias
    yield "you divide by the variance: take the square root of it", weight * (x - mean) / (var + EPS) + bias
    for mistake, normalised in wrong_eps(x, mean, var):
        yield mistake, weight * normalised + bias
    for mistake, output in wrong_scales_and_shifts((x - mean) / root, weight, bias):
        yield f"{mistake}, as in train mode", output


def wrong_gradients(x: Tensor, weight: Tensor, factors: Tensor) -> Mistakes:
    """Yield what may be detached, each with the gradient that ``x`` then gets when ``factors`` reach the output."""
    for detached in (["mean", "variance"], ["mean"], ["variance"]):
        x = x.detach().requires_grad_()
        mean, var = mean_and_var(x)
        mean = mean.detach() if "mean" in detached else mean
        var = var.detach() if "variance" in detached else var
        output = weight * (x - mean) / (var + EPS).sqrt()
        (gradient,) = torch.autograd.grad(output, x, factors)
        yield f"it does not go through the {' and '.join(detached)}: detach nothing that is computed from x", gradient


def wrong_updates(name: str, start: float, batches: list[Tensor]) -> Mistakes:
    """Yield mistakes in updating the running statistic ``name``, each with what two batches leave stored ``(2, C)``."""
    unbiased = [batch.var(AVERAGED) for batch in batches]
    biased = [batch.var(AVERAGED, unbiased=False) for batch in batches]
    if name == "running_mean":
        taken_in = {"": [batch.mean(AVERAGED) for batch in batches]}
    else:
        taken_in = {  # by what to say about it; the first one is right
            "": unbiased,
            "takes in the variance over n, by which a batch is normalised: take in the one over n − 1": biased,
            "takes in the standard deviation: take in the variance over n − 1": [var.sqrt() for var in unbiased],
            "takes in the standard deviation: take in the variance, the one over n − 1": [var.sqrt() for var in biased],
        }
    rules = {  # shares of the old value and of the batch's value
        "is never updated: change it with each batch in train mode": (1.0, 0.0),
        f"is the last batch's alone and has forgotten those before: {KEEP}": (0.0, 1.0),
        f"keeps one tenth of the old value: {KEEP}": (MOMENTUM, 1 - MOMENTUM),
        f"is a tenth of the last batch's and keeps nothing of the old value: {KEEP}": (0.0, MOMENTUM),
        f"keeps all of the old value and adds a tenth of the batch's: {KEEP}": (1.0, MOMENTUM),
        f"is the sum over all batches: {KEEP}": (1.0, 1.0),
    }
    for momentum in (0.01, 0.05, 0.2, 0.3, 0.5, 0.99):
        rules[f"takes in {momentum:g} of the batch's value: {KEEP}"] = (1 - momentum, momentum)
    for kind, (first, second) in taken_in.items():
        for mistake, (of_old, of_new) in ({kind: (1 - MOMENTUM, MOMENTUM)} | rules).items():
            after_first = of_old * start + of_new * first
            yield mistake, torch.stack([after_first, of_old * after_first + of_new * second])
        anew = [(1 - MOMENTUM) * start + MOMENTUM * new for new in (first, second)]
        yield f"starts anew with each batch and has forgotten those before: {KEEP}", torch.stack(anew)
        yield f"is the mean over all batches: {KEEP}", torch.stack([first, (first + second) / 2])
