import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from conftest import ROOT, Splits, head
from evidence.study import STUDIES, Study, do_share, main, read_records, record_of_run
from helpers.data import Batches, Split
from helpers.inspection import distortions
from helpers.plots import plot_intervals
from helpers.recipe import RECIPES, Recipe
from helpers.results import findings, interval, networks_by_rate, percent, rates_table, study_table, summarise_study
from helpers.runtime.files import atomic_write, load_weights
from helpers.runtime.history import History
from helpers.training import evaluate
from tiny_study import TINY, TINY_STUDY


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


def tiny_study(results: Path, processes: int, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["--max-restarts=1", "tests/tiny_study.py", "tiny", "--device=cpu", f"--results={results}"]
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | paths | environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="PyTorch for Windows lacks the libuv that torchrun asks for")
@pytest.mark.usefixtures("one_thread")
def test_two_processes_one_killed_half_way_and_four_that_go_on(tmp_path: Path, mnist: Splits) -> None:
    note = tmp_path / "kill"
    note.write_text("no dropout, seed 3", encoding="utf-8")  # rank 1 has done seed 1 by then
    killed = tiny_study(tmp_path, 2, KILL_NOTE=str(note))
    assert killed.returncode == 0, killed.stderr
    assert not note.exists()  # a process did die
    assert killed.stdout.count("no dropout, seed 1") == 1  # what it had done before was not lost
    first = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["tiny"]["runs"]
    runs = TINY_STUDY.runs()
    assert [(record["variant"], record["seed"]) for record in first] == [(name, recipe.seed) for name, recipe in runs]
    for record, (name, recipe) in zip(first, runs, strict=True):  # each depends on its recipe and seed alone
        alone = record_of_run(TINY_STUDY, name, recipe, head(mnist[0], 500), head(mnist[1], 200), "cpu")
        assert {**record, "seconds": 0} == {**json.loads(json.dumps(alone)), "seconds": 0}

    (tmp_path / "study.json").unlink()
    (tmp_path / "runs" / "tiny" / "plain-2.json").unlink()
    again = tiny_study(tmp_path, 4)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("seed") == again.stdout.count("plain, seed 2:") == 1  # the others are not run again
    assert re.search(r"\| plain +\| +3 \|", again.stdout)
    second = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["tiny"]["runs"]
    assert [record["test_loss"] for record in second] == [record["test_loss"] for record in first]


TINY_STUDIES = """
from helpers.data import load_mnist as load_all

ROUGH = Recipe(num_epochs=1, batch_size=50, lr=0.01)
VARIANTS = {"plain": ROUGH, "no dropout": replace(ROUGH, dropout=0.0)}
STUDIES = {"tiny": Study(VARIANTS, 2), "tiny candidates": Study(VARIANTS, 2, held_out=100)}


def load_mnist(root):
    return [Split(split.images[:300], split.labels[:300]) for split in load_all(root)]


if __name__ == "__main__":"""


@pytest.mark.processes
@pytest.mark.usefixtures("one_thread")
def test_the_documented_command_without_options_and_once_more(
    tmp_path: Path, mnist: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("evidence", "helpers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "results").mkdir()
    committed = (ROOT / "results" / "study.json").read_text(encoding="utf-8")
    (tmp_path / "results" / "study.json").write_text(committed, encoding="utf-8")
    module = tmp_path / "evidence" / "study.py"
    documented = re.findall(r"^On this machine.*(python -m evidence\.study) ", module.read_text(encoding="utf-8"), re.M)
    assert documented == ["python -m evidence.study"]
    source = module.read_text(encoding="utf-8").replace('\nif __name__ == "__main__":', TINY_STUDIES)
    module.write_text(source, encoding="utf-8")

    def study(title: str) -> tuple[str, dict]:
        command = [sys.executable, "-m", "evidence.study", title]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "results" / f"{title.replace(' ', '-')}.png").read_bytes().startswith(b"\x89PNG")
        return done.stdout, json.loads((tmp_path / "results" / "study.json").read_text(encoding="utf-8"))

    printed, content = study("tiny candidates")
    assert {name: content[name] for name in STUDIES} == json.loads(committed)  # the others stay
    records = content["tiny candidates"]["runs"]
    assert printed.count(", seed ") == len(records) == 4 and re.search(r"\| no dropout +\| +2 \|", printed)
    variants = {"plain": TINY, "no dropout": replace(TINY, dropout=0.0)}
    candidates = Study(variants, 2, held_out=100)
    for record, (name, recipe) in zip(records, candidates.runs(), strict=True):
        alone = record_of_run(
            candidates, name, recipe, head(mnist[0], 300), head(mnist[1], 0), "cpu"
        )  # no test image is seen
        assert {**record, "seconds": 0} == {**json.loads(json.dumps(alone)), "seconds": 0}
    shutil.rmtree(tmp_path / "results" / "runs")
    printed, again = study("tiny candidates")
    assert printed.count(", seed ") == 0 and re.search(r"\| no dropout +\| +2 \|", printed)
    assert again == content


def test_a_study_on_validation_images_never_sees_the_test_split(mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, weights = [], ROOT / "results" / "sprint" / "model.pt"

    def learn_at_once(model: nn.Module, *splits: Split, **_: object) -> History:
        load_weights(model, weights)
        seen.append(splits[:2])
        return History({}, "cpu", {})

    monkeypatch.setattr("evidence.study.fit", learn_at_once)
    train, recipe = head(mnist[0], 700), RECIPES["sprint"]
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
    test = head(mnist[1], 100)
    done = record_of_run(Study({"broken": broken}, 1), "broken", broken, head(mnist[0], 700), test, "cpu")
    assert "loss" in done["failure"] and len(done["train_loss"]) < 3
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


def test_a_record_of_a_recipe_that_has_changed_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist: Splits
) -> None:
    monkeypatch.setitem(STUDIES, "tiny", TINY_STUDY)
    monkeypatch.setattr("evidence.study.load_mnist", lambda root: (head(mnist[0], 100), head(mnist[1], 100)))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        first = do_share("tiny", tmp_path, [], ROOT / "data", "cpu")
        stale = [{**record, "recipe": {**record["recipe"], "lr": 9.0}} for record in first[:1]]
        (tmp_path / "plain-1.json").write_text(json.dumps(stale[0]), encoding="utf-8")
        assert do_share("tiny", tmp_path, stale, ROOT / "data", "cpu")[0]["recipe"]["lr"] == TINY.lr
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("title", STUDIES)
def test_the_committed_study_is_what_the_code_would_run(title: str) -> None:
    content = json.loads((ROOT / "results" / "study.json").read_text(encoding="utf-8"))[title]
    runs = STUDIES[title].runs()
    assert [(record["variant"], record["seed"]) for record in content["runs"]] == [(n, r.seed) for n, r in runs]
    for record, (_, recipe) in zip(content["runs"], runs, strict=True):
        assert record["recipe"] == json.loads(json.dumps(asdict(recipe)))
        assert len(record["test_accuracy"]) == recipe.num_epochs or "failure" in record
    assert content["summary"] == json.loads(json.dumps(summarise_study(content["runs"])))


def test_a_recipe_has_one_number_in_all_studies() -> None:
    studies = json.loads((ROOT / "results" / "study.json").read_text(encoding="utf-8"))
    finals: dict[str, set[str]] = {}
    for study in studies.values():
        for variant, values in study["summary"].items():
            (recipe, *_) = [run["recipe"] for run in study["runs"] if run["variant"] == variant]
            key = json.dumps({**recipe, "seed": None}, sort_keys=True)
            finals.setdefault(key, set()).add(json.dumps(values["final"]))
    assert len(finals) > 20 and all(len(numbers) == 1 for numbers in finals.values())


@pytest.mark.parametrize("title", STUDIES)
def test_the_committed_accuracies_are_shares_of_the_images_that_the_study_tests_on(title: str) -> None:
    runs = json.loads((ROOT / "results" / "study.json").read_text(encoding="utf-8"))[title]["runs"]
    num_images = STUDIES[title].held_out or 10_000
    hits = [
        accuracy * num_images
        for run in runs
        for accuracy in [*run["test_accuracy"], *run.get("distorted", {}).values()]
    ]
    assert hits == pytest.approx([round(number) for number in hits], abs=1e-2)
    assert num_images == 10_000 or any(number % 2 for number in map(round, hits))  # of no fewer images


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nothing"], "invalid choice: 'nothing'"), ([], "required: study"), (["recipes", "--workers=x"], "int")],
)
def test_an_unknown_study_is_refused_before_anything_starts(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["study", *arguments])
    monkeypatch.setattr("evidence.study.torchrun", lambda *_: pytest.fail("torchrun was started"))
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_the_plain_command_starts_a_process_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("evidence.study.torchrun", calls.append)
    monkeypatch.setattr("evidence.study.available_cores", lambda: 7)
    for arguments, workers in ((["recipes", "--device=cpu"], 7), (["recipes", "--device=cpu", "--workers=3"], 3)):
        monkeypatch.setattr(sys, "argv", ["study", *arguments])
        main()
        assert calls.pop() == [
            "--standalone", f"--nproc-per-node={workers}", "--max-restarts=3", "-m", "evidence.study", *arguments
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "record", "says"),
    [
        ("abacus", '{"variant"', "device 'abacus' is unknown or not there: choose "),
        ("cpu", '{"variant"', "plain-1.json is no record of a run: remove it"),
    ],
)
def test_what_cannot_be_run_is_said_once_before_any_process_starts(
    device: str, record: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    atomic_write(tmp_path / "runs" / "recipes" / "plain-1.json", record)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("evidence.study.torchrun", lambda *_: pytest.fail("torchrun was started"))
    monkeypatch.setattr(sys, "argv", ["study", "recipes", f"--device={device}", f"--results={tmp_path}"])
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1


def test_a_study_that_ends_while_another_runs_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*_: object) -> list[dict]:
        atomic_write(tmp_path / "study.json", json.dumps({"ablation": "done", "recipes": "stale"}))
        return RECORDS

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("evidence.study.join_the_others", lambda device: None)
    monkeypatch.setattr("evidence.study.dist.destroy_process_group", lambda: None)
    monkeypatch.setattr("evidence.study.do_share", meanwhile)
    monkeypatch.setattr(sys, "argv", ["study", "recipes", "--device=cpu", f"--results={tmp_path}"])
    assert main() == 0
    content = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert content["ablation"] == "done" and content["recipes"]["runs"] == RECORDS


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain-1.json").write_text('{"variant": "pl', encoding="utf-8")
    with pytest.raises(ValueError, match="plain-1.json is no record of a run: remove it"):
        read_records([tmp_path / "plain-1.json"])


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
