import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from conftest import ROOT, Splits
from evidence.study import STUDIES, Study, main, record_of_run
from helpers.data import Batches, Split
from helpers.inspection import distortions
from helpers.plots import plot_intervals
from helpers.recipe import RECIPES, Recipe
from helpers.results import (
    findings,
    interval,
    networks_by_rate,
    percent,
    rates_table,
    read_json,
    study_table,
    summarise_study,
)
from helpers.runtime.files import atomic_write, load_weights
from helpers.runtime.history import History
from helpers.training import evaluate


def test_seeds_are_printed_where_an_interval_would_reach_beyond_100_percent() -> None:
    assert percent(interval([0.98, 0.99])).startswith("98.50% (seeds: 98.0, 99.0)")
    assert percent(interval([0.97, 0.971, 0.972])) == "97.10% ± 0.25"


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.706), (4, 3.182), (10, 2.262), (40, 2.023)])
def test_intervals_have_students_quantiles(n: int, quantile: float) -> None:
    """As printed in any table of the distribution."""
    values = [float(i % 2) for i in range(n)]
    width = interval(values)["half_width"] * math.sqrt(n) / statistics.stdev(values)
    assert width == pytest.approx(quantile, abs=6e-4)


def test_interval_by_hand() -> None:
    result = interval([0.5, 0.6, 0.7])
    assert result["n"] == 3
    assert result["mean"] == pytest.approx(0.6)
    assert result["sd"] == pytest.approx(0.1)
    assert result["half_width"] == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-4)
    with pytest.raises(ValueError, match="give at least 2 seeds"):
        interval([0.5])


def record(variant: str, seed: int, *accuracies: float) -> dict:
    return {"variant": variant, "seed": seed, "test_accuracy": list(accuracies), "train_accuracy": [0.5, 0.6]}


RECORDS = [
    record("plain", 1, 0.95, 0.90), record("plain", 2, 0.91, 0.92), record("plain", 3, 0.93, 0.94),
    record("worse", 1, 0.85, 0.80), record("worse", 2, 0.80, 0.82), record("worse", 3, 0.84, 0.83),
    record("same", 1, 0.90, 0.91), record("same", 2, 0.90, 0.91), record("same", 3, 0.90, 0.94),
]  # fmt: skip


def test_differences_are_paired_by_seed_whatever_the_order() -> None:
    summary = summarise_study(RECORDS[:3] + RECORDS[:2:-1])
    assert summary["plain"]["final"]["mean"] == pytest.approx(0.92)
    assert summary["plain"]["best"]["mean"] == pytest.approx((0.95 + 0.92 + 0.94) / 3)
    assert summary["plain"]["failures"] == 0
    assert "difference" not in summary["plain"]
    assert summary["worse"]["difference"]["mean"] == pytest.approx((-0.10 - 0.10 - 0.11) / 3)
    assert summary["worse"]["difference"]["sd"] == pytest.approx(statistics.stdev([-0.10, -0.10, -0.11]))


def test_distorted_accuracies_are_summarised_where_all_runs_have_them() -> None:
    runs = [run | {"distorted": {"blurred": share}} for run, share in zip(RECORDS[:3], (0.5, 0.6, 0.7), strict=True)]
    summary = summarise_study(runs + RECORDS[3:])
    assert summary["plain"]["distorted"] == {"blurred": interval([0.5, 0.6, 0.7])}
    assert "distorted" not in summary["worse"] and "distorted" not in summarise_study(runs[:2] + RECORDS[2:])["plain"]


def test_answers_say_what_the_interval_allows() -> None:
    worse, same = findings(summarise_study(RECORDS))
    assert worse.startswith("**worse**: 10.33 ± 1.43 points lower than *plain* over 3 paired seeds: a real difference")
    assert same.endswith("no difference that these seeds can show.")
    table = study_table(summarise_study(RECORDS)).splitlines()
    assert len(table) == 2 + 3
    assert len({line.count("|") for line in table}) == 1


TINY = Recipe(num_epochs=1, batch_size=50, lr=0.01)
VARIANTS = {"plain": TINY, "no dropout": replace(TINY, dropout=0.0)}
DIES_ONCE = """
from helpers.data import load_mnist as load_all

TINY = Recipe(num_epochs=1, batch_size=50, lr=0.01)
STUDIES = {"tiny candidates": Study({"plain": TINY, "no dropout": replace(TINY, dropout=0.0)}, 2, held_out=100)}
do_run = record_of_run


def load_mnist(root):
    return [split[:300] for split in load_all(root)]


def record_of_run(study, name, recipe, *rest):
    note = Path("alive")
    if (name, recipe.seed) == ("no dropout", 2) and note.exists():
        note.unlink()
        os.kill(os.getpid(), 9)
    return do_run(study, name, recipe, *rest)


if __name__ == "__main__":"""


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="PyTorch for Windows lacks the libuv that torchrun asks for")
@pytest.mark.usefixtures("one_thread")
def test_the_documented_command_in_two_processes_one_of_which_is_killed_half_way(tmp_path: Path, mnist: Splits) -> None:
    for name in ("evidence", "helpers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "alive").touch()
    results, module = tmp_path / "results", tmp_path / "evidence" / "study.py"
    atomic_write(results / "study.json", (ROOT / "results" / "study.json").read_bytes())
    source = module.read_text(encoding="utf-8")
    assert re.findall(r"^On this machine.*(python -m \S+) ", source, re.M) == ["python -m evidence.study"]
    module.write_text(source.replace('\nif __name__ == "__main__":', DIES_ONCE), encoding="utf-8")
    command = [sys.executable, "-m", "evidence.study", "tiny candidates", "--device=cpu", "--workers=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "alive").exists()  # a process did die
    assert done.stdout.count("no dropout, seed 1:") == 1  # what it had done before was not lost
    assert re.search(r"\| no dropout +\| +2 \|", done.stdout)
    assert (results / "tiny-candidates.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((results / "study.json").read_text(encoding="utf-8"))
    records = content.pop("tiny candidates")["runs"]
    assert content == read_json("study")  # the others stay
    study = Study(VARIANTS, 2, held_out=100)
    for record, (name, recipe) in zip(records, study.runs(), strict=True):  # each depends on its recipe and seed alone
        alone = record_of_run(study, name, recipe, mnist[0][:300], mnist[1][:0], "cpu")  # no test image is seen
        assert {**record, "seconds": 0} == {**json.loads(json.dumps(alone)), "seconds": 0}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command with these arguments, in this process; it fails where it would start others."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("evidence.study.torchrun", lambda *_: pytest.fail("torchrun was started"))

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
        return main()

    return run


def test_where_there_is_no_torchrun_one_process_does_what_is_missing(
    command: Callable[..., int],
    mnist: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("evidence.study.os", SimpleNamespace(name="nt", environ={}))
    monkeypatch.setattr("evidence.study.STUDIES", {"tiny": Study(VARIANTS, 2)})
    monkeypatch.setattr("evidence.study.load_mnist", lambda root: [split[:100] for split in mnist])
    records, path = tmp_path / "runs" / "tiny", tmp_path / "study.json"

    def run() -> tuple[list[str], list[dict]]:
        assert command("tiny", "--device=cpu", "--results", tmp_path) == 0
        printed = capsys.readouterr().out
        assert re.search(r"\| plain +\| +2 \|", printed)
        done = re.findall("(.*, seed .):", printed)
        return done, json.loads(path.read_text(encoding="utf-8"))["tiny"]["runs"]

    done, runs = run()
    assert done == ["plain, seed 1", "no dropout, seed 1", "plain, seed 2", "no dropout, seed 2"]
    assert [run["threads"] for run in runs] == [1] * 4
    shutil.rmtree(records)
    assert run() == ([], runs)  # all in study.json
    path.unlink()
    for run_of_another_recipe in (runs[0] | {"recipe": runs[0]["recipe"] | {"lr": 9.0}}, *runs[1:3]):
        atomic_write(records / f"{run_of_another_recipe['test_loss']}.json", json.dumps(run_of_another_recipe))
    done, again = run()
    assert done == ["plain, seed 1", "no dropout, seed 2"]
    assert [{**run, "seconds": 0} for run in again] == [{**run, "seconds": 0} for run in runs]


def test_a_study_on_validation_images_never_sees_the_test_split(mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, weights = [], ROOT / "results" / "sprint" / "model.pt"

    def learn_at_once(model: nn.Module, *splits: Split, **_: object) -> History:
        load_weights(model, weights)
        seen.append(splits[:2])
        return History({}, "cpu", {})

    monkeypatch.setattr("evidence.study.fit", learn_at_once)
    train, recipe = mnist[0][:700], RECIPES["sprint"]
    done = record_of_run(Study({"plain": recipe}, 1, held_out=200), "plain", recipe, train, None, "cpu")
    ((rest, held_out),) = seen
    model = recipe.model()
    load_weights(model, weights)
    changed = distortions(held_out)
    assert done["distorted"] == {name: evaluate(model, Batches(split, 200))[1] for name, split in changed.items()}
    assert len(set(done["distorted"].values())) > 3
    assert (len(rest.labels), len(held_out.labels)) == (500, 200)
    pixels = [
        sorted(image.numpy().tobytes() for image in images)
        for images in (torch.cat([rest.images, held_out.images]), train.images)
    ]
    assert pixels[0] == pixels[1]


def test_a_run_that_breaks_down_is_a_result(mnist: Splits) -> None:
    broken = Recipe(num_epochs=3, batch_size=50, lr=99.0, batch_norm="none", dropout=0.0)
    test = mnist[1][:100]
    done = record_of_run(Study({"broken": broken}, 1), "broken", broken, mnist[0][:700], test, "cpu")
    assert "loss" in done["failure"] and len(done["train_loss"]) < 3 and done["threads"] == 1
    says_nought = (test.labels == 0).double().mean().item()  # what a network of NaN answers
    assert done["test_accuracy"][-1] == pytest.approx(says_nought) and done["recipe"]["lr"] == 99.0
    summary = summarise_study([done, {**done, "seed": 2}])
    assert summary["broken"]["failures"] == 2 and summary["broken"]["final"]["mean"] == pytest.approx(says_nought)


def test_a_study_of_rates_is_told_by_network_and_rate() -> None:
    records = [
        record(f"{network}, lr {rate}", seed, 0.5, accuracy)
        for network, rate, accuracy in (("with", "0.1", 0.9), ("with", "0.001", 0.8), ("none, He", "0.1", 0.1))
        for seed in (1, 2)
    ]
    networks = networks_by_rate(summarise_study(records))
    assert {name: list(cells) for name, cells in networks.items()} == {"with": [0.001, 0.1], "none, He": [0.1]}
    assert networks["with"][0.1]["final"]["mean"] == 0.9
    table = rates_table(
        summarise_study(records[:4] + [{**r, "variant": r["variant"].replace("with", "none")} for r in records[:4]])
    )
    (row,) = [line for line in table.splitlines() if line.startswith("| 0.001")]
    assert row.count("80.00%") == 2 and row.count("n = 2") == 2


@pytest.mark.parametrize("title", STUDIES)
def test_the_committed_study_is_what_the_code_would_run(title: str) -> None:
    content = read_json("study")[title]
    runs = STUDIES[title].runs()
    assert [(record["variant"], record["seed"]) for record in content["runs"]] == [(n, r.seed) for n, r in runs]
    for record, (_, recipe) in zip(content["runs"], runs, strict=True):
        assert record["recipe"] == json.loads(json.dumps(asdict(recipe)))
        assert len(record["test_accuracy"]) == recipe.num_epochs or "failure" in record
    assert content["summary"] == json.loads(json.dumps(summarise_study(content["runs"])))


def test_a_recipe_has_one_number_in_all_studies() -> None:
    finals: dict[str, set[str]] = {}
    for study in read_json("study").values():
        for variant, values in study["summary"].items():
            (recipe, *_) = [run["recipe"] for run in study["runs"] if run["variant"] == variant]
            key = json.dumps({**recipe, "seed": None}, sort_keys=True)
            finals.setdefault(key, set()).add(json.dumps(values["final"]))
    assert len(finals) > 20 and all(len(numbers) == 1 for numbers in finals.values())


@pytest.mark.parametrize("title", STUDIES)
def test_the_committed_accuracies_are_shares_of_the_images_that_the_study_tests_on(title: str) -> None:
    for run in read_json("study")[title]["runs"]:
        hits = [accuracy * 10_000 for accuracy in [*run["test_accuracy"], *run["distorted"].values()]]
        assert hits == pytest.approx([round(number) for number in hits], abs=1e-2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nothing"], "invalid choice: 'nothing'"), ([], "required: study"), (["recipes", "--workers=x"], "int")],
)
def test_a_wrong_call_is_refused_before_anything_starts(
    arguments: list[str], says: str, command: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_the_plain_command_starts_a_process_for_each_core(
    command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("evidence.study.torchrun", calls.append)
    monkeypatch.setattr("evidence.study.available_cores", lambda: 7)
    for arguments, workers in ((["recipes", "--device=cpu"], 7), (["recipes", "--device=cpu", "--workers=3"], 3)):
        assert command(*arguments) == 0
        assert calls.pop() == [
            "--standalone", f"--nproc-per-node={workers}", "--max-restarts=3", "-m", "evidence.study", *arguments
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("abacus", "device 'abacus' is unknown or not there: choose "),
        ("cpu", "plain-1.json is no record of a run: remove it"),
    ],
)
def test_what_cannot_be_run_is_said_once_before_any_process_starts(
    device: str, says: str, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    atomic_write(tmp_path / "runs" / "recipes" / "plain-1.json", '{"variant"')
    assert command("recipes", f"--device={device}", "--results", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1


def test_a_study_that_ends_while_another_runs_stays(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: object) -> list[dict]:
        atomic_write(tmp_path / "study.json", json.dumps({"ablation": "done", "recipes": "stale"}))
        return RECORDS

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("evidence.study.join_the_others", lambda device: None)
    monkeypatch.setattr("evidence.study.dist.destroy_process_group", lambda: None)
    monkeypatch.setattr("evidence.study.do_share", meanwhile)
    assert command("recipes", "--device=cpu", "--results", tmp_path) == 0
    content = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert content["ablation"] == "done" and content["recipes"]["runs"] == RECORDS


def test_intervals_are_drawn_about_their_means() -> None:
    final = interval([0.9, 0.9, 0.9]) | {"half_width": 0.02}
    (axes,) = plot_intervals({"plain": {"final": final}, "other": {"final": final | {"mean": 0.8}}}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain (n = 3)", "other (n = 3)"]
    assert axes.yaxis_inverted()  # the first on top
    assert axes.get_xlabel() == "accuracy after the last epoch (% of images), mean and its 95% interval"
    assert axes.xaxis.get_major_formatter()(0.885) == "88.5%"
    (bars,) = axes.containers[0].get_children()[-1:]
    assert [sorted(segment[:, 0].tolist()) for segment in bars.get_segments()] == [
        pytest.approx([0.88, 0.92]), pytest.approx([0.78, 0.82])
    ]  # fmt: skip
