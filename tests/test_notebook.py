"""The stored notebook: executed once, in order, without errors, and fit to be rendered anywhere."""

import ast
import re

import nbformat

from conftest import ROOT

PATH = ROOT / "ERAV4S5CNNwithBN.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
OUTPUTS = [output for cell in CODE for output in cell.outputs]
TEXT = PATH.read_text(encoding="utf-8")


def test_every_code_cell_was_executed_once_and_in_order() -> None:
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))


def test_no_errors_and_nothing_on_stderr() -> None:
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


def test_the_kernel_is_plain_python() -> None:
    assert NOTEBOOK.metadata.kernelspec.name == "python3"
    assert NOTEBOOK.metadata.kernelspec.display_name == "Python 3"


def test_the_shape_of_the_story() -> None:
    headings = re.findall(r"^## (.*)", "\n".join(cell.source for cell in NOTEBOOK.cells), flags=re.MULTILINE)
    assert [heading.split(".")[0] for heading in headings if heading[0].isdigit()] == [str(i) for i in range(1, 10)]


def test_every_figure_is_there() -> None:
    drawn = [cell for cell in CODE if "plots.plot_" in cell.source]
    assert len(drawn) >= 9
    for cell in drawn:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source


def test_it_defines_nothing_that_could_be_tested() -> None:
    source = "\n".join(cell.source for cell in CODE).replace("%matplotlib inline", "")
    definitions = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    assert [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, definitions)] == []


def test_most_of_what_is_printed_is_compared() -> None:
    printing = [cell for cell in CODE if cell.outputs]
    compared = [cell for cell in printing if "nbval-ignore-output" not in cell.metadata.get("tags", [])]
    assert len(compared) / len(printing) >= 0.6


def test_no_measured_accuracy_is_typed_into_the_prose() -> None:
    prose = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    known = {"95%", "11%", "100%", "99.2%"}  # intervals, share of ones, all, and the example of a standard error
    assert set(re.findall(r"[\d.]+ ?%", prose)) <= known


def test_every_claim_holds() -> None:
    (claims,) = [output.data["text/markdown"] for output in OUTPUTS if "| claim |" in str(output.get("data", ""))]
    rows = [line.split("|")[1:-1] for line in claims.splitlines()[2:]]
    assert len(rows) >= 6
    assert {row[-1].strip() for row in rows} == {"True"}
