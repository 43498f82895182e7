"""Looking into a network: its activations, gradients and updates, its errors, and distorted digits to test it on."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from helpers.data import NUM_CLASSES, Batches, Split
from helpers.receptive_field import Row
from helpers.runtime.looking import copy_of, eval_mode, outputs_of, random_state_kept
from helpers.training import Trainer


def confusion_matrix(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return counts ``(10, 10)``, a row for each label and a column for each prediction.

    From log-probabilities ``(N, 10)`` and labels ``(N,)``.
    """
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
    """Return the influence ``(H, W)`` of each input pixel on one unit: its mean absolute gradient over the images.

    ``layer`` is a submodule's name, ``unit`` a (row, column) of its output, all channels summed. As defined by
    Luo et al., Understanding the Effective Receptive Field (2016). Uses eval mode, then restores the model's mode.
    """
    total = torch.zeros(batches.images.shape[1:], device=batches.device)
    with eval_mode(model), outputs_of(model, [layer]) as outputs:
        for images, _ in batches:
            images.requires_grad_()
            model(images)
            (gradient,) = torch.autograd.grad(outputs[layer][..., unit[0], unit[1]].sum(), images)
            total += gradient.abs().sum(dim=(0, 1))
    return total / len(batches.labels)


@torch.no_grad()
def layer_outputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the output of each stage (child module) of ``model`` on ``images`` ``(B, 1, H, W)``, by its name.

    Runs a copy in the model's mode; the model's running statistics and the random state do not change.
    """
    duplicate = copy_of(model)
    with random_state_kept(images.device), outputs_of(duplicate, list(dict(model.named_children()))) as outputs:
        duplicate(images)
    return outputs


@torch.no_grad()
def layer_input(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Return the input of the submodule ``layer`` on ``images`` ``(B, 1, H, W)``.

    Runs a copy in the model's mode; the model's running statistics and the random state do not change.
    """
    inputs: list[Tensor] = []
    duplicate = copy_of(model)
    duplicate.get_submodule(layer).register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    with random_state_kept(images.device):
        duplicate(images)
    return inputs[0]


def update_sizes(trainer: Trainer, batches: Batches, num_steps: int) -> dict[str, float]:
    """Train for ``num_steps`` steps; return the mean ratio of update to weights, by stage.

    For each step, the Euclidean norm of the change in the weights of the stage's convolution or linear layer is divided
    by the norm of these weights. Raises ``ValueError`` unless ``num_steps`` is from 1 to the number of batches.
    """
    if not 1 <= num_steps <= len(batches):
        raise ValueError(f"num_steps is {num_steps}: give 1 to {len(batches)}, the batches of an epoch")
    modules = trainer.model.named_modules()
    layers = {name.split(".")[0]: module for name, module in modules if isinstance(module, nn.Conv2d | nn.Linear)}
    totals = dict.fromkeys(layers, 0.0)
    trainer.model.train()
    for _, (images, labels) in zip(range(num_steps), batches, strict=False):
        before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        trainer.step(images, labels)
        for name, weight in before.items():
            totals[name] += ((layers[name].weight.detach() - weight).norm() / weight.norm()).item()
    return {name: total / num_steps for name, total in totals.items()}


def accuracy_without_eval(model: nn.Module, split: Split, batch_size: int) -> float:
    """Return the accuracy (a fraction) on ``split`` when the model is left in train mode by mistake.

    Runs a copy in batches of ``batch_size``; the model's running statistics and the random state do not change.
    """
    forgetful, device = copy_of(model).train(), next(model.parameters()).device
    hits = 0
    with random_state_kept(device), torch.no_grad():
        for images, labels in Batches(split, batch_size, device=device):
            hits += (forgetful(images).argmax(dim=1) == labels).sum().item()
    return hits / len(split.labels)


@torch.no_grad()
def answers_in_batches(model: nn.Module, split: Split, index: int, batch_size: int, num_batches: int) -> list[float]:
    """Return the probability of the right digit for image ``index`` of ``split`` in train mode, in each batch.

    Each of the ``num_batches`` batches has this image and ``batch_size`` - 1 others, drawn with a fixed seed. Dropout
    is off, so that answers differ through batch norm alone. Runs a copy; the model's running statistics and the random
    state do not change.
    """
    copied, generator = copy_of(model).cpu().train(), torch.Generator().manual_seed(0)
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    batches, answers = Batches(split), []
    for _ in range(num_batches):
        others = torch.randperm(len(split), generator=generator)[: batch_size - 1]
        images, _ = batches.load(torch.cat([torch.tensor([index]), others]))
        answers.append(copied(images)[0, split.labels[index]].exp().item())
    return answers


@torch.no_grad()
def strongest_patches(model: nn.Module, split: Split, stage: Row, number: int) -> list[list[Tensor]]:
    """Return for each channel of ``stage`` the ``number`` image patches to which it responds most strongly.

    A patch ``(h, w)`` uint8 is the receptive field of an image's strongest unit, as the layer table has it. An image
    gives each channel at most one patch. The model runs in eval mode.
    """
    duplicate = copy_of(model).cpu().eval()
    maps = torch.cat([layer_outputs(duplicate, images)[stage.name] for images, _ in Batches(split, 500)])
    width = maps.shape[-1]
    strength, place = maps.flatten(2).max(dim=2)  # (N, C): of each image's strongest unit, and where it is
    patches = []
    for channel in range(maps.shape[1]):
        best = strength[:, channel].argsort(descending=True, stable=True)[:number].tolist()
        boxes = [stage.box(divmod(place[i, channel].item(), width)) for i in best]
        cuts = zip(best, boxes, strict=True)
        patches.append([split.images[i, top : low + 1, left : right + 1] for i, ((top, low), (left, right)) in cuts])
    return patches


def distortions(test: Split, seed: int = 0) -> dict[str, Split]:
    """Return the test split by the name of its distortion: unchanged, and as digits from elsewhere may differ."""
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
    return {name: replace(test, images=pixels.to(torch.uint8).squeeze(1)) for name, pixels in changed.items()}
