"""Operations beyond the assignment's, each by hand and by measurement; what a table says beside its fields."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_common_networks import check
from test_receptive_field import Meet, Toy, both, build, conv, sees
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers.model import Net
from helpers.receptive_field import blocks, layer_table, measured_receptive_field, slide, stages, to_markdown
from helpers.receptive_field.geometry import Field, Pattern, Window

pytestmark = pytest.mark.usefixtures("one_thread")
WEIGHTS, KERNEL, SCALE = (nn.Parameter(torch.ones(*shape)) for shape in ((4, 3), (1, 1, 3, 3), (1,)))
HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


class GhostBatchNorm(nn.BatchNorm2d):
    """Another forward pass while it trains, as in several networks for CIFAR-10."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)


class Same(nn.Conv2d):
    """A convolution by another name."""


def changed_by_another_name(toy: Toy, x: Tensor) -> Tensor:
    x = toy.a(x)
    alias = x
    alias += toy.b(x)
    return toy.c(x)


# fmt: off
FOLLOWED = {  # a network, its input, and the last row's field, jump and start by hand; one holds for both axes
    "norms": (
        nn.Sequential(conv(3, channels=(1, 4)), nn.LayerNorm([4, 7, 7]), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4)),
        (1, 9, 9), (3, 1, 0)),
    "upsampling of an image": (nn.Sequential(nn.Upsample(scale_factor=3), conv(3)), (1, 5, 5), (2, THIRD, 0)),
    # The centre of unit i lies at i / 2 - 1 / 4: units 1 and 2 between positions 0 and 1, unit 3 between 1 and 2.
    "linear upsampling": (nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), conv(2)), (1, 5, 5),
                          (3, HALF, -1)),
    "linear upsampling from corner to corner": (  # unit i lies at i * 2 / 5
        nn.Sequential(nn.Upsample(size=(6, 6), mode="bilinear", align_corners=True)), (1, 3, 3),
        (2, Fraction(2, 5), 0)),
    # Input i writes to outputs 2 i - 1, 2 i and 2 i + 1: an odd output reads two, an even one reads one.
    "transposed convolution that overlaps": (nn.Sequential(nn.ConvTranspose2d(1, 1, 3, 2, 1)), (1, 5, 5), (2, HALF, 0)),
    "pixel shuffle": (nn.Sequential(conv(1, channels=(1, 4)), nn.PixelShuffle(2), conv(3)), (1, 6, 6), (2, HALF, 0)),
    "pixel unshuffle": (nn.Sequential(nn.PixelUnshuffle(2), conv(2, channels=(4, 1))), (1, 8, 8), (4, 2, 0)),
    "padding by reflection": (nn.Sequential(conv(3, padding=2, padding_mode="reflect")), (1, 8, 8), (3, 1, -2)),
    "padding by what is opposite": (nn.Sequential(conv(3, padding=1, padding_mode="circular")), (1, 8, 8), (3, 1, -1)),
    "variants of batch norm and convolution": (nn.Sequential(Same(1, 4, 3), GhostBatchNorm(4), nn.BatchNorm2d(4)),
                                               (1, 9, 9), (3, 1, 0)),
    "functional padding, crop and convolution": (
        Toy(lambda toy, x: F.conv2d(F.pad(x, (2, 0, 0, -1)), toy.w, stride=2), w=KERNEL), (1, 9, 9),
        (3, 2, (0, -2))),
    "functions that are given what they need and no more": (
        Toy(lambda toy, x: F.max_pool2d(F.conv2d(x, toy.w), 3), w=KERNEL), (1, 9, 9), (5, 3, 0)),
    "the shortcut of the first residual networks": (
        Toy(lambda toy, x: toy.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)),
            conv=conv(3, channels=(1, 4), stride=2, padding=1)), (1, 9, 9),
        (3, 2, -1)),
    "channels that see less than in theory, in groups": (
        Toy(lambda toy, x: toy.groups(toy.pool(torch.cat([toy.a(x), toy.b(x)], 1)))[:, 1:], a=conv(5, padding=2),
            b=conv(3, padding=1), pool=nn.MaxPool2d(2, 1), groups=conv(3, channels=(2, 2), groups=2, padding=1)),
        (1, 9, 9), (8, 1, -3)),
    "the larger of two halves": (
        Toy(lambda toy, x: torch.max(*toy.conv(x).chunk(2, 1)).max(1, keepdim=True)[0], conv=conv(3, channels=(1, 4))),
        (1, 9, 9), (3, 1, 0)),
    "a mean in two steps": (
        Toy(lambda toy, x: toy.fc(toy.conv(x).mean(3).mean(2)), conv=conv(3, stride=2), fc=nn.Linear(1, 2)), (1, 8, 8),
        (7, 2, 0)),
    "deviations in torch's older form: dim, unbiased, keepdim": (
        Toy(lambda toy, x: toy.b(toy.a(x).std(1, False, True)).var(1, True)[:, None], a=conv(3, channels=(1, 4)),
            b=conv(3, channels=(1, 4))), (1, 9, 9),
        (5, 1, 0)),
    "a map and the same with its channels last": (
        Toy(lambda toy, x: (lambda y: y + y.permute(0, 2, 3, 1))(toy.conv(x)), conv=conv(3, channels=(1, 7))),
        (1, 9, 9), (9, None, 0)),
    "a squeeze in two steps": (Toy(lambda toy, x: toy.pool(x).squeeze(3).squeeze(2), pool=nn.AdaptiveAvgPool2d(1)),
                               (1, 8, 9), ((8, 9), 1, 0)),
    "one position": (Toy(lambda toy, x: toy.conv(x)[:, :, 0, 1], conv=conv(3)), (1, 8, 8), (3, 1, (0, 1))),
    "a linear layer by hand": (
        Toy(lambda toy, x: toy.pool(x)[0].flatten(1) @ toy.w, pool=nn.MaxPool2d(3, return_indices=True), w=WEIGHTS),
        (1, 8, 8), (6, 3, 0)),
    "softmax over channels, and over a row": (
        Toy(lambda toy, x: nn.Softmax()(toy.conv(x)).softmax(3), conv=conv(3, channels=(1, 2))), (1, 8, 9),
        ((3, 9), (1, 0), 0)),
    "chosen by a mask": (Toy(lambda toy, x: toy.conv(x).where(torch.arange(7) < 3, torch.zeros(())), conv=conv(3)),
                         (1, 9, 9), (3, 1, 0)),
    "pooling into unequal parts": (nn.Sequential(nn.AdaptiveAvgPool2d((3, 2))),  # of 7 into 3: 0-2, 2-4 and 4-6
                                   (1, 7, 8), ((3, 4), (Fraction(7, 3), 4), 0)),
    "pooling into more parts than there are": (nn.Sequential(nn.AdaptiveMaxPool2d((4, 4))), (1, 2, 3),
                                               ((1, 2), (HALF, Fraction(3, 4)), 0)),
    "a norm over neighbouring channels": (
        Toy(lambda toy, x: toy.norm(torch.cat([toy.a(x), x, x, x, x, toy.b(x)], 1))[:, 2:3], a=conv(3, padding=1),
            b=conv(5, padding=2), norm=nn.LocalResponseNorm(5)), (1, 9, 9),
        (5, 1, -2)),
    "changed in place by another name": (Toy(changed_by_another_name, a=conv(1), b=conv(5, padding=2), c=conv(1)),
                                         (1, 28, 28), (5, 1, -2)),
    "layers built in the forward pass": (Toy(lambda toy, x: nn.Conv2d(1, 1, 3)(nn.ReLU()(toy.conv(x))), conv=conv(3)),
                                         (1, 9, 9), (5, 1, 0)),
    "weights of a given norm": (
        nn.Sequential(nn.utils.parametrizations.weight_norm(conv(3)), nn.utils.parametrizations.spectral_norm(conv(3))),
        (1, 9, 9), (5, 1, 0)),
    "one number for each image": (Toy(lambda toy, x: x[:, :, 2:].mean((1, 2, 3)) * toy.w, w=SCALE), (1, 9, 8),
                                  ((7, 8), 1, (2, 0))),
}
# fmt: on


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize(("model", "input_size", "theory"), FOLLOWED.values(), ids=FOLLOWED)
def test_what_other_networks_have_is_followed(model, input_size, theory):
    last = layer_table(model, input_size)[-1]
    assert sees(last) == tuple(map(both, theory))
    assert last.box() == measured_receptive_field(model, last.name, None, input_size)
    check(model, input_size)


def test_an_output_with_its_channels_last_is_seen_as_a_whole():
    model = Toy(lambda toy, x: toy.conv(x).permute(0, 2, 3, 1) * toy.w, conv=conv(3), w=SCALE)
    last = layer_table(model, (1, 9, 8))[-1]
    assert (last.output_shape, last.params, last.box()) == ((7, 6, 1), 1, ((0, 8), (0, 7)))


# ---- the rule ----


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 4)] * 2, st.integers(0, 3), st.integers(1, 3)), max_size=5))
def test_the_rule_of_a_window_is_what_its_pattern_reads(windows):
    by_rule = by_pattern = Field(9)
    for window in map(Window._make, windows):
        by_rule = by_rule.through(window, 9)
        by_pattern = by_pattern.through(Pattern(*window.pattern()), 9)
    assert by_rule == by_pattern


def test_the_rule_by_hand():
    assert slide(receptive_field=6, jump=2, start=-1, kernel_size=3, stride=2, padding=1, dilation=2) == (14, 4, -3)


# ---- the measurement ----


def test_a_network_whose_batch_is_squeezed_away():
    parts = {"c": conv(16, channels=(3, 4), stride=3), "p": nn.AdaptiveAvgPool2d(1), "f": nn.Linear(4, 10)}
    model = Toy(lambda toy, x: toy.f(toy.p(toy.c(x)).squeeze()), **parts)
    assert measured_receptive_field(model, "f", None, (3, 200, 200)) == ((0, 198), (0, 198))


@pytest.mark.parametrize(
    ("name", "hide"),
    [
        ("sign", lambda x: torch.sign(x)),
        ("sign_", lambda x: x.clone().sign_()),
        ("to", lambda x: x.max(1, keepdim=True)[1]),
        ("gt", lambda x: torch.where(x > 0, 1.0, 0.0)),
        ("nan_to_num", lambda x: x.nan_to_num()),
        ("long", lambda x: x.long()),
        ("fmax", lambda x: torch.fmax(x, torch.zeros(1, dtype=x.dtype))),
    ],
)
def test_what_hides_a_nan_is_not_taken_for_none(name, hide: Callable[[Tensor], Tensor]):
    model = Toy(lambda toy, x: toy.after(hide(toy.conv(x)).to(x.dtype)), conv=conv(3), after=conv(1))
    with pytest.raises(ValueError, match=f"^{name} cannot be measured: its result does not show"):
        measured_receptive_field(model, "after", None, (1, 9, 9))


def test_none_means_none():
    model = nn.Sequential(conv(1, stride=2), Toy(lambda toy, x: x[:, :, 1:]), conv(1, padding=1))
    assert measured_receptive_field(model, "2", (0, 1), (1, 5, 5)) is None
    assert layer_table(model, (1, 5, 5))[-1].box((0, 1)) is None


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(1, track_running_stats=False), nn.LogSoftmax(0)])
def test_what_mixes_images_is_not_measured(layer):
    with pytest.raises(ValueError, match="^1 mixes images: "):
        measured_receptive_field(nn.Sequential(conv(3), layer), "1", None, (1, 5, 5))
    with pytest.raises(ValueError, match="^1 cannot be followed: .*images"):
        layer_table(nn.Sequential(conv(3), layer), (1, 5, 5))


def test_an_interpolation_rounds_as_in_float32():
    model = nn.Sequential(nn.Upsample(size=(19, 23), mode="bilinear"))
    (row,) = layer_table(model, (1, 3, 5))
    for i in range(19):
        assert row.box((i, i)) == measured_receptive_field(model, "0", (i, i), (1, 3, 5)), i


# ---- what is said beside the table ----


def notes(model: nn.Module, input_size: tuple[int, int, int]) -> list[str]:
    return to_markdown(stages(layer_table(model, input_size))).split("\n\n")[2:]


def test_an_edge_that_the_output_misses_is_told():
    inner = [conv(3), nn.MaxPool2d(2), conv(3), conv(3), conv(3, padding=1), conv(3, padding=1), nn.AvgPool2d(6)]
    told = notes(nn.Sequential(conv(3, padding=1), *inner), (1, 28, 28))
    sees = "sees rows 0 to 26 and columns 0 to 26 of 28×28 pixels, and nothing of the rest."
    assert told[0] == "Note: the receptive field of 7 is larger than the 28×28 image."
    assert told[1] == f"Note: 7, the last layer, {sees}"


def test_statistics_dropouts_and_parameters_that_are_not_as_usual_are_told():
    model = Toy(
        lambda toy, x: toy.b(nn.Conv2d(1, 1, 1)(F.dropout(toy.a(x), 0.1))),
        a=nn.Sequential(conv(3, channels=(1, 4)), nn.GroupNorm(1, 4), conv(1, channels=(4, 1)), nn.GroupNorm(1, 1)),
        b=nn.AdaptiveAvgPool2d(1),
        aux=nn.Sequential(conv(3), conv(1)),
        scale=nn.Parameter(torch.ones(3)),
    )
    assert notes(model, (1, 9, 9))[:4] == [
        "Note: the statistics of a.1 and 1 more count as constants, as those of batch norm do in evaluation mode.",
        "Note: the dropout of dropout stays active in evaluation mode: give it training=self.training.",
        "Note: the parameters of conv2d are made in the forward pass, where they are neither trained nor counted.",
        "Note: 15 more parameters are reached by no image: scale (3), aux (12).",
    ]


def test_a_batch_norm_folds_into_what_has_weights_only():
    pool = nn.Sequential(conv(3), nn.BatchNorm2d(1), nn.MaxPool2d(2), nn.BatchNorm2d(1), nn.ReLU(), nn.Dropout(0.1))
    model = nn.Sequential(pool, Meet(lambda xs: torch.cat(xs, 1), nn.Identity(), nn.Identity()), nn.BatchNorm2d(2))
    assert [(row.name, row.params) for row in stages(layer_table(model, (1, 12, 12)))] == [
        *(("0.0", 12), ("0.2", 0), ("0.3", 2)),
        *(("cat", 0), ("2", 4)),
    ]


def test_a_table_of_blocks_as_deep_as_the_reader_chooses():
    model = build("resnet18")
    rows = layer_table(model, (3, 64, 64))
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc"]
    table = blocks(rows)
    assert [row.name for row in table] == names
    assert [row.name for row in blocks(rows, 2)][4:6] == ["layer1.0", "layer1.1"]
    assert [(row.operation, row.input_shape, row.output_shape, row.receptive_field) for row in table[4:6]] == [
        ("Sequential", (64, 16, 16), (64, 16, 16), (43, 43)),
        ("Sequential", (64, 16, 16), (128, 8, 8), (99, 99)),
    ]
    for row in table:
        own = sum(p.numel() for name, p in model.named_parameters() if name.startswith(f"{row.name}."))
        assert row.params == own
        assert row.box((0, 0)) == [r for r in rows if r.name.startswith(row.name)][-1].box((0, 0)) or "." in row.name
    assert blocks(rows, 9) == rows


# ---- multiply-adds ----

COUNTED = {
    "the assignment's": (Net(), (1, 28, 28)),
    "groups": (nn.Sequential(conv(3, channels=(4, 8), groups=2, stride=2), nn.Flatten(), nn.Linear(128, 3)), (4, 9, 9)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(4, 2, 3, 2, groups=2), conv(3, channels=(2, 1))), (4, 9, 9)),
    "a convolution used twice": (Toy(lambda toy, x: toy.conv(toy.conv(x)), conv=conv(3)), (1, 9, 9)),
    "on every position": (nn.Sequential(nn.Linear(9, 4), nn.Linear(4, 5)), (1, 9, 9)),
}


@pytest.mark.parametrize(("model", "input_size"), COUNTED.values(), ids=COUNTED)
def test_multiply_adds_are_half_of_what_torch_counts(model, input_size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.ones(1, *input_size))
    rows = layer_table(model, input_size)
    total = sum(row.multiply_adds for row in rows)
    assert total == counter.get_total_flops() / 2
    for table in (rows, stages(rows), blocks(rows)):
        lines = to_markdown(table, multiply_adds=True).splitlines()
        column = [int(line.split("|")[8].replace(",", "")) for line in lines[2 : 2 + len(table)]]
        assert sum(column) == total
        assert f", {total:,} multiply-adds" in lines[len(table) + 3]
    assert "ultiply" not in to_markdown(rows)
