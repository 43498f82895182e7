"""Measure one pipeline in a process of its own: its start-up and its memory, or an epoch, on one core if asked.

python -m evidence.benchmark.child stock|ours FOLDER DEVICE WORKERS [--epoch IMAGES] [--one-core]     # prints JSON
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from evidence.benchmark.contenders import WARM_UP_BATCHES, Contender, our_contender, stock_contender
from evidence.benchmark.measure import FirstBatches, epoch_seconds, seconds_of
from helpers import ROOT
from helpers.data import load_mnist

TRAINING_STEPS = 100
MIB = 2**20


def peak_bytes() -> int:
    """Return the peak resident memory of this process so far, without its DataLoader workers; 0 on Windows.

    On Linux it is read from /proc, because ``getrusage`` starts, in a child, at the peak of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure_start(build: Callable[[], Contender], device: torch.device) -> dict[str, float]:
    """Return the seconds until the first batch is on the device, and the peak memory of host and GPU in MiB.

    Host memory that is in use before is not counted.
    """
    torch.ones(1, device=device)  # initialises CUDA, which neither pipeline should pay for
    baseline = peak_bytes()
    contender = iterator = None

    def first_batch() -> None:
        nonlocal contender, iterator
        contender = build()
        iterator = iter(contender.batches)  # kept alive, so that stopping its workers is not timed
        contender.load([next(iterator)])

    seconds = seconds_of(first_batch, device)
    del iterator
    contender.train(FirstBatches(contender.batches, TRAINING_STEPS))
    contender.test()
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"seconds": seconds, "host_mib": (peak_bytes() - baseline) / MIB, "gpu_mib": gpu / MIB}


def measure_epoch(build: Callable[[], Contender], device: torch.device, num_images: int) -> dict[str, float]:
    """Return the seconds of a training epoch, extrapolated from ``num_images``, and how many threads it used."""
    contender = build()
    contender.train(FirstBatches(contender.batches, WARM_UP_BATCHES))
    num_batches = math.ceil(num_images / contender.batches.batch_size)
    seconds = epoch_seconds(contender.train, contender.batches, device, num_batches)
    return {"seconds": seconds, "threads": contender.threads or torch.get_num_threads()}


def keep_to_one_core() -> None:
    """Confine this process to one core but leave PyTorch its number of threads, as a container's quota does."""
    torch.get_num_threads()  # PyTorch counts the cores now, and never again
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep another process busy within the block."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def in_child(who: str, folder: Path, device: torch.device, workers: int, *options: str) -> dict[str, float]:
    """Return what a fresh process measures of ``stock`` or ``ours``: its start, or an epoch with option ``--epoch``.

    Raises ``OSError`` where the process fails.
    """
    command = [sys.executable, "-m", "evidence.benchmark.child", who, str(folder), str(device), str(workers), *options]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        raise OSError(f"{' '.join(command[1:])} failed: {reason}")
    return json.loads(child.stdout.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=("stock", "ours"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("device", type=torch.device)
    parser.add_argument("workers", type=int)
    parser.add_argument(
        "--epoch", type=int, metavar="IMAGES", help="measure an epoch, from so many, instead of a start"
    )
    parser.add_argument("--one-core", action="store_true", help="keep to one core")
    options = parser.parse_args()

    def build() -> Contender:
        if options.who == "stock":
            return stock_contender(options.folder, options.device, workers=options.workers)
        return our_contender(load_mnist(ROOT / "data"), options.device)

    if options.one_core:
        keep_to_one_core()
    if options.epoch:
        result = measure_epoch(build, options.device, options.epoch)
    else:
        result = measure_start(build, options.device)
    print(json.dumps(result))
