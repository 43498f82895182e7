"""BatchNorm2d and Dropout of torch.nn, computed faster where PyTorch's own CPU kernels are slow."""

import torch
from torch import Tensor, nn

CACHE_LINE_FLOATS = 16


class BatchNorm2d(nn.BatchNorm2d):
    """The same layer, in the contiguous layout where it has few channels.

    With channels last and fewer channels than fill a cache line, the threads of PyTorch's backward pass write to the
    same cache line in turn, which takes several times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and self.num_features < CACHE_LINE_FLOATS:
            x = x.contiguous()
        return super().forward(x)


class Dropout(nn.Dropout):
    """The same layer, with random bytes instead of random floats on a CPU.

    PyTorch's own draws a random number for each element on one thread. Where ``p`` is a multiple of 1/256, one byte
    for each element is enough, and one draw gives eight.
    """

    def forward(self, x: Tensor) -> Tensor:
        threshold = 256 * self.p
        if x.device.type != "cpu" or not self.training or threshold not in range(1, 256):
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()] >= int(threshold)
        mask = kept.to(x.dtype).mul_(1 / (1 - self.p))
        layout = torch.empty_like(x).stride()
        return x * mask.as_strided(x.shape, layout)


CHEAPER = {nn.BatchNorm2d: BatchNorm2d, nn.Dropout: Dropout}


def use_cheaper_layers(model: nn.Module) -> None:
    """Have every BatchNorm2d and Dropout of ``model`` computed by the classes above.

    Only the class of each module changes: parameters, buffers, hooks and names stay. On any device but a CPU these
    classes do what PyTorch's do. Subclasses of PyTorch's layers are left alone.
    """
    for module in model.modules():
        module.__class__ = CHEAPER.get(type(module), type(module))
