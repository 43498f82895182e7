"""Exercise: choose a recipe."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from helpers.data import Split
from helpers.exercises.result import NotYet, Result, call, check_function, described, ends_with_not_yet, right
from helpers.recipe import ASSIGNMENT, Recipe
from helpers.training import fit

Score = Callable[[Recipe, Split, Split], float]  # recipe, split to learn from, split to measure the accuracy on
Choose = Callable[[Split, Mapping[str, Recipe], Score], str]

NUM_IMAGES = 600
RECIPES = {f"lr {lr}": replace(ASSIGNMENT, num_epochs=1, batch_size=16, lr=lr) for lr in (0.00001, 0.02, 0.0005)}
FEWEST_MEASURED = 50  # with fewer images, a single one is more than two percentage points


@dataclass(frozen=True)
class Trial:
    """One call of ``score``: the recipe's name and seed, the images learned from and measured on, the accuracy."""

    recipe: str
    seed: int
    learned: frozenset[bytes]
    measured: frozenset[bytes]
    accuracy: float

    @property
    def terms(self) -> tuple[frozenset[bytes], frozenset[bytes], int]:
        """What has to be equal for two recipes to be compared."""
        return self.learned, self.measured, self.seed


@ends_with_not_yet
def check_choice(choose: Choose, data: Split) -> Result:
    """Say whether ``choose(train, recipes, score)`` chooses a recipe's name as one should, on 600 images of ``data``.

    ``score(recipe, learned, measured)`` trains for an epoch on the first split and returns the accuracy on the second.
    One hold-out split is right, and so are several, cross-validation, and several seeds, if all recipes have the same
    splits and seeds, no image is both learned from and measured on, and the highest mean is chosen.
    """
    check_function(choose, "choose")
    if not isinstance(getattr(data, "images", None), Tensor):
        raise NotYet(f"the check was given {described(data)} as images: give it train.")
    train = data[:NUM_IMAGES]
    labels = dict(zip(_images(train), train.labels.tolist(), strict=True))
    trials: list[Trial] = []

    def score(recipe: Recipe, learned: Split, measured: Split) -> float:
        name = _name_of(recipe)
        for split in (learned, measured):
            _check_split(split, labels)
        images = frozenset(_images(learned)), frozenset(_images(measured))
        _check_pair(images[0], images[1])
        accuracy = fit(recipe.model(), learned, measured, recipe, device="cpu").test_accuracy[-1]
        trials.append(Trial(name, recipe.seed, images[0], images[1], accuracy))
        return accuracy

    chosen = call("choose(train, recipes, score)", choose, train, dict(RECIPES), score)
    _check_trials(trials)
    means = _means_on_equal_terms(trials)
    if not isinstance(chosen, str) or chosen not in RECIPES:
        remedy = "does it end with return?" if chosen is None else f"return a name such as {next(iter(RECIPES))!r}."
        raise NotYet(f"choose gives {described(chosen)}: {remedy}")
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


def _check_pair(learned: frozenset[bytes], measured: frozenset[bytes]) -> None:
    """Raise ``NotYet`` if the splits share images, or if fewer are ``learned`` from than ``measured`` on."""
    if overlap := len(learned & measured):
        raise NotYet(f"{overlap:,} of the images that you measure on were learned from.")
    if len(learned) < len(measured):
        raise NotYet(
            f"you learn from {len(learned):,} images and measure on {len(measured):,}: learn from the larger part, as "
            "the recipe that you choose will learn from all."
        )


def _check_trials(trials: list[Trial]) -> None:
    """Raise ``NotYet`` unless each recipe was scored, and on enough images."""
    if missing := [name for name in RECIPES if name not in {trial.recipe for trial in trials}]:
        raise NotYet(f"{', '.join(missing)} was never scored.")
    measured = frozenset().union(*(trial.measured for trial in trials))
    if len(measured) < FEWEST_MEASURED:
        raise NotYet(f"you measure on {len(measured):,} images: one more that is right is {1 / len(measured):.0%}.")


def _means_on_equal_terms(trials: list[Trial]) -> dict[str, float]:
    """Return each recipe's mean accuracy over the splits and seeds that all recipes were scored with.

    Raises ``NotYet`` where there are none.
    """
    terms = [{trial.terms for trial in trials if trial.recipe == name} for name in RECIPES]
    common = set.intersection(*terms)
    if not common:
        measured = [{trial.measured for trial in trials if trial.recipe == name} for name in RECIPES]
        what = "learned from" if set.intersection(*measured) else "were measured on"
        raise NotYet(f"the recipes {what} different images: draw them once, for all recipes.")
    return {
        name: statistics.fmean(t.accuracy for t in trials if t.recipe == name and t.terms in common) for name in RECIPES
    }
