"""The stored notebook: executed once, in order, without errors, and fit to be rendered anywhere."""

import ast
import base64
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from conftest import ROOT
from helpers.model import Net
from helpers.results import RESULTS, percent, read_json

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
    assert [heading.split(".")[0] for heading in headings if heading[0].isdigit()] == [str(i) for i in range(1, 13)]
    assert headings[4:6] == ["5. Batch normalization by hand", "6. What goes wrong without it"]
    assert headings[-2:] == ["Common mistakes", "Exercises"]


def test_it_can_be_read_in_one_sitting() -> None:
    lines = [len(cell.source.splitlines()) for cell in CODE]
    assert 55 <= len(NOTEBOOK.cells) <= 70
    assert statistics.median(lines) <= 6 and max(lines) <= 20


def test_the_first_cell_shows_the_study() -> None:
    first = NOTEBOOK.cells[0].source
    summary = read_json("study")["ablation"]["summary"]
    shown = re.findall(r"\*\*(.*?)\*\*", first)
    assert shown == [percent(summary[variant]["final"]) for variant in ("assignment", "no batch norm")]
    assert f"{sum(p.numel() for p in Net().parameters()):,} parameters" in first
    (picture,) = re.findall(r"!\[[^]]{40,}\]\(data:image/png;base64,(.*?)\)", first)
    assert base64.b64decode(picture) == (RESULTS / "ablation.png").read_bytes()


def test_set_up_is_folded_and_says_in_one_line_where_the_address_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up = CODE[0]
    assert set_up.source.startswith("# @title") and set_up.metadata.cellView == "form"
    assert set_up.metadata.jupyter.source_hidden
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPOSITORY", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="nowhere cannot be fetched: set REPOSITORY in this cell"):
        exec(set_up.source, {})
    monkeypatch.chdir(ROOT)
    exec(set_up.source, {})


def test_every_figure_is_there() -> None:
    drawn = {cell.id: len(re.findall(r"\bplot_\w+\(", cell.source)) for cell in CODE if "plot_" in cell.source}
    shown = {cell.id: sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in CODE}
    assert sum(drawn.values()) >= 12
    assert {name: shown[name] for name in drawn} == drawn


def test_every_figure_has_a_caption_below() -> None:
    for cell, below in zip(NOTEBOOK.cells, [*NOTEBOOK.cells[1:], None], strict=True):
        if cell.cell_type == "code" and "plot_" in cell.source:
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
    prose = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    known = {"95%", "11%", "100%", "99.2%"}  # intervals, share of ones, all, and the example of a standard error
    means = {f"{values['final']['mean']:.2%}" for values in read_json("study")["ablation"]["summary"].values()}
    prose = re.sub("base64,[^)]*", "", prose)
    assert set(re.findall(r"[\d.]+ ?%", prose)) <= known | means


def test_no_formula_needs_a_script_from_elsewhere() -> None:
    assert not any("$" in cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")


def test_every_claim_holds() -> None:
    shown = [output.data["text/markdown"] for output in OUTPUTS if "text/markdown" in output.get("data", {})]
    (claims,) = [table for table in shown if "receptive fields, computed" in table]
    rows = [line.split("|")[1:-1] for line in claims.splitlines()[2:]]
    assert len(rows) >= 6
    assert {row[-1].strip() for row in rows} == {"True"}


def test_every_prediction_matches() -> None:
    tables = [output.data["text/markdown"] for output in OUTPUTS if "text/markdown" in output.get("data", {})]
    compared = [table for table in tables if "| match |" in table.splitlines()[0]]
    assert len(compared) >= 4
    wrong = [line for table in compared for line in table.splitlines()[2:] if not line.endswith("| True |")]
    assert wrong == ["| running variance, without | False |"]  # the mistake that section 5 shows on purpose
