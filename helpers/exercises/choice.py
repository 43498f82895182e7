"""Exercise: choose a recipe."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from helpers.data import Split
from helpers.exercises.result import NotYet, Result, call, check_given, described, ends_with_not_yet, gives, right
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.training import fit

Score = Callable[[Recipe, Split, Split], float]  # recipe, split to learn from, split to measure the accuracy on
Choose = Callable[[Split, Mapping[str, Recipe], Score], str]

NUM_IMAGES = 600
RECIPES = {f"lr {lr}": replace(ASSIGNMENT, num_epochs=1, batch_size=16, lr=lr) for lr in (0.00001, 0.02, 0.0005)}
FEWEST_MEASURED = 50  # with fewer images, a single one is more than two percentage points


class Terms(NamedTuple):
    """What has to be equal for two recipes to be compared: the images learned from and measured on, and the seed."""

    learned: frozenset[bytes]
    measured: frozenset[bytes]
    seed: int


Scores = dict[str, dict[Terms, float]]  # accuracies, by the recipe's name and the terms


@ends_with_not_yet
def check_choice(choose: Choose, data: Split) -> Result:
    """Say whether ``choose(train, recipes, score)`` chooses a recipe's name as one should, on 600 images of ``data``.

    ``score(recipe, learned, measured)`` trains for an epoch on the first split and returns the accuracy on the second.
    One hold-out split is right, and so are several, cross-validation, and several seeds, if all recipes have the same
    splits and seeds, no image is both learned from and measured on, and the highest mean is chosen.
    """
    check_given(choose, "choose")
    if not isinstance(getattr(data, "images", None), Tensor):
        raise NotYet(f"the check was given {described(data)} as images: give it train.")
    train = data[:NUM_IMAGES]
    labels = dict(zip(_images(train), train.labels.tolist(), strict=True))
    scores: Scores = {name: {} for name in RECIPES}

    def score(recipe: Recipe, learned: Split, measured: Split) -> float:
        name = _name_of(recipe)
        for split in (learned, measured):
            _check_split(split, labels)
        terms = Terms(frozenset(_images(learned)), frozenset(_images(measured)), recipe.seed)
        _check_terms(terms)
        accuracy = fit(recipe.model(), learned, measured, recipe, device="cpu").test_accuracy[-1]
        scores[name][terms] = accuracy
        return accuracy

    chosen = call("choose(train, recipes, score)", choose, train, dict(RECIPES), score)
    means = _means_on_equal_terms(scores)
    if not isinstance(chosen, str) or chosen not in RECIPES:
        raise NotYet(f"choose {gives(chosen, f'return a name such as {next(iter(RECIPES))!r}.')}")
    best = max(means, key=means.get)
    if means[chosen] < means[best] - 1e-9:  # there may be a tie
        accuracies = f"{means[chosen]:.1%} against {means[best]:.1%}"
        raise NotYet(f"you choose {chosen!r}, but {best!r} was more accurate on the images held out: {accuracies}.")
    return right(f"{chosen!r} is the most accurate on images that it has not learned from.")


def _images(split: Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]


def _name_of(recipe: Recipe) -> str:
    """Return the name of ``recipe``, whatever its seed."""
    if not isinstance(recipe, Recipe):
        raise NotYet(f"score was given {described(recipe)} as a recipe: give it one of recipes.values().")
    for name, known in RECIPES.items():
        if replace(recipe, seed=known.seed) == known:
            return name
    raise NotYet("score was given a recipe that is none of the three: give it those of recipes as they are.")


def _check_split(split: Split, labels: dict[bytes, int]) -> None:
    """Raise ``NotYet`` unless ``split`` is a part of the training images, each with its own label."""
    if not isinstance(getattr(split, "images", None), Tensor):
        raise NotYet(f"score was given {described(split)} to learn from or to measure on: give it a Split.")
    images = _images(split)
    if foreign := sum(image not in labels for image in images):
        raise NotYet(f"{foreign:,} of the images that score was given are none of the training split.")
    pairs = zip(images, split.labels.tolist(), strict=False)
    if mistaken := sum(labels[image] != label for image, label in pairs):
        raise NotYet(f"{mistaken:,} of the images that score was given have another image's label: move both together.")


def _check_terms(terms: Terms) -> None:
    """Raise ``NotYet`` if the splits share images, or if fewer are learned from than measured on."""
    if overlap := len(terms.learned & terms.measured):
        raise NotYet(f"{overlap:,} of the images that you measure on were learned from.")
    if len(terms.learned) < len(terms.measured):
        raise NotYet(
            f"you learn from {len(terms.learned):,} images and measure on {len(terms.measured):,}: learn from the "
            "larger part, as the recipe that you choose will learn from all."
        )


def _means_on_equal_terms(scores: Scores) -> dict[str, float]:
    """Return each recipe's mean accuracy over the splits and seeds that all recipes were scored with.

    Raises ``NotYet`` where there are none, or too few images were measured on.
    """
    if missing := [name for name, accuracies in scores.items() if not accuracies]:
        raise NotYet(f"{', '.join(missing)} was never scored.")
    measured = [{terms.measured for terms in accuracies} for accuracies in scores.values()]
    num_measured = len(frozenset().union(*set.union(*measured)))
    if num_measured < FEWEST_MEASURED:
        raise NotYet(f"you measure on {num_measured:,} images: one more that is right is {1 / num_measured:.0%}.")
    common = set.intersection(*map(set, scores.values()))
    if not common:
        what = "learned from" if set.intersection(*measured) else "were measured on"
        raise NotYet(f"the recipes {what} different images: draw them once, for all recipes.")
    return {name: statistics.fmean(accuracies[terms] for terms in common) for name, accuracies in scores.items()}
