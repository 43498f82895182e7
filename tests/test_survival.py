"""Kills, signals, full disks and foreign checkpoints: nothing that was saved is lost, and every end is one line."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ERAV4S5CNNwithBN as script
from conftest import ROOT, Interrupt, Splits
from helpers.engine import files
from helpers.engine.files import atomic_write, load_tensors, save_tensors
from helpers.engine.history import History
from helpers.engine.progress import HEADER
from helpers.recipe import Recipe
from helpers.training import fit

RECIPE = Recipe(num_epochs=3, batch_size=50, lr=0.02)


THREE_EPOCHS = ("--epochs=3", "--batch-size=50")


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills its children, which this system does not know")
def test_ten_kills_at_random_end_like_no_kill() -> None:
    command = [sys.executable, "tests/kill_at_random.py", "--kills=10", "--seed=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert sum(result["kills"].values()) >= 10
    assert min(result["kills"].values()) > 0
    assert result["identical"] == result["runs"]
    assert result["files too many"] == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_script_with_one_line_and_a_whole_checkpoint(
    stop: signal.Signals,
    small_mnist: Splits,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(script, "load_mnist", lambda root: small_mnist)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    arguments = ["--epochs=400", "--batch-size=50", "--device=cpu", f"--results={tmp_path}"]

    def stop_soon() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        signal.raise_signal(stop)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    thread = threading.Thread(target=stop_soon, daemon=True)
    thread.start()
    try:
        status = script.main(arguments)
    finally:
        thread.join()
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 130
    assert line.startswith("stopped") and "--resume" in line
    load_tensors(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "schedule": "one-cycle", "lr": 0.01}])
def test_a_resumed_run_has_the_same_weights_and_history(small_mnist: Splits, tmp_path: Path, changes: dict) -> None:
    recipe = replace(RECIPE, **changes)
    whole, parts = recipe.model(), recipe.model()
    expected = fit(whole, *small_mnist, recipe, device="cpu")
    path = tmp_path / "checkpoint.pt"
    for after in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            fit(parts, *small_mnist, recipe, device="cpu", checkpoint=path, resume=after > 1, progress=Interrupt(after))
        parts = recipe.model()
        torch.manual_seed(after)  # the state of this process does not matter
    history = fit(parts, *small_mnist, recipe, device="cpu", checkpoint=path, resume=True)
    assert {**vars(history), "seconds": 0} == {**vars(expected), "seconds": 0}
    for name, tensor in parts.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_resuming_a_finished_run_changes_nothing(small_script: Callable[..., int], tmp_path: Path) -> None:
    assert small_script(*THREE_EPOCHS, f"--results={tmp_path}") == 0
    names = ("history.json", "model.pt")
    before = [(tmp_path / name).read_bytes() for name in names]
    assert small_script(*THREE_EPOCHS, f"--results={tmp_path}", "--resume") == 0
    assert [(tmp_path / name).read_bytes() for name in names] == before


class Payload:
    """What a pickle would run when loaded."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch was_run",))


@pytest.mark.parametrize("kind", ["code", "pickle", "text", "empty", "cut", "folder", "other tensors", "missing"])
def test_a_foreign_checkpoint_is_refused_in_one_line(
    kind: str,
    small_script: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.pt"
    if kind == "code":
        torch.save({"trainer": Payload(), "history": {}}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "text":
        path.write_text("<html>not found</html>", encoding="utf-8")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        save_tensors(path, {"trainer": {}, "history": {}})
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "folder":
        path.mkdir()
    elif kind == "other tensors":
        save_tensors(path, {"weights": torch.zeros(3)})
    assert small_script(*THREE_EPOCHS, f"--results={tmp_path}", "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "checkpoint.pt" in line
    assert not (tmp_path / "was_run").exists()
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr": 0.5}, "lr was 0.02 and is 0.5"),
        ({"seed": 9}, "seed was 1 and is 9"),
        (
            {"num_epochs": 7, "schedule": "one-cycle"},
            "num_epochs was 3 and is 7; schedule was constant and is one-cycle",
        ),
        ({"augmentation": None}, "augmentation was {.*} and is None"),
    ],
)
def test_a_checkpoint_of_another_recipe_says_what_differs(
    changes: dict, says: str, small_mnist: Splits, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(RECIPE.model(), *small_mnist, RECIPE, device="cpu", checkpoint=path, progress=Interrupt(1))
    before = path.read_bytes()
    other = replace(RECIPE, **changes)
    with pytest.raises(ValueError, match=says):
        fit(other.model(), *small_mnist, other, device="cpu", checkpoint=path, resume=True)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_network_or_version_says_so(small_mnist: Splits, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(RECIPE.model(), *small_mnist, RECIPE, device="cpu", checkpoint=path, progress=Interrupt(1))
    wider = RECIPE.model()
    wider.fc = torch.nn.Linear(288, 11)
    with pytest.raises(ValueError, match="is no checkpoint of this network .*fc"):
        fit(wider, *small_mnist, RECIPE, device="cpu", checkpoint=path, resume=True)
    content = load_tensors(path)
    content["history"]["versions"]["torch"] = "1.0"
    save_tensors(path, content)
    with pytest.raises(ValueError, match="torch was 1.0 and is "):
        fit(RECIPE.model(), *small_mnist, RECIPE, device="cpu", checkpoint=path, resume=True)


def test_a_full_disk_spares_the_last_checkpoint(small_mnist: Splits, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="this system knows no limit on the size of a file")
    path = tmp_path / "checkpoint.pt"

    class DiskFills(Interrupt):
        def epoch(self, history: History) -> None:
            if history.num_epochs in self.after:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's default
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=r"checkpoint.pt was not written \(File too large\): make room"):
            fit(RECIPE.model(), *small_mnist, RECIPE, device="cpu", checkpoint=path, progress=DiskFills(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    assert len(load_tensors(path)["history"]["seconds"]) == 1
    assert fit(RECIPE.model(), *small_mnist, RECIPE, device="cpu", checkpoint=path, resume=True).num_epochs == 3


def test_a_results_folder_that_goes_away_comes_back(small_mnist: Splits, tmp_path: Path) -> None:
    path = tmp_path / "results" / "checkpoint.pt"

    class FolderGoes(Interrupt):
        def epoch(self, history: History) -> None:
            if history.num_epochs in self.after:
                path.unlink()
                path.parent.rmdir()

    fit(RECIPE.model(), *small_mnist, RECIPE, device="cpu", checkpoint=path, progress=FolderGoes(1))
    assert len(load_tensors(path)["history"]["seconds"]) == 3


@pytest.mark.parametrize("fault", ["a file in its place", "read-only"])
def test_a_results_folder_that_cannot_be_written_is_found_before_training(
    fault: str,
    small_script: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    results = tmp_path / "results"
    if fault == "read-only":

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files, "open", refuse, raising=False)
    else:
        results.write_text("", encoding="utf-8")
    assert small_script(*THREE_EPOCHS, f"--results={results}") == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith(f"error: {results / 'checkpoint.pt'} was not written (")
    assert HEADER not in output.out  # training had not begun


def test_a_write_is_whole_or_nothing_and_leftovers_go(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    atomic_write(path, "one")
    stale, fresh = (path.with_name(f".file.json.{name}.partial") for name in ("stale", "fresh"))
    for leftover in (stale, fresh):
        leftover.write_text("half", encoding="utf-8")
    os.utime(stale, (0, 0))
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert sorted(os.listdir(path.parent)) == [fresh.name, "file.json"]
