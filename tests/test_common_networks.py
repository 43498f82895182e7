"""Networks in the forms in which people write them: every box against what NaN in a line of the image reaches."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.receptive_field import layer_table, measured_receptive_field

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (2, 16, 20)
C = 8  # channels of the map that a form is given, 16×20


def cbr(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **given) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, **given)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Between(nn.Module):
    """A 3×3 convolution, a form, and another one if it leaves a map."""

    def __init__(self, form: Callable[..., Tensor], *parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.first, self.form, self.num_parts = cbr(SIZE[0], C), form, len(parts)
        for i, part in enumerate(parts):
            setattr(self, f"part{i}", part)
        with torch.no_grad():
            middle = self.eval().middle(torch.zeros(2, *SIZE))
        self.last = nn.Conv2d(middle.shape[1], 3, 3, padding=1) if middle.ndim == 4 else nn.Linear(middle.shape[1], 3)

    def middle(self, x: Tensor) -> Tensor:
        return self.form(self.first(x), *[getattr(self, f"part{i}") for i in range(self.num_parts)])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(x))


def gate(x: Tensor) -> Tensor:
    return torch.sigmoid(x.mean((2, 3), keepdim=True))


FLAT = {
    "view by size": lambda x: x.view(x.size(0), -1),
    "view by shape": lambda x: x.view(x.shape[0], -1),
    "view by features": lambda x: x.view(-1, C * 16 * 20),
    "view by a product": lambda x: x.view(-1, math.prod(x.shape[1:])),
    "view with all sizes": lambda x: x.view(*x.shape[:1], x.shape[1] * x.shape[2] * x.shape[3]),
    "reshape by len": lambda x: x.reshape(len(x), -1),
    "reshape of another's shape": lambda x: x.reshape(torch.zeros(len(x), C * 320).shape),
    "reshape_as": lambda x: x.reshape_as(x.new_zeros(len(x), C * 320)),
    "flatten": lambda x: torch.flatten(x, start_dim=1),
    "flatten in two steps": lambda x: x.flatten(2).flatten(1),
    "flatten from the end": lambda x: x.flatten(-3, -1),
    "transposed first": lambda x: x.transpose(1, 3).contiguous().view(x.size(0), -1),
    "stacked again": lambda x: torch.stack([image.flatten() for image in x]),
    "image by image": lambda x: torch.cat([x[i].reshape(1, -1) for i in range(x.size(0))]),
    "one position": lambda x: x[:, :, 0, 0],
    "one position, chosen twice": lambda x: x[..., 3][..., -1],
    "mean over sides": lambda x: x.mean([2, 3]),
    "mean in two steps": lambda x: x.mean(-1).mean(-1),
    "mean of a view": lambda x: x.view(x.size(0), x.size(1), -1).mean(2),
    "amax": lambda x: x.amax(dim=(-2, -1)),
    "pooled and squeezed": lambda x: F.avg_pool2d(x, x.shape[2:]).squeeze(),
    "pooled, squeezed and kept": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "max pooled to a view": lambda x: F.max_pool2d(x, kernel_size=x.size()[2:]).view(x.size(0), -1),
    "both pools": lambda x: torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1).flatten(1),
    "a pyramid of pools": lambda x: torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in (1, 2, 4)], 1),
    "sum divided": lambda x: x.sum((2, 3)) / (x.shape[2] * x.shape[3]),
    "norm and max": lambda x: x.flatten(2).norm(dim=2) + x.flatten(2).max(dim=2)[0],
    "weighted mean": lambda x: torch.einsum("nchw,hw->nc", x, torch.ones(16, 20)),
    "spatial softmax": lambda x: (x.flatten(2).softmax(-1) * torch.linspace(-1, 1, 320)).sum(-1),
}


def shuffled(x: Tensor, groups: int = 4) -> Tensor:
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def shuffled_by_batch(x: Tensor) -> list[Tensor]:
    """As an implementation of ShuffleNet V2 has it: the batch is folded into the channels."""
    n, c, h, w = x.shape
    x = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
    return x[0], x[1]


def depth_to_space(x: Tensor, by: int = 2) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, by, by, c // by**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // by**2, h * by, w * by)


def space_to_depth(x: Tensor, by: int = 2) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // by, by, w // by, by).permute(0, 3, 5, 1, 2, 4).contiguous()
    return x.view(n, c * by**2, h // by, w // by)


def reorg(x: Tensor, s: int = 2) -> Tensor:
    """YOLOv2's passthrough, as its implementations in PyTorch write it."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // s, s, w // s, s).transpose(3, 4).contiguous()
    x = x.view(b, c, h // s * w // s, s * s).transpose(2, 3).contiguous()
    return x.view(b, c, s * s, h // s, w // s).transpose(1, 2).contiguous().view(b, s * s * c, h // s, w // s)


def coordinates(x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
    columns = torch.linspace(-1, 1, w).repeat(n, 1, h, 1).to(x)
    return torch.cat([x, rows.type_as(x), columns, torch.sqrt((rows - 0.5) ** 2 + columns**2).to(x.dtype)], 1)


def ghost(x: Tensor, cheap: nn.Module) -> Tensor:
    out = torch.cat([x, cheap(x)], 1)
    out[:, :4] += x[:, 4:]
    out[:, 4:8, :, :] *= 0.5
    return out[:, :12, :, :]


def coordinate_attention(x: Tensor, squeeze: nn.Module, a: nn.Module, b: nn.Module) -> Tensor:
    h, w = x.shape[2:]
    rows, columns = F.adaptive_avg_pool2d(x, (None, 1)), F.adaptive_avg_pool2d(x, (1, None)).permute(0, 1, 3, 2)
    rows, columns = torch.split(squeeze(torch.cat([rows, columns], dim=2)), [h, w], dim=2)
    return x * a(rows).sigmoid() * b(columns.permute(0, 1, 3, 2)).sigmoid()


def strips(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    rows = a(x.mean(3, keepdim=True)).expand(-1, -1, -1, x.shape[3])
    columns = F.interpolate(b(x.mean(2, keepdim=True)), x.shape[2:], mode="bilinear", align_corners=True)
    return x * torch.sigmoid(rows + columns)


def stochastic_depth(x: Tensor, layer: nn.Module) -> Tensor:
    if not layer.training:
        return x + layer(x)
    kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(0.8)
    return x + layer(x).div(0.8) * kept


def into_zeros(x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), C, 18, 22)
    out[:, :, 1:-1, 1:-1] = x
    out[:, :2, 0] = 1.0
    return out


def interleaved(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    out = torch.empty(len(x), C, 16, 40)
    out[..., ::2], out[..., 1::2] = a(x), b(x)
    return out


def to_the_skip(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    """A U-Net's step for odd sizes: padded to the skip."""
    skip = x[:, :, :-1, :-1]
    y = up(down(skip))
    dy, dx = skip.size(2) - y.size(2), skip.size(3) - y.size(3)
    return torch.cat([skip, F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])], 1)


def cropped_skip(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    y = up(down(x[:, :, 1:, 1:]))
    dy, dx = (x.shape[2] - y.shape[2]) // 2, (x.shape[3] - y.shape[3]) // 2
    return torch.cat([x[:, :, dy : dy + y.shape[2], dx : dx + y.shape[3]], y], 1)


def unet(x: Tensor, up: nn.Module, *convs: nn.Module) -> Tensor:
    a = convs[0](x)
    b = convs[1](F.max_pool2d(a, 2))
    return convs[2](torch.cat([a, up(b)], 1))


def pyramid(meet: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def form(x: Tensor, down: nn.Module, lateral: nn.Module) -> Tensor:
        return meet(F.interpolate(lateral(down(x)), scale_factor=2, mode="nearest"), lateral(x))

    return form


def aspp(**given) -> Callable[..., Tensor]:
    def form(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        pooled = F.interpolate(b(F.adaptive_avg_pool2d(x, 1)), size=x.shape[2:], **given)
        return torch.cat([x, a(x), pooled], 1)

    return form


def psp(x: Tensor, align_corners: bool = True) -> Tensor:
    h, w = x.shape[2:]
    pools = [F.adaptive_avg_pool2d(x, n) for n in (1, 2, 3, 6)]
    ups = [F.interpolate(pool, (h, w), mode="bilinear", align_corners=align_corners) for pool in pools]
    return torch.cat([x, *ups], 1)


def res2(x: Tensor, *convs: nn.Module) -> Tensor:
    parts = torch.split(x, 2, 1)
    out, y = [parts[0]], None
    for part, conv in zip(parts[1:], convs, strict=True):
        y = conv(part if y is None else y + part)
        out.append(y)
    return torch.cat(out, 1)


def eca(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
    return x * y.sigmoid().expand_as(x)


def selective_kernels(x: Tensor, a: nn.Module, b: nn.Module, fc: nn.Module) -> Tensor:
    both = torch.stack([a(x), b(x)], 1)  # (B, 2, C, H, W)
    weights = fc(both.sum(1).mean((2, 3))).view(-1, 2, C).softmax(1)
    return (both * weights[..., None, None]).sum(1)


def split_attention(x: Tensor, conv: nn.Module, fc: nn.Module) -> Tensor:
    x = conv(x)  # (B, 2C, H, W)
    b, rc = x.shape[:2]
    parts = torch.split(x, rc // 2, dim=1)
    weights = fc(F.adaptive_avg_pool2d(sum(parts), 1)).view(b, 1, 2, -1).transpose(1, 2)
    weights = F.softmax(weights, dim=1).reshape(b, -1).view(b, -1, 1, 1)
    return sum(weight * part for weight, part in zip(torch.split(weights, rc // 2, 1), parts, strict=True))


def in_groups(x: Tensor, norm: nn.Module) -> Tensor:
    """Spatial group-wise enhancement: groups of channels are folded into the batch."""
    b, c, h, w = x.shape
    x = x.view(b * 4, -1, h, w)
    x = x * torch.sigmoid((x * F.adaptive_avg_pool2d(x, 1)).sum(1, keepdim=True))
    return norm(x.view(b, c, h, w))


def normalised_response(x: Tensor, gamma: nn.Parameter) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    g = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    return (gamma * (x * (g / (g.mean(dim=-1, keepdim=True) + 1e-6))) + x).permute(0, 3, 1, 2)


def mixed(x: Tensor, tokens: nn.Module, norm: nn.Module) -> Tensor:
    n, c, h, w = x.shape
    y = x.flatten(2).transpose(1, 2)
    y = y + tokens(norm(y).transpose(1, 2)).transpose(1, 2)
    return y.transpose(1, 2).reshape(n, c, h, w)


def shifted(x: Tensor) -> Tensor:
    """TSM and its like: groups of channels are moved by one."""
    out = torch.zeros_like(x)
    out[:, :2, 1:] = x[:, :2, :-1]
    out[:, 2:4, :-1] = x[:, 2:4, 1:]
    out[:, 4:] = x[:, 4:]
    return out


def rolled(x: Tensor) -> Tensor:
    return torch.roll(torch.cat([x[:, :4], torch.roll(x[:, 4:], 1, 2)], 1), (1, -1), dims=(2, 3))


def blurred(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    kernel = torch.ones(1, 1, 3, 3).to(x) / 9
    return F.conv2d(F.pad(x.view(n * c, 1, h, w), [1] * 4, mode="reflect"), kernel).view(n, c, h, w)


def below_zero(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def layers(*layers: Callable[[], nn.Module]) -> Callable[[], list[nn.Module]]:
    return lambda: [layer() for layer in layers]


SAME, HALF = layers(lambda: cbr(C, C)), layers(lambda: cbr(C, C, stride=2))
UP, FORMS = {}, {  # a form and the layers that it is given
    "view to groups and back": (shuffled,),
    "shuffled by the batch": (lambda x: torch.cat(shuffled_by_batch(x), 1),),
    "depth to space": (depth_to_space,),
    "space to depth": (space_to_depth,),
    "reorg": (reorg,),
    "there and back": (lambda x: depth_to_space(space_to_depth(x)),),
    "focus": (lambda x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),),
    "unshuffled": (lambda x: F.pixel_unshuffle(x, 4),),
    "coordinates": (coordinates,),
    "positions learned": (lambda x, p: x + p[:, :, : x.shape[2], : x.shape[3]], lambda: [nn.Parameter(torch.ones(1, C, 32, 32))]),
    "parameter expanded": (lambda x, p: x * p.view(1, -1, 1, 1).expand_as(x), lambda: [nn.Parameter(torch.ones(C))]),
    "gate times parameter": (lambda x, p: x * (gate(x) * p), lambda: [nn.Parameter(torch.ones(1, C, 16, 20))]),
    "noise": (lambda x: x + 0.1 * torch.randn_like(x) + torch.zeros_like(x),),
    "of its type": (lambda x: torch.max(x, x.new_tensor([0.0])) + x.new_full((1,), 2.0) * torch.ones_like(x[:1, :1]),),
    "clip, clamp and where": (lambda x: torch.where(x.clip(0, 6) > 1, x.clamp_min(0.1), 0.1 * x),),
    "mask of constants": (lambda x: x.masked_fill(torch.eye(16, 20).bool(), 0.0),),
    "half of it chosen": (lambda x: torch.where(torch.arange(20) < 10, x, torch.zeros_like(x)),),
    "below zero set": (below_zero,),
    "border set": (lambda x: torch.cat([x[:, :, 1:-1], torch.zeros(len(x), C, 2, 20)], 2),),
    "into zeros": (into_zeros,),
    "squared, rooted, hard": (lambda x: F.hardswish(x.pow(2).add(1).sqrt()) * F.softplus(x).tanh(),),
    "squeeze and excitation in a cat": (lambda x: torch.cat([x, x * gate(x)], 1),),
    "gate by view": (lambda x, fc: x * fc(x.mean((2, 3))).view(*x.shape[:2], 1, 1).sigmoid(), layers(lambda: nn.Linear(C, C))),
    "gate over channels": (lambda x: x * torch.sigmoid(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1).sum(1, keepdim=True)),),
    "eca": (eca, layers(lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False))),
    "ghost": (ghost, layers(lambda: cbr(C, C, groups=C))),
    "coordinate attention": (coordinate_attention, layers(lambda: cbr(C, 4, 1), lambda: nn.Conv2d(4, C, 1), lambda: nn.Conv2d(4, C, 1))),
    "strips": (strips, layers(lambda: nn.Conv2d(C, C, (3, 1), padding=(1, 0)), lambda: nn.Conv2d(C, C, (1, 3), padding=(0, 1)))),
    "selective kernels": (selective_kernels, layers(lambda: cbr(C, C), lambda: cbr(C, C, 5), lambda: nn.Linear(C, 2 * C))),
    "split attention": (split_attention, layers(lambda: cbr(C, 2 * C, groups=2), lambda: nn.Conv2d(C, 2 * C, 1))),
    "groups in the batch": (in_groups, layers(lambda: nn.GroupNorm(4, C))),
    "one filter for all channels": (blurred,),
    "stochastic depth": (stochastic_depth, SAME),
    "response normalised": (normalised_response, lambda: [nn.Parameter(torch.ones(C))]),
    "channels last": (lambda x, norm, a, b: x + b(F.gelu(a(norm(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2), layers(lambda: nn.LayerNorm(C), lambda: nn.Linear(C, 16), lambda: nn.Linear(16, C))),
    "tokens mixed": (mixed, layers(lambda: nn.Linear(320, 320), lambda: nn.LayerNorm(C))),
    "rows mixed": (lambda x, a: a(x).transpose(2, 3).contiguous().transpose(2, 3), layers(lambda: nn.Linear(20, 20))),
    "shifted": (shifted,),
    "rolled": (rolled,),
    "flipped": (lambda x: x + x.flip(3),),
    "transposed": (lambda x: x.transpose(2, 3),),
    "maxout": (lambda x: x.view(len(x), C // 2, 2, 16, 20).max(2)[0],),
    "gated linear unit": (lambda x: F.glu(x, dim=1) * x[:, ::2],),
    "cumulated": (lambda x: x.cumsum(2),),
    "sorted channels": (lambda x: x.sort(dim=1)[0] + x.topk(1, dim=1)[0],),
    "l2 norm": (lambda x, w: w[None, :, None, None] * (x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-6)), lambda: [nn.Parameter(torch.ones(C))]),
    "1×1 as a product": (lambda x, w: torch.einsum("nchw,oc->nohw", x, w) + (w @ x.flatten(2)).view_as(x), lambda: [nn.Parameter(torch.ones(C, C))]),
    "dense": (lambda x, a, b: torch.cat([y := torch.cat([x, a(x)], 1), b(y)], 1), layers(lambda: cbr(C, 4), lambda: cbr(C + 4, 4))),
    "inception": (lambda x, a, b: torch.cat([a(x), b(x), F.max_pool2d(x, 3, 1, 1)], 1), layers(lambda: cbr(C, 4, 1), lambda: cbr(C, 4, 5))),
    "factorised": (lambda x, a, b: b(a(x)), layers(lambda: nn.Conv2d(C, C, (1, 7), padding=(0, 3)), lambda: nn.Conv2d(C, C, (7, 1), padding=(3, 0)))),
    "res2net": (res2, layers(*[lambda: cbr(2, 2)] * 3)),
    "repvgg": (lambda x, a, b, c: F.relu(a(x) + b(x) + c(x)), layers(lambda: cbr(C, C), lambda: cbr(C, C, 1), lambda: nn.BatchNorm2d(C))),
    "octave": (lambda x, a, b: (a(x) + F.interpolate(b(F.avg_pool2d(x, 2)), scale_factor=2)), layers(lambda: cbr(C, C), lambda: cbr(C, C))),
    "two resolutions": (lambda x, a, b: torch.cat([a(x) + F.interpolate(b(x), x.shape[-2:], mode="bilinear"), x], 1), layers(lambda: cbr(C, C), lambda: cbr(C, C, stride=2))),
    "pyramid added": (pyramid(lambda a, b: a + b), layers(lambda: cbr(C, C, stride=2), lambda: nn.Conv2d(C, 4, 1))),
    "pyramid stacked": (pyramid(lambda a, b: torch.stack([a, b]).sum(0)), layers(lambda: cbr(C, C, stride=2), lambda: nn.Conv2d(C, 4, 1))),
    "pyramid of the larger": (pyramid(lambda a, b: torch.stack([a, b], -1).amax(-1)), layers(lambda: cbr(C, C, stride=2), lambda: nn.Conv2d(C, 4, 1))),
    "pyramid weighted": (pyramid(lambda a, b: torch.stack([a, b], 4) @ torch.ones(2) / 2), layers(lambda: cbr(C, C, stride=2), lambda: nn.Conv2d(C, 4, 1))),
    "aspp": (aspp(mode="bilinear", align_corners=False), layers(lambda: nn.Conv2d(C, 4, 3, padding=2, dilation=2), lambda: nn.Conv2d(C, 4, 1))),
    "aspp, corners": (aspp(mode="bilinear", align_corners=True), layers(lambda: nn.Conv2d(C, 4, 3, padding=2, dilation=2), lambda: nn.Conv2d(C, 4, 1))),
    "psp": (psp,),
    "psp by centres": (lambda x: psp(x, False),),
    "odd nearest": (lambda x: F.interpolate(x, size=(27, 33)) ,),
    "nearest by a factor": (lambda x: F.interpolate(x, scale_factor=(1.3, 0.7)),),
    "nearest exact": (lambda x: F.interpolate(x, size=(29, 17), mode="nearest-exact"),),
    "bilinear by a factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=False),),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),),
    "area": (lambda x: F.interpolate(x, (5, 10), mode="area"),),
    "smaller, antialiased": (lambda x: F.interpolate(x, (8, 11), mode="bilinear", antialias=True),),
    "repeated": (lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, dim=3),),
    "expanded to twice the size": (lambda x: x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(len(x), C, 32, 40),),
    "interleaved": (interleaved, layers(lambda: nn.Conv2d(C, C, 1), lambda: cbr(C, C))),
    "u-net, padded to the skip": (to_the_skip, layers(lambda: cbr(C, C, stride=2), lambda: nn.ConvTranspose2d(C, C, 2, 2))),
    "u-net, skip cropped": (cropped_skip, layers(lambda: cbr(C, C, stride=2), lambda: nn.ConvTranspose2d(C, C, 2, 2))),
    "transposed with holes": (lambda x, up: up(x), layers(lambda: nn.ConvTranspose2d(C, C, 1, 2, output_padding=1))),
    "windows": (lambda x: F.unfold(x, 3, padding=1).view(len(x), C, 9, 16, 20).mean(2),),
    "patches": (lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4).contiguous().view(len(x), -1, 4, 5),),
    "rebuilt in each step": (lambda x, a: a(a(x)) + a(x), SAME),
}
for name, up in {
    "transposed": lambda: nn.ConvTranspose2d(C, C, 4, 2, 1), "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "corners": lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "shuffled": lambda: nn.Sequential(nn.Conv2d(C, 4 * C, 1), nn.PixelShuffle(2)),
}.items():
    FORMS[f"u-net, {name}"] = (unet, layers(up, lambda: cbr(C, C), lambda: cbr(C, C), lambda: cbr(2 * C, 4)))


@pytest.mark.parametrize("flat", FLAT.values(), ids=FLAT)
def test_every_way_to_a_vector(flat):
    check(Between(flat))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_map(name):
    form, *make = FORMS[name]
    check(Between(form, *(make[0]() if make else [])))


def check(model: nn.Module, input_size: tuple[int, int, int] = SIZE) -> list:
    """Compare each row that is a module called once, and the output, with what NaN reaches."""
    rows = layer_table(model, input_size)
    assert sum(row.params for row in rows) == sum(p.numel() for p in model.parameters())
    outputs, calls = run_with_lines_of_nan(model, input_size)
    compared = 0
    pairs = [(row, outputs[row.name]) for row in rows if calls[row.name] == 1]
    if rows[-1].output_shape == outputs[""].shape[1:]:
        pairs.append((rows[-1], outputs[""]))
    for row, output in pairs:
        hits = output.isnan() if output.ndim == 4 else output.isnan().flatten(1)[..., None, None]
        hits = hits.any(1)
        assert not hits[-1].any()
        for i in range(hits.shape[1]):
            for j in range(hits.shape[2]):
                assert row.box((i, j)) == lines(hits[:-1, i, j], input_size[1]), (row, (i, j))
        compared += 1
    assert compared
    return rows


def run_with_lines_of_nan(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[dict[str, Tensor], Counter]:
    """Return what each module gives in float64 for images with one line, each in turn, NaN, then one without."""
    (_, height, width), outputs, calls = input_size, {}, Counter()
    images = torch.rand(height + width + 1, *input_size, dtype=torch.float64)
    for line in range(height):
        images[line, :, line] = math.nan
    for line in range(width):
        images[height + line, :, :, line] = math.nan
    hooks = []
    for path, module in model.double().eval().named_modules():

        def keep(module: nn.Module, inputs: tuple, output: object, path: str = path) -> Tensor | None:
            if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):  # statistics count as constants
                output = module.forward(inputs[0].nan_to_num()) + 0 * inputs[0]
            calls[path] += 1
            if isinstance(output, Tensor):
                outputs[path] = output.clone()
            return output

        hooks.append(module.register_forward_hook(keep))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            model(images)
    finally:
        torch.set_default_dtype(torch.float32)
        for hook in hooks:
            hook.remove()
        model.float()
    return outputs, calls


def lines(hits: Tensor, height: int) -> tuple | None:
    rows, columns = hits[:height].nonzero().flatten().tolist(), hits[height:].nonzero().flatten().tolist()
    return ((rows[0], rows[-1]), (columns[0], columns[-1])) if rows and columns else None
