import json
import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from conftest import ROOT, Splits
from evidence.benchmark import stock
from evidence.benchmark.__main__ import main
from evidence.benchmark.child import busy_process, in_child, measure_start, peak_bytes
from evidence.benchmark.contenders import Contender, our_contender, stock_contender
from evidence.benchmark.figures import draw
from evidence.benchmark.ladder import Rung, rungs, timer
from evidence.benchmark.measure import FirstBatches, Report, alternate, describe_machine, epoch_seconds, summarise
from evidence.benchmark.suite import Benchmark
from evidence.readme import MEASURES
from helpers.augmentation import Augmentation
from helpers.data import Batches, Split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder() -> Path:
    with stock.linked(ROOT / "data") as linked:
        yield linked


def test_both_pipelines_give_the_same_test_images_and_sizes(folder: Path, mnist: Splits) -> None:
    train_set, test_set = stock.datasets(folder)
    assert (len(train_set), len(test_set)) == (60000, 10000)
    theirs, ours = stock.loader(test_set, CPU, batch_size=50), Batches(mnist[1], 50)
    for _, expected, given in zip(range(3), theirs, ours, strict=False):
        torch.testing.assert_close(given[0], expected[0], rtol=0, atol=1e-5)
        assert torch.equal(given[1], expected[1])
    assert not list((ROOT / "data").rglob("*-ubyte"))  # nothing extracted into the checkout


def test_both_pipelines_augment_alike(folder: Path, mnist: Splits) -> None:
    train_set = stock.datasets(folder)[0]
    theirs = torch.stack([train_set[0][0] for _ in range(4000)])  # one digit, warped anew each time
    same = Split(mnist[0].images[:1].expand(4000, 28, 28), mnist[0].labels[:1].expand(4000))
    ours = torch.cat([images for images, _ in Batches(same, 500, augmentation=Augmentation())])
    difference = F.avg_pool2d(ours.mean(0) - theirs.mean(0), 5, stride=1)  # not bilinear against nearest neighbour
    assert difference.abs().max() < 0.06  # 0.09 for 12 degrees instead of 15, 0.15 for no crops


def test_both_contenders_learn_and_test(folder: Path, mnist: Splits) -> None:
    for contender in (
        stock_contender(folder, CPU, num_images=100, batch_size=20),
        our_contender(mnist, CPU, num_images=100, batch_size=20),
    ):
        assert len(contender.batches) == 5
        contender.load(contender.batches)
        losses = [contender.train(FirstBatches(contender.batches, 5))[0] for _ in range(2)]
        assert losses[1] < losses[0]
        correct = contender.test() * len(mnist[1].labels)
        assert 0 < correct == pytest.approx(round(correct), abs=1e-6)


@pytest.mark.parametrize("rung", rungs(CPU), ids=lambda rung: rung.name)
def test_every_rung_runs(rung: Rung, folder: Path, small_mnist: Splits) -> None:
    timer(rung, folder, small_mnist[0], CPU, workers=0, num_images=128)()


def test_the_first_batch_and_the_memory_are_measured() -> None:
    steps = []
    contender = Contender(CPU, [(torch.zeros(2), torch.zeros(2))] * 200, lambda b: steps.extend(b), lambda: 0.5)

    def build() -> Contender:
        time.sleep(0.05)
        return contender

    result = measure_start(build, CPU)
    assert len(steps) == 100
    assert 0.05 <= result["seconds"] < 60 and result["host_mib"] >= 0 and result["gpu_mib"] == 0


def test_the_stock_pipeline_gets_the_better_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {("data_pipeline", 2): 1.0, ("train_epoch", 2): 1.0, ("test_pass", 0): 1.0}
    report = Report(tmp_path / "benchmark.json", "cpu", {"cores": 4}, {"rounds": 1})
    benchmark = Benchmark(report, tmp_path, CPU, num_rounds=1, quick=True)
    monkeypatch.setattr(benchmark, "stock", lambda use: benchmark.workers[use])
    monkeypatch.setattr(benchmark, "timer", lambda use, count, images: lambda: seconds.get((use, count), 2.0))
    benchmark.choose_workers()
    assert benchmark.workers == {"data_pipeline": 2, "train_epoch": 2, "test_pass": 0}


def test_the_time_to_the_target_counts_epochs_and_says_who_did_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = [iter([0.97, 0.991, 0.999]), iter([0.95] * 99), iter([0.9905])]  # stock, ours, sprint
    report = Report(tmp_path / "benchmark.json", "cpu", {"cores": 4}, {"rounds": 1})
    benchmark = Benchmark(report, tmp_path, CPU, num_rounds=1, quick=False)
    for name in ("stock_contender", "our_contender"):
        monkeypatch.setattr(
            f"evidence.benchmark.suite.{name}", lambda *_, **__: Contender(CPU, [], list, curves.pop(0).__next__)
        )
    benchmark.to_target()
    result = report.part["time_to_99"]
    assert result["test_accuracy"] == {"stock": [0.97, 0.991], "ours": [0.95] * 20, "sprint": [0.9905]}
    assert result["reached"] == {"stock": True, "ours": False, "sprint": True}
    assert list(result["times_better"]) == ["sprint"]


def test_an_epoch_is_extrapolated_but_its_beginning_and_end_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Workers:
        def __init__(self, batches: list) -> None:
            self.batches = iter(batches)
            clock[0] += 5

        def __iter__(self) -> "Workers":
            return self

        def __next__(self) -> float:
            return next(self.batches)

        def __del__(self) -> None:
            clock[0] += 3

    class SlowToBeginAndEnd(list):
        def __iter__(self) -> Workers:
            return Workers(self[:])

    def consume(batches: FirstBatches) -> None:
        for seconds in batches:
            clock[0] += seconds

    batches = SlowToBeginAndEnd([2.0] * 10)
    assert epoch_seconds(consume, batches, CPU) == 28
    assert epoch_seconds(consume, batches, CPU, num_batches=4) == 28
    assert clock[0] == 28 + 16


def test_rounds_alternate_and_ratios_come_from_medians() -> None:
    calls = []
    values = {"stock": iter([4.0, 6.0, 20.0]), "ours": iter([2.0, 2.0, 5.0])}
    rounds = alternate({who: lambda who=who: calls.append(who) or next(values[who]) for who in values}, 3)
    assert calls == ["stock", "ours"] * 3
    seconds = summarise(rounds, "s", images=10)
    assert seconds["median"] == {"stock": 6, "ours": 2}
    assert seconds["times_better"] == {"ours": {"medians": 3, "least": 2, "greatest": 4}}
    assert (seconds["rounds"], seconds["images"]) == ({"stock": [4, 6, 20], "ours": [2, 2, 5]}, 10)
    rates = summarise({"stock": [10.0], "ours": [40.0]}, "images/s")
    assert rates["times_better"]["ours"]["medians"] == 4


def test_the_report_keeps_what_is_measured_and_starts_anew_on_another_machine(tmp_path: Path) -> None:
    path, settings = tmp_path / "results" / "benchmark.json", {"rounds": 1}
    machine = describe_machine(CPU)
    Report(path, "cpu", machine, settings).record("scaling/images/10", summarise({"stock": [2.0], "ours": [1.0]}, "s"))
    Report(path, "cuda", machine, settings).record("ladder", summarise({"stock": [3.0]}, "s"))
    Report(path, "cpu", machine, settings).record("ladder", summarise({"stock": [4.0]}, "s"))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["cpu"]["machine"] == machine
    assert content["cpu"]["scaling"]["images"]["10"]["median"] == {"stock": 2, "ours": 1}
    assert [content[kind]["ladder"]["median"]["stock"] for kind in ("cpu", "cuda")] == [4, 3]
    Report(path, "cpu", {**machine, "cpu": "another"}, settings).record("ladder", summarise({"stock": [5.0]}, "s"))
    assert "scaling" not in json.loads(path.read_text(encoding="utf-8"))["cpu"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the independent count is Linux's")
def test_the_peak_of_memory_is_in_bytes_and_not_below_what_is_held() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE")
    assert 0.99 * resident <= peak_bytes() < 50 * resident


def test_the_figure_is_drawn_from_the_file_alone(tmp_path: Path) -> None:
    pair = summarise({"stock": [4.0], "ours": [1.0]}, "s")
    scaling = {"data_pipeline": {"10": pair, "20": pair}, "train_epoch": {"10": pair}, "batch_size": {"32": pair}}
    ladder = summarise({"stock": [4.0], "+ a step": [2.0], "sprint recipe": [1.0]}, "s")
    part = {"machine": describe_machine(CPU), "ladder": ladder, "scaling": scaling}
    (tmp_path / "benchmark.json").write_text(json.dumps({"cpu": part, "cuda quick": part}), encoding="utf-8")
    assert draw(tmp_path, "cpu") == tmp_path / "benchmark.png"
    assert draw(tmp_path, "cuda quick") == tmp_path / "benchmark-cuda-quick.png"
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.processes
def test_a_child_measures_an_epoch_beside_a_busy_process_and_on_one_core(folder: Path) -> None:
    with busy_process():
        beside = in_child("ours", folder, CPU, 0, "--epoch=64")
    assert beside["seconds"] > 0 and beside["threads"] >= 1
    if hasattr(os, "sched_setaffinity"):
        assert in_child("ours", folder, CPU, 0, "--epoch=64", "--one-core")["threads"] == 1


def test_scarce_cores_are_measured_for_both_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def child(who: str, *options: object) -> dict[str, float]:
        calls.append((who, *options[3:]))
        return {"seconds": {"stock": 60.0, "ours": 6.0}[who], "threads": {"stock": 2, "ours": 1}[who]}

    monkeypatch.setattr("evidence.benchmark.suite.in_child", child)
    monkeypatch.setattr("evidence.benchmark.suite.busy_process", lambda: nullcontext(calls.append("busy")))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    report = Report(tmp_path / "benchmark.json", "cpu", {"cores": 4}, {"rounds": 2})
    Benchmark(report, tmp_path, CPU, num_rounds=2, quick=True).scarce_cores()
    beside = ["busy", ("stock", "--epoch=320"), "busy", ("ours", "--epoch=1280")]
    alone = [("stock", "--epoch=320", "--one-core"), ("ours", "--epoch=1280", "--one-core")]
    assert calls == beside * 2 + alone * 2
    for name in ("beside_busy", "one_core"):
        assert report.part[name]["times_better"]["ours"]["medians"] == 10
        assert report.part[name]["threads"] == {"stock": [2, 2], "ours": [1, 1]}
        assert name in MEASURES  # README has a row for it


def test_a_part_alone_does_not_replace_what_another_machine_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = {"cpu quick": {"machine": {"cpu": "another"}, "settings": {"rounds": 1}}}
    (tmp_path / "benchmark.json").write_text(json.dumps(other), encoding="utf-8")
    assert main(["--quick", "--rounds=1", "--only=scarce_cores", f"--results={tmp_path}"]) == 2
    assert "benchmark.json is of another machine or setting" in capsys.readouterr().err
    assert json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8")) == other
