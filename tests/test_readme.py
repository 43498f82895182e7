"""README says what code and results say: everything between its comments is made again and compared."""

import difflib
import importlib.util
import re
import statistics

import nbformat
import pytest
import torch

from conftest import ROOT
from evidence import readme, timings

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_are_up_to_date() -> None:
    made = readme.render(TEXT)
    difference = "\n".join(difflib.unified_diff(TEXT.splitlines(), made.splitlines(), "README.md", "made anew", n=0))
    assert not difference, f"run `python -m evidence.readme`:\n{difference}"


def test_no_percentage_stands_outside_of_the_generated_parts() -> None:
    prose = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", TEXT, flags=re.DOTALL)
    assert set(re.findall(r"[\d.,]+ ?%", prose)) <= {"95%"}  # the level of all intervals


@pytest.mark.parametrize(
    ("row", "study", "variant"),
    [
        ("Assignment's recipe, 20 epochs", "ablation", "assignment"),
        ("Sprint, **one** epoch", "recipes", "sprint"),
        ("For the course's target of 99.4%, 4 epochs", "recipes", "target"),
        ("Best recipe, 20 epochs", "recipes", "best"),
    ],
)
def test_the_headline_is_the_mean_of_the_runs(row: str, study: str, variant: str) -> None:
    runs = [run for run in readme.read_json("study")[study]["runs"] if run["variant"] == variant]
    mean = statistics.fmean(run["test_accuracy"][-1] for run in runs)
    (line,) = [line for line in TEXT.splitlines() if re.match(rf"\| {re.escape(row)} +\|", line)]
    assert f"**{mean:.2%} ±" in line and f"n = {len(runs)} seeds" in line


def test_a_time_that_was_not_reached_and_a_single_run_are_said() -> None:
    once = {"unit": "s", "median": {"stock": 20.0, "ours": 4.0}, "rounds": {"stock": [20.0], "ours": [4.0]}}
    gain = {"times_better": {"ours": {"medians": 5.0, "least": 5.0, "greatest": 5.0}}}
    assert timings.cells_of(once | gain) == ["20 s", "4 s", "5.0 (one run)"]
    failed = once | {"times_better": {}, "reached": {"stock": True, "ours": False}}
    assert timings.cells_of(failed) == ["20 s", "not reached in 4 s", "–"]


def test_files_that_are_linked_or_run_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT) + re.findall(r"python (\S+\.py)", TEXT)
    modules = re.findall(r"python -m (evidence\.\w+)", TEXT)
    assert len(links) > 20 and len(modules) >= 3
    assert [name for name in links if not (ROOT / name).exists()] == []
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_the_test_command_is_the_one_of_ci() -> None:
    (command,) = re.findall(r"^pip install -r requirements.txt\n(pytest.*)$", TEXT, flags=re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_examples_run(capsys: pytest.CaptureFixture) -> None:
    names = {"images": torch.zeros(100, 40, 40, dtype=torch.uint8), "labels": torch.arange(100) % 10}
    examples = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        exec(example, names)
    assert capsys.readouterr().out.splitlines()[-1] == "True"
    assert names["x"].shape == (36, 1, 40, 40)  # the last batch


def test_the_notebook_has_the_address_of_the_project() -> None:
    source = "\n".join(cell.source for cell in nbformat.read(ROOT / readme.NOTEBOOK, as_version=4).cells)
    assert readme.badge() in source
    repository = re.search(r'repository = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    assert repository in source


def test_a_part_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="README.md has 0 parts 'badge'"):
        readme.render("nothing here")
