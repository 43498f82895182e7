"""README says what code and results say: everything between its comments is made again and compared."""

import difflib
import re

import nbformat
import pytest

from conftest import ROOT
from helpers import readme

TEXT = (ROOT / "README.md").read_text()


def test_the_generated_parts_are_up_to_date() -> None:
    made = readme.render(TEXT)
    difference = "\n".join(difflib.unified_diff(TEXT.splitlines(), made.splitlines(), "README.md", "made anew", n=0))
    assert not difference, f"run `python -m helpers.readme`:\n{difference}"


def test_no_measured_number_stands_outside_of_the_generated_parts() -> None:
    prose = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", TEXT, flags=re.DOTALL)
    assert set(re.findall(r"\d+\.\d+ ?%|\d+ ?%", prose)) <= {"99%", "99.5%", "95%"}


@pytest.mark.parametrize(("recipe", "bound"), [("sprint", 0.99), ("best", 0.995)])
def test_the_bounds_in_the_prose_hold(recipe: str, bound: float) -> None:
    assert readme.read_json("study")["recipes"]["summary"][recipe]["final"]["mean"] > bound


def test_files_that_are_linked_or_run_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT) + re.findall(r"python (\S+\.py)", TEXT)
    modules = [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m ((?:helpers|benchmarks)\.\w+)", TEXT)]
    assert len(links) > 20 and len(modules) >= 3
    assert [name for name in links + modules if not (ROOT / name).exists()] == []


def test_the_test_command_is_the_one_of_ci() -> None:
    (command,) = re.findall(r"^pip install .*pytest.*$", TEXT, flags=re.MULTILINE)
    assert command.split("&&")[1].strip() in (ROOT / ".ci" / "run").read_text()


def test_the_notebook_has_the_address_of_the_project() -> None:
    source = "\n".join(cell.source for cell in nbformat.read(ROOT / readme.NOTEBOOK, as_version=4).cells)
    assert readme.badge() in source
    repository = re.search(r'repository = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]
    assert repository in source


def test_a_part_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="README.md has 0 parts 'badge'"):
        readme.render("nothing here")
