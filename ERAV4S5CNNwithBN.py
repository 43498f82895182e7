"""Train the 11,874-parameter CNN with batch normalization on MNIST, from a terminal."""

import argparse
import glob
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from helpers import ROOT

DATA = ROOT / "data"
RUNS = Path("runs")
# Spelled out so that --help needs no torch; a test compares them.
RECIPE_NAMES = ("assignment", "sprint", "target", "best", "robust")

SURE = 0.9  # of an answer's probability: what is less is marked as unsure
MOST_DRAWN = 40  # digits: the figure of more would be too long to look at


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the options are in ``--help``."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help explains the options)\n")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--recipe", choices=RECIPE_NAMES, help="which settings to use: assignment; for --predict robust")
    add("--epochs", type=int, metavar="N", help="passes through the training images", default=argparse.SUPPRESS)
    add("--batch-size", type=int, metavar="N", help="images per step", default=argparse.SUPPRESS)
    add("--lr", type=float, help="learning rate; the peak, where the recipe has a schedule", default=argparse.SUPPRESS)
    add("--seed", type=int, help="of weights, order, augmentation and dropout", default=argparse.SUPPRESS)
    add("--device", default="auto", help="cpu, cuda, mps or auto (the default)")
    add("--threads", type=int, metavar="N", help="of the CPU; by default as many as a short trial finds fastest")
    add("--data", type=Path, default=DATA, metavar="FOLDER", help="holds MNIST/raw; this project's data by default")
    add("--results", type=Path, metavar="FOLDER", help="for all that is written: runs/RECIPE by default")
    add("--resume", action="store_true", help="go on from the checkpoint in the results folder")
    add("--predict", type=Path, nargs="+", metavar="PICTURE", help="say which digits these pictures show; do not train")
    add("--weights", type=Path, metavar="FILE", help="for --predict: by default those in --results or the committed")
    options = parser.parse_args(arguments)
    if options.weights and not options.predict:
        parser.error("--weights is for --predict alone")
    options.recipe = options.recipe or ("robust" if options.predict else "assignment")
    options.results = options.results or RUNS / options.recipe
    options.predict = [path for pattern in options.predict or () for path in expand(pattern)]
    return options


def expand(pattern: Path) -> list[Path]:
    """Return the files that a pattern such as ``*.png`` fits: Windows' shells leave that to the program."""
    if os.path.exists(pattern):  # Path.exists raises an error where it may not look
        return [pattern]
    return [Path(name) for name in sorted(glob.glob(str(pattern)))] or [pattern]


if __name__ == "__main__":  # what needs no import is done before those that take seconds
    parse_arguments()  # ends here for --help and a wrong option
    os.environ["MPLBACKEND"] = "agg"  # figures become files: whatever the user's backend is, it is not needed
    usual_handler = signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import torch

from helpers.data import Batches, Split, load_mnist
from helpers.photographs import Digit, digits_on, read_picture, thumbnail
from helpers.plots import plot_history, plot_predictions, save_figure
from helpers.receptive_field import layer_table, stages, to_markdown
from helpers.recipe import RECIPES
from helpers.results import RESULTS, what_it_means
from helpers.runtime.console import stop_printing, suit_any_console
from helpers.runtime.files import atomic_write, load_weights, save_tensors
from helpers.runtime.progress import Progress
from helpers.summary import summary
from helpers.training import fit, predict


def train(options: argparse.Namespace) -> None:
    """Print layer table and summary, train, and write figure, history and weights."""
    changes = {"num_epochs": "epochs", "batch_size": "batch_size", "lr": "lr", "seed": "seed"}
    changed = {name: getattr(options, option) for name, option in changes.items() if option in options}
    recipe = replace(RECIPES[options.recipe], **changed)
    training_split, test_split = load_mnist(options.data)
    model = recipe.model()
    print(to_markdown(stages(layer_table(model))), summary(model), sep="\n\n", end="\n\n")

    history = fit(
        model,
        training_split,
        test_split,
        recipe,
        device=options.device,
        threads=options.threads,
        checkpoint=options.results / "checkpoint.pt",
        resume=options.resume,
        progress=Progress(recipe.num_epochs, len(training_split)),
    )
    save_figure(plot_history(history), options.results / "results.png")
    atomic_write(options.results / "history.json", json.dumps(history.as_dict(), indent=1) + "\n")
    save_tensors(options.results / "model.pt", model.cpu().state_dict())
    print(f"\ntrain accuracy {history.train_accuracy[-1]:.2%}, test accuracy {history.test_accuracy[-1]:.2%}")
    print(what_it_means(history.test_accuracy[-1], options.recipe, recipe.as_json()))
    print(f"written to {options.results}: history.json, model.pt and, to look at, results.png")


def predict_pictures(options: argparse.Namespace) -> int:
    """Print what the trained network reads on each picture, and draw what it was shown beside its answer.

    Pictures that cannot be read are told in a line each. Returns the script's status: 0, or 2 where there were any.
    """
    read, status = [], 0
    for path in options.predict:
        try:
            read += digits_in(path)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    if not read:
        return status
    names, pictures, digits = zip(*read, strict=True)
    images = torch.stack([digit.image for digit in digits])
    model = RECIPES[options.recipe].model()
    weights = options.weights or weights_for(options)
    load_weights(model, weights)
    print(f"weights: {weights}")
    log_probs = predict(model, Batches(Split(images, torch.zeros(len(images), dtype=torch.int64))))
    for name, probabilities in zip(names, log_probs.exp(), strict=True):
        best = probabilities.topk(3)
        answers = [f"{digit} ({share:.1%})" for digit, share in zip(best.indices.tolist(), best.values, strict=True)]
        unsure = "" if best.values[0] > SURE else "unsure, "
        print(f"{name}: {unsure}{answers[0]}, then {answers[1]} and {answers[2]}")
    figure = options.results / "predictions.png"
    drawn = slice(MOST_DRAWN)
    inks = [digit.ink for digit in digits[drawn]]
    captions = [Path(name).name for name in names[drawn]]
    try:
        save_figure(plot_predictions(images[drawn], log_probs[drawn], captions, pictures[drawn], inks), figure)
    except OSError as error:  # the answers are what was asked for
        print(f"no figure: {error}", file=sys.stderr)
    else:
        print(f"written: {figure}" + (f" (the first {MOST_DRAWN} digits)" if len(digits) > MOST_DRAWN else ""))
    return status


def weights_for(options: argparse.Namespace) -> Path:
    """Return the weights of your own run in the results folder where there is one, else the committed ones."""
    own = options.results / "model.pt"
    return own if own.exists() else RESULTS / options.recipe / "model.pt"


def digits_in(path: Path) -> list[tuple[str, torch.Tensor, Digit]]:
    """Return name, thumbnail and digit of each digit on the picture at ``path``; errors name the picture."""
    try:
        picture = read_picture(path)
        digits = digits_on(picture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    name = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    names = [f"{name}, digit {i} of {len(digits)}" for i in range(1, len(digits) + 1)] if len(digits) > 1 else [name]
    return [(name, thumbnail(picture), digit) for name, digit in zip(names, digits, strict=True)]


def main(arguments: list[str] | None = None) -> int:
    """Run the script; return its status.

    That is 0, or 2 after one line about an error, 130 where SIGINT or SIGTERM stopped it, 141 where nobody reads on.
    """
    suit_any_console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parse_arguments(arguments)
    try:
        if options.predict:
            return predict_pictures(options)
        train(options)
    except BrokenPipeError:
        stop_printing()
        return 141
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        advice = f"; the same command with --resume goes on from the last finished epoch in {options.results}"
        print("stopped" + (advice if not options.predict else ""), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, usual_handler)
    sys.exit(main())
