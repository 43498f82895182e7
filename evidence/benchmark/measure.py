"""How things are measured and kept: a clock that waits for the device, alternating rounds, one JSON file."""

import json
import platform
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from helpers.runtime.files import atomic_write
from helpers.runtime.threads import available_cores

Rounds = dict[str, list[float]]


def seconds_of(action: Callable[[], Any], device: torch.device) -> float:
    """Return the wall seconds of ``action``, including the GPU work that it started."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


class FirstBatches:
    """The first ``num_batches`` of ``batches``.

    ``once_seconds`` is the time that starting and stopping took, such as that of DataLoader workers.
    """

    def __init__(self, batches: Collection, num_batches: int) -> None:
        self.batches, self.num_batches = batches, num_batches
        self.once_seconds = 0.0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator:
        start = time.perf_counter()
        iterator = iter(self.batches)
        self.once_seconds = time.perf_counter() - start
        yield from islice(iterator, self.num_batches)
        start = time.perf_counter()
        del iterator  # a DataLoader's workers stop here
        self.once_seconds += time.perf_counter() - start


def epoch_seconds(
    consume: Callable[[Collection], Any], batches: Collection, device: torch.device, num_batches: int | None = None
) -> float:
    """Return the seconds that ``consume`` takes for all ``batches``.

    With ``num_batches`` only so many are done and the seconds extrapolated: the cost of a batch counts as often as
    there are batches, the cost of starting and stopping once.
    """
    num_batches = min(num_batches or len(batches), len(batches))
    first = FirstBatches(batches, num_batches)
    seconds = seconds_of(lambda: consume(first), device)
    return first.once_seconds + (seconds - first.once_seconds) * len(batches) / num_batches


def alternate(actions: dict[str, Callable[[], float]], num_rounds: int) -> Rounds:
    """Call all ``actions`` in turn, ``num_rounds`` times, so that a slow spell of the machine hits all alike."""
    rounds: Rounds = {name: [] for name in actions}
    for _ in range(num_rounds):
        for name, action in actions.items():
            rounds[name].append(action())
    return rounds


def summarise_rounds(rounds: Rounds, unit: str, **notes: Any) -> dict[str, Any]:
    """Return rounds and medians by name, and how many times better than the first name each of the others is.

    ``times_better`` has the ratio of medians, and the least and the greatest ratio within a round. More is better
    if the unit is a rate (``.../s``), less is better otherwise.
    """
    names = list(rounds)
    medians = {name: median(values) for name, values in rounds.items()}

    def gain(base: float, value: float) -> float:
        return value / base if unit.endswith("/s") else base / value

    times_better = {}
    for name in names[1:]:
        pairs = [gain(base, value) for base, value in zip(rounds[names[0]], rounds[name], strict=True)]
        ratio = gain(medians[names[0]], medians[name])
        times_better[name] = {"medians": ratio, "least": min(pairs), "greatest": max(pairs)}
    return {"unit": unit, **notes, "rounds": rounds, "median": medians, "times_better": times_better}


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads, device, versions."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":", 1)[1].strip() if lines else cpu
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "torchvision", "pillow")},
    }


class Report:
    """The part of a JSON file that belongs to one kind of run, such as ``cpu`` or ``cuda quick``.

    Every measurement is written to the file as soon as it is recorded; other kinds of runs stay as they are. A run on
    another machine or with other settings than those in the file replaces its part.
    """

    def __init__(self, path: Path, kind: str, machine: dict[str, Any], settings: dict[str, Any]) -> None:
        self.path, self.kind = path, kind
        self.part = {"machine": machine, "settings": settings}
        old = self.parts().get(kind, {})
        if all(old.get(name) == value for name, value in self.part.items()):
            self.part = old
        self.printed: set[tuple[str, str]] = set()

    def parts(self) -> dict[str, Any]:
        """Return what is in the file now, by kind: another run may have written since."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def record(self, name: str, summary: dict[str, Any]) -> None:
        """Keep a measurement under ``name``, where ``/`` separates levels, and print a line for each new median."""
        *folders, last = name.split("/")
        level = self.part
        for folder in folders:
            level = level.setdefault(folder, {})
        level[last] = summary
        self.part["date"] = datetime.now(UTC).date().isoformat()
        atomic_write(self.path, json.dumps(self.parts() | {self.kind: self.part}, indent=1) + "\n")
        for who, value in summary["median"].items():
            if (name, who) in self.printed:
                continue
            self.printed.add((name, who))
            gain = summary["times_better"].get(who)
            ratio = f"{gain['medians']:>6.2f}x  ({gain['least']:.2f} to {gain['greatest']:.2f})" if gain else ""
            print(f"{name:<32}  {who:<40}  {value:>11,.3f} {summary['unit']:<9}  {ratio}".rstrip(), flush=True)
