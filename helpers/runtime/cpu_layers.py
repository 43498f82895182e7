"""BatchNorm2d and Dropout of torch.nn, computed faster where PyTorch's own CPU kernels are slow."""

import torch
from torch import Tensor, nn

CACHE_LINE_FLOATS = 16


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's layer, with a contiguous input on a CPU if it has few channels.

    In the channels-last layout, with fewer channels than fill a cache line, the threads of PyTorch's backward pass
    write to the same cache line (false sharing), which takes several times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and self.num_features < CACHE_LINE_FLOATS:
            x = x.contiguous()
        return super().forward(x)


class Dropout(nn.Dropout):
    """PyTorch's layer, with random bytes instead of random floats on a CPU.

    PyTorch draws a random number for each element, on a single thread. If ``p`` is a multiple of 1/256, a random byte
    for each element is enough, and one 64-bit number has eight of them.
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
    """Turn every BatchNorm2d and Dropout of ``model`` into an instance of the classes above.

    Only the class of each module changes: parameters, buffers, hooks and names stay. On any device but a CPU these
    classes do the same as PyTorch's. Subclasses of PyTorch's layers are left alone.
    """
    for module in model.modules():
        module.__class__ = CHEAPER.get(type(module), type(module))
