"""The parts of README.md that code and results make: ``python -m evidence.readme`` writes them again."""

import ast
import json
import re
import tomllib
from pathlib import Path

from evidence.committed import ROOT, read_json, study_of
from evidence.intervals import answers, percent, to_markdown
from helpers.engine.files import atomic_write
from helpers.model import Net
from helpers.receptive_field import layer_table, stages
from helpers.receptive_field import to_markdown as layers_to_markdown

ENGINE = ROOT / "helpers" / "engine"
NOTEBOOK = "ERAV4S5CNNwithBN.ipynb"
MEASURES = {
    "data_pipeline": "data pipeline alone",
    "train_epoch": "training epoch",
    "test_pass": "test pass",
    "full_epoch": "training epoch and test pass",
    "beside_busy": "training epoch beside one busy process",
    "one_core": "training epoch, limited to one core",
    "start_up": "start until the first batch",
    "peak_memory": "peak memory above the imports",
    "time_to_99": "time to 99.0% test accuracy",
    "time_to_target": "time to 99.4% test accuracy, target recipe",
    "20_epochs": "20 epochs",
}


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
    lines = ["| | | evidence |", "|---|---|---|"]
    lines.append(f"| Parameters | **{sum(row.params for row in rows):,}** | counted, and predicted by hand |")
    lines.append(
        "| Receptive field | **{}×{}** of 28×28 pixels | ".format(*rows[-1].receptive_field)
        + "computed, and measured |"
    )
    for name, recipe in recipes.items():
        final = study_of(recipe)["summary"]["final"]
        evidence = f"mean of n = {final['n']} seeds, sd {final['sd'] * 100:.2f}, last epoch, 95% interval"
        lines.append(f"| {name} | **{percent(final)}** test accuracy | {evidence} |")
    measured = read_json("benchmark")["cpu"]
    speed = measured["full_epoch"]["times_better"]["ours"]
    spread = f"{speed['least']:.1f} to {speed['greatest']:.1f}"
    evidence = f"median of {measured['settings']['rounds']} rounds, {spread}, {measured['machine']['cores']} cores"
    lines.append(f"| Epoch, against the stock pipeline | **{speed['medians']:.1f} times** faster | {evidence} |")
    stock, ours, _ = compare(measured["time_to_99"], "sprint")
    lines.append(
        f"| Time to 99.0% test accuracy, sprint | **{ours}** instead of {stock} | one run each, on the same cores |"
    )
    return "\n".join(lines)


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
    return layers_to_markdown(stages(layer_table(Net()))).strip()


def studies() -> str:
    """Return the ablation's table with a sentence on each variant, and the tables of the candidates."""
    study = read_json("study")
    runs = study_of("best")["runs"]
    lowest = min(min(record["test_accuracy"][-3:]) for record in runs)
    versions = ", ".join(f"{name} {version}" for name, version in runs[0]["versions"].items())
    parts = [
        "**What batch normalization buys**, and the recipe's other parts (test accuracy, 20 epochs):",
        to_markdown(study["ablation"]["summary"]),
        "\n".join(f"* {answer}" for answer in answers(study["ablation"]["summary"])),
        f"**How far the network goes:** no seed of *best* was below {lowest:.2%} on the test set in any of the last "
        "three epochs. Both recipes were chosen on 5,000 validation images, drawn anew for each seed, with 55,000 to "
        "train:",
        *(candidates(name, study[f"{name} candidates"]["summary"]) for name in ("best", "sprint")),
        f"Made on {runs[0]['device']} with {versions}.",
    ]
    return "\n\n".join(parts)


def candidates(name: str, summary: dict[str, dict]) -> str:
    """Return table and figure of the candidates for a recipe, folded away."""
    picture = f"![Validation accuracies of the candidates for {name}](results/{name}-candidates.png)"
    title = f"<summary>The candidates for <em>{name}</em>, on validation images</summary>"
    return f"<details>{title}\n\n{to_markdown(summary)}\n\n{picture}\n\n</details>"


def speed() -> str:
    """Return a table for each run of the benchmark, of a whole or of one part."""
    parts = []
    benchmark = read_json("benchmark")
    for kind, measured in sorted(benchmark.items()):
        if kind.removesuffix(" quick") in benchmark.keys() - {kind}:
            continue  # the full run says more
        machine = measured["machine"]
        title = f"**{machine['device'] if 'cuda' in kind else machine['cpu']}**, {machine['cores']} CPU cores"
        lines = ["| | stock | this project | ratio (least to greatest) |", "|---|---:|---:|---:|"]
        for name, label in MEASURES.items():
            if name not in measured:
                continue
            lines.append(f"| {label} | {' | '.join(compare(measured[name]))} |")
            if "sprint" in measured[name]["median"]:
                lines.append(f"| {label}, sprint recipe | {' | '.join(compare(measured[name], 'sprint'))} |")
        if not lines[2:]:
            continue  # a part that the figure shows
        quick = ", epochs extrapolated from fewer images" if "quick" in kind else ""
        rounds = measured["settings"]["rounds"]
        parts += [f"{title}, torch {machine['torch']}, medians of {rounds} rounds{quick}:", "\n".join(lines)]
    return "\n\n".join(parts)


def compare(measurement: dict, ours: str | None = None) -> list[str]:
    """Return the cells of a measurement: stock, this project (its second column), and how many times better it is."""
    stock, second, *_ = measurement["median"]
    ours, unit = ours or second, measurement["unit"]
    reached = measurement.get("reached", {})  # a run that never got there has no time
    cells = []
    for who in (stock, ours):
        value = measurement["median"][who]
        number = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        cells.append(f"{number} {unit}" if reached.get(who, True) else f"not reached in {number} {unit}")
    gain = measurement["times_better"].get(ours)
    if not gain:
        return [*cells, "–"]
    spread = "one run" if len(measurement["rounds"][ours]) == 1 else f"{gain['least']:.1f} to {gain['greatest']:.1f}"
    return [*cells, f"{gain['medians']:.1f} ({spread})"]


def files() -> str:
    """Return the modules of the three parts, each with its first line; a package is one module of its part."""
    parts = []
    for folder in (ROOT / "helpers", ENGINE, ROOT / "evidence"):
        lines = [f"**`{folder.relative_to(ROOT).as_posix()}/`**: {first_line(folder / '__init__.py')}", ""]
        packages = [module for module in folder.glob("*/__init__.py") if module.parent != ENGINE]
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
