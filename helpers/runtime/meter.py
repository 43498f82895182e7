"""Loss and accuracy of an epoch, kept on the device so that training does not wait for them."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

LOOK_SECONDS = 0.5  # between two looks at the device; training waits for it only then

Report = Callable[[int, float, float], None]


class Meter:
    """Means over the images of ``num_batches`` batches, told to ``report(num_images, loss, accuracy)`` as they come.

    About twice a second, and after the last batch, it looks at what the device has computed so far.
    """

    def __init__(self, num_batches: int, device: torch.device, report: Report | None = None) -> None:
        self.losses, self.hits, self.sizes = torch.zeros(3, num_batches, device=device)
        self.num_batches, self.num_images, self.report = 0, 0, report
        self.last_look = time.monotonic()

    def add(self, loss: Tensor, hits: Tensor, num_images: int) -> None:
        """Take a batch's mean loss, how many were right, and its size.

        Raises ``FloatingPointError`` at the next look after a loss that is not finite.
        """
        i = self.num_batches
        self.losses[i], self.hits[i], self.sizes[i] = loss, hits, num_images
        self.num_batches += 1
        self.num_images += num_images
        if time.monotonic() - self.last_look > LOOK_SECONDS or self.num_batches == len(self.losses):
            self.last_look = time.monotonic()
            self._look()

    def _look(self) -> None:
        losses, hits, sizes = (values.cpu().double() for values in (self.losses, self.hits, self.sizes))
        broken = losses.isfinite().logical_not().nonzero().flatten().tolist()
        if broken:
            value = losses[broken[0]].item()
            raise FloatingPointError(f"the loss of batch {broken[0] + 1} of {len(losses)} is {value}")
        self.loss = (losses @ sizes).item() / self.num_images
        self.accuracy = hits.sum().item() / self.num_images
        if self.report:
            self.report(self.num_images, self.loss, self.accuracy)
