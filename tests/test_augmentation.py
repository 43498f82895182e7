import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from conftest import Splits
from helpers.augmentation import Augmentation, blurred, warp

NOTHING = {"crop_probability": 0.0, "rotation": 0.0}


def digits(mnist: Splits, num_images: int = 32) -> torch.Tensor:
    return mnist[0].images[:num_images].unsqueeze(1).float()


def draw(num_images: int, size: tuple[int, int] = (28, 28), **settings: float) -> torch.Tensor:
    return Augmentation(**settings).affine_matrices(num_images, size, torch.Generator().manual_seed(1))


def test_rotation_is_torchvisions(mnist: Splits) -> None:
    images = digits(mnist)
    matrices = draw(len(images), crop_probability=0.0)
    rotated = warp(images, matrices)
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).rad2deg().tolist()
    assert max(map(abs, angles)) <= 15
    assert max(angles) > 5
    assert min(angles) < -5
    for image, mine, angle in zip(images, rotated, angles, strict=True):
        theirs = TF.rotate(image, angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0.05)  # of 255


def test_crop_is_torchvisions_inside_its_border(mnist: Splits) -> None:
    images = digits(mnist)
    mine = warp(images, draw(len(images), crop_probability=1.0, rotation=0.0))
    theirs = TF.resize(TF.center_crop(images, 22), [28, 28], antialias=False)
    # torchvision repeats the crop's outermost pixels where the warp still sees the pixel beyond them
    torch.testing.assert_close(mine[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], rtol=0, atol=0.05)


def test_crop_then_rotation_is_one_warp(mnist: Splits) -> None:
    images = digits(mnist, 200)
    matrices = draw(len(images), crop_probability=0.5)
    scales = matrices[:, 0, :2].norm(dim=1)
    cropped = torch.isclose(scales, torch.tensor(22 / 28))
    assert torch.all(cropped | torch.isclose(scales, torch.tensor(1.0)))
    assert 60 < cropped.sum() < 140
    for image, matrix in zip(images[cropped], matrices[cropped], strict=True):
        angle = torch.atan2(matrix[1, 0], matrix[0, 0]).rad2deg().item()
        enlarged = TF.resize(TF.center_crop(image, 22), [28, 28], antialias=False)
        mine = warp(image[None], matrix[None])[0]
        likeness = [
            F.cosine_similarity(mine.flatten(), TF.rotate(enlarged, a, InterpolationMode.BILINEAR).flatten(), dim=0)
            for a in (angle, angle - 5, angle + 5)
        ]
        assert likeness[0] > 0.98  # torchvision interpolates twice here, which is a little smoother
        assert likeness[0] == max(likeness)


def test_crop_probability_and_angles_are_those_of_the_assignment() -> None:
    matrices = draw(60_000)
    cropped = matrices[:, 0, :2].norm(dim=1) < 0.9
    assert abs(cropped.float().mean().item() - 0.1) < 4 * math.sqrt(0.09 / 60_000)
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).rad2deg()
    assert angles.abs().max() <= 15.001
    assert abs(angles.mean().item()) < 4 * 15 / math.sqrt(3 * 60_000)
    assert abs(angles.std().item() - 15 / math.sqrt(3)) < 0.05


@pytest.mark.parametrize("size", [(28, 28), (20, 36)])
def test_warp_is_affine_grid_and_grid_sample(size: tuple[int, int]) -> None:
    images = torch.rand(16, 1, *size)
    matrices = draw(16, size, rotation=40.0, shift=0.1, zoom=0.2)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    torch.testing.assert_close(
        warp(images, matrices), F.grid_sample(images, grid, align_corners=False), atol=1e-4, rtol=0
    )


def test_shift_moves_by_whole_pixels() -> None:
    images = torch.rand(1, 1, 28, 28)
    matrix = torch.tensor([[[1.0, 0, 2 * 3 / 28], [0, 1, -2 * 2 / 28]]])  # sees 3 to the right, 2 above
    moved = warp(images, matrix)
    torch.testing.assert_close(moved[..., 2:, :-3], images[..., :-2, 3:], atol=1e-4, rtol=0)
    assert moved[..., :2, :].max() < 1e-4
    assert moved[..., -3:].max() < 1e-4


def test_angles_are_true_on_images_that_are_not_square() -> None:
    image = torch.zeros(1, 1, 21, 41)
    image[..., 10, 10:31] = 1  # a horizontal bar
    matrices = draw(64, (21, 41), crop_probability=0.0, rotation=90.0)
    angle = (matrices[:, 1, 0] * 21 / 41).asin()
    pick = (angle.abs() - math.pi / 4).abs().argmin()
    theirs = TF.rotate(image[0], angle[pick].rad2deg().item(), InterpolationMode.BILINEAR)
    torch.testing.assert_close(warp(image, matrices[pick : pick + 1])[0], theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (14, 56)])
def test_bending_displaces_by_so_many_pixels_and_smoothly(height: int, width: int) -> None:
    size, generator = (height, width), torch.Generator().manual_seed(1)
    assert Augmentation().elastic_displacements(3, size, generator) is None
    bent = Augmentation(elastic=0.6).elastic_displacements(4000, size, generator)
    pixels = bent * torch.tensor([width / 2, height / 2])  # x, y
    for axis in (0, 1):
        for corner in (0, -1):  # one of the 5x5 points
            assert pixels[:, corner, 0, axis].std().item() == pytest.approx(0.6, abs=0.03)
    assert pixels[:, 0, 0].std().item() == pytest.approx(0.6, abs=0.02)
    assert pixels.mean().abs() < 0.02
    for dim, side in ((1, height), (2, width)):
        assert pixels.diff(dim=dim).std() < 0.3 * 28 / side * pixels.std()
    images, matrices = torch.rand(8, 1, *size), draw(8, size)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False) + bent[:8]
    expected = F.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(warp(images, matrices, bent[:8]), expected, atol=1e-4, rtol=0)


def test_shift_is_a_share_of_each_side_and_zoom_keeps_the_form() -> None:
    matrices = draw(60_000, (14, 56), shift=0.1, zoom=0.2, **NOTHING)
    moved = matrices[:, :, 2] / 2
    for axis in (0, 1):
        assert (moved[:, axis].min().item(), moved[:, axis].max().item()) == pytest.approx((-0.1, 0.1), abs=1e-3)
    sizes = 1 / matrices[:, 0, 0]
    assert (sizes.min().item(), sizes.max().item()) == pytest.approx((0.8, 1.2), abs=1e-3)
    assert torch.equal(matrices[:, 0, 0], matrices[:, 1, 1])
    draws = torch.stack([matrices[:, 0, 0], *moved.T]).corrcoef()  # zoom, x and y are drawn apart
    assert (draws - torch.eye(3)).abs().max() < 0.02


def test_a_blur_is_torchvisions(mnist: Splits) -> None:
    images = torch.cat([digits(mnist, 3), 255 * torch.ones(1, 1, 28, 28)])
    sigmas = [0.3, 0.9, 1.5, 1.5]
    mine = blurred(images, torch.tensor(sigmas).view(-1, 1, 1, 1), radius=5)
    for image, sigma, result in zip(images, sigmas, mine, strict=True):
        black_outside = TF.pad(image, [5])
        theirs = TF.gaussian_blur(black_outside, [11, 11], [sigma, sigma])[:, 5:-5, 5:-5]
        torch.testing.assert_close(result, theirs, atol=1e-3, rtol=0)  # of 255
    assert torch.equal(blurred(images, torch.zeros(4, 1, 1, 1), radius=5), images)
    wide = torch.rand(2, 1, 20, 36)
    assert blurred(wide, torch.ones(2, 1, 1, 1), radius=3).shape == wide.shape


def test_noise_is_as_strong_as_it_says_and_so_many_images_get_it() -> None:
    grey = torch.full((6000, 1, 12, 12), 127.0)
    corrupted = Augmentation(corrupt_probability=0.25, noise=0.2).corrupt(grey, torch.Generator().manual_seed(1))
    spread = (corrupted - grey).flatten(1).std(dim=1)
    noisy = spread > 0
    assert abs(noisy.float().mean().item() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 6000)
    assert spread[noisy].mean().item() == pytest.approx(255 * 0.1, rel=0.05)  # uniformly from 0 to the greatest
    assert spread.max().item() == pytest.approx(255 * 0.2, rel=0.15)
    assert abs((corrupted - grey).mean().item()) < 0.1
    assert torch.equal(corrupted[~noisy], grey[~noisy])
    dark = Augmentation(corrupt_probability=1.0, noise=0.5).corrupt(torch.zeros(50, 1, 12, 12), torch.Generator())
    assert (dark.min().item(), dark.max().item() <= 255) == (0.0, True)


def test_blur_and_noise_fall_on_images_independently() -> None:
    points = torch.zeros(4000, 1, 15, 15)
    points[..., 7, 7] = 255
    blur = Augmentation(corrupt_probability=0.3, blur=1.0)
    both = replace(blur, noise=0.1)
    corrupted = both.corrupt(points, torch.Generator().manual_seed(1))
    noisy = corrupted[..., 0, :].flatten(1).any(dim=1)  # where no blur reaches
    soft = blur.corrupt(points, torch.Generator().manual_seed(1))[..., 7, 7].flatten() < 254
    assert abs(soft.float().mean().item() - 0.3 * 0.75) < 0.04  # a weak blur leaves a point as it is
    assert abs((soft & noisy).float().mean() - soft.float().mean() * noisy.float().mean()) < 0.02


PROBABILITIES = ("crop_probability", "strong_probability", "corrupt_probability")
LEAST = dict.fromkeys([*PROBABILITIES, "rotation", "shift", "zoom", "elastic", "blur", "noise"], 0.0)
MOST = dict.fromkeys([*PROBABILITIES, "shift", "noise"], 1.0)
MOST |= {"rotation": 180.0, "zoom": 0.99, "elastic": 100.0, "blur": 10.0}


@pytest.mark.parametrize("settings", [LEAST | {"crop_size": 1}, MOST])
def test_the_ends_of_the_ranges_are_in_them(settings: dict) -> None:
    augmentation = Augmentation(**settings)
    assert augmentation.affine_matrices(2, (28, 28), torch.Generator()).isfinite().all()
    assert augmentation.corrupt(torch.ones(2, 1, 28, 28), torch.Generator()).isfinite().all()
    for name, value in settings.items():
        beyond = {name: value - 1 if name == "crop_size" else value - 0.01 if value == 0 else value + 0.01}
        with pytest.raises(ValueError, match=f"{name} is "):
            replace(augmentation, **beyond)
        with pytest.raises(FrozenInstanceError):
            setattr(augmentation, name, value)


@pytest.mark.parametrize("value", ["15", None, math.nan, math.inf, True])
def test_what_is_no_number_is_refused(value: object) -> None:
    for name in LEAST:
        with pytest.raises(ValueError, match=f"^{name} is {value!r}: give a number"):
            Augmentation(**{name: value})


def test_nothing_asked_for_changes_nothing() -> None:
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(warp(images, draw(3, **NOTHING)), images, atol=1e-5, rtol=0)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert Augmentation(corrupt_probability=1.0).corrupt(images, generator) is images
    assert torch.equal(generator.get_state(), before)  # so that a recipe without them draws the same warps as ever
