"""The stored notebook: executed once, in order, without errors, and fit to be rendered anywhere."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import ROOT
from helpers.model import Net

PATH = ROOT / "ERAV4S5CNNwithBN.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
PROSE = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
OUTPUTS = [output for cell in CODE for output in cell.outputs]
TEXT = PATH.read_text(encoding="utf-8")


def test_every_code_cell_was_executed_once_in_order_without_errors_or_anything_on_stderr() -> None:
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    assert [output.output_type for output in OUTPUTS if output.output_type == "error"] == []
    assert [output.text for output in OUTPUTS if output.get("name") == "stderr"] == []


def test_nothing_that_a_code_host_cannot_render_or_that_names_a_machine() -> None:
    assert "widgets" not in NOTEBOOK.metadata
    assert not any("execution" in cell.metadata for cell in CODE)  # no times
    assert "widget-view" not in TEXT
    printed = " ".join(str(output) for output in OUTPUTS)
    assert re.findall(r"\bat 0x[0-9a-f]+", printed) == []
    assert re.findall(r"/(?:home|root|tmp|Users|content)/", TEXT) == []
    assert re.findall(r"(?i)warning", printed) == []
    assert PATH.stat().st_size < 1_000_000
    kernel = NOTEBOOK.metadata.kernelspec
    assert (kernel.name, kernel.display_name) == ("python3", "Python 3")


def test_the_shape_of_the_story() -> None:
    headings = re.findall(r"^## (.*)", PROSE, flags=re.MULTILINE)
    numbers = [int(heading.split(".")[0]) for heading in headings if heading[0].isdigit()]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 10
    assert {"5. Batch normalization", "Check yourself", "Exercises"} <= set(headings)


def test_the_task_stands_on_top() -> None:
    first = NOTEBOOK.cells[0].source
    for word in ("11,874 parameters", "20 epochs", "99.4%", "need to know", "How long", "hand in"):
        assert word in first
    assert sum(p.numel() for p in Net().parameters()) == 11_874


def test_every_question_is_answered_below_its_fold() -> None:
    folds = re.findall(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", PROSE, flags=re.DOTALL)
    assert PROSE.count("<details>") == len(folds) == PROSE.count("</details>")
    questions = [(question, answer) for question, answer in folds if "?" in question]
    assert len([question for question, _ in questions if "Question." in question]) >= 10
    assert all(len(answer.split()) >= 8 for _, answer in questions)


def run_set_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(CODE[0].source, {})


def test_set_up_is_folded_and_silent_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CODE[0].source.startswith("# @title") and CODE[0].metadata.cellView == "form"
    assert CODE[0].metadata.jupyter.source_hidden and CODE[0].outputs == []
    run_set_up(ROOT, monkeypatch)


@pytest.mark.parametrize("beside", [[], ["helpers/theirs.py"], ["repository/"]])
def test_set_up_fetches_the_project_whatever_lies_beside_the_notebook(
    beside: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called helpers that is somebody else's, or an empty one where the project is put."""
    for name in beside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    origin = tmp_path / "origin"
    (origin / "helpers" / "receptive_field").mkdir(parents=True)
    for name in ("ERAV4S5CNNwithBN.py", "helpers/receptive_field/table.py"):
        (origin / name).touch()
    as_someone = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*as_someone, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=origin, check=True)
    monkeypatch.setenv("REPOSITORY", origin.as_uri())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    run_set_up(tmp_path, monkeypatch)
    assert Path.cwd() == tmp_path / "repository" and sys.path[0] == str(tmp_path / "repository")
    assert os.environ["MPLBACKEND"] != "nonsense"


def test_set_up_says_in_one_line_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPOSITORY", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="nowhere cannot be fetched: set REPOSITORY .*evidence.readme --repository"):
        run_set_up(tmp_path, monkeypatch)
    (tmp_path / "repository").mkdir(exist_ok=True)
    (tmp_path / "repository" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="the folder repository holds something else"):
        run_set_up(tmp_path, monkeypatch)
    assert (tmp_path / "repository" / "thesis.txt").exists()
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as without_git, pytest.raises(SystemExit, match="git is missing"):
        without_git.setenv("PATH", "")
        run_set_up(tmp_path / "elsewhere", without_git)
    with monkeypatch.context() as without_torch, pytest.raises(SystemExit, match="pip cannot install torch"):
        without_torch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
        without_torch.setattr(sys, "executable", shutil.which("false"))
        run_set_up(ROOT, without_torch)


CHANGES = {  # other widths, another kernel, and a block less
    "self.conv1 = block(1, 8, 3)": "self.conv1 = block(1, 6, 5)",
    "self.conv2 = block(8, 16, 3)": "self.conv2 = block(6, 12, 3)",
    "self.conv3 = block(16, 32, 1)": "self.conv3 = block(12, 32, 1)",
    "self.conv6 = nn.Sequential(*block(8, 16, 1), nn.Dropout(dropout))": "",
    "self.conv7 = nn.Sequential(*block(16, 8, 3)": "self.conv7 = nn.Sequential(*block(8, 8, 3)",
    "self.fc = nn.Linear(8 * 6 * 6, 10)": "self.fc = nn.Linear(8 * 5 * 5, 10)",
    "x = self.conv6(x)": "",
}


@pytest.mark.processes
def test_a_changed_network_runs_through_the_whole_notebook_in_one_epoch(tmp_path: Path) -> None:
    for name in ("helpers", "results", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "helpers" / "model.py"
    source = module.read_text(encoding="utf-8")
    for old, new in CHANGES.items():
        assert old in source
        source = source.replace(old, new)
    module.write_text(source, encoding="utf-8")
    notebook = nbformat.read(PATH, as_version=4)
    replaced = {  # one epoch, of some of the images
        "EPOCHS = 20": "EPOCHS = 1",
        'train, test = load_mnist("data")': 'train, test = [split[:4000] for split in load_mnist("data")]',
    }
    for old, new in replaced.items():
        assert any(old in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "\n".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert "results/assignment/model.pt is of another network" in printed
    assert re.search(r"conv1 *\| Conv2d\(1, 6, 5\)", printed)
    claims = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith("claims"))
    assert "accuracy" not in str(claims.outputs)  # nothing that takes 20 epochs is claimed


def test_every_figure_is_there_with_a_caption_below() -> None:
    for cell, below in itertools.pairwise(NOTEBOOK.cells):
        if cell.cell_type == "code" and (drawn := re.findall(r"\bplot_\w+\(", cell.source)):
            assert sum("image/png" in output.get("data", {}) for output in cell.outputs) == len(drawn), cell.source
            assert below.cell_type == "markdown" and below.source.startswith("*"), cell.source


def test_it_defines_nothing_that_could_be_tested() -> None:
    written_by_the_reader = [cell for cell in CODE if "exercise" in cell.metadata.get("tags", [])]
    source = "\n".join(cell.source for cell in CODE if cell not in written_by_the_reader)
    definitions = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    assert [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, definitions)] == []


def test_most_of_what_is_printed_is_compared() -> None:
    printing = [cell for cell in CODE if cell.outputs]
    compared = [cell for cell in printing if "nbval-ignore-output" not in cell.metadata.get("tags", [])]
    assert len(compared) / len(printing) >= 0.65


def test_no_measured_accuracy_is_typed_into_the_prose() -> None:
    known = {"95%", "100%"}  # level of the intervals, and all images
    known |= {"98%", "99%", "99.4%"}  # what the assignment expects, and the course's goal
    known |= {"11.35%", "99.2%"}  # the share of ones, and the example of a standard error
    assert set(re.findall(r"[\d.]+ ?%", PROSE)) <= known


def test_no_formula_needs_a_script_from_elsewhere() -> None:
    assert "$" not in PROSE


def test_every_claim_holds() -> None:
    shown = [output.data["text/markdown"] for output in OUTPUTS if "text/markdown" in output.get("data", {})]
    (claims,) = [table for table in shown if "receptive fields, computed" in table]
    rows = [line.split("|")[1:-1] for line in claims.splitlines()[2:]]
    assert len(rows) >= 6
    assert {row[-1].strip() for row in rows} == {"True"}
