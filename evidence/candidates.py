"""The candidates among which *sprint* and *best* were chosen on validation images, derived from what was chosen."""

from dataclasses import replace

from helpers.augmentation import Augmentation
from helpers.recipe import BEST, SPRINT, Recipe


def bent(recipe: Recipe, elastic: float) -> Recipe:
    """Return ``recipe`` with displacements of so many pixels."""
    assert isinstance(recipe.augmentation, Augmentation)
    return replace(recipe, augmentation=replace(recipe.augmentation, elastic=elastic))


SPRINT_CANDIDATES = {
    "AdamW": replace(SPRINT, label_smoothing=0.0),
    "AdamW, smooth labels": SPRINT,
    "AdamW, smoother labels": replace(SPRINT, label_smoothing=0.1),
    "SGD, smooth labels": replace(SPRINT, optimizer="sgd", nesterov=True, lr=0.1, weight_decay=0.0),
}

ADAMW = replace(BEST, optimizer="adamw", nesterov=False, lr=0.01, weight_decay=0.01)
BEST_CANDIDATES = {
    "SGD": bent(BEST, 0.0),
    "SGD, elastic": BEST,
    "SGD, more elastic": bent(BEST, 0.9),
    "AdamW": bent(ADAMW, 0.0),
    "AdamW, elastic": ADAMW,
}
