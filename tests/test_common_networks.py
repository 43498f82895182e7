"""Networks in the forms in which people write them: each box against what NaN in a line of the image reaches."""

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from test_receptive_field import both
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop

from helpers.receptive_field import Row, layer_table

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (2, 16, 20)
C = 8  # channels of the map, 16×20, that a form is given


def cbr(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **given) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, **given)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Between(nn.Module):
    """A 3×3 convolution, the form, and another 3×3 convolution, or a linear layer if the form leaves a vector."""

    def __init__(self, form: Callable[..., Tensor], *parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.first, self.form, self.num_parts = cbr(SIZE[0], C), form, len(parts)
        for i, part in enumerate(parts):
            setattr(self, f"part{i}", part)
        with torch.no_grad():
            left = self.eval().formed(torch.zeros(2, *SIZE))
        self.last = nn.Conv2d(left.shape[1], 3, 3, padding=1) if left.ndim == 4 else nn.Linear(left.shape[1], 3)

    def formed(self, x: Tensor) -> Tensor:
        return self.form(self.first(x), *[getattr(self, f"part{i}") for i in range(self.num_parts)])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.formed(x))


# ---- the oracle ----


def check(model: nn.Module, input_size: tuple[int, int, int] = SIZE) -> list[Row]:
    """Compare each row that is a module called once, and the output, with what NaN reaches."""
    rows = layer_table(model, input_size)
    assert sum(row.params for row in rows) == sum(p.numel() for p in model.parameters())
    outputs, calls = outputs_with_nan(model, input_size)
    pairs = [(row, outputs[row.name]) for row in rows if calls[row.name] == 1 and row.name in outputs]
    for row, output in (*pairs, (rows[-1], outputs[""])):
        maps = output if output.ndim == 4 else output.reshape(len(output), -1, 1, 1)
        assert row.output_shape == output.shape[1:]
        hits = maps.isnan().any(1)
        assert not hits[-1].any(), "the image without NaN has one"
        height, width = hits.shape[1:]
        for i, j in {(height // 2, width // 2), *((i, min(i, width - 1)) for i in range(height)), (0, width - 1)}:
            assert row.box((i, j)) == box(hits[:-1, i, j], input_size[1]), (row, (i, j))
    return rows


def outputs_with_nan(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[dict[str, Tensor], Counter]:
    """Return what each module gives in float64 for images with one line, each in turn, NaN, and a last one without."""
    (_, height, width), outputs, calls = input_size, {}, Counter()
    images = torch.rand(height + width + 1, *input_size, dtype=torch.float64)
    for line in range(height):
        images[line, :, line] = math.nan
    for line in range(width):
        images[height + line, :, :, line] = math.nan
    for path, module in model.double().eval().named_modules():

        def keep(module: nn.Module, inputs: tuple, output: object, path: str = path) -> Tensor | None:
            if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):  # statistics count as constants
                output = module.forward(inputs[0].nan_to_num()) + 0 * inputs[0]
            calls[path] += 1
            if isinstance(output, Tensor):
                outputs[path] = output.clone()
            return output

        module.register_forward_hook(keep)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            model(images)
    finally:
        torch.set_default_dtype(torch.float32)
    return outputs, calls


def box(hits: Tensor, height: int) -> tuple | None:
    """Return ((top, bottom), (left, right)) of the lines that hit, those of ``height`` rows first."""
    rows, columns = hits[:height].nonzero().flatten().tolist(), hits[height:].nonzero().flatten().tolist()
    return ((rows[0], rows[-1]), (columns[0], columns[-1])) if rows and columns else None


# ---- ways to a vector ----

FLAT = {
    "view by size": lambda x: x.view(x.size(0), -1),
    "view by features": lambda x: x.view(-1, C * 16 * 20),
    "view by a product": lambda x: x.view(-1, math.prod(x.shape[1:])),
    "view with all sizes": lambda x: x.view(*x.shape[:1], x.shape[1] * x.shape[2] * x.shape[3]),
    "reshape by len": lambda x: x.reshape(len(x), -1),
    "reshape_as": lambda x: x.reshape_as(x.new_zeros(len(x), C * 320)),
    "flatten in two steps": lambda x: x.flatten(2).flatten(1),
    "flatten from the end": lambda x: torch.flatten(x, -3, -1),
    "transposed first": lambda x: x.transpose(1, 3).contiguous().view(x.size(0), -1),
    "image by image": lambda x: torch.stack([image.flatten() for image in x]),
    "image by image, joined": lambda x: torch.cat([x[i].reshape(1, -1) for i in range(x.size(0))]),
    "one position": lambda x: x[:, :, 0, 0],
    "one position, chosen twice": lambda x: x[..., 3].select(-1, -1),
    "mean over sides": lambda x: x.mean([2, 3]),
    "mean of a view": lambda x: x.view(x.size(0), x.size(1), -1).mean(2),
    "amax": lambda x: x.amax(dim=(-2, -1)),
    "pooled and squeezed": lambda x: F.avg_pool2d(x, x.shape[2:]).squeeze(),
    "max pooled to a view": lambda x: F.max_pool2d(x, kernel_size=x.size()[2:]).view(x.size(0), -1),
    "both pools": lambda x: torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1).flatten(1),
    "a pyramid of pools": lambda x: torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in (1, 2, 4)], 1),
    "norm and max": lambda x: x.flatten(2).norm(dim=2) + x.flatten(2).max(dim=2)[0],
    "weighted mean": lambda x: torch.einsum("nchw,hw->nc", x, torch.ones(16, 20)) + x.flatten(2) @ torch.ones(320),
    "spatial softmax": lambda x: (x.flatten(2).softmax(-1) * torch.linspace(-1, 1, 320)).sum(-1),
}


@pytest.mark.parametrize("flat", FLAT.values(), ids=FLAT)
def test_every_way_to_a_vector(flat):
    check(Between(flat))


# ---- what is done to a map ----


def gate(x: Tensor) -> Tensor:
    return torch.sigmoid(x.mean((2, 3), keepdim=True))


def shuffled(x: Tensor, groups: int = 4) -> Tensor:
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def depth_to_space(x: Tensor, by: int = 2) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, by, by, c // by**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // by**2, h * by, w * by)


def space_to_depth(x: Tensor, by: int = 2) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // by, by, w // by, by).permute(0, 3, 5, 1, 2, 4).contiguous()
    return x.view(n, c * by**2, h // by, w // by)


def coordinates(x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
    columns = torch.linspace(-1, 1, w).repeat(n, 1, h, 1).to(x)
    return torch.cat([x, rows.type_as(x), columns, torch.sqrt(rows**2 + columns**2).to(x.dtype)], 1)


def by_form_alone(x: Tensor) -> Tensor:
    x = x + torch.zeros_like(x) + torch.ones(C, 1, 1).expand_as(x) + 0.1 * torch.randn_like(x).abs()
    return torch.max(x, x.new_tensor([0.0])) * x.new_full((1,), 2.0) + x.new_zeros(x.shape)


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


def into_zeros(x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), C, 18, 22)
    out[:, :, 1:-1, 1:-1] = x
    out[:, :2, 1] = 1.0
    return out


def through_a_view(x: Tensor) -> Tensor:
    out = torch.zeros(len(x), C, 32, 20)
    out[:, :, 8:24].copy_(x)
    return out


def interleaved(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    out = torch.empty(len(x), C, 16, 40)
    out[..., ::2], out[..., 1::2] = a(x), b(x)
    return out


def padded_to_the_skip(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    skip = x[:, :, :-1, :-1]
    y = up(down(skip))
    dy, dx = skip.size(2) - y.size(2), skip.size(3) - y.size(3)
    return torch.cat([skip, F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])], 1)


def skip_cropped(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    y = up(down(x[:, :, 2:-2]))
    return torch.cat([center_crop(x, y.shape[2:]), y], 1)


def resized_to_the_skip(x: Tensor, down: nn.Module) -> Tensor:
    skip = x[:, :, 1:, 1:]  # 15×19: half of it is 8×10
    return torch.cat([skip, F.interpolate(down(skip), size=skip.shape[2:])], 1)


def unet(x: Tensor, up: nn.Module, *convs: nn.Module) -> Tensor:
    a = convs[0](x)
    return convs[2](torch.cat([a, up(convs[1](F.max_pool2d(a, 2)))], 1))


def pyramid(meet: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, down, side: meet(F.interpolate(side(down(x)), scale_factor=2, mode="nearest"), side(x))


def aspp(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    pooled = F.interpolate(b(F.adaptive_avg_pool2d(x, 1)), size=x.shape[2:], mode="bilinear")
    return torch.cat([x, a(x), pooled], 1)


def psp(x: Tensor) -> Tensor:
    pools = [F.adaptive_avg_pool2d(x, n) for n in (1, 2, 3, 6)]
    return torch.cat([x, *(F.interpolate(pool, x.shape[2:], mode="bilinear") for pool in pools)], 1)


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


def groups_in_the_batch(x: Tensor, norm: nn.Module) -> Tensor:
    """Spatial group-wise enhancement."""
    b, c, h, w = x.shape
    x = x.view(b * 4, -1, h, w)
    x = x * torch.sigmoid((x * F.adaptive_avg_pool2d(x, 1)).sum(1, keepdim=True))
    return norm(x.view(b, c, h, w))


def one_filter_for_all(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    blur = torch.ones(1, 1, 3, 3).to(x) / 9
    return F.conv2d(F.pad(x.view(n * c, 1, h, w), [1] * 4, mode="reflect"), blur).view(n, c, h, w)


def channels_last(x: Tensor, norm: nn.Module, a: nn.Module, b: nn.Module, gamma: nn.Parameter) -> Tensor:
    """ConvNeXt V2: its response normalisation lets each unit see the whole map."""
    y = F.gelu(a(norm(x.permute(0, 2, 3, 1))))
    g = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
    y = gamma * (y * (g / (g.mean(dim=-1, keepdim=True) + 1e-6))) + y
    return x + b(y).permute(0, 3, 1, 2)


def kept_last(x: Tensor, a: nn.Module, conv: nn.Module) -> Tensor:
    """Gated convolution with channels last, as in MambaOut."""
    x = x.permute(0, 2, 3, 1)
    g, c = torch.split(a(x), [C, C], dim=-1)
    return (x + F.gelu(g) * conv(c.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def tokens_mixed(x: Tensor, mix: nn.Module, norm: nn.Module) -> Tensor:
    y = x.flatten(2).transpose(1, 2)
    y = y + mix(norm(y).transpose(1, 2)).transpose(1, 2)
    return y.transpose(1, 2).reshape(x.shape)


def triplet(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    """Triplet attention: convolutions over channels and columns, and over channels and rows."""
    for conv, order in ((a, (0, 2, 1, 3)), (b, (0, 3, 2, 1))):
        y = x.permute(order).contiguous()
        y = y * torch.sigmoid(conv(torch.cat([y.max(1)[0].unsqueeze(1), y.mean(1).unsqueeze(1)], 1)))
        x = y.permute(order)
    return x


def shifted(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :2, 1:] = x[:, :2, :-1]
    out[:, 2:4, :-1] = x[:, 2:4, 1:]
    out[:, 4:] = x[:, 4:]
    return out


def below_zero_set(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def yolo_head(x: Tensor, conv: nn.Module) -> Tensor:
    n, _, h, w = x.shape
    y = conv(x).view(n, 2, 6, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    y[..., 0:2] = (y[..., 0:2] * 2 - 0.5 + torch.stack([columns, rows], -1)) * 8
    y[..., 2:4] = (y[..., 2:4] * 2) ** 2
    return y.permute(0, 1, 4, 2, 3).reshape(n, 12, h, w)


def layers(*makers: Callable[[], nn.Module]) -> Callable[[], list[nn.Module]]:
    return lambda: [make() for make in makers]


def parameter(*shape: int) -> Callable[[], list[nn.Parameter]]:
    return lambda: [nn.Parameter(torch.ones(*shape))]


SAME, DOWN = lambda: cbr(C, C), lambda: cbr(C, C, stride=2)
SIDE = layers(DOWN, lambda: nn.Conv2d(C, 4, 1))
ATROUS = layers(lambda: nn.Conv2d(C, 4, 3, padding=2, dilation=2), lambda: nn.Conv2d(C, 4, 1))
ALL = ((18, 22), 0)  # what each unit of the last layer sees, and its jump, where the form lets all see all

# fmt: off
FORMS = {  # a form, receptive field and jump of the last layer by hand (None: varies; blank: not told), its parts
    "channel shuffle": (shuffled, 5, 1),
    "depth to space": (depth_to_space, 4, 0.5),  # 3 at a jump of 1/2, then three neighbours: 1 more
    "space to depth": (space_to_depth, 8, 2),  # 4 at a jump of 2, then 4 more
    "there and back": (lambda x: depth_to_space(space_to_depth(x)), 5, 1),
    "focus": (lambda x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1), 8, 2),
    "patches merged": (lambda x: torch.cat([x.permute(0, 2, 3, 1)[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
                       .permute(0, 3, 1, 2), 8, 2),
    "permuted and back": (lambda x: x.permute(0, 2, 1, 3).relu().permute(0, 2, 1, 3), 5, 1),
    "transposed and back": (lambda x: x.transpose(2, 3).relu().mT, 5, 1),
    "patches": (lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 1, 4, 5, 2, 3).reshape(len(x), -1, 4, 5), 14, 4),
    "neighbours": (lambda x: F.unfold(x, 3, padding=1).view(len(x), C, 9, 16, 20).mean(2), 7, 1),
    "coordinates": (coordinates, 5, 1),
    "by form alone": (by_form_alone, 5, 1),
    "positions learned": (lambda x, p: x + p[:, :, : x.shape[2], : x.shape[3]], 5, 1, parameter(1, C, 32, 32)),
    "parameter expanded": (lambda x, p: x * p.view(1, -1, 1, 1).expand_as(x), 5, 1, parameter(C)),
    "gate times parameter": (lambda x, p: gate(x) * p, *ALL, parameter(1, C, 16, 20)),
    "clip, clamp and where": (lambda x: torch.where(x.clip(0, 6) > 1, x.clamp_min(0.1), 0.1 * x), 5, 1),
    "mask of constants": (lambda x: x.masked_fill(torch.eye(16, 20).bool(), 0.0), 5, 1),
    "half of it chosen": (lambda x: torch.where(torch.arange(20) < 10, x, torch.zeros_like(x)), 5, 1),
    "below zero set": (below_zero_set, 5, 1),
    "rows of zeros joined": (lambda x: torch.cat([x[:, :, 1:-1], torch.zeros(len(x), C, 2, 20)], 2), 5, 1),
    "into zeros": (into_zeros, 5, 1),
    "through a view": (through_a_view, 5, 1),
    "interleaved": (interleaved, (5, 4), (1, 0.5), layers(lambda: nn.Conv2d(C, C, 1), lambda: nn.Conv2d(C, C, 1))),
    "ghost": (ghost, 7, 1, layers(lambda: cbr(C, C, groups=C))),
    "yolo's head": (yolo_head, 5, 1, layers(lambda: nn.Conv2d(C, 12, 1))),
    "squeeze and excitation in a cat": (lambda x: torch.cat([x, x * gate(x)], 1), *ALL),
    "gate by view": (lambda x, fc: x * fc(x.mean((2, 3))).view(*x.shape[:2], 1, 1).sigmoid(), *ALL,
                     layers(lambda: nn.Linear(C, C))),
    "spatial gate": (lambda x: x * torch.cat([x.mean(1, True), x.max(1, True)[0]], 1).sum(1, True).sigmoid(), 5, 1),
    "eca": (eca, *ALL, layers(lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False))),
    "coordinate attention": (coordinate_attention, *ALL,
                             layers(lambda: cbr(C, 4, 1), lambda: nn.Conv2d(4, C, 1), lambda: nn.Conv2d(4, C, 1))),
    "strips": (strips, (20, 22), 0,
               layers(lambda: nn.Conv2d(C, C, (3, 1), padding=(1, 0)), lambda: nn.Conv2d(C, C, 1))),
    "triplet": (triplet, (18, 28), 0, layers(*[lambda: nn.Conv2d(2, 1, 7, padding=3)] * 2)),
    "selective kernels": (selective_kernels, (22, 26), 0,
                          layers(SAME, lambda: cbr(C, C, 5), lambda: nn.Linear(C, 2 * C))),
    "groups in the batch": (groups_in_the_batch, *ALL, layers(lambda: nn.GroupNorm(4, C))),
    "one filter for all": (one_filter_for_all, 7, 1),
    "channels last": (channels_last, *ALL, lambda: [nn.LayerNorm(C), nn.Linear(C, 16), nn.Linear(16, C),
                                                    nn.Parameter(torch.ones(16))]),
    "channels kept last": (kept_last, 11, 1, layers(lambda: nn.Linear(C, 2 * C),
                                                    lambda: nn.Conv2d(C, C, 7, padding=3, groups=C))),
    "tokens mixed": (tokens_mixed, *ALL, layers(lambda: nn.Linear(320, 320), lambda: nn.LayerNorm(C))),
    "rows mixed": (lambda x, a: a(x), (5, 22), (1, 0), layers(lambda: nn.Linear(20, 20))),
    "shifted": (shifted, (7, 5), 1),
    "flipped": (lambda x: x + x.flip(3), (5, 20), None),
    "rolled": (lambda x: torch.roll(x, (1, -1), dims=(2, 3)), (16, 20), None),
    "transposed": (lambda x: x.transpose(2, 3), 5, None),
    "maxout": (lambda x: x.view(len(x), C // 2, 2, 16, 20).max(2)[0], 5, 1),
    "gated linear unit": (lambda x: F.glu(x, dim=1) * x[:, ::2], 5, 1),
    "cumulated": (lambda x: x.cumsum(2), (16, 5), None),
    "sorted channels": (lambda x: F.normalize(x.movedim(1, 3).sort()[0].movedim(3, 1)) + x.topk(1, dim=1)[0], 5, 1),
    "channels compared": (lambda x: x * F.cosine_similarity(x, x.flip(1))[:, None], 5, 1),
    "1×1 as a product": (lambda x, w: torch.einsum("nchw,oc->nohw", x, w) + (w @ x.flatten(2)).view_as(x), 5, 1,
                         parameter(C, C)),
    "over three dimensions": (lambda x, a: a(x.unsqueeze(1)).squeeze(1), 7, 1,
                              layers(lambda: nn.Conv3d(1, 1, 3, padding=1))),
    "row by row": (lambda x, a: a(x.transpose(1, 2).reshape(-1, C, 20)).view(len(x), 16, C, 20).transpose(1, 2),
                   (5, 7), 1, layers(lambda: nn.Conv1d(C, C, 3, padding=1))),
    "dense": (lambda x, a, b: torch.cat([y := torch.cat([x, a(x)], 1), b(y)], 1), 9, 1,
              layers(lambda: cbr(C, 4), lambda: cbr(C + 4, 4))),
    "inception": (lambda x, a, b: torch.cat([a(x), b(x), F.max_pool2d(x, 3, 1, 1)], 1), 9, 1,
                  layers(lambda: cbr(C, 4, 1), lambda: cbr(C, 4, 5))),
    "res2net": (res2, 11, 1, layers(*[lambda: cbr(2, 2)] * 3)),
    "repvgg": (lambda x, a, b, c: F.relu(a(x) + b(x) + c(x)), 7, 1,
               layers(SAME, lambda: cbr(C, C, 1), lambda: nn.BatchNorm2d(C))),
    "two resolutions": (lambda x, a: torch.cat([x, F.interpolate(a(x), x.shape[-2:], mode="bilinear")], 1), 9, 1,
                        layers(DOWN)),
    "pyramid added": (pyramid(lambda a, b: a + b), 7, 1, SIDE),  # 5 at a jump of 2, one of two neighbours more
    "pyramid stacked": (pyramid(lambda a, b: torch.stack([a, b]).sum(0)), 7, 1, SIDE),
    "pyramid weighted": (pyramid(lambda a, b: torch.stack([a, b], 4) @ torch.ones(2) / 2), 7, 1, SIDE),
    "aspp": (aspp, (22, 26), 0, ATROUS),
    "aspp, tiled": (lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).repeat(1, 1, 16, 20)], 1), *ALL),
    "psp": (psp, None, 0),
    "nearest to odd sizes": (lambda x: F.interpolate(x, size=(27, 46)), None, (Fraction(16, 27), Fraction(10, 23))),
    "nearest by a factor": (lambda x: F.interpolate(x, scale_factor=(1.3, 0.7)), None,
                            (Fraction(10, 13), Fraction(10, 7))),
    "nearest exact": (lambda x: F.interpolate(x, size=(29, 17), mode="nearest-exact"),),
    "bilinear by a factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 7, 0.5),  # of three units five positions
    "area": (lambda x: F.interpolate(x, (4, 10), mode="area"), (14, 8), (4, 2)),
    "smaller, antialiased": (lambda x: F.interpolate(x, (8, 11), mode="bilinear", antialias=True),),
    "repeated": (lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, dim=3), 4, 0.5),
    "expanded to twice the size": (lambda x: x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
                                   .reshape(len(x), C, 32, 40), 4, 0.5),
    "from a vector": (lambda x, fc: F.interpolate(fc(x.mean((2, 3))).view(-1, C, 2, 2), scale_factor=4), *ALL,
                      layers(lambda: nn.Linear(C, C * 4))),
    "padded to the skip": (padded_to_the_skip, 7, 1, layers(DOWN, lambda: nn.ConvTranspose2d(C, C, 2, 2))),
    "skip cropped": (skip_cropped, 7, 1, layers(DOWN, lambda: nn.ConvTranspose2d(C, C, 2, 2))),
    "resized to the skip": (resized_to_the_skip, 7, 1, layers(DOWN)),
    "transposed with holes": (lambda x, up: up(x), 4, 0.5, layers(lambda: nn.ConvTranspose2d(C, C, 1, 2))),
    # After 5: pooled 6 at a jump of 2, 10 by a convolution. A unit's two neighbours may lie in two others: 12 and more.
    "u-net, transposed": (unet, 16, 1, layers(lambda: nn.ConvTranspose2d(C, C, 4, 2, 1), SAME, SAME,
                                                lambda: cbr(2 * C, 4))),
    "u-net, nearest": (unet, 14, 1, layers(lambda: nn.Upsample(scale_factor=2), SAME, SAME, lambda: cbr(2 * C, 4))),
    "u-net, bilinear": (unet, 16, 1, layers(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), SAME, SAME,
                                              lambda: cbr(2 * C, 4))),
    "u-net, corners": (unet, None, None, layers(lambda: nn.UpsamplingBilinear2d(scale_factor=2), SAME, SAME,
                                                lambda: cbr(2 * C, 4))),
    "u-net, shuffled": (unet, 14, 1, layers(lambda: nn.Sequential(nn.Conv2d(C, 4 * C, 1), nn.PixelShuffle(2)), SAME,
                                            SAME, lambda: cbr(2 * C, 4))),
}
# fmt: on


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_map(name):
    form, *told = FORMS[name]
    parts = told.pop()() if told and callable(told[-1]) else []
    row = check(Between(form, *parts))[-1]
    if told:
        field, jump = told
        assert row.jump == both(jump)
        assert field is None or row.receptive_field == both(field)
