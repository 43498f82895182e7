from dataclasses import replace

import pytest
import torch
from torchvision import datasets
from torchvision.transforms import functional as TF

from conftest import ROOT, Splits
from evidence.benchmark.stock import linked
from helpers.augmentation import Augmentation, warp
from helpers.data import MEAN, STD, Batches, Split


def test_images_and_labels_are_torchvisions(mnist: Splits) -> None:
    with linked(ROOT / "data") as folder:
        for split, is_train in zip(mnist, (True, False), strict=True):
            theirs = datasets.MNIST(folder, train=is_train, download=True)
            assert torch.equal(split.images, theirs.data)
            assert torch.equal(split.labels, theirs.targets)


def test_mean_and_std_are_those_of_the_training_pixels(mnist: Splits) -> None:
    shares = torch.bincount(mnist[0].images.flatten(), minlength=256) / mnist[0].images.numel()
    levels = torch.arange(256) / 255
    mean = (shares * levels).sum()
    assert round(mean.item(), 4) == MEAN
    assert round((shares * (levels - mean) ** 2).sum().sqrt().item(), 4) == STD


def test_a_test_batch_is_totensor_and_normalize(mnist: Splits) -> None:
    images, labels = next(iter(Batches(mnist[1], 20)))
    assert images.dtype == torch.float32
    assert images.shape == (20, 1, 28, 28)
    assert labels.dtype == torch.int64
    for image, pixels, label, expected in zip(images, mnist[1].images, labels, mnist[1].labels, strict=False):
        theirs = TF.normalize(TF.to_tensor(pixels.numpy()), (MEAN,), (STD,))
        torch.testing.assert_close(image, theirs)
        assert label == expected


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(64, [64] * 10 + [60]), (700, [700]), (2000, [700]), (350, [350, 350]), (1, [1] * 700)],
)
def test_every_image_comes_once_and_the_short_batch_too(small_mnist: Splits, batch_size: int, sizes: list[int]) -> None:
    train = small_mnist[0]
    batches = Batches(train, batch_size, shuffle=True)
    epochs = [list(batches) for _ in range(2)]
    assert len(batches) == len(sizes)
    assert [len(labels) for _, labels in epochs[0]] == sizes
    orders = [torch.cat([images for images, _ in epoch]) for epoch in epochs]
    plain = torch.cat([images for images, _ in Batches(train, 64)])
    assert not torch.equal(*orders)
    for order in orders:
        assert not torch.equal(order, plain)
        assert torch.equal(order.flatten(1).sum(1).sort().values, plain.flatten(1).sum(1).sort().values)


def test_labels_stay_with_their_images(mnist: Splits) -> None:
    known = {
        pixels.numpy().tobytes(): label for pixels, label in zip(mnist[0].images[:3000], mnist[0].labels, strict=False)
    }
    for images, labels in Batches(mnist[0][:3000], 64, shuffle=True):
        restored = ((images * STD + MEAN) * 255).round().to(torch.uint8)
        assert [known[image.numpy().tobytes()] for image in restored] == labels.tolist()


def test_same_seed_same_batches_whatever_the_global_seed(small_mnist: Splits) -> None:
    def first(seed: int) -> torch.Tensor:
        return next(iter(Batches(small_mnist[0], 64, shuffle=True, augmentation=Augmentation(), seed=seed)))[0]

    before = torch.get_rng_state()
    a = first(7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(a, first(7))
    assert not torch.equal(a, first(8))


def test_a_batch_is_warped_by_its_augmentation_and_then_normalised(small_mnist: Splits) -> None:
    augmentation = Augmentation(shift=0.1, elastic=1.0, corrupt_probability=0.5, blur=1.0, noise=0.2)
    batches = Batches(small_mnist[0][:50], 50, augmentation=augmentation, seed=7)
    images, generator = small_mnist[0].images[:50].unsqueeze(1).float(), torch.Generator().manual_seed(7)
    for given, _ in [*batches, *batches]:  # the second epoch goes on with the same generator
        draw = (50, (28, 28), generator)
        warped = warp(images, augmentation.affine_matrices(*draw), augmentation.elastic_displacements(*draw))
        warped = augmentation.corrupt(warped, generator)
        torch.testing.assert_close(given, (warped / 255 - MEAN) / STD, rtol=0, atol=1e-4)


def test_images_of_ones_own_are_normalised_by_their_own_pixels(mnist: Splits) -> None:
    """Ink on paper: MNIST inverted, whose mean and standard deviation follow from MNIST's."""
    own = replace(mnist[0][:2000], images=255 - mnist[0].images[:2000]).measured()
    pixels = mnist[0].images[:2000].double() / 255
    assert (own.mean, own.std) == pytest.approx((1 - pixels.mean().item(), pixels.std().item()))
    held_out = own.hold_out(500, seed=1)[1]
    x = torch.cat([images for images, _ in Batches(own, 500)])
    assert abs(x.mean()) < 1e-4 and abs(x.std() - 1) < 1e-4
    assert (held_out[:10].mean, held_out[:10].std) == (own.mean, own.std)  # parts of it are normalised alike
    with pytest.raises(ValueError, match="std is 0.0: give a number above 0"):
        Batches(Split(torch.zeros(4, 28, 28, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)).measured())


def test_black_stays_black_when_warped(mnist: Splits) -> None:
    black = -MEAN / STD
    for images, _ in Batches(mnist[0][:64], 64, augmentation=Augmentation(rotation=45.0, crop_probability=0.0)):
        torch.testing.assert_close(images[..., 0, 0], torch.full((64, 1), black))
        assert images.min() >= black - 1e-5


def test_hold_out_splits_without_overlap(mnist: Splits) -> None:
    train = mnist[0]
    numbered = Split(torch.arange(60_000).view(-1, 1, 1), train.labels)
    rest, held_out = numbered.hold_out(5000, seed=3)
    assert len(held_out.labels) == 5000
    indices = torch.cat([rest.images, held_out.images]).flatten()
    assert torch.equal(indices.sort().values, torch.arange(60_000))
    assert torch.equal(train.labels[held_out.images.flatten()], held_out.labels)
    assert torch.equal(held_out.images, numbered.hold_out(5000, seed=3)[1].images)
    assert not torch.equal(held_out.images, numbered.hold_out(5000, seed=4)[1].images)


def test_a_split_is_taken_apart_into_images_and_labels(mnist: Splits) -> None:
    for split in mnist:
        images, labels = split
        assert images is split.images and labels is split.labels
