import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import Subset

from conftest import ROOT, Splits
from evidence.benchmark import stock
from evidence.benchmark.__main__ import main
from evidence.benchmark.child import busy_process, in_child, measure_start, peak_bytes
from evidence.benchmark.contenders import Contender, our_contender, stock_contender
from evidence.benchmark.figures import draw, plot_benchmark
from evidence.benchmark.ladder import Rung, rungs, timer
from evidence.benchmark.measure import (
    FirstBatches,
    Report,
    alternate,
    describe_machine,
    epoch_seconds,
    summarise_rounds,
)
from evidence.benchmark.suite import Benchmark
from evidence.timings import MEASURES
from helpers.augmentation import Augmentation
from helpers.data import Batches, Split
from helpers.recipe import Recipe
from helpers.runtime.history import History
from helpers.runtime.progress import Silent

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder() -> Path:
    with stock.linked(ROOT / "data") as linked:
        yield linked


@pytest.fixture
def benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_mnist: Splits
) -> Callable[..., tuple[Benchmark, dict]]:
    """A benchmark of two rounds, which writes to ``tmp_path``, and the part of its report."""
    monkeypatch.setattr("evidence.benchmark.suite.load_mnist", lambda root: small_mnist)

    def build(quick: bool = True) -> tuple[Benchmark, dict]:
        report = Report(tmp_path / "benchmark.json", "cpu", {"cores": 4}, {"rounds": 2})
        return Benchmark(report, tmp_path, CPU, num_rounds=2, quick=quick), report.part

    return build


def test_both_pipelines_give_the_same_test_images_and_sizes(mnist: Splits) -> None:
    before = sorted((ROOT / "data").rglob("*"))
    with stock.linked(ROOT / "data") as folder:
        train_set, test_set = stock.datasets(folder)
        assert (len(train_set), len(test_set)) == (60000, 10000)
        assert sorted((ROOT / "data").rglob("*")) == before  # nothing extracted into the checkout
        assert len(list(folder.rglob("*-ubyte"))) == 4
    assert not folder.exists()
    theirs, ours = stock.loader(test_set, CPU, batch_size=50), Batches(mnist[1], 50)
    for _, expected, given in zip(range(3), theirs, ours, strict=False):
        torch.testing.assert_close(given[0], expected[0], rtol=0, atol=1e-5)
        assert torch.equal(given[1], expected[1])


def test_both_pipelines_augment_alike(folder: Path, mnist: Splits) -> None:
    train_set = stock.datasets(folder)[0]
    theirs = torch.stack([train_set[0][0] for _ in range(4000)])  # one digit, warped anew each time
    same = Split(mnist[0].images[:1].expand(4000, 28, 28), mnist[0].labels[:1].expand(4000))
    ours = torch.cat([images for images, _ in Batches(same, 500, augmentation=Augmentation())])
    difference = F.avg_pool2d(ours.mean(0) - theirs.mean(0), 5, stride=1)  # not bilinear against nearest neighbour
    assert difference.abs().max() < 0.06  # 0.09 for 12 degrees instead of 15, 0.15 for no crops


def test_both_contenders_learn_and_test(folder: Path, mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 100 images a pass has 10 steps: 12 passes bring the loss from the logarithm of ten classes to below 2."""
    train_set, test_set = stock.datasets(folder)
    monkeypatch.setattr(stock, "datasets", lambda folder: (train_set, Subset(test_set, range(200))))
    for contender in (
        stock_contender(folder, CPU, num_images=100, batch_size=10),
        our_contender((mnist[0], mnist[1][:200]), CPU, num_images=100, batch_size=10),
    ):
        assert len(contender.batches) == 10
        contender.load(contender.batches)
        losses = [contender.train(FirstBatches(contender.batches, 10))[0] for _ in range(12)]
        assert losses[0] == pytest.approx(math.log(10), abs=0.4)
        assert losses[-1] < 2
        correct = contender.test() * 200
        assert 30 < correct == pytest.approx(round(correct), abs=1e-6)  # by chance 20


def test_the_stock_contender_has_the_workers_that_were_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader, workers = stock.loader, []
    monkeypatch.setattr(
        stock, "loader", lambda *where, **how: workers.append(how["workers"]) or loader(*where, **how | {"workers": 0})
    )
    stock_contender(folder, CPU, workers=3, test_workers=5)
    assert workers == [3, 5]


def test_the_last_rung_runs(folder: Path, small_mnist: Splits) -> None:
    timer(rungs(CPU)[-1], folder, small_mnist[0], CPU, workers=0, num_images=128)()


@pytest.mark.parametrize("rung", rungs(CPU)[:-1], ids=lambda rung: rung.name)
def test_a_rung_has_the_improvements_that_it_says(
    rung: Rung, folder: Path, small_mnist: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = set()
    dropout, convolution, item = nn.Dropout.forward, nn.Conv2d.forward, torch.Tensor.item

    def stock_dropout(layer: nn.Dropout, x: torch.Tensor) -> torch.Tensor:
        calls.add("stock dropout")
        return dropout(layer, x)

    def conv(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        if (
            layer.in_channels > 1
            and layer.kernel_size > (1, 1)
            and layer.weight.is_contiguous(memory_format=torch.channels_last)
        ):
            calls.add("channels last")
        return convolution(layer, x)

    def count_item(tensor: torch.Tensor) -> float:
        items.append(tensor)
        return item(tensor)

    seconds = timer(replace(rung, recipe=Recipe()), folder, small_mnist[0], CPU, workers=0, num_images=640)
    items: list[torch.Tensor] = []
    hook = register_optimizer_step_pre_hook(lambda o, *_: calls.add("fused" if o.defaults.get("fused") else "plain"))
    for owner, name, spy in ((nn.Dropout, "forward", stock_dropout), (nn.Conv2d, "forward", conv)):
        monkeypatch.setattr(owner, name, spy)
    monkeypatch.setattr(torch.Tensor, "item", count_item)
    seconds()
    hook.remove()
    assert ("stock dropout" in calls) == (not rung.cheap_layers)
    assert ("channels last" in calls) == rung.channels_last
    assert ("fused" in calls, "plain" in calls) == (rung.no_waiting, not rung.no_waiting)
    assert (len(items) >= 10) == (not rung.no_waiting)  # batches that are waited for


class Ticking:
    """Batches of so many images, each of which takes so many seconds of a clock that a test turns."""

    def __init__(self, clock: list[float], seconds: float, num_images: int = 60000, batch_size: int = 64) -> None:
        self.clock, self.seconds, self.batch_size = clock, seconds, batch_size
        self.num_batches = math.ceil(num_images / batch_size)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self.num_batches):
            self.clock[0] += self.seconds
            yield torch.zeros(1), torch.zeros(1)


@pytest.mark.parametrize("quick", [False, True])
def test_the_benchmark_says_what_the_pipelines_take(
    benchmark: Callable, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    """Stock: 0.2 s a batch and 6 s a test, this project: 0.1 s and 2 s, whatever is measured."""
    clock = [0.0]

    def take(seconds: float) -> None:
        clock[0] += seconds

    def contender(seconds: float, **sizes: int) -> Contender:
        batches = Ticking(clock, seconds, **sizes)
        return Contender(CPU, batches, list, lambda: take(6 if seconds == 0.2 else 2))

    def stock_like(*_: object, workers: int, test_workers: int, **sizes: int) -> Contender:
        return contender(0.2, **sizes)

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("evidence.benchmark.suite.stock_contender", stock_like)
    monkeypatch.setattr("evidence.benchmark.suite.our_contender", lambda *_, **sizes: contender(0.1, **sizes))
    measurements, part = benchmark(quick)
    measurements.passes()
    measurements.scaling()

    def medians(*names: str) -> tuple[float, float]:
        measured = part
        for name in names:
            measured = measured[name]
        assert {who: len(rounds) for who, rounds in measured["rounds"].items()} == {"stock": 2, "ours": 2}
        return pytest.approx((measured["median"]["stock"], measured["median"]["ours"]))

    assert medians("data_pipeline") == (60000 / 938 / 0.2, 60000 / 938 / 0.1)  # 938 batches of at most 64
    assert medians("train_epoch") == (938 * 0.2, 938 * 0.1)
    assert medians("test_pass") == (6, 2)
    assert medians("full_epoch") == (938 * 0.2 + 6, 938 * 0.1 + 2)
    most = 10000 if quick else 60000
    assert list(part["scaling"]["train_epoch"]) == [str(most // 4), str(most // 2), str(most)]
    for use in ("data_pipeline", "train_epoch"):
        batches = math.ceil(most / 2 / 64)
        assert medians("scaling", use, str(most // 2)) == (batches * 0.2, batches * 0.1)
    images = 2048 if quick else 10240
    for size in (32, 1024):
        per_image = images / size * 1e6 / images  # batches for an image, in millionths
        assert medians("scaling", "batch_size", str(size)) == (per_image * 0.2, per_image * 0.1)
    units = {name: part[name]["unit"] for name in ("data_pipeline", "train_epoch", "full_epoch")}
    assert units == {"data_pipeline": "images/s", "train_epoch": "s", "full_epoch": "s"}
    assert part["scaling"]["batch_size"]["32"]["unit"] == "us/image"


def test_the_first_batch_and_the_memory_are_measured() -> None:
    steps = []
    contender = Contender(CPU, [(torch.zeros(2), torch.zeros(2))] * 200, lambda b: steps.extend(b), lambda: 0.5)

    def build() -> Contender:
        time.sleep(0.05)
        return contender

    result = measure_start(build, CPU)
    assert len(steps) == 100
    assert 0.05 <= result["seconds"] < 60 and result["host_mib"] >= 0 and result["gpu_mib"] == 0


def test_the_stock_pipeline_gets_the_better_number_of_workers(
    benchmark: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {("data_pipeline", 2): 1.0, ("train_epoch", 2): 1.0, ("test_pass", 0): 1.0}
    measurements, _ = benchmark()
    monkeypatch.setattr(measurements, "stock", lambda use: measurements.workers[use])
    monkeypatch.setattr(measurements, "timer", lambda use, count, images: lambda: seconds.get((use, count), 2.0))
    measurements.choose_workers()
    assert measurements.workers == {"data_pipeline": 2, "train_epoch": 2, "test_pass": 0}


def test_a_race_counts_epochs_and_says_who_did_not_get_there(
    benchmark: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves that two rounds of each would have; a run stops at the accuracy or after its last epoch."""
    stock_curves = [iter(curve) for curve in ([0.97, 0.991, 0.999], [0.995], [0.991] * 99, [0.995] * 99)]
    our_curves = [[0.95] * 20, [0.9905], [0.98, 0.991], [0.9905], [0.98, 0.993, 0.9939, 0.9941], [0.98, 0.994]]
    seeds: list[int] = []

    def fit(model: object, train: object, test: object, recipe: Recipe, progress: Silent, **_: object) -> None:
        seeds.append(recipe.seed)
        history = History({}, "cpu", {})
        for accuracy in our_curves.pop(0):
            history.append(1.0, 0.5, 1.0, accuracy, 1.0)
            progress.epoch(history)

    measurements, part = benchmark(quick=False)
    monkeypatch.setattr(measurements, "choose_workers", list)
    monkeypatch.setattr("evidence.benchmark.suite.fit", fit)
    monkeypatch.setattr(
        "evidence.benchmark.suite.stock_contender",
        lambda *_, **__: Contender(CPU, [], list, stock_curves.pop(0).__next__),
    )
    measurements.run("time_to_99")
    result = part["time_to_99"]
    assert result["test_accuracy"]["stock"] == [[0.97, 0.991], [0.995]]
    assert result["reached"] == {"stock": [True, True], "ours": [False, True], "sprint": [True, True]}
    assert list(result["times_better"]) == ["sprint"] and seeds == [1, 1, 2, 2]
    measurements.run("time_to_target")
    target = part["time_to_target"]
    assert target["test_accuracy"]["stock"] == [[0.991] * 20, [0.995]]
    assert target["test_accuracy"]["target"] == [[0.98, 0.993, 0.9939, 0.9941], [0.98, 0.994]]
    assert target["times_better"] == {}


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
    seconds = summarise_rounds(rounds, "s", images=10)
    assert seconds["median"] == {"stock": 6, "ours": 2}
    assert seconds["times_better"] == {"ours": {"medians": 3, "least": 2, "greatest": 4}}
    assert (seconds["rounds"], seconds["images"]) == ({"stock": [4, 6, 20], "ours": [2, 2, 5]}, 10)
    rates = summarise_rounds({"stock": [10.0], "ours": [40.0]}, "images/s")
    assert rates["times_better"]["ours"]["medians"] == 4


def test_the_report_keeps_what_is_measured_and_starts_anew_on_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, settings = tmp_path / "results" / "benchmark.json", {"rounds": 1}
    machine = describe_machine(CPU)
    first, on_gpu = Report(path, "cpu", machine, settings), Report(path, "cuda", machine, settings)
    first.record("scaling/images/10", summarise_rounds({"stock": [2.0], "ours": [1.0]}, "s"))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["scaling/images/10", "stock", "2.000", "s"],
        ["scaling/images/10", "ours", "1.000", "s", "2.00x", "(2.00", "to", "2.00)"],
    ]
    on_gpu.record("ladder", summarise_rounds({"stock": [3.0]}, "s"))  # at the same time
    first.record("test_pass", summarise_rounds({"stock": [0.5]}, "s"))
    Report(path, "cpu", machine, settings).record("ladder", summarise_rounds({"stock": [4.0]}, "s"))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["cpu"]["machine"] == machine
    assert content["cpu"]["scaling"]["images"]["10"]["median"] == {"stock": 2, "ours": 1}
    assert content["cpu"]["test_pass"]["median"] == {"stock": 0.5}
    assert [content[kind]["ladder"]["median"]["stock"] for kind in ("cpu", "cuda")] == [4, 3]
    Report(path, "cpu", {**machine, "cpu": "another"}, settings).record(
        "ladder", summarise_rounds({"stock": [5.0]}, "s")
    )
    assert "scaling" not in json.loads(path.read_text(encoding="utf-8"))["cpu"]


def test_the_machines_cores_are_those_that_it_gives_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.runtime.threads.quotas", lambda root: [0.5])  # of a container
    assert describe_machine(CPU)["cores"] == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the independent count is Linux's")
def test_the_peak_of_memory_is_in_bytes_and_not_below_what_is_held() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE")
    assert 0.99 * resident <= peak_bytes() < 50 * resident


def test_the_figure_is_drawn_from_the_file_alone(tmp_path: Path) -> None:
    pair = summarise_rounds({"stock": [4.0], "ours": [1.0]}, "s")
    scaling = {"data_pipeline": {"10": pair, "20": pair}, "train_epoch": {"10": pair}, "batch_size": {"32": pair}}
    ladder = summarise_rounds({"stock": [4.0], "+ a step": [2.0], "sprint recipe": [1.0]}, "s")
    part = {"machine": describe_machine(CPU), "ladder": ladder, "scaling": scaling}
    (tmp_path / "benchmark.json").write_text(json.dumps({"cpu": part, "cuda quick": part}), encoding="utf-8")
    figure = plot_benchmark(part)
    axes = figure.subfigs[0].axes + figure.subfigs[1].axes
    assert [bar.get_width() for bar in axes[0].containers[0]] == [4, 2, 1]
    assert [text.get_text() for text in axes[0].texts] == ["4 s  (1.0x)", "2 s  (2.0x)", "1 s  (4.0x)"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["stock", "+ a step", "sprint recipe"]
    assert axes[0].yaxis_inverted() and axes[0].get_xlim()[0] == 0
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes[1].lines}
    assert lines == {
        "stock, training epoch": ([10], [4]),
        "this project, training epoch": ([10], [1]),
        "stock, data pipeline alone": ([10, 20], [4, 4]),
        "this project, data pipeline alone": ([10, 20], [1, 1]),
    }
    assert list(axes[1].get_xticks()) == [10] and axes[1].xaxis.get_major_formatter()(2500) == "2.5"
    assert [label.get_text() for label in axes[2].get_xticklabels()] == ["32"]
    assert axes[1].get_ylim()[0] == axes[2].get_ylim()[0] == 0
    assert draw(tmp_path, "cpu") == tmp_path / "benchmark.png"
    assert draw(tmp_path, "cuda quick") == tmp_path / "benchmark-cuda-quick.png"
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.processes
def test_a_child_measures_an_epoch_beside_a_busy_process_and_on_one_core(folder: Path) -> None:
    one_core = ["--one-core"] if hasattr(os, "sched_setaffinity") else []
    with busy_process():
        measured = in_child("ours", folder, CPU, 0, "--epoch=64", *one_core)
    assert measured["seconds"] > 0 and measured["threads"] >= 1
    assert measured["threads"] == 1 or not one_core


def test_scarce_cores_are_measured_for_both_in_turn(benchmark: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def child(who: str, *options: object) -> dict[str, float]:
        calls.append((who, *options[3:]))
        return {"seconds": {"stock": 60.0, "ours": 6.0}[who], "threads": {"stock": 2, "ours": 1}[who]}

    monkeypatch.setattr("evidence.benchmark.suite.in_child", child)
    monkeypatch.setattr("evidence.benchmark.suite.busy_process", lambda: nullcontext(calls.append("busy")))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    measurements, part = benchmark()
    measurements.scarce_cores()
    beside = ["busy", ("stock", "--epoch=320"), "busy", ("ours", "--epoch=1280")]
    alone = [("stock", "--epoch=320", "--one-core"), ("ours", "--epoch=1280", "--one-core")]
    assert calls == beside * 2 + alone * 2
    for name in ("beside_busy", "one_core"):
        assert part[name]["times_better"]["ours"]["medians"] == 10
        assert part[name]["threads"] == {"stock": [2, 2], "ours": [1, 1]}
        assert name in MEASURES  # README has a row for it


@pytest.mark.usefixtures("benchmark")  # for its small splits
def test_a_part_alone_is_kept_apart_from_what_another_machine_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = summarise_rounds({"stock": [2.0], "ours": [1.0]}, "s")
    monkeypatch.setattr(Benchmark, "run", lambda benchmark, only: benchmark.report.record(only, seconds))
    other = {"cpu quick": {"machine": {"cpu": "another"}, "settings": {"rounds": 1}}}
    (tmp_path / "benchmark.json").write_text(json.dumps(other), encoding="utf-8")
    assert main(["--quick", "--rounds=1", "--only=scarce_cores", f"--results={tmp_path}"]) == 0
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert content["cpu quick"] == other["cpu quick"]
    assert content["cpu quick scarce_cores"]["scarce_cores"] == seconds
    assert content["cpu quick scarce_cores"]["machine"] == describe_machine(CPU)
