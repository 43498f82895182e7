"""Start-up and memory of one pipeline, in a process of its own: python -m evidence.benchmark.child stock|ours ..."""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from evidence.benchmark.contenders import Contender, our_contender, stock_contender
from evidence.benchmark.measure import FirstBatches, seconds_of
from helpers.data import load_mnist

ROOT = Path(__file__).parents[2]
TRAINING_STEPS = 100
MIB = 2**20


def peak_bytes() -> int:
    """Return the greatest resident memory of this process so far, its DataLoader workers not counted.

    Linux's own count is asked first: that of ``getrusage`` begins, in a child, at what its parent had.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure(build: Callable[[], Contender], device: torch.device) -> dict[str, float]:
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


def in_child(who: str, folder: Path, device: torch.device, workers: int) -> dict[str, float]:
    """Return what ``measure`` gives for ``stock`` or ``ours`` in a fresh process."""
    command = [sys.executable, "-m", "evidence.benchmark.child", who, str(folder), str(device), str(workers)]
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
    options = parser.parse_args()
    if options.who == "stock":
        result = measure(
            lambda: stock_contender(options.folder, options.device, workers=options.workers), options.device
        )
    else:
        result = measure(lambda: our_contender(load_mnist(ROOT / "data"), options.device), options.device)
    print(json.dumps(result))
