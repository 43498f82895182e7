"""BatchNorm2d and Dropout of torch.nn, computed in a cheaper way where the CPU's stock kernels are slow."""

import torch
from torch import Tensor, nn

CACHE_LINE_FLOATS = 16


class BatchNorm2d(nn.BatchNorm2d):
    """The same layer. With channels last, fewer channels than fill a cache line and several threads, the stock
    backward pass has the threads write to one cache line in turn, which takes several times as long: such layers
    are computed in the contiguous layout instead."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and self.num_features < CACHE_LINE_FLOATS:
            x = x.contiguous()
        return super().forward(x)


class Dropout(nn.Dropout):
    """The same layer. On a CPU the stock one draws a random number for each element, on one thread; where ``p``
    is a multiple of 1/256, one random byte per element serves as well, and eight come from one draw."""

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
    """Have every plain BatchNorm2d and Dropout of ``model`` computed by the classes above.

    Only the class of each module changes: parameters, buffers, hooks and names stay, copies keep it, and on another
    device than a CPU the layers are the stock ones again. Subclasses of torch's layers are left alone.
    """
    for module in model.modules():
        module.__class__ = CHEAPER.get(type(module), type(module))
