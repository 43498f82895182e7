"""Every solution in the notebook passes its check, what students hand in instead is told what is wrong with it."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conftest import Splits
from helpers import exercises
from helpers.data import Split
from helpers.exercises import choice
from helpers.exercises.network import one_epoch
from helpers.model import Net
from helpers.receptive_field import layer_table, stages
from helpers.training import evaluate
from solutions import CELLS, QUESTIONS, SOLUTIONS

NETWORK, BATCH_NORM, FIELDS, COUNT, CHOICE = SOLUTIONS


@pytest.fixture(scope="module")
def some(mnist: Splits) -> Split:
    """Enough images to learn a little from in a second; one object, for which the assignment's network learns once."""
    return mnist[0][:1600]


def define(source: str) -> dict[str, Any]:
    """Return what a cell defines, beside the names that the notebook has by then."""
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "np": np, "replace": replace}
    exec(source, names)
    return names


def changed(source: str, *replacements: tuple[str, str]) -> str:
    for old, new in replacements:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("number", range(len(CELLS)))
def test_the_solution_is_right_and_the_cell_as_it_stands_is_not(number: int, some: Split) -> None:
    unsolved, call = CELLS[number].source.removesuffix(")").rsplit("\nprint(", 1)
    for source, passed, says in ((SOLUTIONS[number], True, "Right: "), (unsolved, False, "Not yet: ")):
        result = eval(call, {"exercises": exercises, "train": some, **define(source)})
        assert result.passed is passed
        assert str(result).splitlines()[-1].startswith(says)
    points = CELLS[number].metadata.nbgrader
    assert (points.points, points.grade, points.solution) == (1, True, True)
    assert re.search(r"\*\*Goal:\*\* .+\*\*Time:\*\* \d+ minutes", QUESTIONS[number])


@pytest.mark.parametrize("answer", [None, 3, "conv1", [3, 5], {}, nn.Linear(1, 1), torch.ones(3), object()])
def test_whatever_a_check_is_given_it_answers_in_a_line(answer: object, small_mnist: Splits) -> None:
    train = small_mnist[0]
    for result in (
        exercises.check_network(answer, train),
        exercises.check_batch_norm(answer),
        exercises.check_receptive_fields(answer),
        exercises.check_parameter_count(answer),
        exercises.check_choice(answer, train),
        exercises.check_choice(define(CHOICE)["choose"], answer),
    ):
        assert not result.passed and re.fullmatch("Not yet: .*(: give|is missing).*", str(result))


# --- A network of one's own ---------------------------------------------------------------------------------------


LAYERS_IN_A_LIST = """
class MyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(28 * 28, 10)]

    def forward(self, x):
        return torch.log_softmax(self.layers[0](x.flatten(1)), dim=1)
"""


@pytest.mark.parametrize(("old", "new", "says"), [
    (NETWORK, LAYERS_IN_A_LIST, "the network has no parameters"),
    ("16 * 3 * 3", "288", "nn.Linear(144, 10)"),
    (".flatten(1)", ".flatten(0)", "1 rows for 4 images"),
    ("16 * 3 * 3, 10", "16 * 3 * 3, 5", "(4, 5) instead of (4, 10): give the last layer ten outputs"),
    ("self.conv2 = block(8, 16)", "self.conv2 = block(4, 16)", "(4, 1, 28, 28) it raises RuntimeError"),
    ("torch.log_softmax(self.fc(x.flatten(1)), dim=1)", "self.fc(x.flatten(1))", "no log-probabilities"),
    ("dim=1)", "dim=1) - 0.1", "no log-probabilities"),
    ("return torch.log_softmax", "torch.log_softmax", "gives None: does it end with return?"),
    ("super().__init__()", "pass", "raises AttributeError"),
    ("x.flatten(1)", "x.view(4, 144)", "an epoch of MyNet, in batches of 64"),
])  # fmt: skip
def test_a_network_that_does_not_fit_is_told_why(old: str, new: str, says: str, small_mnist: Splits) -> None:
    result = exercises.check_network(define(changed(NETWORK, (old, new)))["MyNet"], small_mnist[0])
    assert not result.passed and says in str(result) and "\n" not in str(result)


def test_a_network_is_shown_beside_the_assignments(some: Split) -> None:
    without_learning = changed(NETWORK, ("self.fc(x.flatten(1))", "self.fc(x.flatten(1)).detach() + 0 * self.fc.bias"))
    result = exercises.check_network(define(without_learning)["MyNet"], some)
    assert "less accurate" in result.sentence and "conv4, sees 20x20 pixels" in result.sentence
    assert re.search(r"conv1 .* 26×26×8 .*3×3", result.seen)
    num_parameters = [sum(p.numel() for p in net.parameters()) for net in (define(NETWORK)["MyNet"](), Net())]
    shown = re.findall(r"([\d,]+) \| +≈ ([\d.]+)%", result.seen)
    assert [int(number.replace(",", "")) for number, _ in shown] == num_parameters
    assert float(shown[0][1]) < 30 < 50 < float(shown[1][1])


def test_a_network_that_the_layer_table_cannot_follow_may_be_right(some: Split) -> None:
    roundabout = changed(NETWORK, ("x.flatten(1)", "torch.from_numpy(x.detach().numpy()).flatten(1)"))
    result = exercises.check_network(define(roundabout)["MyNet"], some)
    assert "no layer table" in result.seen and "assignment's" in result.seen


# --- Batch normalization ------------------------------------------------------------------------------------------

TWO_LINES = """        scale = self.weight / (var + self.eps).sqrt()
        shift = self.bias - scale * mean
        return scale.view(1, -1, 1, 1) * x + shift.view(1, -1, 1, 1)
"""
STEP_BY_STEP = """        mean, var = mean.view(1, -1, 1, 1), var.view(1, -1, 1, 1)
        weight, bias = self.weight.view(1, -1, 1, 1), self.bias.view(1, -1, 1, 1)
        normalised = (x - mean) / (var + self.eps).sqrt()
        return weight * normalised + bias
"""
STATISTICS = "x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)"
STORED = "mean, var = self.running_mean, self.running_var"
UPDATES = """            with torch.no_grad():  # what is stored takes no part in learning
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * n / (n - 1), self.momentum)
"""
LONG = changed(BATCH_NORM, (TWO_LINES, STEP_BY_STEP))
ZEROS, ONES = "torch.zeros(num_channels)", "torch.ones(num_channels)"
REGISTERED = f'self.register_buffer("running_var", {ONES})'
BIASED = "x.var((0, 2, 3), unbiased=False)"
HEAD, FORWARD = BATCH_NORM.split("    def forward")
SHORT = """    def forward(self, x):
        {}
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
"""


def solution(*replacements: tuple[str, str]) -> str:
    return changed(BATCH_NORM, *replacements)


def steps(*replacements: tuple[str, str]) -> str:
    return changed(LONG, *replacements)


def update(mean: str, var: str) -> tuple[str, str]:
    """Return how the running statistics are updated in the solution, and otherwise."""
    return UPDATES, f"            self.running_mean = {mean}\n            self.running_var = {var}\n"


@pytest.mark.parametrize("source", [
    LONG,
    solution((BIASED, "(x * x).mean((0, 2, 3)) - x.mean((0, 2, 3)) ** 2")),
    steps((ZEROS, "torch.zeros(1, num_channels, 1, 1)"), (ONES, "torch.ones(1, num_channels, 1, 1)"),
            ("(0, 2, 3)", "(0, 2, 3), keepdim=True")),
    solution(("        self.momentum, self.eps", '        self.register_buffer("num_batches_tracked", '
            "torch.tensor(0))\n        self.momentum, self.eps")),
    solution(update("0.9 * self.running_mean + 0.1 * mean.detach()",
                               "0.9 * self.running_var + 0.1 * x.detach().var((0, 2, 3))")),
    "class MyBatchNorm(nn.BatchNorm2d):\n    def forward" + FORWARD,  # for its parameters and buffers alone
    BATCH_NORM + "\nlayer = MyBatchNorm\nMyBatchNorm = lambda num_channels: layer(num_channels)",
])  # fmt: skip
def test_a_right_batch_norm_is_right_in_whatever_form(source: str) -> None:
    result = exercises.check_batch_norm(define(source)["MyBatchNorm"])
    assert str(result) == "Right: values, gradients and running statistics are those of nn.BatchNorm2d, in both modes."


def test_what_would_surprise_whoever_uses_a_right_layer_is_told() -> None:
    not_saved = (f'"running_mean", {ZEROS}', f'"running_mean", {ZEROS}, persistent=False')
    source = steps(not_saved, ("        normalised", "        self.last = mean\n        normalised"))
    result = exercises.check_batch_norm(define(source)["MyBatchNorm"])
    assert result.passed
    assert "running_mean will be missing from a saved model" in result.sentence
    assert "self.last keeps the graph" in result.sentence


@pytest.mark.parametrize(("source", "says"), [
    # what does the work
    ("class MyBatchNorm(nn.BatchNorm2d): pass", "PyTorch's own"),
    (HEAD + SHORT.format("x = F.batch_norm(x, self.running_mean, self.running_var)"), "PyTorch's own"),
    # the class
    (BATCH_NORM + "\nMyBatchNorm = MyBatchNorm(3)", "an instance of MyBatchNorm: give it MyBatchNorm itself"),
    ("def MyBatchNorm(num_channels): return [num_channels]", "gives a list: derive the class from nn.Module"),
    (solution(("self, num_channels, ", "self, ")), "MyBatchNorm(3) raises NameError"),
    # what it holds
    (solution(("running_mean", "moving_mean")),
     "no running_mean (there is moving_mean, running_var): it should be stored with register_buffer, with a 0"),
    (solution((REGISTERED, f"self.running_var = {ONES}")), "a tensor of shape (3,), which is neither saved"),
    (solution((REGISTERED, f"self.running_var = nn.Parameter({ONES})")), "running_var is an nn.Parameter"),
    (solution((f"self.bias = nn.Parameter({ZEROS})", f'self.register_buffer("bias", {ZEROS})')),
     "bias is a buffer, which no optimizer changes: it should be an nn.Parameter, with a 0"),
    (solution((f"nn.Parameter({ONES})", "nn.Parameter(torch.full((num_channels,), 0.5))")),
     "weight starts as [0.5, 0.5, 0.5]"),
    (solution((f"nn.Parameter({ONES})", "nn.Parameter(torch.ones(1))")), "has the shape (1,)"),
    # what comes out
    (solution(("        return", "        output =")), "gives None: does it end with return?"),
    (solution(("+ shift.view(1, -1, 1, 1)", "+ shift.view(1, -1, 1, 1), mean")), "gives a tuple"),
    (solution(("* x + shift.view(1, -1, 1, 1)", "* x[:, :, 1:] + shift.view(1, -1, 1, 1)")),
     "(4, 3, 2, 5) comes out as (4, 3, 1, 5)"),
    (solution(("* x + shift", "* x.double() + shift")), "torch.float32 comes out as torch.float64"),
    (steps((".view(1, -1, 1, 1)", "")), "Give numbers for each channel the shape of a batch"),
    (steps(("(x - mean)", "x.sub_(mean)")), "is changed, as by x -= mean"),
    (solution(("        if self", "        raise ValueError('to do')\n        if self")), "ValueError: to do"),
    # normalisation
    (solution((BIASED, "x.var((0, 2, 3))"), ("* n / (n - 1)", "")), "variance over n − 1: take the one over n"),
    (steps(("x.mean((0, 2, 3))", "x.mean((2, 3)).mean(0)"), (BIASED, "x.var((0, 2, 3)) / 2")),
     "what you divide by"),
    (steps(("x.mean((0, 2, 3))", "x.amax((0, 2, 3))")), "look at what you subtract"),
    (HEAD + SHORT.format("x = F.layer_norm(x, x.shape[1:])"),
     "average over channels and rows and columns: average over the images, too, and keep the channels apart"),
    (steps(("x.mean((0, 2, 3))", "x.mean().expand(3)"), (BIASED, "x.var(unbiased=False).expand(3)")),
     "images and channels and rows and columns: keep the channels apart"),
    (HEAD + SHORT.format("x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()"),
     "average over images: average over the rows and columns, too"),
    (steps(("(x - mean)", "x")), "its mean is not subtracted"),
    (steps(("/ (var + self.eps).sqrt()", "")), "nothing is divided"),
    (steps((".sqrt()", "")), "you divide by the variance"),
    (steps(("if self.training:", "if not self.training:")), "as it went in: subtract its mean"),
    (steps(("        mean, var = mean.view", f"        {STORED}\n        mean, var = mean.view")),
     "running statistics, which are for eval mode"),
    (steps(("normalised +", "normalised.flatten(2).flip(2).view(x.shape) +")), "not in their places"),
    # eps
    (steps((" + self.eps", "")), "eps is missing"),
    (steps(("(var + self.eps).sqrt()", "(var.sqrt() + self.eps)")), "eps is added to the standard deviation"),
    (solution(("1e-5", "1e-3")), "eps is 0.001: divide"),
    (solution(("1e-5", "2e-5")), "come out with the standard deviation"),
    (steps(("+ self.eps", "+ self.training * self.eps")), "in eval mode eps is missing"),
    # scale and shift
    (steps(("weight * normalised + bias", "normalised")), "weight and bias change nothing"),
    (steps((" + bias", "")), "bias changes nothing"),
    (steps(("normalised + bias", "(normalised + bias)")), "bias is added before weight multiplies"),
    (steps(("weight * normalised", "normalised / weight")), "you divide by weight"),
    (steps(("* normalised", "** 2 * normalised")), "multiply by weight, then add bias"),
    # gradients
    (solution((STATISTICS, "x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), unbiased=False)")),
     "does not go through the mean and variance"),
    (solution((BIASED, BIASED + ".detach()")), "does not go through the variance"),
    (solution(("    def forward", "    @torch.no_grad()\n    def forward")), "the output has no graph"),
    (solution(("self.weight /", "self.weight.data /")), "no gradient reaches weight"),
    (solution(("        if self", "        x = x.detach()\n        if self")), "no gradient reaches the input"),
    # running statistics
    (solution(("with torch.no_grad():", "if True:"), ("lerp_(mean,", "lerp_(mean.detach(),")),
     "running_var requires a gradient and so keeps the graph"),
    (solution(update("mean.detach()", "x.detach().var((0, 2, 3))")),
     "running_mean is the last batch's alone and has forgotten"),
    (solution(update("0.9 * self.running_mean + 0.1 * mean.detach()",
                                "0.9 * torch.ones_like(var) + 0.1 * x.detach().var((0, 2, 3))")),
     "running_var starts anew with each batch and has forgotten"),
    (solution(update("0.1 * mean.detach()", "self.running_var")), "keeps nothing of the old value"),
    (solution((UPDATES, "")), "running_mean is never updated"),
    (solution(("momentum=0.1", "momentum=0.9")), "keeps one tenth of the old value"),
    (solution(("momentum=0.1", "momentum=0.2")), "takes in 0.2 of the batch's value"),
    (solution(("momentum=0.1", "momentum=0.15")), "after the first batch and should be"),
    (solution(("* n / (n - 1)", "")), "running_var takes in the variance over n, by which"),
    (solution(("var * n / (n - 1)", "var.sqrt()")), "running_var takes in the standard deviation"),
    (solution(update("mean.mean()", "var.mean()")), "keep a number for each channel"),
    # eval mode
    (solution((STORED, "mean, var = " + STATISTICS)), "normalised by its own statistics"),
    (solution((STORED, "mean, var = self.running_mean, " + BIASED)), "divide by the batch's own standard deviation"),
    (solution(("if self.training:", "if True:")), "in eval mode running_mean changes"),
    (solution(("        else:\n", "        else:\n            return x\n")), "in eval mode the batch comes out"),
    (solution((STORED, STORED + ".sqrt()")), "comes out as"),
])  # fmt: skip
def test_a_wrong_batch_norm_is_told_what_is_wrong(source: str, says: str) -> None:
    result = exercises.check_batch_norm(define(source)["MyBatchNorm"])
    assert not result.passed and says in result.sentence and "\n" not in str(result)


def test_batch_norm_is_compared_with_pytorchs_even_where_another_class_stands_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = define(solution(("1e-5", "1e-3")))["MyBatchNorm"]
    monkeypatch.setattr(nn, "BatchNorm2d", wrong)
    assert "eps is 0.001" in str(exercises.check_batch_norm(wrong))


def test_batch_norm_at_work_shows_what_training_without_updates_would_have_given(some: Split) -> None:
    layer = define(BATCH_NORM)["MyBatchNorm"]

    class NeverUpdated(layer):
        def forward(self, x: Tensor) -> Tensor:
            stored = self.running_mean.clone(), self.running_var.clone()
            x = super().forward(x)
            self.running_mean, self.running_var = stored
            return x

    table = exercises.batch_norm_at_work(layer, some)
    theirs, mine, never_updated = [float(percent) for percent in re.findall(r"≈ ([\d.]+)%", table)]
    expected = 100 * evaluate(*one_epoch(partial(Net, norm=NeverUpdated), some))[1]
    assert never_updated == pytest.approx(expected, abs=0.01)
    assert abs(theirs - mine) < 10 < 20 < mine - never_updated
    unfinished = exercises.batch_norm_at_work(define(CELLS[1].source.rpartition("\n")[0])["MyBatchNorm"], some)
    assert "waits" in unfinished and "running_mean" in unfinished


# --- Receptive fields and parameters ------------------------------------------------------------------------------

PREDICTED = define(FIELDS)["predicted"]


@pytest.mark.parametrize("form", [float, np.int64, torch.tensor, lambda field: (field, field)])
def test_receptive_fields_may_be_numbers_of_any_type(form: Callable[[int], Any]) -> None:
    assert exercises.check_receptive_fields({name: form(field) for name, field in PREDICTED.items()}).passed


@pytest.mark.parametrize(("change", "says"), [
    ({"conv3": 6}, "conv3 is 6. A unit before it sees 5, and its neighbour is 1 away; the layer is Conv2d(16, 32, 1)"),
    ({"conv5": 10}, "conv5 is 10. A unit before it sees 8, and its neighbour is 2 away"),
    ({"conv1": "3x3"}, "conv1 is '3x3': give a whole number"),
    ({"conv1": (3, 5)}, "conv1 is a tuple: give a whole number"),
    ({"conv1": int}, "conv1 is the class int: give a whole number"),
    ({"conv2": 5.5}, "conv2 is 5.5: give a whole number"),
    ({"conv2": float("nan")}, "give a whole number"),
])  # fmt: skip
def test_receptive_fields_name_the_first_wrong_layer(change: dict[str, Any], says: str) -> None:
    result = exercises.check_receptive_fields({**PREDICTED, **change})
    assert not result.passed and says in result.sentence


def test_a_layer_that_is_missing_is_named_with_those_that_are_there() -> None:
    before = {row.name: row.receptive_field[0] for row in stages(layer_table(Net()))}
    assert "conv3 is 6" in str(exercises.check_receptive_fields(before))
    without = {name: field for name, field in PREDICTED.items() if name != "pool1"}
    assert "pool1 is missing; there is conv1, conv2" in str(exercises.check_receptive_fields({**without, "pool": 8}))


@pytest.mark.parametrize(("old", "new", "says"), [
    ("2 * sum(widths)", "0", "the scale and shift of the batch norms are missing"),
    ("2 * sum(widths)", "sum(widths)", "two parameters for each channel"),
    ("2 * sum(widths)", "3 * sum(widths)", "a convolution before a batch norm has no bias"),
    ("2 * sum(widths)", "4 * sum(widths)", "running statistics of a batch norm are stored, not learned"),
    ("* 10 + 10", "* 10", "a bias for each of its ten outputs"),
    ("6 * 6", "7 * 7", "too many"),
    ("sum(a * b", "sum(a", "too few"),
    ("widths[-1]", "widths[9]", "raises IndexError"),
    ("return convolutions + batch_norms + linear", "return 11_874", "count((4, 4, 4, 4, 4, 4, 4)) gives 11,874"),
    ("    return", "    total =", "gives None: does it end with return?"),
    ("return convolutions +", "return convolutions,", "gives a tuple: return one whole number"),
    ("return convolutions + batch_norms + linear", "return str(convolutions)", "gives '8776': return one"),
])  # fmt: skip
def test_a_wrong_count_is_told_what_is_missing(old: str, new: str, says: str) -> None:
    result = exercises.check_parameter_count(define(changed(COUNT, (old, new)))["count"])
    assert not result.passed and says in result.sentence


def test_a_count_may_be_a_number_of_any_type() -> None:
    total = "convolutions + batch_norms + linear"
    assert exercises.check_parameter_count(define(changed(COUNT, (total, f"torch.tensor({total})")))["count"]).passed


# --- Choosing a recipe --------------------------------------------------------------------------------------------


QUICK_CHOICE = changed(CHOICE, ("    rest,", "    train = train[:200]\n    rest,"), ("hold_out(200", "hold_out(60"))


def by_mean(of_recipe: str) -> str:
    """Return a ``choose`` that takes the recipe with the highest mean of the scores in the list ``of_recipe``."""
    return f"""
def choose(train, recipes, score):
    train = train[:240]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    folds = order.chunk(3)
    held_out_twice = [train.hold_out(80, seed) for seed in (1, 2)]
    means = {{}}
    for name, recipe in recipes.items():
        scores = {of_recipe}
        means[name] = sum(scores) / len(scores)
    return max(means, key=means.get)
"""


@pytest.mark.parametrize("source", [
    by_mean("[score(recipe, train[torch.cat([f for f in folds if f is not fold])], train[fold]) for fold in folds]"),
    by_mean("[score(recipe, *pair) for pair in held_out_twice]"),
    by_mean("[score(replace(recipe, seed=seed), *held_out_twice[0]) for seed in (1, 2)]"),
    by_mean("[score(recipe, train[:120], train[120:]), score(recipe, train[120:], train[:120])]"),
    changed(QUICK_CHOICE, ("    return", "    best = max(accuracies, key=accuracies.get)\n    "
            "score(recipes[best], *train.hold_out(60, seed=5))\n    return")),  # once more, on other images
])  # fmt: skip
def test_a_right_choice_is_right_however_it_is_measured(source: str, mnist: Splits) -> None:
    result = exercises.check_choice(define(source)["choose"], mnist[0])
    assert result.passed, result


@pytest.mark.parametrize(("old", "new", "says"), [
    ("score(recipe, rest, held_out)", "score(recipe, train, held_out)", "60 of the images that you measure on"),
    ("rest, held_out =", "held_out, rest =", "learn from 60 images and measure on 140: learn from the larger part"),
    ("hold_out(60", "hold_out(10", "you measure on 10 images"),
    ("in recipes.items()", "in [*recipes.items()][:2]", "lr 0.0005 was never scored"),
    ("score(recipe, rest, held_out)", "score(recipe, *train.hold_out(60, seed=len(name)))", "on different images"),
    ("score(recipe, rest, held_out)", "score(recipe, rest[len(name):], held_out)", "learned from different images"),
    ("seed=0", "sead=0", "raises TypeError"),
    ("score(recipe, rest", "score(name, rest", "was given 'lr 1e-05' as a recipe"),
    ("score(recipe, rest", "score(type(recipe)(), rest", "none of the three"),
    ("rest, held_out)", "rest.images, held_out)", "was given a tensor of shape (140, 28, 28)"),
    ("rest, held_out)", "rest, type(rest)(held_out.images, held_out.labels.flip(0)))", "have another image's label"),
    ("rest, held_out)", "rest, type(rest)(255 - held_out.images, held_out.labels))", "none of the training split"),
    ("return max(accuracies, key=accuracies.get)", "return 'lr 0.1'", "gives 'lr 0.1': return a name such as"),
    ("return max(accuracies, key=accuracies.get)", "return recipes[max(accuracies, key=accuracies.get)]", "a Recipe"),
    ("    return", "    best =", "gives None: does it end with return?"),
])  # fmt: skip
def test_a_wrong_choice_is_told_what_is_wrong(old: str, new: str, says: str, mnist: Splits) -> None:
    result = exercises.check_choice(define(changed(QUICK_CHOICE, (old, new)))["choose"], mnist[0])
    assert not result.passed and says in result.sentence


def test_a_recipe_that_is_less_accurate_is_not_the_one_to_choose(mnist: Splits) -> None:
    result = exercises.check_choice(define(changed(CHOICE, ("max(", "min(")))["choose"], mnist[0])
    assert not result.passed and "'lr 0.02' was more accurate on the images held out" in result.sentence


def test_of_recipes_that_are_equally_accurate_each_is_right(mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = {
        f"name {number}": replace(choice.ASSIGNMENT, num_epochs=1, lr=0.02 + number * 1e-12) for number in range(3)
    }
    monkeypatch.setattr(choice, "RECIPES", alike)
    for name in alike:

        def choose(train: Split, recipes: dict, score: choice.Score, name: str = name) -> str:
            assert len({score(recipe, train[:100], train[100:200]) for recipe in recipes.values()}) == 1
            return name

        assert exercises.check_choice(choose, mnist[0]).passed
