"""The same on every system, on every console, in every folder, and from whatever state a run is in."""

import ast
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from nbval.plugin import get_sanitize_patterns

import ERAV4S5CNNwithBN as script
from conftest import ROOT, Splits, on_paper
from evidence.benchmark.stock import linked
from helpers.recipe import RECIPES
from helpers.runtime import files
from helpers.runtime.console import suit_any_console
from helpers.runtime.files import atomic_write
from helpers.runtime.progress import Progress, runs_in_notebook

SOURCES = [path for path in ROOT.rglob("*.py") if not {".venv", "runs"} & set(path.relative_to(ROOT).parts)]


# --- Encodings and consoles ---------------------------------------------------------------------------------------


def without_encoding(source: str) -> list[int]:
    """Return the lines on which text is read or written in whatever encoding the system likes."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        binary = any(isinstance(value, ast.Constant) and "b" in str(value.value) for value in node.args[1:2])
        of_path = isinstance(node.func, ast.Attribute)
        if name in ("read_text", "write_text") or (name == "open" and not of_path and not binary):
            lines.append(node.lineno)
    return lines


def test_text_files_are_utf_8() -> None:
    lines = {str(path.relative_to(ROOT)): without_encoding(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {name: found for name, found in lines.items() if found} == {}
    source = "a.read_text()\nopen(a, 'rb')\nopen(a)\na.write_text(b)\na.write_text(b, encoding='utf-8')\nopen(a, 'w')\n"
    assert without_encoding(source) == [1, 3, 4, 6]


def test_the_notebooks_sanitiser_does_not_depend_on_the_encoding() -> None:
    content = (ROOT / "tests" / "nbval_sanitize.cfg").read_bytes()
    assert content.isascii()
    ((pattern, replacement),) = get_sanitize_patterns(content.decode())
    printed = "accuracy ≈ 99.18%, lr ≈0.5 in 20 epochs, ≈ -1,234.5 s"
    assert re.sub(pattern, replacement, printed) == "accuracy ≈ RUN, lr ≈ RUNin 20 epochs, ≈ RUNs"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "28×28 ≈ 99% ± 1 你"),
        ("cp1251", "28x28 ~ 99% ± 1 ?"),
        ("cp437", "28x28 ≈ 99% ± 1 ?"),
        ("ascii", "28x28 ~ 99% +- 1 ?"),
    ],
)
def test_what_a_console_cannot_show_is_replaced_and_each_line_is_out_at_once(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    suit_any_console()
    print("28×28 ≈ 99% ± 1 你")
    assert raw.getvalue().decode(encoding) == f"{shown}\n"


def test_the_script_prints_on_a_console_without_the_sign(
    small_script: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1251"))
    assert small_script("--device=abacus") == 2  # which is found after the layer table
    assert b" 26x26x8 " in raw.getvalue()


def test_a_reader_that_goes_away_ends_the_script_quietly(
    small_script: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert small_script("--epochs=1", "--batch-size=100", "--results", tmp_path) == 141
    assert capsys.readouterr().err == ""


def test_ipykernel_alone_makes_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    assert not runs_in_notebook()
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace())  # IPython in a terminal
    assert not runs_in_notebook()
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel="one"))
    assert runs_in_notebook()
    shown = []
    handle = SimpleNamespace(update=lambda text, **_: shown.append(text))
    monkeypatch.setattr("IPython.display.display", lambda text, **_: shown.append(text) or handle)
    with Progress(2, 100) as progress:  # one output of the cell, which is text and no widget
        progress.update(50, 0.5, 0.9)
    assert {name for text in shown for name in text} == {"text/plain"}


# --- Starting -----------------------------------------------------------------------------------------------------


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "ERAV4S5CNNwithBN.py"), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def no_torch(tmp_path: Path) -> str:
    """A folder for PYTHONPATH whose torch is Ctrl-C."""
    (tmp_path / "torch.py").write_text("import signal; signal.raise_signal(signal.SIGINT)", encoding="utf-8")
    return str(tmp_path)


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--wrong", 2), ("--recipe=worst", 2)])
def test_help_and_a_wrong_option_wait_for_no_import(option: str, status: int, no_torch: str) -> None:
    done = start(option, PYTHONPATH=no_torch)
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == (status != 0)


def test_ctrl_c_within_the_imports_ends_without_a_traceback(no_torch: str) -> None:
    done = start(PYTHONPATH=no_torch)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_recipes_to_choose_from_are_all_there_are() -> None:
    assert list(RECIPES) == list(script.RECIPE_NAMES)


# --- Pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(mnist: Splits, tmp_path: Path) -> list[Path]:
    """Three digits on paper, in a folder."""
    return [on_paper(mnist[1].images[number], tmp_path / f"{number}.png") for number in range(3)]


def test_a_pattern_that_the_shell_left_is_expanded(pictures: list[Path], tmp_path: Path) -> None:
    assert script.parse_arguments(["--predict", str(tmp_path / "*.png")]).predict == pictures
    nothing = tmp_path / "*.jpg"
    assert script.parse_arguments(["--predict", str(nothing)]).predict == [nothing]  # and is named in the error
    strange = tmp_path / "[a].png"
    strange.touch()
    assert script.parse_arguments(["--predict", str(strange)]).predict == [strange]


def test_answers_are_given_where_no_figure_can_be_written(
    small_script: Callable[..., int], pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "results").write_text("a file", encoding="utf-8")
    assert small_script("--predict", *pictures, "--results", tmp_path / "results") == 0
    output = capsys.readouterr()
    assert all(str(path) in output.out for path in pictures)
    (line,) = output.err.splitlines()
    assert line.startswith("no figure: ") and "predictions.png was not written" in line


# --- Windows, as far as it can be had here ------------------------------------------------------------------------


def refusal(number: int) -> PermissionError:
    """What Windows says where another program has the file open."""
    error = PermissionError(13, "Access is denied")
    error.winerror = number
    return error


@pytest.mark.parametrize("number", [5, 32])
def test_a_rename_that_is_refused_for_a_moment_is_tried_again(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, refusals = os.replace, [refusal(number)] * 3

    def scanned(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", scanned)
    atomic_write(tmp_path / "file", "whole")
    assert os.listdir(tmp_path) == ["file"] and refusals == []


def test_a_rename_that_stays_refused_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise refusal(32)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(files, "RENAME_SECONDS", 0.05)
    with pytest.raises(OSError, match=r"file was not written \(Access is denied\): close the program that has it open"):
        atomic_write(tmp_path / "file", "whole")
    assert os.listdir(tmp_path) == []


def test_where_no_links_are_granted_archives_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with linked(ROOT / "data") as folder:
        copies = {path.name: path.read_bytes() for path in (folder / "MNIST" / "raw").iterdir()}
    assert copies == {path.name: path.read_bytes() for path in (ROOT / "data" / "MNIST" / "raw").glob("*.gz")}
