"""Random augmentation of a whole batch at once: affine and elastic warps in one resampling, then blur and noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.runtime.settings import check_numbers, check_whole_numbers


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; the defaults are the assignment's.

    With probability ``crop_probability`` the central ``crop_size`` pixels are enlarged to the whole image; then the
    image is rotated by up to ``rotation`` degrees either way.

    Beyond the assignment, the image can be shifted by up to ``shift`` of its side along each axis, zoomed in or out by
    up to ``zoom``, and deformed elastically: displacements at 5x5 points are drawn from a normal distribution with a
    standard deviation of ``elastic`` pixels, and interpolated smoothly. With probability ``strong_probability``,
    rotation and shift are drawn from the wider ranges ``strong_rotation`` and ``strong_shift`` instead.

    Finally the image may be blurred and may get noise, each with probability ``corrupt_probability``: a Gaussian blur
    with a standard deviation of up to ``blur`` pixels, and Gaussian noise with a standard deviation of up to ``noise``
    times the range from black to white.

    Each image gets its own draw, from uniform distributions where nothing else is said. Pixels from outside the image
    are black. Raises ``ValueError`` for a value out of range.
    """

    crop_probability: float = 0.1
    crop_size: int = 22
    rotation: float = 15.0
    shift: float = 0.0
    zoom: float = 0.0
    elastic: float = 0.0
    strong_probability: float = 0.0
    strong_rotation: float = 40.0
    strong_shift: float = 0.18
    corrupt_probability: float = 0.2
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_whole_numbers(self, "crop_size", least=1)
        check_numbers(self, "crop_probability", "strong_probability", "corrupt_probability", least=0, most=1)
        check_numbers(self, "shift", "strong_shift", "noise", least=0, most=1)
        check_numbers(self, "rotation", "strong_rotation", least=0, most=180)
        check_numbers(self, "zoom", least=0, most=0.99)
        check_numbers(self, "elastic", least=0, most=100)
        check_numbers(self, "blur", least=0, most=10)

    def affine_matrices(self, num_images: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Return matrices ``(B, 2, 3)`` that map output to input coordinates, as ``F.affine_grid`` takes them.

        Coordinates run from -1 to 1 across an image of ``size`` (height, width). A rotation keeps all shapes in pixels,
        even in an image that is not square.
        """
        height, width = size
        uniform = torch.rand(num_images, 5, generator=generator, device=generator.device)
        crop = uniform[:, 0]
        angle, zoom, x, y = (2 * uniform[:, 1:] - 1).unbind(dim=1)  # from -1 to 1
        scale = torch.where(crop < self.crop_probability, self.crop_size / width, 1.0) / (1 + self.zoom * zoom)
        rotation, shift = math.radians(self.rotation), self.shift
        if self.strong_probability:
            strong = torch.rand(num_images, generator=generator, device=generator.device) < self.strong_probability
            rotation = torch.where(strong, math.radians(self.strong_rotation), rotation)
            shift = torch.where(strong, self.strong_shift, shift)
        angle = rotation * angle
        cos, sin = scale * angle.cos(), scale * angle.sin()
        top = [cos, -sin * (height / width), 2 * shift * x]
        bottom = [sin * (width / height), cos, 2 * shift * y]
        return torch.stack(top + bottom, dim=1).view(-1, 2, 3)

    def elastic_displacements(
        self, num_images: int, size: tuple[int, int], generator: torch.Generator
    ) -> Tensor | None:
        """Return displacements ``(B, H, W, 2)`` in coordinates from -1 to 1, or None for no deformation."""
        if not self.elastic:
            return None
        points = torch.randn(num_images, 2, 5, 5, generator=generator, device=generator.device)
        surface = F.interpolate(points, size=size, mode="bicubic", align_corners=True)  # (B, 2, H, W)
        height, width = size
        strength = torch.tensor([self.elastic * 2 / width, self.elastic * 2 / height], device=points.device)  # x, y
        return surface.permute(0, 2, 3, 1) * strength

    def corrupt(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images ``(B, 1, H, W)`` from 0 to 255 with some of them blurred and some noisy."""
        if not self.blur and not self.noise:
            return images
        chosen, strength = torch.rand(2, 2, len(images), 1, 1, 1, generator=generator, device=generator.device)
        blur, noise = strength * (chosen < self.corrupt_probability)  # fractions of the maximum; 0 if not chosen
        if self.blur:
            images = blurred(images, self.blur * blur, radius=math.ceil(3 * self.blur))
        if self.noise:
            grain = torch.randn(images.shape, generator=generator, device=generator.device)
            images = (images + 255 * self.noise * noise * grain).clamp(0, 255)
        return images


def blurred(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each of the images ``(B, 1, H, W)`` by a Gaussian of its own ``sigma`` ``(B, 1, 1, 1)`` in pixels.

    The Gaussian is cut off at ``radius`` pixels; pixels outside the image count as black. A sigma of 0 leaves an image
    as it is.
    """
    distance = torch.arange(-radius, radius + 1, device=images.device)
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)) ** 2)  # (B, 1, 1, 2 * radius + 1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    channels = images.transpose(0, 1)  # one image with B channels, each with its own filter
    channels = F.conv2d(channels, weights, padding=(0, radius), groups=len(images))
    channels = F.conv2d(channels, weights.transpose(2, 3), padding=(radius, 0), groups=len(images))
    return channels.transpose(0, 1)


def warp(images: Tensor, matrices: Tensor, displacements: Tensor | None = None) -> Tensor:
    """Warp images ``(B, 1, H, W)`` by ``matrices`` ``(B, 2, 3)`` and ``displacements`` ``(B, H, W, 2)``.

    Bilinear, with black outside the image. The same as ``grid_sample(images, affine_grid(matrices) + displacements)``,
    but faster on a CPU.
    """
    height, width = images.shape[-2:]
    x = ((2 * torch.arange(width, device=images.device) + 1) / width - 1).expand(height, width)
    y = ((2 * torch.arange(height, device=images.device) + 1) / height - 1)[:, None].expand(height, width)
    points = torch.stack([x, y, torch.ones_like(x)]).view(3, -1)  # (3, H*W)
    grid = (matrices.reshape(-1, 3) @ points).view(-1, 2, height, width).permute(0, 2, 3, 1)  # (B, H, W, 2)
    if displacements is not None:
        grid += displacements
    return F.grid_sample(images, grid, align_corners=False)
