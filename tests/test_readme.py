"""README and evidence/README.md say what code and results say: what is generated is made again and compared."""

import difflib
import importlib.util
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from evidence import readme, timings
from helpers.recipe import RECIPES

TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in readme.PAGES}
TEXT = TEXTS["README.md"]
PAGES = [*TEXTS, "CONTRIBUTING.md", "data/README.md", "evidence/LOG.md"]


@pytest.mark.parametrize("page", TEXTS)
def test_the_generated_parts_are_up_to_date(page: str) -> None:
    emptied = re.sub(r"(<!-- begin: (\w+) -->).*?(<!-- end: \2 -->)", r"\1\3", TEXTS[page], flags=re.DOTALL)
    made = readme.render(page, emptied)
    difference = "\n".join(difflib.unified_diff(TEXTS[page].splitlines(), made.splitlines(), page, "made anew", n=0))
    assert not difference, f"run `python -m evidence.readme`:\n{difference}"


@pytest.mark.parametrize("page", TEXTS)
def test_no_measured_percentage_stands_outside_of_the_generated_parts(page: str) -> None:
    prose = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", TEXTS[page], flags=re.DOTALL)
    assert set(re.findall(r"[\d.,]+ ?%", prose)) <= {"95%"}  # the level of all intervals


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipes_row_is_the_mean_of_its_runs_and_counts_those_that_reach_the_goal(recipe: str) -> None:
    studies = readme.read_json("study").values()
    (runs,) = [runs for study in studies if (runs := [run for run in study["runs"] if run["variant"] == recipe])]
    finals = [run["test_accuracy"][-1] for run in runs]
    (line,) = [line for line in readme.recipes().splitlines() if f"*{recipe}*" in line]
    assert f"**{statistics.fmean(finals):.2%} ±" in line
    assert f"{sum(final >= 0.994 for final in finals)} of {len(finals)}" in line


def test_a_time_that_was_not_reached_and_a_single_run_are_said() -> None:
    once = {"unit": "s", "median": {"stock": 20.0, "ours": 4.0}, "rounds": {"stock": [20.0], "ours": [4.0]}}
    gain = {"times_better": {"ours": {"medians": 5.0, "least": 5.0, "greatest": 5.0}}}
    assert timings.cells_of(once | gain) == ["20 s", "4 s", "5.0 (one run)"]
    failed = once | {"times_better": {}, "reached": {"stock": [True], "ours": [True, False]}}
    assert timings.cells_of(failed) == ["20 s", "not reached in 4 s", "–"]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_linked_or_run_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert [name for name in re.findall(r"python (\S+\.py)", text) if not (ROOT / name).exists()] == []
    modules = re.findall(r"python -m ((?:evidence|helpers)[\w.]*\w)", text)
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_the_test_command_is_the_one_of_ci() -> None:
    (command,) = re.findall(r"^pip install -r requirements.txt\n(pytest.*)$", TEXT, flags=re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_examples_run(capsys: pytest.CaptureFixture) -> None:
    names = {"images": torch.arange(160_000).view(100, 40, 40).to(torch.uint8), "labels": torch.arange(100) % 10}
    examples = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        exec(example, names)
    assert capsys.readouterr().out.splitlines()[-1] == "True"
    assert names["x"].shape == (36, 1, 40, 40)  # the last batch


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """The three files that name the repository, in a folder of another git repository."""
    folder = tmp_path / "week5"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for name in ("pyproject.toml", "README.md", readme.NOTEBOOK):
        shutil.copy(ROOT / name, folder)
    return folder


def test_one_command_sets_the_repository_in_all_files(fork: Path) -> None:
    before = readme.addresses(fork)
    said = readme.set_repository(fork, "https://github.com/someone/their-fork.git", branch="master")
    assert len(said) == 3 and all("someone/their-fork" in line for line in said)
    place = "someone/their-fork/blob/master/week5/ERAV4S5CNNwithBN.ipynb"
    for name in ("README.md", readme.NOTEBOOK):
        text = (fork / name).read_text(encoding="utf-8")
        assert f"https://colab.research.google.com/github/{place}" in text
        assert before["repository"].removeprefix(readme.HOSTS) not in text
    assert 'https://github.com/someone/their-fork\\")' in (fork / readme.NOTEBOOK).read_text(encoding="utf-8")
    assert readme.addresses(fork) == {
        "repository": "https://github.com/someone/their-fork",
        "notebook": f"https://github.com/{place}",
    }
    assert readme.set_repository(fork, "https://github.com/someone/their-fork", branch="master") == []


@pytest.mark.parametrize("address", ["", "their-fork", "https://example.org/a/b", "https://github.com/only-an-owner"])
def test_what_is_no_address_is_refused_and_nothing_changed(address: str, fork: Path) -> None:
    with pytest.raises(ValueError, match="give its address"):
        readme.set_repository(fork, address)
    assert (fork / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()


def test_a_part_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="README.md has no part 'badge'"):
        readme.render("README.md", "nothing here")
