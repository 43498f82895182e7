"""The same on every system, on every console, in every folder, and from whatever state a run is in."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nbval.plugin import get_sanitize_patterns
from PIL import Image

import ERAV4S5CNNwithBN as script
from conftest import ROOT, Interrupt, Splits, head
from evidence import study
from evidence.benchmark.stock import linked
from helpers.model import Net
from helpers.recipe import RECIPES, Recipe
from helpers.runtime import files
from helpers.runtime.console import suit_any_console
from helpers.runtime.files import atomic_write, load_tensors, load_weights, save_tensors
from helpers.runtime.history import History
from helpers.runtime.progress import Progress, runs_in_notebook
from helpers.training import fit
from tiny_study import TINY_STUDY

SHORT = Recipe(num_epochs=2, batch_size=50, lr=0.02)
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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_files_are_utf_8(path: Path) -> None:
    assert without_encoding(path.read_text(encoding="utf-8")) == []


def test_a_file_read_without_encoding_is_found() -> None:
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


def test_a_run_prints_on_a_console_without_the_sign(
    small_script: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1251"))
    assert small_script("--epochs=1", "--batch-size=100", "--results", tmp_path) == 0
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
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, mnist[1].images, strict=False):
        Image.fromarray(255 - image.numpy()).save(path)
    return paths


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


# --- Resuming -----------------------------------------------------------------------------------------------------


def stopped(path: Path, splits: Splits, recipe: Recipe, after: int) -> dict:
    """Stop a run after so many epochs; return its checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        fit(recipe.model(), *splits, recipe, device="cpu", checkpoint=path, progress=Interrupt(after))
    return load_tensors(path)


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_is_made_longer_ends_as_the_longer_run(small_mnist: Splits, tmp_path: Path, after: int) -> None:
    path, longer = tmp_path / "checkpoint.pt", replace(SHORT, num_epochs=4)
    stopped(path, small_mnist, SHORT, after)
    parts, whole = longer.model(), longer.model()
    history = fit(parts, *small_mnist, longer, device="cpu", checkpoint=path, resume=True)
    expected = fit(whole, *small_mnist, longer, device="cpu")
    assert {**vars(history), "seconds": 0} == {**vars(expected), "seconds": 0}
    assert history.recipe["num_epochs"] == 4
    assert all(torch.equal(a, b) for a, b in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True))


def test_a_schedule_knows_its_end_and_no_epoch_is_undone(small_mnist: Splits, tmp_path: Path) -> None:
    path, one_cycle = tmp_path / "checkpoint.pt", replace(SHORT, schedule="one-cycle")
    for recipe, after, asked in ((one_cycle, 1, 4), (SHORT, 2, 1)):
        stopped(path, small_mnist, recipe, after)
        other = replace(recipe, num_epochs=asked)
        with pytest.raises(ValueError, match=f"another run .num_epochs was 2 and is {asked}.: start anew"):
            fit(other.model(), *small_mnist, other, device="cpu", checkpoint=path, resume=True)


def test_what_changes_only_the_last_bits_is_said_and_goes_on(small_mnist: Splits, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    content = stopped(path, small_mnist, SHORT, 1)
    python = content["history"]["versions"]["python"]
    minor = ".".join(python.split(".")[:2])
    content["history"]["versions"]["python"] = f"{minor}.99"
    save_tensors(path, content)
    notes = Interrupt()
    again = {"device": "cpu", "checkpoint": path, "resume": True, "progress": notes}
    assert fit(SHORT.model(), *small_mnist, SHORT, **again).num_epochs == 2
    (line,) = notes.lines
    assert line == f"going on from {path}, though the last bits may differ: python was {minor}.99 and is {python}"
    content["history"]["versions"]["python"] = "3.0.1"
    save_tensors(path, content)
    with pytest.raises(ValueError, match=f"python was 3.0 and is {minor}"):
        fit(SHORT.model(), *small_mnist, SHORT, **again)


def test_gpus_are_of_one_kind_and_a_cpu_is_of_another() -> None:
    h100, a100, cpu = (History({}, device, {}) for device in ("NVIDIA H100", "NVIDIA A100", "cpu"))
    assert h100.conditions() == a100.conditions() != cpu.conditions()
    assert h100.details() != a100.details()


def test_a_run_started_anew_keeps_an_earlier_one_beside_it(
    small_script: Callable[..., int], small_mnist: Splits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def run(*options: str) -> list[str]:
        assert small_script("--batch-size=100", f"--results={tmp_path}", *options) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "earlier run" in line]

    path = tmp_path / "checkpoint.pt"
    assert run("--epochs=1") == run("--epochs=2") == []  # one epoch is soon done again
    first = path.read_bytes()
    for number in (1, 2):
        name = f"checkpoint-{number}.pt"
        assert run("--epochs=2", f"--seed={number + 1}") == [
            f"{path} held 2 epochs of an earlier run: kept beside it as {name}; to use it: --weights FILE"
        ]
    assert (tmp_path / "checkpoint-1.pt").read_bytes() == first
    kept, paper = Net(), tmp_path / "seven.png"
    load_weights(kept, tmp_path / "checkpoint-1.pt")
    expected = load_tensors(tmp_path / "checkpoint-1.pt")["trainer"]["model"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in kept.state_dict().items())
    Image.fromarray(255 - small_mnist[1].images[0].numpy()).save(paper)
    assert run("--predict", str(paper), f"--weights={tmp_path / 'checkpoint-1.pt'}") == []
    assert load_tensors(tmp_path / "checkpoint-2.pt")["history"]["recipe"]["seed"] == 2
    assert load_tensors(path)["history"]["recipe"]["seed"] == 3


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


def test_without_torchrun_one_process_does_a_study(
    mnist: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(study, "os", SimpleNamespace(name="nt", environ={}))
    monkeypatch.setattr(study, "STUDIES", {"tiny": TINY_STUDY})
    monkeypatch.setattr(study, "load_mnist", lambda root: (head(mnist[0], 100), head(mnist[1], 100)))
    monkeypatch.setattr(sys, "argv", ["study", "tiny", "--device=cpu", f"--results={tmp_path}"])
    study.main()
    assert re.search(r"\| plain +\| +3 \|", capsys.readouterr().out)
    runs = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["tiny"]["runs"]
    assert [run["threads"] for run in runs] == [1] * 6
