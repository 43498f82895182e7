"""One pipeline in a process of its own, where its start, its memory and what it does with scarce cores are seen.

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
    """Return the greatest resident memory of this process so far, its DataLoader workers not counted.

    Linux's own count is asked first: that of ``getrusage`` begins, in a child, at what its parent had. Windows has
    neither: 0.
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
    """Return seconds from here to the first batch on the device, and MiB of host and GPU memory beyond those here."""
    torch.ones(1, device=device)  # what CUDA itself takes belongs to no pipeline
    baseline = peak_bytes()
    contender = iterator = None

    def first_batch() -> None:
        nonlocal contender, iterator
        contender = build()
        iterator = iter(contender.batches)  # lives on, so that stopping its workers is not counted
        contender.load([next(iterator)])

    seconds = seconds_of(first_batch, device)
    del iterator
    contender.train(FirstBatches(contender.batches, TRAINING_STEPS))
    contender.test()
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"seconds": seconds, "host_mib": (peak_bytes() - baseline) / MIB, "gpu_mib": gpu / MIB}


def measure_epoch(build: Callable[[], Contender], device: torch.device, num_images: int) -> dict[str, float]:
    """Return the seconds of a training epoch, extrapolated from ``num_images``, and how many threads it took."""
    contender = build()
    contender.train(FirstBatches(contender.batches, WARM_UP_BATCHES))
    num_batches = math.ceil(num_images / contender.batches.batch_size)
    seconds = epoch_seconds(contender.train, contender.batches, device, num_batches)
    return {"seconds": seconds, "threads": contender.threads or torch.get_num_threads()}


def keep_to_one_core() -> None:
    """Confine this process to one core and leave PyTorch the threads that it has taken, as a container's quota does."""
    torch.get_num_threads()  # which it counts once
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@contextmanager
def busy_process() -> Iterator[None]:
    """Have another process compute all the time within the block."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def in_child(who: str, folder: Path, device: torch.device, workers: int, *options: str) -> dict[str, float]:
    """Return what a fresh process measures of ``stock`` or ``ours``: its start, or with ``--epoch`` that."""
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
