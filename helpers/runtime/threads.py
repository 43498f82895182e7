"""How many threads a run on the CPU takes: as many as are fastest on the cores that it really gets now."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import torch

SHORT_STEPS = 500  # a run of fewer is over before a trial has paid for itself
TRIAL_SECONDS = 0.8  # for all numbers together, and one step more where a step takes long
WORTH = 0.9  # of a step's time with fewer threads: every thread more is one more that a neighbour can hold up
HOPELESS = 1.5  # times the fastest so far: with still more threads it only gets worse


def available_cores(root: str | Path = "/") -> int:
    """Return how many cores this process may use: those of its affinity, and no more than a container's quota gives.

    ``root`` is the folder that holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, quotas(Path(root)))]))


def quotas(root: Path) -> Iterator[float]:
    """Yield every limit on CPU time, in cores, that control groups of version 1 or 2 set for this process.

    A group's own folder is not there where a container mounts it as the top: then only those above it count.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    try:
        groups = (root / "proc" / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for level in (PurePosixPath(path), *PurePosixPath(path).parents):
            for mount in (mounts / controllers, mounts / "cpu") if controllers else (mounts, mounts / "unified"):
                yield from quota_of(mount / level.relative_to("/"))


def quota_of(folder: Path) -> Iterator[float]:
    """Yield the limit in the files of one control group, if there is one."""
    files = [["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]]  # version 2: "quota period", or "max period"
    for names in files:
        try:
            quota, period = " ".join((folder / name).read_text(encoding="utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1") and int(period) > 0:
            yield int(quota) / int(period)


def milliseconds(step: Callable[[], object], numbers: list[int]) -> dict[int, float]:
    """Return the mean time of ``step`` with each number of threads, smallest first, as far as it is worth trying."""
    means: dict[int, float] = {}
    for number in numbers:
        with in_threads(number):
            times: list[float] = []
            while sum(times) < TRIAL_SECONDS / len(numbers):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
        settled = times[1:] or times  # the first step also sets up
        means[number] = 1000 * sum(settled) / len(settled)
        if means[number] > HOPELESS * min(means.values()):
            break
    return means


def choose_threads(step: Callable[[], object], num_steps: int) -> tuple[int, str]:
    """Return the number of threads that suits a run of ``num_steps`` like ``step`` now, and why, in a few words.

    ``step`` is called for well under two seconds, in a random state of its own: what it does must not matter. Tried
    are all cores, half of them, a quarter and so on, and one; of two that are about as fast, fewer are taken.
    """
    most = min(available_cores(), torch.get_num_threads())  # which heeds OMP_NUM_THREADS
    if most == 1:
        return 1, "all that this process may use"
    if num_steps < SHORT_STEPS:
        return 1, "the run is too short for a trial"
    numbers = sorted({max(1, most >> halvings) for halvings in range(most.bit_length() + 1)})
    with torch.random.fork_rng(devices=[]):
        means = milliseconds(step, numbers)
    best = numbers[0]
    for number in means:
        if means[number] < WORTH * means[best]:
            best = number
    tried = ", ".join(f"{number}: {mean:.1f}" for number, mean in means.items())
    return best, f"of {most}; milliseconds a step just now with {tried}"


def check_threads(threads: int | None) -> int | None:
    """Return ``threads``; raises ``ValueError`` where it is neither None nor a number that there are cores for."""
    cores = os.cpu_count() or 1
    if threads is None:
        return None
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= cores:
        raise ValueError(f"threads is {threads!r}: give a whole number from 1 to {cores}, this machine's cores")
    return threads


@contextmanager
def in_threads(number: int | None) -> Iterator[None]:
    """Compute with so many threads within the block, or with as many as before where ``number`` is None."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
