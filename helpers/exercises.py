"""The notebook's exercises: what each asks about, and a check that says what is still wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from helpers.data import Split
from helpers.model import Net, conv_block
from helpers.receptive_field import layer_table, stages
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.training import fit

RIGHT = "Right: "
KERNEL_SIZES = (3, 3, 1, 3, 3, 1, 3)  # of the network's convolutions

Score = Callable[[Recipe, Split, Split], float]  # of a recipe that learns from one split and is measured on another
Choose = Callable[[Split, Mapping[str, Recipe], Score], str]


def check_batch_norm(layer: Callable[[int], nn.Module]) -> str:
    """Say what still differs between ``layer(num_channels)`` and ``nn.BatchNorm2d``, or that it is right.

    It needs the parameters ``weight`` and ``bias`` and the buffers ``running_mean`` and ``running_var``. Both see the
    same batches in float64.
    """
    try:
        mine = layer(3).double()
        return _not_yet(_wrong_layout(mine) or _wrong_in_train_mode(mine) or _wrong_in_eval_mode(mine)) or (
            f"{RIGHT}values, gradients and running statistics are those of nn.BatchNorm2d, in both modes."
        )
    except Exception as error:  # whatever a reader's code may raise is the answer
        return f"Not yet: it raises {type(error).__name__}: {error}"


def _not_yet(fault: str | None) -> str | None:
    return fault and f"Not yet: {fault}"


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-7, atol=1e-9)


def _batch(seed: int) -> Tensor:
    """Return a batch ``(4, 3, 5, 5)`` whose channels differ, so that what is mixed up shows."""
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x * torch.tensor([0.5, 1.0, 3.0]).view(3, 1, 1) + torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1)


def _wrong_layout(mine: nn.Module) -> str | None:
    parameters, buffers = dict(mine.named_parameters()), dict(mine.named_buffers())
    for name, start in {"weight": 1.0, "bias": 0.0}.items():
        if name not in parameters or not _same(parameters[name].detach(), torch.full((3,), start).double()):
            return f"{name} should be an nn.Parameter with a {start:g} for each channel."
    for name, start in {"running_mean": 0.0, "running_var": 1.0}.items():
        if name not in buffers or not _same(buffers[name], torch.full((3,), start).double()):
            return f"{name} should be stored with register_buffer, with a {start:g} for each channel."
    return None


def _wrong_in_train_mode(mine: nn.Module) -> str | None:
    theirs = nn.BatchNorm2d(3).double()
    for module in (mine, theirs):
        nn.init.constant_(module.weight, 1.5)
        nn.init.constant_(module.bias, 0.25)
    x, y = _batch(1).requires_grad_(), _batch(1).requires_grad_()
    found, expected = mine.train()(x), theirs.train()(y)
    if found.shape != expected.shape:
        return f"a batch {tuple(x.shape)} comes out as {tuple(found.shape)}."
    if not _same(found, expected):
        per_image = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        unbiased = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        if _same(found, 1.5 * per_image + 0.25):
            return "you average within each image: average over the batch, too."
        if _same(found, 1.5 * unbiased + 0.25):
            return "normalise by the variance over n, not over n − 1."
        worst = (found - expected).abs().max().item()
        return f"in train mode the outputs are off by up to {worst:.2g}: average over what, and then scale and shift."
    weights = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for output in (found, expected):
        (output * weights).sum().backward()
    pairs = {"the input": (x, y), "weight": (mine.weight, theirs.weight), "bias": (mine.bias, theirs.bias)}
    for name, (a, b) in pairs.items():
        if a.grad is None or not _same(a.grad, b.grad):
            return f"the gradient of {name} differs: mean and variance depend on the input, so do not detach them."
    return _wrong_statistics(mine, theirs, y.detach())


def _wrong_statistics(mine: nn.Module, theirs: nn.Module, batch: Tensor) -> str | None:
    mean, var = batch.mean((0, 2, 3)), batch.var((0, 2, 3), unbiased=False)
    if not _same(mine.running_mean, theirs.running_mean):
        swapped = ": it keeps nine tenths of the old value, not one" if _same(mine.running_mean, 0.9 * mean) else ""
        return f"running_mean is not what it should be after one batch{swapped}."
    if not _same(mine.running_var, theirs.running_var):
        biased = ": it stores the variance over n − 1" if _same(mine.running_var, 0.9 + 0.1 * var) else ""
        return f"running_var is not what it should be after one batch{biased}."
    return None


def _wrong_in_eval_mode(mine: nn.Module) -> str | None:
    theirs = nn.BatchNorm2d(3).double()
    theirs.load_state_dict(mine.state_dict(), strict=False)
    before = mine.running_mean.clone()
    found, expected = mine.eval()(_batch(3)), theirs.eval()(_batch(3))
    if not torch.equal(mine.running_mean, before):
        return "in eval mode the stored statistics must stay as they are."
    return None if _same(found, expected) else "in eval mode it should normalise by what it has stored."


class LaterPooling(Net):
    """The network with its pooling behind Conv4 instead of Conv2; the linear layer fits."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8 * 7 * 7, 10)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28)
        x = self.conv4(self.conv3(self.conv2(self.conv1(x))))  # (B, 16, 22, 22)
        x = self.conv7(self.conv6(self.conv5(self.pool1(x))))  # (B, 8, 7, 7)
        return torch.log_softmax(self.fc(x.flatten(1)), dim=1)  # (B, 10)


def check_receptive_fields(predicted: Mapping[str, int]) -> str:
    """Say which of the receptive fields ``predicted`` for ``LaterPooling``, pixels by layer, is wrong, or none."""
    above = None
    for row in stages(layer_table(LaterPooling())):
        if predicted.get(row.name) != row.receptive_field[0]:
            seen, jump = (above.receptive_field[0], above.jump[0]) if above else (1, 1)
            given = predicted.get(row.name, "missing")
            return f"Not yet: {row.name} is {given}. A unit before it sees {seen}, and its neighbour is {jump} away."
        above = row
    return f"{RIGHT}every layer is the table's. The last one sees the whole image again: 28 pixels."


def check_parameter_count(count: Callable[[Sequence[int]], int]) -> str:
    """Say whether ``count(widths)`` is the number of parameters with these output channels of Conv1 to Conv7."""
    for widths in ((8, 16, 32, 16, 8, 16, 8), (4, 4, 4, 4, 4, 4, 4), (10, 20, 30, 20, 10, 20, 10)):
        channels = zip((1, *widths), widths, KERNEL_SIZES, strict=False)
        blocks = [conv_block(*block) for block in channels]
        network = nn.ModuleList([*blocks, nn.Linear(widths[-1] * 6 * 6, 10)])
        found = sum(p.numel() for p in network.parameters())
        try:
            difference = count(widths) - found
        except Exception as error:
            return f"Not yet: for {widths} it raises {type(error).__name__}: {error}"
        known = {
            -2 * sum(widths): "the scale and shift of the batch norms are missing",
            -sum(widths): "a batch norm has two parameters for each channel",
            sum(widths): "a convolution before a batch norm has no bias",
            -10: "the linear layer has a bias for each of its ten outputs",
        }
        if difference:
            reason = known.get(difference, "too many" if difference > 0 else "too few")
            return f"Not yet: for {widths} you are off by {difference:+,}: {reason}."
    return f"{RIGHT}it counts the assignment's 11,874 and those of two other networks."


def check_choice(choose: Choose, data: Split) -> str:
    """Say whether ``choose(train, recipes, score)`` picks a recipe's name as one should, on 600 images of ``data``.

    ``score(recipe, train, held_out)`` trains for an epoch on the one split and returns the accuracy on the other.
    """
    train = data[:600]
    recipes = {f"lr {lr}": replace(ASSIGNMENT, num_epochs=1, batch_size=16, lr=lr) for lr in (0.00001, 0.02, 0.0005)}
    names = {recipe: name for name, recipe in recipes.items()}
    scores: dict[str, float] = {}
    splits: list[tuple[set[bytes], set[bytes]]] = []

    def score(recipe: Recipe, learned: Split, held_out: Split) -> float:
        splits.append(({i.numpy().tobytes() for i in learned.images}, {i.numpy().tobytes() for i in held_out.images}))
        history = fit(recipe.model(), learned, held_out, recipe, device="cpu")
        scores[names[recipe]] = history.test_accuracy[-1]
        return scores[names[recipe]]

    try:
        chosen = choose(train, recipes, score)
    except Exception as error:
        return f"Not yet: it raises {type(error).__name__}: {error}"
    everything = {i.numpy().tobytes() for i in train.images}
    if missing := [name for name in recipes if name not in scores]:
        return f"Not yet: {', '.join(missing)} was never scored."
    if overlap := max(len(learned & held_out) for learned, held_out in splits):
        return f"Not yet: {overlap:,} of the images that you score on were learned from."
    if any(held_out != splits[0][1] for _, held_out in splits):
        return "Not yet: the recipes were compared on different images."
    if any(not learned | held_out <= everything for learned, held_out in splits):
        return "Not yet: there are images among them that are none of the training split."
    best = [name for name, accuracy in scores.items() if accuracy == max(scores.values())]  # there may be a tie
    if chosen not in best:
        return f"Not yet: you choose {chosen!r}, but {best[0]!r} was more accurate on the images held out."
    return f"{RIGHT}{chosen!r} is the most accurate on images that none of the recipes has learned from."
