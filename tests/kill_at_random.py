"""Kill a run again and again until it is done, and compare it with one that nobody touched.

python tests/kill_at_random.py --kills 100     # prints one line of JSON; test_survival.py does a few

Every run is a child of this process, which has imported what it needs but computed nothing, so that a new child
costs no more than the run itself. About a third of the kills come at a random time, the others within a save.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from helpers import ROOT
from helpers.data import Split, load_mnist
from helpers.recipe import Recipe
from helpers.runtime.files import save_tensors
from helpers.training import fit

RECIPE = Recipe(num_epochs=5, batch_size=50, lr=0.02, schedule="one-cycle")
SAVE_CALLS = ("fsync", "replace")


def train(folder: Path, splits: tuple[Split, Split], resume: bool) -> None:
    torch.set_num_threads(1)
    model = RECIPE.model()
    history = fit(model, *splits, RECIPE, device="cpu", checkpoint=folder / "checkpoint.pt", resume=resume)
    save_tensors(folder / "result.pt", {"model": model.state_dict(), "history": {**history.as_dict(), "seconds": []}})


def die_in_a_save(call: str, countdown: int) -> None:
    """Have this process killed when it comes to its ``countdown``-th ``os.fsync`` or ``os.replace``."""
    original, calls = getattr(os, call), iter(range(countdown))

    def deadly(*arguments: object) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments)

    setattr(os, call, deadly)


def start(folder: Path, splits: tuple[Split, Split], resume: bool, deadly_call: str | None, countdown: int) -> int:
    """Fork a child that trains and return its process number."""
    if child := os.fork():
        return child
    try:
        if deadly_call:
            die_in_a_save(deadly_call, countdown)
        train(folder, splits, resume)
        os._exit(0)
    finally:
        os._exit(1)


def kill_until_done(
    folder: Path, splits: tuple[Split, Split], draw: random.Random, max_kills: int, seconds: float
) -> dict[str, int]:
    """Train in ``folder`` with at most ``max_kills`` kills, those at a random time within so many seconds.

    Return how many there were of each kind.
    """
    kills = {"at a random time": 0, **{f"before os.{call}": 0 for call in SAVE_CALLS}}
    while True:
        num_kills = sum(kills.values())
        call = draw.choice((None, *SAVE_CALLS)) if num_kills < max_kills else None
        child = start(folder, splits, (folder / "checkpoint.pt").exists(), call, draw.randrange(3))
        if call is None and num_kills < max_kills:
            time.sleep(draw.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills[f"before os.{call}" if call else "at a random time"] += 1
        elif os.waitstatus_to_exitcode(status) != 0:
            raise RuntimeError("a run failed that was not killed")
        else:
            return kills


def main() -> None:
    if not hasattr(os, "fork"):
        sys.exit("this system cannot fork: run it on Linux or macOS")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="at least this many, over several runs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    train_split, test_split = load_mnist(ROOT / "data")
    splits = train_split[:600], test_split[:100]
    total: dict[str, int] = {}
    runs = identical = leftovers = 0
    with tempfile.TemporaryDirectory() as temporary:
        untouched = Path(temporary, "untouched")
        began = time.monotonic()
        kill_until_done(untouched, splits, draw, max_kills=0, seconds=0)
        seconds = time.monotonic() - began
        expected = (untouched / "result.pt").read_bytes()
        while sum(total.values()) < options.kills:
            folder = Path(temporary, f"run {runs}")
            for kind, number in kill_until_done(folder, splits, draw, 8, seconds).items():
                total[kind] = total.get(kind, 0) + number
            runs += 1
            identical += (folder / "result.pt").read_bytes() == expected
            leftovers += len([name for name in os.listdir(folder) if not name.endswith(".partial")]) - 2
    print(json.dumps({"kills": total, "runs": runs, "identical": identical, "files too many": leftovers}))


if __name__ == "__main__":
    main()
