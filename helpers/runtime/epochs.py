"""What an epoch needs around it: a random seed of its own, and its errors in one line."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_epoch(seed: int, epoch: int, generator: torch.Generator) -> None:
    """Seed ``generator`` and torch's global one for ``epoch`` (from 0) of a run with this ``seed``.

    So no epoch depends on what was drawn before it, and a resumed run draws the same numbers as an unbroken one.
    """
    seeds = torch.randint(2**62, (epoch + 1, 2), generator=torch.Generator().manual_seed(seed))
    own_seed, global_seed = seeds[epoch].tolist()
    generator.manual_seed(own_seed)
    torch.manual_seed(global_seed)


@contextmanager
def errors_named(epoch: int, lr: float) -> Iterator[None]:
    """Add the ``epoch`` (from 0) and the remedy, a lower ``lr``, to a ``FloatingPointError`` raised in the block."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {epoch + 1}: {error}: choose a lower lr than {lr:g}") from None


def check_finite(test_loss: float) -> None:
    """Raise ``FloatingPointError`` where the loss on the test images is not finite."""
    if not math.isfinite(test_loss):
        raise FloatingPointError(f"after the last batch the test loss is {test_loss}")
