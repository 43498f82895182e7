"""Computed boxes against measured ones, against gradients, against published numbers, and by hand."""

import random
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from helpers.model import Net
from helpers.receptive_field import (
    Row,
    geometry,
    layer_table,
    measured_receptive_field,
    perturbation,
    slide,
    stages,
    to_markdown,
)

STAGES_OF_NET = """
| Layer | Operation         |    Input |   Output | Receptive field | Jump | Parameters |
| ----- | ----------------- | -------: | -------: | --------------: | ---: | ---------: |
| conv1 | Conv2d(1, 8, 3)   |  28×28×1 |  26×26×8 |             3×3 |  1×1 |         88 |
| conv2 | Conv2d(8, 16, 3)  |  26×26×8 | 24×24×16 |             5×5 |  1×1 |      1,184 |
| pool1 | MaxPool2d(2, 2)   | 24×24×16 | 12×12×16 |             6×6 |  2×2 |          0 |
| conv3 | Conv2d(16, 32, 1) | 12×12×16 | 12×12×32 |             6×6 |  2×2 |        576 |
| conv4 | Conv2d(32, 16, 3) | 12×12×32 | 10×10×16 |           10×10 |  2×2 |      4,640 |
| conv5 | Conv2d(16, 8, 3)  | 10×10×16 |    8×8×8 |           14×14 |  2×2 |      1,168 |
| conv6 | Conv2d(8, 16, 1)  |    8×8×8 |   8×8×16 |           14×14 |  2×2 |        160 |
| conv7 | Conv2d(16, 8, 3)  |   8×8×16 |    6×6×8 |           18×18 |  2×2 |      1,168 |
| fc    | Linear(288, 10)   |      288 |       10 |           28×28 |  2×2 |      2,890 |

Total: 11,874 parameters

Note: the central unit of conv7, the last layer with a map, sees 18×18 of 28×28 pixels.
"""


*MODULES, LAST_MODULE = [name for name, module in Net().named_modules() if not list(module.children())]
ROWS_OF_NET = [*MODULES, "flatten", LAST_MODULE, "log_softmax"]


pytestmark = pytest.mark.usefixtures("one_thread")


class Toy(nn.Module):
    """A network of the given layers, with a function for its forward pass."""

    def __init__(self, compute: Callable[["Toy", Tensor], Tensor], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.compute = compute
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


class Meet(nn.Module):
    """Branches that all read the same input, and the function in which they meet."""

    def __init__(self, meet: Callable[[list[Tensor]], Tensor], *branches: nn.Module) -> None:
        super().__init__()
        self.meet, self.branches = meet, nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return self.meet([branch(x) for branch in self.branches])


def conv(kernel: int | tuple = 3, *, channels: tuple[int, int] = (1, 1), **kwargs) -> nn.Conv2d:
    return nn.Conv2d(*channels, kernel, **kwargs)


def sees(row: Row) -> tuple:
    return row.receptive_field, row.jump, row.start


def both(value: object) -> tuple:
    """Return ``value`` for rows and columns; a single one holds for both."""
    return value if isinstance(value, tuple) else (value, value)


def some_units(row: Row) -> set[tuple[int, int]]:
    height, width = row.output_shape[1:] or (1, 1)
    return {(i, j) for i in (0, height // 2, height - 1) for j in (0, width - 1)}


# ---- the assignment's network ----


def test_stages_of_the_network_are_the_assignments_table():
    assert to_markdown(stages(layer_table(Net()))) == STAGES_OF_NET.strip()


def test_every_operation_has_a_row_and_the_parameters_add_up():
    model = Net()
    rows = layer_table(model)
    assert [row.name for row in rows] == ROWS_OF_NET
    assert sum(row.params for row in rows) == sum(p.numel() for p in model.parameters()) == 11_874
    assert [row.input_shape for row in rows[1:]] == [row.output_shape for row in rows[:-1]]


def test_computed_boxes_of_the_network_are_the_measured_ones():
    model = Net()
    for row in layer_table(model):
        assert row.box() == measured_receptive_field(model, row.name), row


@pytest.mark.parametrize("batch_norm", ["before", "none"])
def test_variants_of_the_network_have_the_same_stages(batch_norm):
    usual, variant = (stages(layer_table(model)) for model in (Net(), Net(batch_norm=batch_norm)))
    assert [(row.name, *sees(row)) for row in usual] == [(row.name, *sees(row)) for row in variant]


# ---- small networks, by hand ----


def in_a_row(xs: list[Tensor]) -> Tensor:
    return torch.cat(xs, 1)


def times(xs: list[Tensor]) -> Tensor:
    return xs[0] * xs[1]


def talkative(toy: Toy, x: Tensor, pool: bool = True) -> Tensor:
    print(x.shape)
    assert x.dim() == 4, f"{x.shape}"
    x = toy.conv(x.float() if x.dtype == torch.float16 else x)
    return F.max_pool2d(x, 2) if pool and x.shape[2] > 4 else x


TO_GATE = [conv(3), nn.AdaptiveAvgPool2d(1), nn.Sigmoid()]
TO_VECTOR = [conv(1), nn.AdaptiveMaxPool2d(1), nn.Flatten()]

# fmt: off
BY_HAND = {  # a network, its input, the last row's field, jump and start (one holds for both axes), a unit and its box
    "stride": (nn.Sequential(conv(3, stride=2), conv(3)), (1, 11, 11), (7, 2, 0), (0, 0), ((0, 6), (0, 6))),
    "dilation, padding only seen through holes": (nn.Sequential(conv(2, dilation=4, padding=2)), (1, 6, 6),
                                                  (5, 1, -2), (0, 5), ((2, 2), (3, 3))),
    "kernel, stride, padding and dilation that differ": (
        nn.Sequential(conv((3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1)), conv((1, 3))), (1, 9, 12),
        ((5, 6), (1, 2), (-1, 0)), (0, 1), ((1, 3), (2, 7))),
    "padding of an inner layer shows nothing": (nn.Sequential(conv(3, stride=3), conv(3, padding=1)), (1, 8, 8),
                                                (9, 3, -3), (1, 1), ((0, 5), (0, 5))),
    "nothing but padding": (nn.Sequential(conv(1, padding=2)), (1, 3, 3), (1, 1, -2), (0, 3), None),
    "padding to the same size, more on the far side": (nn.Sequential(conv((2, 4), padding="same")), (1, 6, 6),
                                                       ((2, 4), 1, (0, -1)), (5, 0), ((5, 5), (0, 2))),
    "windows that reach over the edge": (
        nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, 1, padding=1)), (1, 6, 6),
        (5, 2, -2), (3, 0), ((4, 5), (0, 2))),
    "a longer branch": (
        Meet(sum, nn.Identity(), nn.Sequential(conv(3, padding=1), nn.ReLU(), conv(3, padding=1))), (1, 9, 9),
        (5, 1, -2), (4, 0), ((2, 6), (0, 2))),
    "branches to either side": (Meet(in_a_row, nn.ZeroPad2d((2, 0, 0, 1)), nn.ZeroPad2d((0, 2, -1, 2))), (1, 5, 5),
                                ((2, 3), 1, (0, -2)), (2, 3), ((2, 3), (1, 3))),
    "global pooling given back": (Meet(times, conv(3), nn.Sequential(*TO_GATE)), (1, 8, 9),
                                  ((8, 9), 0, 0), (0, 0), ((0, 7), (0, 8))),
    "an image's mean given to a wider map": (Meet(times, conv(3, padding=1), nn.AdaptiveAvgPool2d(1)), (1, 8, 9),
                                             ((10, 11), 0, -1), (0, 0), ((0, 7), (0, 8))),
    "pooling into equal parts": (nn.Sequential(conv(3), nn.AdaptiveAvgPool2d((3, 2))), (1, 8, 10),
                                 ((4, 6), (2, 4), 0), (1, 1), ((2, 5), (4, 9))),
    "functions": (
        Toy(lambda toy, x: F.avg_pool2d(input=F.relu(F.max_pool2d(toy.conv(x), (2, 1))), kernel_size=2, stride=1),
            conv=conv(3)), (1, 9, 9),
        ((6, 4), (2, 1), 0), (1, 1), ((2, 7), (1, 4))),
    "a vector, and what comes after it": (
        Toy(lambda toy, x: toy.fc(toy.conv(x).view(x.size(0), -1)).softmax(1), conv=conv(3, stride=2),
            fc=nn.Linear(9, 2)), (1, 8, 8),
        (7, 2, 0), None, ((0, 6), (0, 6))),
    "vectors that meet, from maps of unlike jumps": (
        Meet(in_a_row, nn.Sequential(conv(3, stride=2), nn.Flatten()), nn.Sequential(*TO_VECTOR)), (1, 8, 8),
        (8, None, 0), None, ((0, 7), (0, 7))),
    "what is printed, asserted and decided by shape": (Toy(talkative, conv=conv(3)), (1, 9, 9),
                                                       (4, 2, 0), (0, 1), ((0, 3), (2, 5))),
    "several GPUs": (nn.DataParallel(nn.Sequential(conv(3), nn.DataParallel(conv(3)))), (1, 9, 9),
                     (5, 1, 0), (0, 4), ((0, 4), (4, 8))),
    "compiled": (torch.compile(nn.Sequential(conv(3), torch.compile(conv(3)))), (1, 9, 9),
                 (5, 1, 0), (0, 4), ((0, 4), (4, 8))),
}
# fmt: on


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("model", "input_size", "theory", "unit", "box"), BY_HAND.values(), ids=BY_HAND)
def test_small_networks(model, input_size, theory, unit, box, capsys):
    rows = layer_table(model, input_size)
    assert sees(rows[-1]) == tuple(map(both, theory))
    assert rows[-1].box(unit) == box
    for row in rows:
        for unit in some_units(row):
            assert row.box(unit) == measured_receptive_field(model, row.name, unit, input_size), (row, unit)
    assert capsys.readouterr().out == ""


# ---- any network ----


@st.composite
def layers(draw, size: tuple[int, int], channels: int) -> nn.Module:
    """Draw a layer, or a block of branches, that takes ``channels`` maps and gives as many."""
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    kinds = ["conv", "conv", "max", "average", "pointwise", "branches", "branches", "excite", "other", "other", "other"]
    kind = draw(st.sampled_from(kinds))
    if kind == "other":
        return draw(others(size, channels))
    if kind == "conv":
        kernel, stride, padding, dilation = pair(1, 4), pair(1, 3), pair(0, 3), pair(1, 3)
        return conv(kernel, channels=(channels, channels), stride=stride, padding=padding, dilation=dilation)
    if kind in ("max", "average"):
        kernel, stride, ceil_mode = pair(1, 4), pair(1, 3), draw(st.booleans())
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        if kind == "average":
            return nn.AvgPool2d(kernel, stride, padding, ceil_mode)
        return nn.MaxPool2d(kernel, stride, padding, dilation=pair(1, 2), ceil_mode=ceil_mode)
    if kind == "pointwise":
        return draw(st.sampled_from([nn.ReLU(), nn.ReLU6(inplace=True), nn.BatchNorm2d(channels), nn.Hardswish()]))
    if kind == "excite":
        return Meet(times, nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sigmoid()))
    # Kernels that are odd, and padded by half of what they span, leave branches of one size for any stride.
    stride, branches = pair(1, 2), []
    meet, outputs, num_branches = draw(st.sampled_from([(sum, channels, 3), (in_a_row, 1, channels)]))
    for _ in range(num_branches):
        (top, left), dilation = pair(0, 2), pair(1, 2)
        kernel, padding = (2 * top + 1, 2 * left + 1), (top * dilation[0], left * dilation[1])
        branches.append(conv(kernel, channels=(channels, outputs), stride=stride, padding=padding, dilation=dilation))
    return Meet(meet, *branches)


@st.composite
def others(draw, size: tuple[int, int], channels: int) -> nn.Module:
    """Draw an operation that a course's later sessions have."""
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    pair = lambda low, high: (number(low, high), number(low, high))  # noqa: E731
    kernel, stride = number(2, 4), number(1, 2)
    pads, step, corner = [number(-1, 2) for _ in range(4)], number(1, 3), number(0, 2)
    mode = draw(st.sampled_from(["reflect", "replicate", "circular"]))
    normalised = nn.GroupNorm(1, channels), nn.LayerNorm([channels, *size]), nn.InstanceNorm2d(channels)
    return draw(
        st.sampled_from(
            [
                *normalised,
                nn.Upsample(scale_factor=number(2, 3)),
                nn.Upsample(scale_factor=number(2, 3), mode="bilinear"),
                nn.Upsample(size=pair(1, 20), mode="nearest-exact"),
                nn.ConvTranspose2d(channels, channels, kernel, stride, number(0, 1), dilation=number(1, 2)),
                nn.Sequential(conv(1, channels=(channels, 4 * channels)), nn.PixelShuffle(2)),
                nn.Sequential(nn.PixelUnshuffle(2), conv(1, channels=(4 * channels, channels))),
                conv(3, channels=(channels, channels), padding=number(1, 2), padding_mode=mode),
                nn.AdaptiveAvgPool2d(pair(1, 8)),
                nn.LocalResponseNorm(3),
                Toy(lambda toy, x: F.pad(x, pads)),
                Toy(lambda toy, x: x[:, :, corner::step, ::step]),
                Toy(lambda toy, x: torch.cat([x, x[:, -1:] + 1], 1)[:, 1:]),
                Toy(lambda toy, x: x.flip(1) * x.mean(3, keepdim=True).expand_as(x)),
                Toy(lambda toy, x: x.permute(0, 2, 3, 1).softmax(3).permute(0, 3, 1, 2)),
            ]
        )
    )


@st.composite
def networks(draw) -> tuple[nn.Module, tuple[int, int, int]]:
    """Draw one to five layers that fit an image of up to 20 x 20 pixels."""
    channels = draw(st.integers(1, 2))
    input_size = channels, draw(st.integers(5, 20)), draw(st.integers(5, 20))
    chain, x = [], torch.zeros(1, *input_size)
    for _ in range(draw(st.integers(1, 5))):
        layer = draw(layers(x.shape[2:], channels)).eval()
        try:
            out = layer(x)
        except (RuntimeError, ValueError):  # the map has become smaller than the kernel
            continue
        # A dilated max pooling gives -inf where it meets padding only; a slice may leave nothing.
        if out.numel() and out.isfinite().all() and max(out.shape) <= 40:
            chain.append(layer)
            x = out
    return nn.Sequential(nn.Identity(), *chain), input_size


@settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate])  # to shrink takes minutes
@given(st.data())
def test_computed_box_is_the_measured_one_for_any_network(data):
    model, input_size = data.draw(networks())
    rows = layer_table(model, input_size)
    row = data.draw(st.sampled_from(rows[-4:]))
    unit = tuple(data.draw(st.integers(0, n - 1)) for n in row.output_shape[1:])
    box = row.box(unit)
    assert box == measured_receptive_field(model, row.name, unit, input_size)
    wraps = any(getattr(module, "padding_mode", "zeros") != "zeros" for module in model.modules())
    uneven = any(word in row.operation for row in rows for word in ("Upsample", "Transpose", "Shuffle", "Adaptive"))
    for axis, (first, last) in enumerate(() if box is None or wraps else box):  # it lies in the theory's window
        assert last - first < row.receptive_field[axis]
        if not uneven:
            start = row.start[axis] + unit[axis] * row.jump[axis]
            assert start <= first <= last < start + row.receptive_field[axis]


def gradient_box(model: nn.Module, layer: nn.Module, unit: tuple[int, int], input_size: tuple[int, int, int]) -> tuple:
    """Return the box of the pixels with a gradient: exact where all weights are positive and nothing rectifies."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    outputs = []
    layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    image = torch.ones(1, *input_size, requires_grad=True)
    model(image)
    outputs[0][:, :, *unit].sum().backward()
    rows, columns = (image.grad[0].abs().sum(axes).nonzero().flatten().tolist() for axes in ((0, 2), (0, 1)))
    return (rows[0], rows[-1]), (columns[0], columns[-1])


def test_boxes_are_where_a_linear_network_has_gradients():
    branches = nn.Sequential(conv(3, channels=(4, 4), groups=4, padding=1), conv(5, channels=(4, 4), padding=2))
    model = nn.Sequential(
        conv(3, channels=(1, 4), stride=2, padding=1),
        Meet(sum, nn.Identity(), branches),
        Meet(in_a_row, conv(1, channels=(4, 1)), conv(3, channels=(4, 1), padding=1)),
        nn.AvgPool2d(2),
        conv((1, 2), channels=(2, 1), dilation=2, padding=(0, 1)),
    )
    input_size, modules = (1, 15, 17), dict(model.named_modules())
    for row in layer_table(model, input_size):
        for unit in some_units(row) if row.name in modules else ():
            assert row.box(unit) == gradient_box(model, modules[row.name], unit, input_size), (row, unit)


# ---- the measurement ----

POINTWISE = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid]
POINTWISE += [nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softplus, nn.Softsign, nn.Identity]
POINTWISE += [nn.Dropout, nn.Dropout2d, nn.AlphaDropout, partial(nn.BatchNorm2d, 1)]


def test_no_pointwise_layer_hides_a_pixel():
    model = nn.Sequential(conv(3), *(layer() for layer in POINTWISE), nn.MaxPool2d(2), nn.AvgPool2d(2))
    *pointwise, _, pooled = layer_table(model, (1, 12, 12))
    for row in pointwise:
        assert row.box((2, 2)) == ((2, 4), (2, 4)) == measured_receptive_field(model, row.name, (2, 2), (1, 12, 12))
    measured = measured_receptive_field(model, pooled.name, (1, 1), (1, 12, 12))
    assert pooled.box((1, 1)) == ((4, 9), (4, 9)) == measured


def test_unlucky_weights_hide_no_pixel():
    model = nn.Sequential(conv(3), nn.ReLU(), conv(3, bias=False))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)  # every ReLU is dead
        model[2].weight.zero_()
    assert measured_receptive_field(model, "2", (3, 4), (1, 12, 12)) == ((3, 7), (4, 8))


@pytest.mark.parametrize(("values_at_once", "most"), [(1, 6), (1 << 20, 38)])
def test_a_large_image_is_measured_in_parts_and_in_float64(values_at_once, most, monkeypatch):
    monkeypatch.setattr(perturbation, "CHUNK", values_at_once)
    batches = []

    def forward(toy: Toy, x: Tensor) -> Tensor:
        batches.append((len(x), x.dtype))
        return toy.second(toy.first(x))

    model = Toy(forward, first=conv(3, channels=(3, 1)), second=conv(3, stride=2))
    assert measured_receptive_field(model, "second", (1, 1), (3, 9, 9)) == ((2, 6), (2, 6))
    assert max(size for size, _ in batches) <= most
    assert {dtype for _, dtype in batches} == {torch.float64}


def test_broken_weights_are_not_taken_for_influence():
    model = nn.Sequential(conv(3))
    nn.init.constant_(model[0].bias, float("nan"))
    assert layer_table(model, (1, 5, 5))[0].box((1, 1)) == ((1, 3), (1, 3))
    with pytest.raises(ValueError, match="0 turns an image of ones into NaN"):
        measured_receptive_field(model, "0", None, (1, 5, 5))


# ---- torchvision's networks ----

# Receptive field, jump and padding of the layers of VGG-A: RECEPTIVE_FIELD_TABLE.md of google-research/receptive_field,
# the library of Araujo, Norris and Sim, "Computing Receptive Fields of CNNs", Distill 2019.
VGG_A = [(3, 1, 1), (4, 2, 1), (8, 2, 3), (10, 4, 3), (18, 4, 7), (26, 4, 11), (30, 8, 11), (46, 8, 19), (62, 8, 27)]
VGG_A += [(70, 16, 27), (102, 16, 43), (134, 16, 59), (150, 32, 59)]


def test_vgg_a_has_the_published_fields():
    rows = stages(layer_table(make_layers(cfgs["A"], batch_norm=True), (3, 32, 32)))
    assert [sees(row) for row in rows] == [((r, r), (j, j), (-p, -p)) for r, j, p in VGG_A]


def field_of(*windows: tuple[int, int]) -> int:
    """Return the receptive field of (kernel size, stride) along the longest path: equation 2 of the same article."""
    size, jump = 1, 1
    for kernel, stride in windows:
        size, jump = size + (kernel - 1) * jump, jump * stride
    return size


STEM = [(7, 2), (3, 2)]
MOBILE_STRIDES = [2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]  # the first convolution, then every block
TORCHVISION = {  # image side, last map, its field
    "resnet18": (64, "layer4.1.relu (2)", field_of(*STEM, *[(3, 1)] * 4, *([(3, 2)] + [(3, 1)] * 3) * 3)),
    "resnet50": (
        64,
        "layer4.2.relu (3)",
        field_of(*STEM, *[(3, 1)] * 3, (3, 2), *[(3, 1)] * 3, (3, 2), *[(3, 1)] * 5, (3, 2), *[(3, 1)] * 2),
    ),
    "mobilenet_v2": (64, "features.18.2", field_of(*((3, stride) for stride in MOBILE_STRIDES))),
    "squeezenet1_1": (64, "classifier.2", field_of((3, 2), *([(3, 2)] + [(3, 1)] * 2) * 2, (3, 2), *[(3, 1)] * 4)),
    "densenet121": (32, "features.transition3.conv", None),
    "googlenet": (64, "cat_8", None),
    "shufflenet_v2_x0_5": (64, "conv5.2", None),
    "convnext_tiny": (32, "features.6.0", None),
    "mobilenet_v3_small": (64, "features.12.2", None),  # squeeze-and-excitation: all units see everything
    "regnet_y_400mf": (64, "trunk_output.block4.block4-5.activation", None),
}


def build(name: str) -> nn.Module:
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=2, **options)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks(name):
    side, last_map, expected = TORCHVISION[name]
    model = build(name)
    rows = layer_table(model, (3, side, side))
    assert sum(row.params for row in rows) == sum(p.numel() for p in model.parameters())
    assert sum(row.params for row in stages(rows)) == sum(row.params for row in rows)
    assert len({row.name for row in rows}) == len(rows)
    assert len({row.name for row in stages(rows)}) == len(stages(rows))
    row = [row for row in rows if max(row.output_shape[1:], default=1) > 1][-1]
    assert row.name == last_map
    assert expected is None or row.receptive_field == (expected, expected)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["maxpool", "layer2.1.relu (2)"]),
        ("mobilenet_v3_small", ["features.1.block.0.0", "mul"]),
        ("squeezenet1_1", ["features.2", "cat_1", "features.8"]),
    ],
)
def test_boxes_of_torchvision_networks_are_the_measured_ones(name, layers):
    model = build(name)
    rows = {row.name: row for row in layer_table(model, (3, 24, 33))}
    for layer in layers:
        for unit in (None, (0, 0)):
            assert rows[layer].box(unit) == measured_receptive_field(model, layer, unit, (3, 24, 33)), layer


# ---- the model stays as it is ----


def state(model: nn.Module) -> dict:
    """Return all that a careless look at a model may change."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "values": {name: tensor.tolist() for name, tensor in tensors.items()},
        "tensors": {
            name: (id(tensor), tensor.device, tensor.dtype, tensor._version) for name, tensor in tensors.items()
        },
        "gradients": {name: (tensor.requires_grad, id(tensor.grad)) for name, tensor in tensors.items()},
        "modes": [module.training for module in model.modules()],
        "hooks": [(list(m._forward_hooks), list(m._forward_pre_hooks)) for m in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "random": (torch.get_rng_state().tolist(), random.getstate()),
    }


@pytest.mark.parametrize("look", [layer_table, lambda model: measured_receptive_field(model, "net.conv4.0")])
def test_the_model_and_the_random_state_stay_as_they_are(look):
    model = Toy(lambda toy, x: toy.net(x * torch.rand(1).clamp(1)), net=Net())
    model.net.conv1.eval()
    model.net.fc.weight.requires_grad_(False)
    model.net.conv2[0].weight.grad = torch.ones_like(model.net.conv2[0].weight)
    calls = []
    for module in model.modules():
        module.register_forward_hook(lambda *args: calls.append("after"))
        module.register_forward_pre_hook(lambda *args: calls.append("before"))
    before = state(model)
    look(model)
    assert state(model) == before
    assert calls == []


def rolled(x: Tensor) -> Tensor:
    return torch.roll(x, 1, 2)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_in_any_gradient_mode_and_on_any_type_of_parameters(context):
    expected = [sees(row) for row in layer_table(Net())]
    unseen, scripted = torch.jit.script(rolled), torch.jit.script(conv(3))
    with context():
        with pytest.raises(ValueError, match="mul cannot be followed: .* outside of torch's functions"):
            layer_table(Toy(lambda toy, x: unseen(x) * 2))
        with pytest.raises(ValueError, match="b is compiled by torch.jit"):
            layer_table(Toy(lambda toy, x: toy.b(toy.a(x)), a=conv(3), b=scripted))
        for dtype in (torch.float16, torch.float64):
            assert [sees(row) for row in layer_table(Net().to(dtype))] == expected
        assert measured_receptive_field(Net(), "conv2.0", (3, 4)) == ((3, 7), (4, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    model = Net().cuda()
    before = state(model)
    assert [sees(row) for row in layer_table(model)] == [sees(row) for row in layer_table(Net())]
    assert measured_receptive_field(model, "conv2.0", (3, 4)) == ((3, 7), (4, 8))
    assert state(model) == before


# ---- names and parameters ----


def test_a_second_use_has_its_own_row_and_no_parameters():
    rows = layer_table(Toy(lambda toy, x: toy.conv(toy.conv(x)), conv=conv(3)), (1, 9, 9))
    assert [(row.name, row.params, row.receptive_field) for row in rows] == [
        ("conv", 10, (3, 3)),
        ("conv (2)", 0, (5, 5)),
    ]


def test_tied_and_bare_parameters_are_counted_once():
    tied = nn.Sequential(conv(3, bias=False), conv(3, bias=False))
    tied[1].weight = tied[0].weight
    model = Toy(lambda toy, x: toy.scale * toy.tied(x), tied=tied, scale=nn.Parameter(torch.ones(1, 1, 1)))
    assert [(row.name, row.params) for row in layer_table(model, (1, 9, 9))] == [
        ("tied.0", 9),
        ("tied.1", 0),
        ("mul", 1),
    ]


def test_only_what_reads_the_row_above_alone_folds_into_it():
    def norm_late(toy: Toy, x: Tensor) -> Tensor:
        a, b = toy.a(x), toy.b(x)
        return toy.norm(a) + b

    layers = {"a": conv(3, channels=(1, 2)), "norm": nn.BatchNorm2d(2), "b": conv(3, channels=(1, 2))}
    model = Toy(lambda toy, x: F.relu(toy.norm(toy.a(x)) + toy.b(x)), **layers)
    assert [(row.name, row.params) for row in stages(layer_table(model))] == [("a", 24), ("b", 20), ("add", 0)]
    assert [row.name for row in stages(layer_table(Toy(norm_late, **layers)))] == ["a", "b", "norm", "add"]


def test_operations_are_written_with_what_is_not_usual():
    model = nn.Sequential(
        conv((3, 5), channels=(2, 4), stride=2, padding=(1, 2), groups=2, bias=False),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(3, 1, 1, dilation=2),
        nn.Dropout(0.25),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    assert [row.operation for row in layer_table(model, (2, 9, 9))] == [
        "Conv2d(2, 4, (3, 5), stride=2, padding=(1, 2), groups=2)",
        "BatchNorm2d(4)",
        "MaxPool2d(3, 1, padding=1, dilation=2)",
        "Dropout(0.25)",
        "AdaptiveAvgPool2d(1)",
        "Flatten",
        "Linear(4, 2)",
    ]


# ---- the table ----


def test_the_table_reads_well_in_a_diff_and_adds_up():
    model = build("resnet18")
    rows = layer_table(model, (3, 64, 64))
    table, total, note = to_markdown(rows).split("\n\n")
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert all(line.count("|") == 8 for line in lines)
    params = sum(int(line.split("|")[7].replace(",", "")) for line in lines[2:])
    assert params == sum(p.numel() for p in model.parameters())
    assert total == f"Total: {params:,} parameters"
    outgrown = [row for row in rows if row.receptive_field > (64, 64)]
    wide = f"{len(outgrown)} layers, the first of them layer2.0.conv2,"
    assert note == f"Note: the receptive fields of {wide} are larger than the 64×64 image."


def test_a_field_that_covers_the_image_needs_no_note():
    table = to_markdown(layer_table(nn.Sequential(conv(5), nn.ReLU()), (1, 5, 5)))
    assert table.endswith("Total: 26 parameters")


def test_a_last_map_that_sees_nothing_is_noted():
    table = to_markdown(layer_table(nn.Sequential(conv(1, padding=1, stride=2)), (1, 1, 1)))
    assert table.endswith("Note: the central unit of 0, the last layer with a map, sees none of 1×1 pixels.")


def test_a_network_without_maps_has_a_table():
    table = to_markdown(stages(layer_table(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))))
    assert "| Linear(784, 10) |" in table and "Note" not in table


# ---- maps whose units do not lie in a grid: the jump varies, the boxes are right all the same ----

WITHOUT_A_GRID = {
    "one below the other": Toy(lambda toy, x: torch.cat([x, x], 2)),
    "rows of another length": Toy(lambda toy, x: x.view(len(x), -1, 14, 14)),
    "overwritten": Toy(lambda toy, x: x.mul(1).__setitem__((slice(None), 0), 0)),
    "branches of unlike jumps": Toy(lambda toy, x: toy.a(x) + x, a=conv(1, stride=2, padding=14)),
    "holes": nn.ConvTranspose2d(1, 1, 1, 2),
}


@pytest.mark.parametrize("model", WITHOUT_A_GRID.values(), ids=WITHOUT_A_GRID)
def test_the_jump_of_a_map_without_a_grid_varies(model):
    row = layer_table(model)[-1]
    assert row.jump == (None, None)
    assert "varies" in to_markdown([row]).split("Note: ")[1]
    for unit in some_units(row):
        assert row.box(unit) == measured_receptive_field(model, row.name, unit), unit


# ---- refusals: one line that names the layer, never a wrong number ----


REFUSED = {
    "view": Toy(lambda toy, x: x.view(1, -1)),
    "batch": Toy(lambda toy, x: toy.batch(x), batch=nn.BatchNorm2d(1, track_running_stats=False)),
    "log_softmax": Toy(lambda toy, x: F.log_softmax(x.flatten(1), dim=0)),
    "softmax": Toy(lambda toy, x: F.softmax(x[:, 0])),  # over the images, as torch chooses for three dimensions
    "unknown": Toy(lambda toy, x: toy.unknown(x[:, 0], x[:, 0], x[:, 0])[0], unknown=nn.MultiheadAttention(28, 1)),
    "sum": Toy(lambda toy, x: toy.inner(x), inner=Toy(lambda toy, x: x if x.sum() > 0 else -x)),
    "fft_fft2": Toy(lambda toy, x: torch.fft.fft2(x).real),
    "getitem": Toy(lambda toy, x: x[:, :, 28:]),
    "exp": Toy(lambda toy, x: torch.vmap(torch.exp)(toy.a(x)), a=conv(3)),
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"^{name}[ _]") as caught:
        layer_table(REFUSED[name])
    assert "\n" not in str(caught.value)


WHITE = torch.ones(2, 3)


def wordless(toy: Toy, x: Tensor) -> Tensor:
    raise NotImplementedError


def test_the_table_uses_the_rule_that_the_notebook_shows(monkeypatch):
    calls = []

    def watched(*settings):
        calls.append(settings)
        return slide(*settings)

    monkeypatch.setattr(geometry, "slide", watched)
    layer_table(Net())
    conv4, conv7 = (6, 2, 0, 3, 1), (14, 2, 0, 3, 1)  # receptive field, jump, start, kernel, stride
    assert {conv4, conv7} <= {call[:5] for call in calls}


BAD_INPUT = {
    r"conv1.0 cannot take its input .check input_size.: ": lambda: layer_table(Net(), (3, 28, 28)),
    r"fc cannot take its input .check input_size.: ": lambda: layer_table(Net(), (1, 32, 32)),
    r"conv2.0 cannot take its input .check input_size.: .*Kernel size": lambda: layer_table(Net(), (1, 4, 28)),
    r"input_size is \(28, 28\): give \(channels, height, width\)": lambda: layer_table(Net(), (28, 28)),
    r"input_size is 28: give \(channels, height, width\)": lambda: layer_table(Net(), 28),
    r"input_size is \(1, 28.5, 28\): ": lambda: layer_table(Net(), (1, 28.5, 28)),
    r"input_size is \(1, -1, 28\): ": lambda: measured_receptive_field(Net(), "fc", None, (1, -1, 28)),
    r"there is no layer 'conv8': ": lambda: measured_receptive_field(Net(), "conv8"),
    r"Toy cannot be followed by .*: NotImplementedError$": lambda: layer_table(Toy(wordless)),
    r"Toy cannot be followed: none of its operations reads the image$": lambda: layer_table(Toy(lambda *_: WHITE)),
    r"unit is \(26, 0\): give .* within 26×26$": lambda: layer_table(Net())[0].box((26, 0)),
    r"unit is \(0, 1\): ": lambda: measured_receptive_field(Net(), "fc", (0, 1)),
}


@pytest.mark.parametrize("message", BAD_INPUT)
def test_bad_input_is_one_clear_line(message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        BAD_INPUT[message]()
    assert "\n" not in str(caught.value)
