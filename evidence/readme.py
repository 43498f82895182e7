"""The parts of README.md that code and results make: ``python -m evidence.readme`` writes them again."""

import ast
import json
import math
import re
import statistics
import tomllib
from pathlib import Path

from evidence.timings import races, speed
from helpers import ROOT
from helpers.model import Net
from helpers.receptive_field import layer_table, stages, to_markdown
from helpers.recipe import RECIPES
from helpers.results import findings, percent, read_json, study_of, study_table, sturdiness_of
from helpers.runtime.files import atomic_write
from helpers.runtime.markdown import markdown_table

RUNTIME = ROOT / "helpers" / "runtime"
TEST_IMAGES = 10_000
NOTEBOOK = "ERAV4S5CNNwithBN.ipynb"


def badge() -> str:
    """Return the Colab badge; the repository's address is set in pyproject.toml."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    address = urls["notebook"].replace("https://github.com/", "https://colab.research.google.com/github/")
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"


def headline() -> str:
    """Return the table that says it all."""
    rows = layer_table(Net())
    recipes = {
        "Assignment's recipe, 20 epochs": "assignment",
        "Sprint, **one** epoch": "sprint",
        "For the course's target of 99.4%, 4 epochs": "target",
        "Best recipe, 20 epochs": "best",
    }
    sees = "**{}×{}** of 28×28 pixels".format(*rows[-1].receptive_field)
    lines = [
        ["Parameters", f"**{sum(row.params for row in rows):,}**", "counted, and predicted by hand"],
        ["Receptive field", sees, "computed, and measured"],
    ]
    for name, recipe in recipes.items():
        final = study_of(recipe)["summary"]["final"]
        evidence = f"mean of n = {final['n']} seeds, sd {final['sd'] * 100:.2f}, last epoch, 95% interval"
        lines.append([name, f"**{percent(final)}** test accuracy", evidence])
    measured = read_json("benchmark")["cpu"]
    speed = measured["full_epoch"]["times_better"]["ours"]
    spread = f"{speed['least']:.1f} to {speed['greatest']:.1f}"
    evidence = f"median of {measured['settings']['rounds']} rounds, {spread}, {measured['machine']['cores']} cores"
    lines.append(["Epoch, against the stock pipeline", f"**{speed['medians']:.1f} times** faster", evidence])
    lines += races(measured["time_to_99"], read_json("benchmark")["cpu time_to_target"]["time_to_target"])
    mean = study_of("assignment")["summary"]["final"]["mean"]
    drawn = math.sqrt(mean * (1 - mean) / TEST_IMAGES) * 100
    return (
        f"{markdown_table(['', '', 'evidence'], lines, num_left=3)}\n\n± is over seeds, on these {TEST_IMAGES:,} test "
        f"images. Which images were drawn adds a standard error of about {drawn:.2f} points, the same for all."
    )


def run() -> str:
    """Return a sentence on the committed run of the default recipe."""
    history = read_json("assignment/history")
    return (
        f"*The committed run: seed {history['recipe']['seed']}, {len(history['seconds'])} epochs in "
        f"{sum(history['seconds']) / 60:.1f} minutes ({history['device']}), train accuracy "
        f"{history['train_accuracy'][-1]:.2%} while learning, test accuracy {history['test_accuracy'][-1]:.2%} "
        "after the last epoch.*"
    )


def sections() -> str:
    """Return the notebook's sections, each with a link."""
    cells = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    headings = re.findall(r"^## (.*)", prose, flags=re.MULTILINE)
    return "\n".join(f"* [{heading}]({NOTEBOOK}#{heading.replace(' ', '-')})" for heading in headings)


def layers() -> str:
    """Return the layer table."""
    return to_markdown(stages(layer_table(Net()))).strip()


def studies() -> str:
    """Return the ablation's table with a sentence on each variant, and the tables of the candidates."""
    study = read_json("study")
    runs = study_of("best")["runs"]
    lowest = min(min(record["test_accuracy"][-3:]) for record in runs)
    versions = "; ".join(f"{made_on(study[title]['runs'][0])} ({title})" for title in ("ablation", "recipes"))
    parts = [
        "**What batch normalization buys**, and the recipe's other parts (test accuracy, 20 epochs):",
        study_table(study["ablation"]["summary"]),
        "\n".join(f"* {answer}" for answer in findings(study["ablation"]["summary"])),
        "**How far the network goes**, and how it takes digits that it was not made for (test images):",
        sturdiness({recipe: sturdiness_of(recipe) for recipe in RECIPES}),
        f"No seed of *best* was below {lowest:.2%} on the test set in any of the last three epochs. The recipes were "
        "chosen on training images that were held out, drawn anew for each seed. Few of the differences below are "
        "larger than what seeds differ by:",
        *(search(title, table) for title, table in read_json("search").items()),
        f"Made on {versions}.",
    ]
    return "\n\n".join(parts)


def made_on(run: dict) -> str:
    """Return device and versions of a run."""
    return f"{run['device']} with {', '.join(f'{name} {version}' for name, version in run['versions'].items())}"


def sturdiness(summaries: dict[str, dict]) -> str:
    """Return the accuracies of recipes on the test images as they are and on some of the distorted ones."""
    changes = summaries["best"]["distorted"]
    shown = [change for change in changes if any(word in change for word in ("right", "blurred", "noisy"))]
    rows = []
    for recipe, summary in summaries.items():
        cells = [percent(summary["final"]), *(percent(summary["distorted"][change]) for change in shown)]
        rows.append([recipe, summary["final"]["n"], *cells])
    return markdown_table(["recipe", "n", "final epoch", *shown], rows)


def search(title: str, table: dict) -> str:
    """Return what was compared on held-out images before a recipe was chosen, folded away."""
    held_out, trained_on = table["held_out"], table["trained_on"]
    rows = []
    for name, variant in table["variants"].items():
        accuracies = [run["accuracy"] * 100 for run in variant["runs"]]
        each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        rows.append([name, len(accuracies), f"{statistics.fmean(accuracies):.2f}%", each])
    summary = f"<summary>{title}: {held_out:,} images held out, {trained_on:,} to learn from</summary>"
    return f"<details>{summary}\n\n" + markdown_table(["variant", "n", "mean", "each seed"], rows) + "\n\n</details>"


def files() -> str:
    """Return the modules of the three parts, each with its first line; a package is one module of its part."""
    parts = []
    for folder in (ROOT / "helpers", RUNTIME, ROOT / "evidence"):
        lines = [f"**`{folder.relative_to(ROOT).as_posix()}/`**: {first_line(folder / '__init__.py')}", ""]
        packages = [module for module in folder.glob("*/__init__.py") if module.parent != RUNTIME]
        for module in sorted([*folder.glob("[a-z]*.py"), *packages]):
            path = module.relative_to(ROOT).as_posix().removesuffix("__init__.py")
            name = path.removeprefix(f"{folder.relative_to(ROOT).as_posix()}/")
            lines.append(f"* [`{name}`]({path}): {first_line(module)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").splitlines()[0]


def render(text: str) -> str:
    """Return README's text with every part between its two comments made anew."""
    for part in (badge, headline, run, sections, layers, studies, speed, files):
        begin, end = f"<!-- begin: {part.__name__} -->", f"<!-- end: {part.__name__} -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        made = f"{begin}\n\n{part()}\n\n{end}"
        text, count = pattern.subn(lambda match, made=made: made, text)
        if count != 1:
            raise ValueError(f"README.md has {count} parts {part.__name__!r}: give it one, between {begin} and {end}")
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    atomic_write(readme, render(readme.read_text(encoding="utf-8")))
