"""Every measurement of the benchmark, in the order in which they matter."""

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from evidence.benchmark import stock
from evidence.benchmark.child import busy_process, in_child
from evidence.benchmark.contenders import WARM_UP_BATCHES, Contender, our_contender, stock_contender
from evidence.benchmark.ladder import rungs, timer
from evidence.benchmark.measure import FirstBatches, Report, alternate, epoch_seconds, seconds_of, summarise_rounds
from helpers import ROOT
from helpers.data import Split, load_mnist
from helpers.recipe import ASSIGNMENT, RECIPES, Recipe
from helpers.runtime.history import History
from helpers.runtime.progress import Silent
from helpers.training import fit

DATA = ROOT / "data"
TRAIN_IMAGES, TEST_IMAGES = 60000, 10000
RACES = {  # the test accuracy to reach, and the recipes of this project that compete with the stock pipeline
    "time_to_99": (0.99, {"ours": ASSIGNMENT, "sprint": RECIPES["sprint"]}),
    "time_to_target": (0.994, {"target": RECIPES["target"]}),  # the course's
}
PARTS = ("passes", "ladder", "scaling", "processes", "scarce_cores", *RACES)
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)


class Goal(Silent):
    """Progress that shows nothing and ends a run when its test accuracy is ``accuracy`` or more."""

    class Reached(Exception):
        """The run need not go on."""

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy, self.curve = accuracy, []

    def epoch(self, history: History) -> None:
        self.curve = list(history.test_accuracy)
        if self.curve[-1] >= self.accuracy:
            raise self.Reached


def images_per_second(measure: Callable[[], float]) -> float:
    """Return the rate in an epoch whose seconds are what ``measure()`` returns."""
    return TRAIN_IMAGES / measure()


def microseconds_per_image(measure: Callable[[], float], num_images: int) -> float:
    """Return the time for one of the ``num_images`` whose seconds are what ``measure()`` returns."""
    return measure() / num_images * 1e6


class Benchmark:
    """All measurements of one run; with ``quick``, times are extrapolated from fewer images."""

    def __init__(self, report: Report, folder: Path, device: torch.device, num_rounds: int, quick: bool) -> None:
        self.report, self.folder, self.device = report, folder, device
        self.num_rounds, self.quick = num_rounds, quick
        self.splits: tuple[Split, Split] = load_mnist(DATA)
        self.workers = {"data_pipeline": 0, "train_epoch": 0, "test_pass": 0}

    def stock(self, use: str, **sizes: int) -> Contender:
        """Return the stock pipeline with the workers that are best for ``use``."""
        workers = {"workers": self.workers[use], "test_workers": self.workers["test_pass"]}
        return stock_contender(self.folder, self.device, **workers, **sizes)

    def timer(self, use: str, contender: Contender, num_images: int) -> Callable[[], float]:
        """Warm ``contender`` up; return a function that measures the seconds of ``use``, from ``num_images`` images."""
        contender.train(FirstBatches(contender.batches, min(WARM_UP_BATCHES, len(contender.batches))))
        if use == "test_pass":
            return partial(seconds_of, contender.test, self.device)
        consume = contender.load if use == "data_pipeline" else contender.train
        num_batches = math.ceil(num_images / contender.batches.batch_size)
        return partial(epoch_seconds, consume, contender.batches, self.device, num_batches)

    def timers(self, use: str, images: dict[str, int], **sizes: int) -> dict[str, Callable[[], float]]:
        """Return a timer of ``use`` for each pipeline; ``sizes`` are those of the contenders."""
        pair = {"stock": self.stock(use, **sizes), "ours": our_contender(self.splits, self.device, **sizes)}
        return {who: self.timer(use, contender, images[who]) for who, contender in pair.items()}

    def compare(self, name: str, unit: str, actions: dict[str, Callable[[], float]], **notes: object) -> dict:
        """Measure ``actions`` in turn, record and return the summary."""
        summary = summarise_rounds(alternate(actions, self.num_rounds), unit, **notes)
        self.report.record(name, summary)
        return summary

    def choose_workers(self) -> None:
        """Give the stock pipeline the better of 0 and 2 DataLoader workers, for each use separately."""
        num_images = 3200 if self.quick else 9600
        for use in self.workers:
            actions = {}
            for count in (0, 2):
                self.workers[use] = count
                actions[f"stock, {count} workers"] = self.timer(use, self.stock(use), num_images)
            images = TEST_IMAGES if use == "test_pass" else num_images
            zero, two = self.compare(f"workers/{use}", "s", actions, images=images)["median"].values()
            self.workers[use] = 0 if zero <= two else 2

    def passes(self) -> None:
        """Measure the data pipeline alone, a training epoch, a test pass and a full epoch."""
        images = {"stock": 9600, "ours": 20480} if self.quick else {"stock": TRAIN_IMAGES, "ours": TRAIN_IMAGES}
        seconds = {}
        for use, unit in (("data_pipeline", "images/s"), ("train_epoch", "s"), ("test_pass", "s")):
            timers = self.timers(use, images)
            if unit == "images/s":
                timers = {who: partial(images_per_second, measure) for who, measure in timers.items()}
            measured = images if use != "test_pass" else dict.fromkeys(images, TEST_IMAGES)
            seconds[use] = self.compare(use, unit, timers, images=measured, workers=self.workers[use])
        both = [seconds[use]["rounds"] for use in ("train_epoch", "test_pass")]
        pairs = {who: [sum(pair) for pair in zip(*(rounds[who] for rounds in both), strict=True)] for who in images}
        self.report.record("full_epoch", summarise_rounds(pairs, "s", what="train_epoch + test_pass of the same round"))

    def processes(self) -> None:
        """Measure start-up and memory in fresh processes."""
        workers = self.workers["train_epoch"]
        children: dict[str, list[dict]] = {"stock": [], "ours": []}
        if not self.quick:
            children["stock, first run"] = []
        for _ in range(self.num_rounds):
            for who, results in children.items():
                with stock.linked(DATA) as fresh:
                    folder = fresh if who == "stock, first run" else self.folder
                    results.append(in_child(who.split(",")[0], folder, self.device, workers))
        kinds = {"start_up": ("seconds", "s", "from imports done until the first batch; a first run extracts archives")}
        kinds["peak_memory"] = ("host_mib", "MiB", "main process, above the imports; 100 steps and a test pass")
        if self.device.type == "cuda":
            kinds["peak_gpu_memory"] = ("gpu_mib", "MiB", "allocated by torch; 100 steps and a test pass")
        if not all(result["host_mib"] for results in children.values() for result in results):
            del kinds["peak_memory"]  # on Windows, which does not say
        for name, (key, unit, what) in kinds.items():
            compared = children if name == "start_up" else ("stock", "ours")
            rounds = {who: [result[key] for result in children[who]] for who in compared}
            self.report.record(name, summarise_rounds(rounds, unit, what=what))

    def scarce_cores(self) -> None:
        """Measure a training epoch beside a busy process, and confined to one core (on Linux)."""
        images = {"stock": 320, "ours": 1280} if self.quick else {"stock": 2560, "ours": 10240}
        where = {"beside_busy": (busy_process, ())}
        if hasattr(os, "sched_setaffinity"):  # Linux
            where["one_core"] = (nullcontext, ("--one-core",))
        for name, (company, options) in where.items():
            children: dict[str, list[dict]] = {who: [] for who in images}
            for _ in range(self.num_rounds):
                for who, num_images in images.items():
                    use = (self.folder, self.device, self.workers["train_epoch"], f"--epoch={num_images}", *options)
                    with company():
                        children[who].append(in_child(who, *use))
            rounds = {who: [result["seconds"] for result in children[who]] for who in images}
            threads = {who: [result["threads"] for result in children[who]] for who in images}
            self.report.record(name, summarise_rounds(rounds, "s", images=images, threads=threads))

    def ladder(self) -> None:
        """Measure a training epoch with one improvement more each time."""
        num_images = 5120 if self.quick else 10240
        where = (self.folder, self.splits[0], self.device, self.workers["train_epoch"], num_images)
        actions = {rung.name: timer(rung, *where) for rung in rungs(self.device)}
        what = "training epoch of 60,000 images, extrapolated"
        self.compare("ladder", "s", actions, what=what, images=num_images)

    def scaling(self) -> None:
        """Measure how cost grows with the number of images and with the batch size."""
        most = 10000 if self.quick else TRAIN_IMAGES
        for use in ("data_pipeline", "train_epoch"):
            for num_images in (most // 4, most // 2, most):
                actions = self.timers(use, dict.fromkeys(("stock", "ours"), num_images), num_images=num_images)
                self.compare(f"scaling/{use}/{num_images}", "s", actions, images=num_images)
        num_images = 2048 if self.quick else 10240
        for batch_size in BATCH_SIZES:
            sizes = {"num_images": num_images, "batch_size": batch_size}
            actions = self.timers("data_pipeline", dict.fromkeys(("stock", "ours"), num_images), **sizes)
            per_image = {who: partial(microseconds_per_image, measure, num_images) for who, measure in actions.items()}
            self.compare(f"scaling/batch_size/{batch_size}", "us/image", per_image, images=num_images)

    def race(self, name: str) -> None:
        """Time each pipeline in turn, reading the data included, until it has the test accuracy or no more epochs.

        Every round has a seed of its own.
        """
        accuracy, recipes = RACES[name]
        seconds: dict[str, list[float]] = {who: [] for who in ("stock", *recipes)}
        curves: dict[str, list[list[float]]] = {who: [] for who in seconds}
        for seed in range(1, self.num_rounds + 1):
            for who in seconds:
                start = time.perf_counter()
                if who == "stock":
                    curve = self.stock_until(accuracy, seed)
                else:
                    curve = self.fit_until(accuracy, replace(recipes[who], seed=seed))
                seconds[who].append(time.perf_counter() - start)
                curves[who].append(curve)
            reached = {who: [curve[-1] >= accuracy for curve in runs] for who, runs in curves.items()}
            summary = summarise_rounds(seconds, "s", reached=reached, test_accuracy=curves)
            for who in seconds:
                if not all(reached[who] + reached["stock"]):
                    summary["times_better"].pop(who, None)  # a run that did not get there has no time
            self.report.record(name, summary)

    def stock_until(self, accuracy: float, seed: int) -> list[float]:
        """Return the test accuracies of the stock pipeline, epoch by epoch, until one is ``accuracy`` or more."""
        contender, curve = self.stock("train_epoch", seed=seed), []
        while len(curve) < ASSIGNMENT.num_epochs and (not curve or curve[-1] < accuracy):
            contender.train(contender.batches)
            curve.append(contender.test())
        return curve

    def fit_until(self, accuracy: float, recipe: Recipe) -> list[float]:
        """Return the test accuracies of ``fit`` with ``recipe``, epoch by epoch, until one is ``accuracy`` or more."""
        goal = Goal(accuracy)
        with suppress(Goal.Reached):
            fit(recipe.model(), *load_mnist(DATA), recipe, device=self.device.type, progress=goal)
        return goal.curve

    def whole_runs(self) -> None:
        """Measure the assignment's 20 epochs by ``fit``, beside 20 times the stock pipeline's full epoch."""
        start = time.perf_counter()
        fit(ASSIGNMENT.model(), *self.splits, ASSIGNMENT, device=self.device.type)
        ours = time.perf_counter() - start
        stock_epoch = self.report.part["full_epoch"]["median"]["stock"]
        rounds = {"stock, 20 x its median full epoch": [20 * stock_epoch], "ours, measured": [ours]}
        self.report.record("20_epochs", summarise_rounds(rounds, "s"))

    def run(self, only: str | None = None) -> None:
        """Measure everything, what matters most first, or ``only`` the part of that name."""
        self.choose_workers()
        if only in RACES:
            self.race(only)
            return
        if only:
            getattr(self, only)()
            return
        self.passes()
        if self.device.type == "cuda":
            self.whole_runs()
        self.ladder()
        num_rounds = self.num_rounds
        if self.quick:
            self.num_rounds = 1
        self.scaling()
        self.num_rounds = num_rounds
        self.processes()
        if self.device.type == "cpu":
            self.scarce_cores()
        if not self.quick:
            for name in RACES:
                self.race(name)
