"""The network of the assignment: seven convolutions and one linear layer, 11,874 parameters."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

BatchNorm = Literal["after", "before", "none"]


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    batch_norm: BatchNorm = "after",
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """Return a convolution without padding, a ReLU and a batch norm: each side shrinks by ``kernel_size - 1``.

    The convolution has a bias only where there is no batch norm. A batch norm right behind the convolution would
    subtract the bias again. One behind the ReLU gives the next convolution inputs with a learned shift, which does
    nearly the same as a bias.
    Raises ``ValueError`` for an unknown ``batch_norm``.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, bias=batch_norm == "none")
    if batch_norm == "after":
        return nn.Sequential(conv, nn.ReLU(inplace=True), norm(out_channels))
    if batch_norm == "before":
        return nn.Sequential(conv, norm(out_channels), nn.ReLU(inplace=True))
    if batch_norm == "none":
        return nn.Sequential(conv, nn.ReLU(inplace=True))
    raise ValueError(f"batch_norm is {batch_norm!r}: choose after, before or none (its place by the ReLU)")


class Net(nn.Module):
    """Digit classifier: images ``(B, 1, 28, 28)`` in, log-probabilities ``(B, 10)`` out.

    The defaults are the assignment's network. ``dropout`` (a probability) and ``batch_norm`` (after the ReLU,
    before it, or none) are arguments so that what each contributes can be measured; ``norm(num_channels)`` builds
    the layer, so that one of one's own can be tried.
    """

    def __init__(
        self,
        dropout: float = 0.25,
        batch_norm: BatchNorm = "after",
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        block = partial(conv_block, batch_norm=batch_norm, norm=norm)
        self.conv1 = block(1, 8, 3)
        self.conv2 = block(8, 16, 3)
        self.pool1 = nn.Sequential(nn.MaxPool2d(2, 2), nn.Dropout(dropout))
        self.conv3 = block(16, 32, 1)
        self.conv4 = block(32, 16, 3)
        self.conv5 = nn.Sequential(*block(16, 8, 3), nn.Dropout(dropout))
        self.conv6 = nn.Sequential(*block(8, 16, 1), nn.Dropout(dropout))
        self.conv7 = nn.Sequential(*block(16, 8, 3), nn.Dropout(dropout))
        self.fc = nn.Linear(8 * 6 * 6, 10)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28)
        x = self.conv1(x)  # (B, 8, 26, 26)
        x = self.conv2(x)  # (B, 16, 24, 24)
        x = self.pool1(x)  # (B, 16, 12, 12)
        x = self.conv3(x)  # (B, 32, 12, 12)
        x = self.conv4(x)  # (B, 16, 10, 10)
        x = self.conv5(x)  # (B, 8, 8, 8)
        x = self.conv6(x)  # (B, 16, 8, 8)
        x = self.conv7(x)  # (B, 8, 6, 6)
        x = self.fc(x.flatten(1))  # (B, 10)
        return F.log_softmax(x, dim=1)
