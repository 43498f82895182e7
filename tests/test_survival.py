"""Kills, signals, full disks and foreign checkpoints: nothing that was saved is lost, and every end is one line."""

import copy
import itertools
import json
import math
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ERAV4S5CNNwithBN as script
from conftest import ROOT, Interrupt, Splits
from helpers.recipe import Recipe
from helpers.runtime import files
from helpers.runtime.files import atomic_write, load_tensors, load_weights, save_tensors
from helpers.runtime.history import History
from helpers.runtime.progress import HEADER
from helpers.training import fit

RECIPE = Recipe(num_epochs=3, batch_size=50, lr=0.02)
SMALL = Recipe(num_epochs=2, batch_size=10)


class Small(torch.nn.Module):
    """Twenty weights, so that hundreds of runs take seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(1, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(images.mean(dim=(2, 3))).log_softmax(dim=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


@pytest.fixture
def run(mnist: Splits, path: Path) -> Callable[..., History]:
    """Run a small network on a few images, with a checkpoint at ``path``."""

    def run(recipe: Recipe = SMALL, model: torch.nn.Module | None = None, **options: object) -> History:
        few = [split[:20] for split in mnist]
        return fit(model or Small(), *few, recipe, device="cpu", checkpoint=path, **options)

    return run


@pytest.fixture
def stop(run: Callable[..., History], path: Path) -> Callable[..., dict]:
    """Stop such a run after so many epochs and return its checkpoint."""

    def stop(recipe: Recipe = SMALL, after: int = 1) -> dict:
        with pytest.raises(KeyboardInterrupt):
            run(recipe, progress=Interrupt(after))
        return load_tensors(path)

    return stop


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
        time.sleep(0.2)
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


def is_same_run(first: History, second: History) -> bool:
    return {**vars(first), "seconds": 0} == {**vars(second), "seconds": 0}


def is_same_state(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "schedule": "one-cycle", "lr": 0.01}])
def test_a_resumed_run_has_the_same_weights_and_history(small_mnist: Splits, path: Path, changes: dict) -> None:
    recipe, splits = replace(RECIPE, **changes), [split[:130] for split in small_mnist]
    whole, parts = recipe.model(), recipe.model()
    expected = fit(whole, *splits, recipe, device="cpu")
    for after in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            fit(parts, *splits, recipe, device="cpu", checkpoint=path, resume=after > 1, progress=Interrupt(after))
        parts = recipe.model()
        torch.manual_seed(after)  # the state of this process does not matter
    history = fit(parts, *splits, recipe, device="cpu", checkpoint=path, resume=True)
    assert is_same_run(history, expected) and is_same_state(parts, whole)


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_is_made_longer_ends_as_the_longer_run(run: Callable[..., History], path: Path, after: int) -> None:
    longer, whole = replace(SMALL, num_epochs=4), Small()
    parts = copy.deepcopy(whole)
    with pytest.raises(KeyboardInterrupt):
        run(SMALL, parts, progress=Interrupt(after))
    history = run(longer, parts, resume=True)
    assert is_same_run(history, run(longer, whole)) and is_same_state(parts, whole)
    assert history.recipe["num_epochs"] == 4


def test_a_schedule_knows_its_end_and_no_epoch_is_undone(
    run: Callable[..., History], stop: Callable[..., dict]
) -> None:
    for recipe, after, asked in ((replace(SMALL, schedule="one-cycle"), 1, 4), (SMALL, 2, 1)):
        stop(recipe, after)
        with pytest.raises(ValueError, match=f"another run .num_epochs was 2 and is {asked}.: start anew"):
            run(replace(recipe, num_epochs=asked), resume=True)


def test_what_changes_only_the_last_bits_is_said_and_goes_on(
    run: Callable[..., History], stop: Callable[..., dict], path: Path
) -> None:
    content, notes = stop(), Interrupt()
    python = content["history"]["versions"]["python"]
    minor = ".".join(python.split(".")[:2])
    content["history"]["versions"]["python"] = f"{minor}.99"
    save_tensors(path, content)
    assert run(resume=True, progress=notes).num_epochs == 2
    assert notes.lines == [
        f"going on from {path}, though the last bits may differ: python was {minor}.99 and is {python}"
    ]
    content["history"]["versions"] |= {"python": "3.0.1", "torch": "1.0"}
    save_tensors(path, content)
    with pytest.raises(ValueError, match=rf"python was 3\.0 and is {minor}; torch was 1\.0 and is "):
        run(resume=True)


def test_gpus_are_of_one_kind_and_a_cpu_is_of_another() -> None:
    h100, a100, cpu = (History({}, device, {}) for device in ("NVIDIA H100", "NVIDIA A100", "cpu"))
    assert h100.conditions() == a100.conditions() != cpu.conditions()
    assert h100.details() != a100.details()


def test_resuming_a_finished_run_changes_nothing(small_script: Callable[..., int], tmp_path: Path) -> None:
    def write(*options: str) -> list[bytes]:
        assert small_script("--epochs=1", "--batch-size=100", "--results", tmp_path, *options) == 0
        return [(tmp_path / name).read_bytes() for name in ("history.json", "model.pt")]

    assert write() == write("--resume")


class Payload:
    """What a pickle would run when loaded."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch was_run",))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "code": lambda path: torch.save({"trainer": Payload(), "history": {}}, path),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Payload())),
    "text": lambda path: path.write_text("<html>not found</html>", encoding="utf-8"),
    "empty": Path.touch,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a folder": lambda path: path.unlink() or path.mkdir(),
    "missing": Path.unlink,
    "a dot": lambda path: path.write_bytes(b"."),  # at which an unpickler's stack is empty
    "other tensors": lambda path: save_tensors(path, {"weights": torch.zeros(3)}),
    "a bare tensor": lambda path: save_tensors(path, torch.zeros(3)),
    "no states": lambda path: save_tensors(path, {"trainer": torch.zeros(3), "history": {}}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_checkpoint_is_refused_in_one_line(
    kind: str, run: Callable[..., History], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    save_tensors(path, {"trainer": {}, "history": {}})
    FOREIGN[kind](path)
    with pytest.raises((ValueError, OSError), match=r"checkpoint\.pt") as caught:
        run(resume=True)
    assert str(caught.value).isprintable()
    assert not (path.parent / "was_run").exists()


def paths(content: object, *before: object) -> Iterator[tuple]:
    """Yield the keys that lead to every part of nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*before, key)
        yield from paths(value, *before, key)


def changed(content: dict, path: tuple, value: object) -> dict:
    """Return a copy in which ``value`` stands in the place that ``path`` leads to."""
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def test_whatever_part_of_a_checkpoint_is_foreign_it_ends_in_one_line(
    run: Callable[..., History], stop: Callable[..., dict], path: Path
) -> None:
    recipe = replace(SMALL, optimizer="adamw", schedule="one-cycle", augmentation=None)
    good = stop(recipe)
    assert ("trainer", "optimizer", "state", 0, "exp_avg") in set(paths(good))
    for part, foreign in zip(paths(good), itertools.cycle([torch.zeros(3), {"a": 1}, ["x"]]), strict=False):
        save_tensors(path, changed(good, part, foreign))
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"checkpoint\.pt is ") as caught:
            run(recipe, resume=True)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 600, part
        assert path.read_bytes() == before


def test_a_run_that_begins_anew_keeps_a_checkpoint_of_several_epochs(run: Callable[..., History], path: Path) -> None:
    def said(num_epochs: int) -> list[str]:
        notes = Interrupt()
        run(replace(SMALL, num_epochs=num_epochs), progress=notes)
        assert load_tensors(path)["history"]["recipe"]["num_epochs"] == num_epochs
        return [line for line in notes.lines if "earlier" in line]

    kept = [path.with_name(f"checkpoint-{number}.pt") for number in (1, 2)]
    assert said(1) == said(2) == []  # one epoch is soon trained again
    for file in kept:
        before = path.read_bytes()
        assert said(2) == [
            f"{path} held 2 epochs of an earlier run: kept beside it as {file.name}; to use it: --weights FILE"
        ]
        assert file.read_bytes() == before
    model = Small()
    load_weights(model, kept[0])
    assert torch.equal(model.fc.weight, load_tensors(kept[0])["trainer"]["model"]["fc.weight"])
    path.write_text("no checkpoint", encoding="utf-8")
    assert said(1) == []
    assert sorted(path.parent.iterdir()) == sorted([path, *kept])


def refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_checkpoint_that_cannot_be_kept_is_not_replaced(
    run: Callable[..., History], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = path.read_bytes()
    monkeypatch.setattr("helpers.runtime.checkpoint.rename", refuse)
    says = r"checkpoint.pt cannot be kept as checkpoint-1.pt \(Permission denied\): allow it or choose another folder$"
    with pytest.raises(OSError, match=says):
        run()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        (("history", "seconds"), None, "seconds of its history is None, no list of finite numbers"),
        (("history", "seconds"), [math.inf], "seconds of its history is [inf], no list of finite numbers"),
        (("history", "seconds"), [1.0, 2.0], "the curves of its history differ in length"),
        (("history", "versions"), None, "versions of its history is 'None', no dictionary of plain values"),
        (("history", "recipe", "lr"), torch.ones(2), "no dictionary of plain values"),
        (("history",), {}, "its history has missing or unknown entries"),
        (("trainer",), [], "its state is of type list, no dictionary"),
        (("trainer", "optimizer"), {}, "its state, optimizer has other entries than it needs: param_groups, state"),
        (
            ("trainer", "optimizer", "state", 1, "momentum_buffer"),
            torch.zeros(3),
            "its state, optimizer, state, 1, momentum_buffer, is torch.float32 (3,) instead of torch.float32 (10,)",
        ),
        (("trainer", "model", "fc.bias"), torch.zeros(10).int(), "fc.bias, is torch.int32 (10,) instead"),
        (("trainer", "schedule"), {}, "its state, schedule, is dict instead of NoneType"),
    ],
)
def test_a_checkpoint_says_which_part_is_foreign(
    part: tuple, value: object, says: str, run: Callable[..., History], stop: Callable[..., dict], path: Path
) -> None:
    save_tensors(path, changed(stop(), part, value))
    line = rf"checkpoint.pt is no checkpoint of this network \(.*{re.escape(says)}.*\): start anew without resuming"
    with pytest.raises(ValueError, match=line):
        run(resume=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr": 0.5}, "lr was 0.001 and is 0.5"),
        ({"num_epochs": 7, "schedule": "one-cycle"}, "num_epochs was 2 and is 7; schedule was constant and is one-c"),
        ({"augmentation": None}, "augmentation was {.*} and is None"),
    ],
)
def test_a_checkpoint_of_another_recipe_says_what_differs(
    changes: dict, says: str, run: Callable[..., History], stop: Callable[..., dict], path: Path
) -> None:
    stop()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=says):
        run(replace(SMALL, **changes), resume=True)
    assert path.read_bytes() == before


def test_a_file_that_torch_remarks_about_is_refused_in_silence(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:  # looks like TorchScript
        for name, content in (("data.pkl", pickle.dumps({})), ("constants.pkl", pickle.dumps(())), ("version", b"3")):
            archive.writestr(f"archive/{name}", content)
    with pytest.raises(ValueError, match="script.pt is damaged or holds more than tensors"):
        load_tensors(tmp_path / "script.pt")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_with_broken_bytes_is_refused_in_one_line_or_holds_tensors(legacy: bool, path: Path) -> None:
    draw = random.Random(1)
    state = {"a": torch.zeros(3), "b": [1, 2.0, "x"]}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    good = path.read_bytes()
    refused = 0
    for _ in range(150):
        content = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice((None, draw.randrange(len(content))))])
        try:
            load_tensors(path)
        except ValueError as error:
            refused += 1
            reason = f"{path} is damaged or holds more than tensors and plain values"
            assert str(error) == f"{reason}: give another file, or start anew without it"
    assert refused > 50


NO_WEIGHTS = [torch.zeros(3), [1], None, 3, "abc", {}, {1: torch.zeros(3)}, {"fc.bias": 3}]
NO_WEIGHTS += [{"trainer": trainer, "history": {}} for trainer in (None, {}, {"model": {}})]  # checkpoints of none


@pytest.mark.parametrize("content", NO_WEIGHTS)
def test_what_holds_no_weights_is_refused_in_one_line(content: object, tmp_path: Path) -> None:
    save_tensors(tmp_path / "model.pt", content)
    with pytest.raises(ValueError, match=r"model.pt does not hold this network's weights \(.*\): give the") as caught:
        load_weights(RECIPE.model(), tmp_path / "model.pt")
    reason = str(caught.value).removeprefix(str(tmp_path / "model.pt"))
    assert "\n" not in reason and len(reason) < 300


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.fstat(number).st_size) or fsync(number))
    monkeypatch.setattr(os, "replace", lambda *places: calls.append("replace") or rename(*places))
    atomic_write(tmp_path / "file.txt", "ab" * 500)
    assert calls == [1000, "replace"]


def test_a_full_disk_spares_the_last_checkpoint(run: Callable[..., History], path: Path) -> None:
    resource = pytest.importorskip("resource", reason="this system knows no limit on the size of a file")

    class DiskFills(Interrupt):
        def epoch(self, history: History) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's default
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=r"checkpoint.pt was not written \(File too large\): make room"):
            run(progress=DiskFills())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(path.parent) == ["checkpoint.pt"]
    assert len(load_tensors(path)["history"]["seconds"]) == 1
    assert run(resume=True).num_epochs == 2


def test_a_results_folder_that_goes_away_comes_back(run: Callable[..., History], path: Path) -> None:
    class FolderGoes(Interrupt):
        def epoch(self, history: History) -> None:
            if history.num_epochs == 1:
                path.unlink()
                path.parent.rmdir()

    run(progress=FolderGoes())
    assert len(load_tensors(path)["history"]["seconds"]) == 2


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
        monkeypatch.setattr(files, "open", refuse, raising=False)
    else:
        results.write_text("", encoding="utf-8")
    assert small_script(f"--results={results}") == 2
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
