"""Every solution in the notebook passes its check as it stands; wrong answers are told what is wrong."""

import re
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch
from torch import nn

from conftest import ROOT, Splits
from helpers import exercises
from helpers.data import Split
from helpers.model import Net
from helpers.receptive_field import layer_table, stages

CELLS = nbformat.read(ROOT / "ERAV4S5CNNwithBN.ipynb", as_version=4).cells
QUESTIONS = [cell for cell in CELLS if cell.cell_type == "markdown" and "### Exercise" in cell.source]
ANSWERS = [cell for cell in CELLS if "exercise" in cell.metadata.get("tags", [])]
SOLUTIONS = [re.findall(r"<details>.*?```python\n(.*?)```.*?</details>", q.source, re.DOTALL) for q in QUESTIONS]
TITLES = [question.source.splitlines()[0].removeprefix("### ") for question in QUESTIONS]


def answer(source: str, call: str, train: Split) -> str:
    """Run an answer as the notebook would, then return what its cell's last line, which calls the check, prints."""
    names: dict[str, Any] = {"torch": torch, "nn": nn, "exercises": exercises, "train": train}
    exec(source, names)
    return eval(call.removeprefix("print"), names)


@pytest.mark.parametrize(("solution", "cell"), [*zip(SOLUTIONS, ANSWERS, strict=True)], ids=TITLES)
def test_the_solution_is_right_and_the_cell_as_it_stands_is_not(
    solution: list[str], cell: nbformat.NotebookNode, mnist: Splits
) -> None:
    (source,) = solution
    unsolved, call = cell.source.rsplit("\n", 1)
    assert re.fullmatch(r"print\(exercises\.check_\w+\(.*\)\)", call)
    assert answer(source, call, mnist[0]).startswith(exercises.RIGHT)
    assert answer(unsolved, call, mnist[0]).startswith("Not yet: ")


def test_each_has_a_goal_and_a_time() -> None:
    assert len(QUESTIONS) >= 4
    for question in QUESTIONS:
        assert re.search(r"\*\*Goal:\*\* .+\*\*Time:\*\* \d+ minutes", question.source)


BATCH_NORM = SOLUTIONS[0][0]


@pytest.mark.parametrize(("right", "wrong", "says"), [
    ("x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)",
     "x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)", "raises"),
    ("unbiased=False", "unbiased=True", "normalise by the variance over n, not over n − 1"),
    ("mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)",
     "mean, var = x.mean((0, 2, 3)).detach(), x.var((0, 2, 3), unbiased=False).detach()", "gradient of the input"),
    ("* n / (n - 1)", "", "it stores the variance over n − 1"),
    ("momentum=0.1", "momentum=0.9", "it keeps nine tenths of the old value"),
    ("* x + shift.view(1, -1, 1, 1)", "* x[:, :, 1:] + shift.view(1, -1, 1, 1)",
     "a batch (4, 3, 5, 5) comes out as (4, 3, 4, 5)"),
    ("momentum=0.1", "momentum=0.2", "running_mean is not what it should be"),
    ("mean, var = self.running_mean, self.running_var", "mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))",
     "in eval mode it should normalise by what it has stored"),
    ("if self.training:", "if True:", "in eval mode the stored statistics must stay"),
    ("self.weight / (var", "1 / (var", "average over what, and then scale and shift"),
    ("eps=1e-5", "eps=1e-2", "the outputs are off by up to"),
    ('self.register_buffer("running_var", torch.ones(num_channels))', "self.running_var = torch.ones(num_channels)",
     "running_var should be stored with register_buffer, with a 1"),
    ("self.bias = nn.Parameter(torch.zeros(num_channels))", 'self.register_buffer("bias", torch.zeros(num_channels))',
     "bias should be an nn.Parameter with a 0"),
])  # fmt: skip
def test_a_wrong_batch_norm_is_told_what_is_wrong(right: str, wrong: str, says: str, small_mnist: Splits) -> None:
    assert right in BATCH_NORM
    said = answer(BATCH_NORM.replace(right, wrong), "print(exercises.check_batch_norm(MyBatchNorm))", small_mnist[0])
    assert said.startswith("Not yet: ") and says in said


def test_a_batch_norm_of_single_images_is_recognised() -> None:
    class PerImage(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.instance_norm(x)
            return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)

    assert "within each image: average over the batch, too" in exercises.check_batch_norm(PerImage)


def test_torchs_own_layer_is_right() -> None:
    assert exercises.check_batch_norm(nn.BatchNorm2d).startswith(exercises.RIGHT)


def test_receptive_fields_name_the_first_wrong_layer() -> None:
    before = {row.name: row.receptive_field[0] for row in stages(layer_table(Net()))}
    assert exercises.check_receptive_fields(before).startswith("Not yet: conv3 is 6. A unit before it sees 5")
    assert exercises.check_receptive_fields({}).startswith("Not yet: conv1 is missing. A unit before it sees 1")


@pytest.mark.parametrize(("right", "wrong", "says"), [
    ("2 * sum(widths)", "0", "the scale and shift of the batch norms are missing"),
    ("2 * sum(widths)", "sum(widths)", "two parameters for each channel"),
    ("2 * sum(widths)", "3 * sum(widths)", "a convolution before a batch norm has no bias"),
    ("* 10 + 10", "* 10", "a bias for each of its ten outputs"),
    ("6 * 6", "7 * 7", "too many"),
    ("widths[-1]", "widths[9]", "raises IndexError"),
    ("sum(a * b * k * k", "8_776 or sum(a * b * k * k", "for (4, 4, 4, 4, 4, 4, 4) you are off by"),
])  # fmt: skip
def test_a_wrong_count_is_told_what_is_missing(right: str, wrong: str, says: str, small_mnist: Splits) -> None:
    source = SOLUTIONS[2][0]
    assert right in source
    said = answer(source.replace(right, wrong), "print(exercises.check_parameter_count(count))", small_mnist[0])
    assert said.startswith("Not yet: ") and says in said


@pytest.mark.parametrize(("right", "wrong", "says"), [
    ("score(recipe, rest, held_out)", "score(recipe, train, held_out)", "200 of the images that you score on"),
    ("in recipes.items()", "in [*recipes.items()][:2]", "was never scored"),
    ("max(accuracies", "min(accuracies", "was more accurate on the images held out"),
    ("score(recipe, rest, held_out)", "score(recipe, *train.hold_out(200, seed=len(name)))", "on different images"),
    ("seed=0", "sead=0", "raises TypeError"),
])  # fmt: skip
def test_a_wrong_choice_is_told_what_is_wrong(right: str, wrong: str, says: str, mnist: Splits) -> None:
    source = SOLUTIONS[3][0]
    assert right in source
    said = answer(source.replace(right, wrong), "print(exercises.check_choice(choose, train))", mnist[0])
    assert said.startswith("Not yet: ") and says in said


def test_of_recipes_that_are_equally_accurate_each_is_right(mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercises, "fit", lambda *_, **__: SimpleNamespace(test_accuracy=[0.5]))
    for place in range(3):

        def choose(train: Split, recipes: dict, score: exercises.Score, place: int = place) -> str:
            rest, held_out = train.hold_out(200, seed=0)
            assert {score(recipe, rest, held_out) for recipe in recipes.values()} == {0.5}
            return list(recipes)[place]

        assert exercises.check_choice(choose, mnist[0]).startswith("Right: ")


def test_a_choice_on_images_from_elsewhere_is_seen(mnist: Splits) -> None:
    def choose(train: Split, recipes: dict, score: exercises.Score) -> str:
        return max(recipes, key=lambda name: score(recipes[name], train, Split(*(t[:200] for t in mnist[1]))))

    assert "none of the training split" in exercises.check_choice(choose, mnist[0])
