"""A run of epochs: random numbers for each, what is saved and shown after each, and errors in one line."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from helpers.runtime.history import History
from helpers.runtime.meter import Report
from helpers.runtime.progress import Progress

SLOW, SLOW_SECONDS = 3.0, 1.0  # an epoch is slow at so many times the fastest so far, and not below so many seconds

Metrics = tuple[float, float, float, float]  # train loss, train accuracy, test loss, test accuracy


def run_epochs(
    epoch: Callable[[int, Report | None], Metrics],
    history: History,
    num_epochs: int,
    seed: int,
    save: Callable[[History], None],
    progress: Progress | None = None,
) -> None:
    """Call ``epoch(order_seed, report)`` until ``history`` has ``num_epochs``; ``save`` it after each.

    torch's global generator is seeded for each epoch, from ``seed``, so that an epoch does not depend on what was
    drawn before it. Raises ``FloatingPointError`` naming the epoch where a value is not finite.
    """
    seeds = torch.randint(2**62, (num_epochs, 2), generator=torch.Generator().manual_seed(seed))
    if progress:
        progress.finished = history.num_epochs
    slow = ""
    with progress or nullcontext():
        for order_seed, global_seed in seeds[history.num_epochs :].tolist():
            start = time.perf_counter()
            torch.manual_seed(global_seed)
            try:
                metrics = epoch(order_seed, progress.update if progress else None)
                if not all(map(math.isfinite, metrics)):
                    raise FloatingPointError(f"after the last batch the test loss is {metrics[2]}")
            except FloatingPointError as error:
                advice = f"choose a lower lr than {history.recipe['lr']:g}"
                raise FloatingPointError(f"epoch {history.num_epochs + 1}: {error}: {advice}") from None
            history.append(*metrics, time.perf_counter() - start)
            save(history)
            if progress:
                progress.epoch(history)
                if not slow and (slow := slow_epoch(history.seconds)):
                    progress.note(slow)


def slow_epoch(seconds: list[float]) -> str:
    """Say why the last epoch may have taken so much longer than the fastest, and what to do, or nothing if it did not.

    One line for a whole run will do: who shares a machine need not be told so after each epoch.
    """
    fastest, last = min(seconds), seconds[-1]
    if last <= SLOW * fastest or last < SLOW_SECONDS:
        return ""
    return (
        f"epoch {len(seconds)} took {last / fastest:.1f} times as long as the fastest: something else may be using "
        "this machine's cores; end it, or stop this run and resume it with one thread"
    )
