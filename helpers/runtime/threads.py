"""How many threads a run on the CPU uses: as many as are fastest on the cores that are free right now."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import torch

from helpers.runtime.settings import is_whole_number

SHORT_STEPS = 500  # a run of fewer steps is over before a trial would have paid for itself
TRIAL_SECONDS = 0.8  # for all numbers of threads together; a step under way at the end is finished
WORTHWHILE = 0.9  # the smallest speed-up worth more threads: a step has to take less than this share of the time
HOPELESS = 1.5  # if a step takes this many times the best so far, even more threads are not tried


def available_cores(root: str | Path = "/") -> int:
    """Return how many cores this process may use, given its CPU affinity and the quota of its container.

    ``root`` is the folder that holds ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, quotas(Path(root)))]))


def quotas(root: Path) -> Iterator[float]:
    """Yield every limit on CPU time, in cores, that Linux control groups (version 1 or 2) set for this process.

    In a container the folder of its own group may be missing; the groups above it are read all the same.
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
        hierarchies = [mounts / controllers, mounts / "cpu"] if controllers else [mounts, mounts / "unified"]
        for level in (PurePosixPath(path), *PurePosixPath(path).parents):
            for hierarchy in hierarchies:
                yield from quota_of(hierarchy / level.relative_to("/"))


def quota_of(folder: Path) -> Iterator[float]:
    """Yield the limit that one control group sets, if it sets one."""
    files = [["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]]  # version 2: "quota period", or "max period"
    for names in files:
        try:
            quota, period = " ".join((folder / name).read_text(encoding="utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1") and int(period) > 0:
            yield int(quota) / int(period)


def milliseconds(step: Callable[[], object], numbers: list[int]) -> dict[int, float]:
    """Return the mean milliseconds of ``step`` for each of ``numbers`` of threads, in ascending order.

    It stops after a number with which a step takes far longer than the best so far.
    """
    means: dict[int, float] = {}
    for number in numbers:
        with in_threads(number):
            times: list[float] = []
            while sum(times) < TRIAL_SECONDS / len(numbers):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
        settled = times[1:] or times  # the first step includes some set-up
        means[number] = 1000 * sum(settled) / len(settled)
        if means[number] > HOPELESS * min(means.values()):
            break
    return means


def choose_threads(step: Callable[[], object], num_steps: int, say: Callable[[str], None]) -> int:
    """Return how many threads a run of ``num_steps`` steps like ``step`` should take, and ``say`` it with the reason.

    ``step`` is called for about a second and must not affect the run; the random state is restored afterwards. Tried
    are all cores, half of them, a quarter and so on, down to one. Of two numbers that are about equally fast, the
    smaller one is chosen.
    """
    most = min(available_cores(), torch.get_num_threads())  # the latter respects OMP_NUM_THREADS
    best = 1
    if most == 1:
        reason = "this process may use no more"
    elif num_steps < SHORT_STEPS:
        reason = "the run is too short for a trial"
    else:
        with torch.random.fork_rng(devices=[]):
            means = milliseconds(step, sorted({most // 2**halvings for halvings in range(most.bit_length())}))
        for number in means:
            if means[number] < WORTHWHILE * means[best]:
                best = number
        tried = ", ".join(f"{number}: {mean:.1f}" for number, mean in means.items())
        reason = f"of {most}; milliseconds a step just now with {tried}"
    say(f"CPU threads: {best} ({reason})")
    return best


def check_threads(threads: int | None) -> int | None:
    """Return ``threads``. Raises ``ValueError`` unless it is None or from 1 to the number of this machine's cores."""
    cores = os.cpu_count() or 1
    if threads is not None and not is_whole_number(threads, 1, cores):
        raise ValueError(f"threads is {threads!r}: give a whole number from 1 to {cores}, this machine's cores")
    return threads


@contextmanager
def in_threads(number: int | None) -> Iterator[None]:
    """Compute with ``number`` threads within the block; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
