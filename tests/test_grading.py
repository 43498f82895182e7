"""Handed out, solved rightly, wrongly and oddly, and graded: no point that is not earned, and the rest goes on."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from helpers.exercises.__main__ import main
from solutions import CELLS, NOTEBOOK, QUESTIONS, SOLUTIONS

NETWORK, BATCH_NORM, FIELDS, COUNT, CHOICE = [cell.id for cell in CELLS]
SOLVED = dict(zip([cell.id for cell in CELLS], SOLUTIONS, strict=True))
RIGHT = {cell.id: f"{SOLVED[cell.id]}\n\n{cell.source.splitlines()[-1]}" for cell in CELLS}

Student = Callable[..., Path]


@pytest.fixture
def student(tmp_path: Path) -> Student:
    """Writes a student's notebook: what was handed out, with these cells changed, and with some at its end."""
    handed_out = tmp_path / "handed out.ipynb"
    assert main(["handout", str(handed_out)]) == 0

    def write(name: str, answers: dict[str, str], at_the_end: list[NotebookNode | str] = ()) -> Path:
        notebook = nbformat.read(handed_out, as_version=4)
        for cell in notebook.cells:
            cell.source = answers.get(cell.id, cell.source)
        added = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in at_the_end]
        notebook.cells = [cell for cell in notebook.cells if cell.source != "deleted"] + added
        path = tmp_path / f"{name}.ipynb"
        path.write_text(json.dumps(notebook), encoding="utf-8")  # with whatever faults
        return path

    return write


def points_and_remarks(
    capsys: pytest.CaptureFixture, *notebooks: Path, seconds: int = 120
) -> list[tuple[list[int], list[str]]]:
    """Grade, and return points and remarks for each exercise, by notebook."""
    capsys.readouterr()
    assert main(["grade", "--csv", f"--seconds={seconds}", *map(str, notebooks)]) == 0
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert [row["notebook"] for row in rows] == [str(path) for path in notebooks]
    graded = []
    for row in rows:
        points = [int(row[f"exercise {number}"]) for number in range(1, 1 + len(CELLS))]
        assert int(row["points"]) == sum(points)
        graded.append((points, [row[f"exercise {number}, remark"] for number in range(1, 1 + len(CELLS))]))
    return graded


def test_what_is_handed_out_is_everything_but_solutions_and_outputs(student: Student) -> None:
    handed_out = nbformat.read(student("as it is", {}), as_version=4)
    nbformat.validate(handed_out)
    assert [cell.id for cell in handed_out.cells] == [cell.id for cell in NOTEBOOK.cells]
    for ours, theirs in zip(NOTEBOOK.cells, handed_out.cells, strict=True):
        assert theirs.metadata == ours.metadata
        if ours.cell_type == "code":
            assert (theirs.source, theirs.outputs, theirs.execution_count) == (ours.source, [], None)
        elif ours.source in QUESTIONS:
            question, _, rest = ours.source.partition("<details>\n<summary>Solution</summary>")
            assert theirs.source.split() == (question + rest.partition("</details>")[2]).split()
        else:
            assert theirs.source == ours.source
    everything = "\n".join(cell.source for cell in handed_out.cells)
    assert not any(solution in everything for solution in SOLUTIONS)


def test_no_file_is_overwritten_by_what_is_handed_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "mine.ipynb"
    path.write_text("solutions", encoding="utf-8")
    assert main(["handout", str(path)]) == 2
    assert "is there already: choose another name" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "solutions"


def test_what_is_no_notebook_has_no_point_and_does_not_stop_the_rest(
    student: Student, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names = ["cut off", "a list", "a dictionary", "no cells", "bytes", "not there"]
    contents = [b'{"cells": [', b"[]", b"{}", b'{"cells": 3}', b"\xff\xfe\x00"]
    for name, content in zip(names, contents, strict=False):
        (tmp_path / name).write_bytes(content)
    lesson_changed = {"imports": "raise ValueError", NETWORK: CELLS[0].source + "\n"}
    paths = [*(tmp_path / name for name in names), student("untouched", lesson_changed)]
    graded = points_and_remarks(capsys, *paths)
    assert [points for points, _ in graded] == [[0] * len(CELLS)] * len(paths)
    for _, remarks in graded[:-1]:
        assert "cannot be read as a notebook" in remarks[0]
    assert set(graded[-1][1]) == {"Not yet: it was not answered."}
    assert main(["grade", *map(str, paths)]) == 0
    table = capsys.readouterr().out
    assert re.search(r"untouched.ipynb *\| +0 \| +0 \| +0 \| +0 \| +0 \| 0 of 5 \|\n", table)
    assert "untouched.ipynb, 1, 2, 3, 4, 5: Not yet: it was not answered." in table


def test_a_wrong_command_is_told_in_a_line(capsys: pytest.CaptureFixture) -> None:
    for arguments in (["grade"], ["grade", "a.ipynb", "--seconds=0"], ["solve"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.processes
def test_a_right_notebook_has_all_points(student: Student, capsys: pytest.CaptureFixture) -> None:
    assert points_and_remarks(capsys, student("right", RIGHT)) == [([1, 1, 1, 1, 1], ["", "", "", "", ""])]


@pytest.mark.processes
def test_an_answer_counts_wherever_it_stands(student: Student, capsys: pytest.CaptureFixture) -> None:
    twice = new_code_cell("def count(widths):\n    return 0\n\nraise ValueError")
    again = new_code_cell(SOLVED[COUNT], id=twice.id)
    moved = student(
        "moved",
        {
            NETWORK: CELLS[0].source,  # left as it is
            BATCH_NORM: "deleted",
            FIELDS: "deleted",
            COUNT: "import numpy as np\n%matplotlib inline\nthree = np.int64(3)",
            "data": "from collections import OrderedDict",  # the lesson is not run, but what it imports is there
            CHOICE: RIGHT[CHOICE].replace("def choose", "def my_choice"),
        },
        [
            "!echo Right:",
            SOLVED[FIELDS].replace('"conv1": 3', '"conv1": three') + "\npredicted = OrderedDict(predicted)",
            twice,
            again,
            "count = count if count([1] * 7) else None  # the last one counts",
            "def unrelated():\n    predicted = count = 3\n\nraise ValueError(count)",
        ],
    )
    ((points, remarks),) = points_and_remarks(capsys, moved)
    assert points == [0, 0, 1, 1, 0]
    assert "not answered: no cell defines MyNet anew" in remarks[0]
    assert "not answered: no cell defines MyBatchNorm" in remarks[1]
    assert "not answered: no cell defines choose" in remarks[4]


PRETENDER = """
class exercises:
    class Right:
        passed, points, maximum, sentence = True, 1, 1, "Right: all of it"
    check_network = check_batch_norm = check_receptive_fields = staticmethod(lambda *answer: exercises.Right())
    check_parameter_count = check_choice = check_receptive_fields

MyNet, predicted = nn.Linear, {}
print("Right: all of it")
"""
PATCH = """
import helpers.exercises, helpers.exercises.parameters, helpers.exercises.result as result
helpers.exercises.check_batch_norm = lambda layer: result.right("all of it")
result.Result.passed = property(lambda self: True, lambda self, value: None)
result.not_yet = helpers.exercises.parameters.right = result.right
torch.allclose = torch.equal = lambda *tensors, **settings: True

class MyBatchNorm(nn.BatchNorm2d):
    pass

nn.BatchNorm2d = MyBatchNorm
"""
NOTHING_IS_LEARNED = """
nn.Module.parameters = lambda self, recurse=True: iter([])  # so that there is nothing to count

def count(widths):
    return 0
"""


@pytest.mark.processes
def test_no_point_for_what_only_looks_right(student: Student, capsys: pytest.CaptureFixture) -> None:
    fields = "class Always(int):\n    __eq__ = __ne__ = lambda self, other: True\n\npredicted = Always()"
    pretended = {NETWORK: PRETENDER, BATCH_NORM: PATCH, FIELDS: fields, COUNT: NOTHING_IS_LEARNED}
    pretended[CHOICE] = "def choose(train, recipes, score):\n    return 'lr 0.02'\n\ntrain = None"
    ((points, remarks),) = points_and_remarks(capsys, student("pretended", pretended))
    assert points == [0, 0, 0, 0, 0]
    assert "PyTorch's own" in remarks[1] and "passes the unsolved cell, too" in remarks[3]


@pytest.mark.processes
def test_a_cell_that_raises_hangs_or_ends_the_kernel_has_no_point_and_the_rest_goes_on(
    student: Student, capsys: pytest.CaptureFixture
) -> None:
    answers = {
        NETWORK: "MyNet = nn.Linear\nwhile True:\n    print('Right')",
        BATCH_NORM: "import os\n\nMyBatchNorm = lambda num_channels: os._exit(1)",
        FIELDS: RIGHT[FIELDS],
        COUNT: "count = lambda widths: 11_874",
        CHOICE: SOLVED[CHOICE] + "\n{}['score']",
    }
    ((points, remarks),) = points_and_remarks(capsys, student("lost", answers), seconds=5)
    assert points == [0, 0, 1, 0, 0]
    expected = ["5 seconds", "checking it fails: it ends the kernel", "", "gives 11,874", "KeyError: 'score'"]
    for remark, says in zip(remarks, expected, strict=True):
        assert says in remark
