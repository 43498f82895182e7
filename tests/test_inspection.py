import copy
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torchvision.transforms import functional as TF

from conftest import Splits
from helpers import inspection
from helpers.data import Batches, Split
from helpers.model import Net
from helpers.receptive_field import layer_table
from helpers.recipe import Recipe
from helpers.results import RESULTS
from helpers.runtime.files import load_weights
from helpers.training import Trainer, evaluate, predict


def test_confusion_matrix_and_mistakes_by_hand() -> None:
    probabilities = torch.full((4, 10), 0.01)
    for image, (digit, probability) in enumerate([(1, 0.9), (2, 0.6), (2, 0.8), (7, 0.5)]):
        probabilities[image, digit] = probability
    labels = torch.tensor([1, 3, 4, 7])
    matrix = inspection.confusion_matrix(probabilities.log(), labels)
    assert matrix.sum() == 4
    assert {(i, j) for i, j in matrix.nonzero().tolist()} == {(1, 1), (3, 2), (4, 2), (7, 7)}
    assert inspection.confident_mistakes(probabilities.log(), labels, 5).tolist() == [2, 1]
    assert inspection.confident_mistakes(probabilities.log(), labels, 1).tolist() == [2]


def blank(*shape: int, value: int = 0) -> Split:
    """Return images ``(N, H, W)`` of one value, labelled 0."""
    return Split(torch.full(shape, value, dtype=torch.uint8), torch.zeros(shape[0], dtype=torch.int64))


@contextmanager
def left_as_it_was(net: nn.Module) -> Iterator[None]:
    """Check that the block changes neither the network, its modes, its gradients and its hooks nor the random state."""
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    modes = [module.training for module in net.modules()]
    yield
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_effective_field_of_a_linear_network_is_its_kernel_at_the_units_row_and_column() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 2, (3, 2), bias=False))
    field = inspection.effective_receptive_field(model, Batches(blank(3, 8, 11), 2), "1", unit=(1, 6))
    first, second = model[0].weight, model[1].weight.sum(dim=0, keepdim=True)  # of all channels
    expected = torch.zeros(8, 11)
    expected[1:6, 6:10] = nn.functional.conv2d(second, first.flip(2, 3), padding=2)[0, 0].abs().detach()
    torch.testing.assert_close(field, expected)


class Absolute(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs()


def test_influences_of_opposite_sign_do_not_cancel_each_other() -> None:
    split = blank(2, 3, 3)
    split.images[1] = 255  # above the mean, where the other image is below
    field = inspection.effective_receptive_field(nn.Sequential(Absolute()), Batches(split), "0", unit=(1, 1))
    assert field[1, 1] == field.sum() == 1


def test_effective_field_leaves_the_model_as_it_was(small_mnist: Splits) -> None:
    net = Net().train()
    with left_as_it_was(net):
        inspection.effective_receptive_field(net, Batches(small_mnist[1][:20], 10), "conv7", unit=(3, 3))


def test_after_an_error_each_layer_is_in_its_own_mode(small_mnist: Splits) -> None:
    net, batches = Net().train(), Batches(small_mnist[1][:20], 10)
    net.conv1[2].eval()  # as where a batch norm is frozen
    modes = [module.training for module in net.modules()]
    predict(net, batches)
    assert [module.training for module in net.modules()] == modes
    hook = net.fc.register_forward_hook(lambda *_: 1 / 0)
    for use in (predict, lambda *given: inspection.effective_receptive_field(*given, "conv7", unit=(3, 3))):
        with pytest.raises(ZeroDivisionError):
            use(net, batches)
        assert [module.training for module in net.modules()] == modes
    hook.remove()


def test_effective_field_of_a_convolution_before_a_relu_in_place_is_the_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(inplace=True))
    nn.init.constant_(model[0].bias, -100.0)  # the ReLU's output is always 0
    field = inspection.effective_receptive_field(model, Batches(blank(2, 9, 9)), "0", unit=(2, 2))
    torch.testing.assert_close(field[2:5, 2:5], model[0].weight[0, 0].abs().detach())


def test_distortions_keep_labels_and_do_what_they_say(small_mnist: Splits) -> None:
    test = small_mnist[1]
    changed = inspection.distortions(test)
    for split in changed.values():
        assert split.images.shape == test.images.shape
        assert split.images.dtype == torch.uint8
        assert torch.equal(split.labels, test.labels)
    assert torch.equal(changed["as they are"].images, test.images)
    assert torch.equal(changed["4 pixels to the right"].images[:, :, 4:], test.images[:, :, :-4])
    ink = {name: split.images.float().sum().item() for name, split in changed.items()}
    assert ink["thicker by a pixel"] > 1.2 * ink["as they are"]
    assert ink["at 70% of the size"] == pytest.approx(0.49 * ink["as they are"], rel=0.05)
    assert ink["rotated by 30 degrees"] == pytest.approx(ink["as they are"], rel=0.05)
    back = TF.rotate(changed["rotated by 30 degrees"].images[:1], 30.0, TF.InterpolationMode.BILINEAR)
    likeness = nn.functional.cosine_similarity(back.flatten().float(), test.images[0].flatten().float(), dim=0)
    assert likeness > 0.9
    noisy = inspection.distortions(blank(50, 28, 28, value=128))["noisy (sigma 64 of 255)"].images.float()
    assert noisy.mean().item() == pytest.approx(128, abs=2)
    assert noisy.std().item() == pytest.approx(61.4, abs=1)  # 64, cut off at 0 and 255: two sigmas either way
    point = blank(1, 28, 28)
    point.images[0, 14, 14] = 255
    blurred = inspection.distortions(point)["blurred (sigma 1.5 pixels)"].images[0]
    for axis in (0, 1):
        profile = blurred.sum(dim=axis) / blurred.sum()
        spread = (profile * (torch.arange(28) - 14) ** 2).sum().sqrt().item()
        assert spread == pytest.approx(1.5, abs=0.2)
    thick = inspection.distortions(point)["thicker by a pixel"].images[0]
    assert thick.nonzero().tolist() == [[14, 14], [14, 15], [15, 14], [15, 15]]


def test_distortions_are_the_same_in_every_call(small_mnist: Splits) -> None:
    few = small_mnist[1][:5]
    first, again, other = inspection.distortions(few), inspection.distortions(few), inspection.distortions(few, seed=1)
    assert all(torch.equal(first[name].images, again[name].images) for name in first)
    changed = [name for name in first if not torch.equal(first[name].images, other[name].images)]
    assert changed == ["noisy (sigma 64 of 255)"]


def test_layer_outputs_are_those_of_the_stages_and_the_model_stays(small_mnist: Splits) -> None:
    net = Net().train()
    images, _ = Batches(small_mnist[0]).load(torch.arange(5))
    with left_as_it_was(net):
        outputs = inspection.layer_outputs(net, images)
    assert list(outputs) == ["conv1", "conv2", "pool1", "conv3", "conv4", "conv5", "conv6", "conv7", "fc"]
    x = images
    with torch.no_grad():  # the same random numbers for dropout, as the state was put back
        for name, output in outputs.items():
            x = net.get_submodule(name)(x.flatten(1) if name == "fc" else x)
            torch.testing.assert_close(output, x, msg=name)


def test_size_of_an_update_is_the_rate_times_the_gradient_over_the_weight(small_mnist: Splits) -> None:
    recipe = Recipe(lr=0.1, momentum=0.0, dropout=0.0, augmentation=None)
    net, batches = recipe.model(), Batches(small_mnist[0][:64], 64)
    twin = copy.deepcopy(net).train()
    images, labels = next(iter(batches))
    nn.functional.nll_loss(twin(images), labels).backward()
    expected = {name: 0.1 * p.grad.norm().item() / p.norm().item() for name, p in twin.named_parameters() if p.ndim > 1}
    sizes = inspection.update_sizes(Trainer(net, recipe, 1), batches, num_steps=1)
    assert list(sizes) == ["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "conv7", "fc"]
    for name, size in sizes.items():
        weight = "fc.weight" if name == "fc" else f"{name}.0.weight"
        assert size == pytest.approx(expected[weight], rel=1e-3), name


def test_more_updates_than_batches_are_refused_before_any(small_mnist: Splits) -> None:
    net, batches = Net(), Batches(small_mnist[0][:100], 40)
    for num_steps in (0, 4):
        refused = pytest.raises(ValueError, match=f"num_steps is {num_steps}: give 1 to 3, the batches of an epoch")
        with left_as_it_was(net), refused:
            inspection.update_sizes(Trainer(net, Recipe(), 3), batches, num_steps)
    assert len(inspection.update_sizes(Trainer(net, Recipe(), 3), batches, num_steps=3)) == 8


def test_without_eval_each_batch_is_judged_by_its_own_statistics(small_mnist: Splits) -> None:
    test, net = small_mnist[1][:60], Net(dropout=0.0).eval()
    with left_as_it_was(net):
        found = {size: inspection.accuracy_without_eval(net, test, size) for size in (2, 60)}
    with left_as_it_was(noisy := Net(dropout=0.5)):
        inspection.accuracy_without_eval(noisy, test, 20)
    assert evaluate(net, Batches(test, 60)) == evaluate(net, Batches(test, 2))
    twin = copy.deepcopy(net).train()
    images, labels = Batches(test).load(torch.arange(60))
    for size, accuracy in found.items():
        hits = [(twin(x).argmax(1) == y).sum() for x, y in zip(images.split(size), labels.split(size), strict=True)]
        assert accuracy == pytest.approx(sum(hits).item() / 60)


def test_what_reaches_a_layer_is_what_the_one_before_puts_out(small_mnist: Splits) -> None:
    net = Net().train()
    images, _ = next(iter(Batches(small_mnist[0], 50)))
    with left_as_it_was(net):
        x = inspection.layer_input(net, "conv1.2", images)
    torch.testing.assert_close(x, net.conv1[1](net.conv1[0](images)).detach())


def test_an_answer_in_train_mode_varies_with_its_batch_and_less_so_in_larger_ones(mnist: Splits) -> None:
    net = Net()
    load_weights(net, RESULTS / "assignment" / "model.pt")
    index = 8  # a five that is not too clear
    answers = {size: inspection.answers_in_batches(net, mnist[1], index, size, 30) for size in (8, 200)}
    assert all(0 < answer < 1 for some in answers.values() for answer in some)
    assert len(set(answers[8])) > 20
    assert statistics.stdev(answers[8]) > 2 * statistics.stdev(answers[200]) > 0
    again = inspection.answers_in_batches(net, mnist[1], index, 8, 30)  # without dropout, in batches drawn alike
    assert answers[8] == again
    alone = inspection.answers_in_batches(net, mnist[1], index, 1, 1)[0]
    images, labels = Batches(mnist[1]).load(torch.tensor([index]))
    for module in net.train().modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    assert alone == pytest.approx(net(images)[0, labels[0]].exp().item(), rel=1e-4)


def test_strongest_patches_are_what_the_strongest_units_see() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.MaxPool2d(2))
    nn.init.zeros_(model[0].weight)
    model[0].weight.data[0, 0, 1, 1] = 1.0  # channel 0 answers to a bright centre
    model[0].weight.data[1, 0, 0, 2] = -1.0  # channel 1 to a dark corner
    images = torch.randint(50, 200, (6, 10, 10), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    images[4, 5, 3], images[2, 8, 8], images[1, 2, 7] = 255, 254, 0
    split = Split(images, torch.zeros(6, dtype=torch.int64))
    row = layer_table(model, input_size=(1, 10, 10))[1]
    bright, dark = inspection.strongest_patches(model, split, row, number=2)
    # The pooling's unit (2, 1) sees rows 4 to 7 and columns 2 to 5.
    assert torch.equal(bright[0], images[4, 4:8, 2:6])
    assert torch.equal(bright[1], images[2, 6:10, 6:10])
    assert torch.equal(dark[0], images[1, 2:6, 4:8])
    assert len(bright) == len(dark) == 2
