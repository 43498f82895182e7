"""Loss and accuracy of an epoch, kept on the device so that training does not wait for them."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

LOOK_SECONDS = 0.5  # between two looks at the device's results, for which training has to wait

Report = Callable[[int, float, float], None]


class Meter:
    """Mean loss and accuracy over the images of an epoch of ``num_batches`` batches.

    About twice a second, and after the last batch, it reads from the device the means so far, and calls
    ``report(num_images, loss, accuracy)`` with them.
    """

    def __init__(self, num_batches: int, device: torch.device, report: Report | None = None) -> None:
        self.losses, self.hits, self.sizes = torch.zeros(3, num_batches, device=device)
        self.num_batches, self.num_images, self.report = 0, 0, report
        self.last_look = time.monotonic()

    def add(self, loss: Tensor, hits: Tensor, num_images: int) -> None:
        """Add a batch: its mean loss, how many predictions were right, and its size.

        Raises ``FloatingPointError`` for a loss that is not finite, at the next look at the device.
        """
        i = self.num_batches
        self.losses[i], self.hits[i], self.sizes[i] = loss, hits, num_images
        self.num_batches += 1
        self.num_images += num_images
        if time.monotonic() - self.last_look > LOOK_SECONDS or self.num_batches == len(self.losses):
            self.last_look = time.monotonic()
            self._look()

    def _look(self) -> None:
        losses, hits, sizes = self.losses.cpu().double(), self.hits.cpu().double(), self.sizes.cpu().double()
        broken = losses.isfinite().logical_not().nonzero().flatten().tolist()
        if broken:
            value = losses[broken[0]].item()
            raise FloatingPointError(f"the loss of batch {broken[0] + 1} of {len(losses)} is {value}")
        self.loss = (losses @ sizes).item() / self.num_images
        self.accuracy = hits.sum().item() / self.num_images
        if self.report:
            self.report(self.num_images, self.loss, self.accuracy)
