"""What a trained model gets wrong, what it looks at, and how it fares on digits it was not made for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from helpers.data import NUM_CLASSES, Batches, Split


def confusion_matrix(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return counts ``(10, 10)`` from log-probabilities ``(N, 10)``: row for the label, column for the prediction."""
    pairs = labels * NUM_CLASSES + log_probs.argmax(dim=1)
    return pairs.bincount(minlength=NUM_CLASSES**2).view(NUM_CLASSES, NUM_CLASSES)


def confident_mistakes(log_probs: Tensor, labels: Tensor, number: int) -> Tensor:
    """Return the indices of at most ``number`` wrong predictions, the most confident one first.

    From log-probabilities ``(N, 10)`` and labels ``(N,)``.
    """
    confidence, predictions = log_probs.max(dim=1)
    wrong = (predictions != labels).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True)][:number]


def effective_receptive_field(model: nn.Module, batches: Batches, layer: str, unit: tuple[int, int]) -> Tensor:
    """Return how much each input pixel moves one unit of a layer ``(H, W)``: mean absolute gradient over the images.

    ``layer`` is a submodule's name, ``unit`` a (row, column) of its output, all channels summed. As defined by
    Luo et al., Understanding the Effective Receptive Field (2016). Uses eval mode and restores the model's.
    """
    was_training = model.training
    model.eval()
    outputs: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda *call: outputs.append(call[2].clone()))
    try:
        total = torch.zeros(batches.images.shape[1:], device=batches.device)
        for images, _ in batches:
            images.requires_grad_()
            model(images)
            (gradient,) = torch.autograd.grad(outputs.pop()[..., unit[0], unit[1]].sum(), images)
            total += gradient.abs().sum(dim=(0, 1))
    finally:
        hook.remove()
        model.train(was_training)
    return total / len(batches.labels)


def distortions(test: Split, seed: int = 0) -> dict[str, Split]:
    """Return the test split as it is and changed beyond what either recipe trains for, by name."""
    images = test.images.unsqueeze(1)  # (N, 1, 28, 28) uint8

    def moved(angle: float = 0.0, right: int = 0, scale: float = 1.0) -> Tensor:
        return TF.affine(images, angle, [right, 0], scale, [0.0], InterpolationMode.BILINEAR)

    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)) * 64
    changed = {
        "as they are": images,
        "4 pixels to the right": moved(right=4),
        "rotated by 30 degrees": moved(angle=30.0),
        "at 70% of the size": moved(scale=0.7),
        "thicker by a pixel": F.max_pool2d(images.float(), 2, stride=1, padding=1)[..., :-1, :-1],
        "blurred (sigma 1.5 pixels)": TF.gaussian_blur(images, [9, 9], [1.5, 1.5]),
        "noisy (sigma 64 of 255)": (images + noise).clamp(0, 255),
    }
    return {name: Split(pixels.to(torch.uint8).squeeze(1), test.labels) for name, pixels in changed.items()}
