"""Results over several seeds: committed runs and studies, means with intervals, and how your own number compares.

All intervals are 95% intervals from Student's t distribution.
"""

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit
from torch import nn

from helpers import ROOT
from helpers.runtime.files import load_weights
from helpers.runtime.markdown import markdown_table

RESULTS = ROOT / "results"


def read_json(name: str) -> dict[str, Any]:
    """Return ``results/NAME.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def networks_by_rate(summary: dict[str, dict]) -> dict[str, dict[float, dict]]:
    """Return a study of learning rates by network and by rate; ``summary`` has it by ``NETWORK, lr RATE``."""
    networks: dict[str, dict[float, dict]] = {}
    for variant, values in summary.items():
        network, _, rate = variant.rpartition(", lr ")
        networks.setdefault(network, {})[float(rate)] = values
    return {network: dict(sorted(rates.items())) for network, rates in networks.items()}


def rates_table(summary: dict[str, dict]) -> str:
    """Return a study of learning rates as a Markdown table: a row for each rate, a column for each network."""
    networks = networks_by_rate(summary)
    rates = sorted({rate for cells in networks.values() for rate in cells})
    rows = []
    for rate in rates:
        cells = [cells[rate] for cells in networks.values()]
        rows.append([f"{rate:g}", *(f"{percent(cell['final'])} (n = {cell['final']['n']})" for cell in cells)])
    return markdown_table(["learning rate", *networks], rows)


def load_committed_weights(model: nn.Module, recipe: str) -> bool:
    """Load the weights of the committed run of ``recipe`` into ``model``, and return True.

    If they are those of another network, print a line that says so, leave ``model`` as it is, and return False.
    """
    path = RESULTS / recipe / "model.pt"
    try:
        load_weights(model, path)
    except ValueError:
        print(f"results/{recipe}/model.pt is of another network: what follows shows yours, untrained")
        return False
    return True


def study_of(recipe: str) -> dict[str, Any]:
    """Return the summary and the runs of a recipe over its seeds. Raises ``KeyError`` if it was not studied."""
    study = read_json("study")["ablation" if recipe == "assignment" else "recipes"]
    runs = [run for run in study["runs"] if run["variant"] == recipe]
    return {"summary": study["summary"][recipe], "runs": runs}


def seeds_that_reach(accuracy: float, recipe: str) -> int:
    """Return how many seeds of ``recipe`` ended with at least this test ``accuracy`` (a fraction)."""
    return sum(run["test_accuracy"][-1] >= accuracy for run in study_of(recipe)["runs"])


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return n, mean, standard deviation (n - 1), the half width of the mean's interval, and the sorted values.

    Raises ``ValueError`` for fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} values say nothing about their spread: give at least 2 seeds")
    sd = statistics.stdev(values)
    half_width = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return {"n": n, "mean": statistics.fmean(values), "sd": sd, "half_width": half_width, "seeds": sorted(values)}


def is_possible(values: dict[str, Any]) -> bool:
    """Tell whether an interval of fractions lies between 0 and 1; it may not if seeds differ very much."""
    return values["mean"] - values["half_width"] >= 0 and values["mean"] + values["half_width"] <= 1


def prediction_interval(values: dict[str, Any]) -> tuple[float, float]:
    """Return the bounds of the prediction interval for one more seed, given what ``interval`` returned.

    That is mean ± t · sd · sqrt(1 + 1/n), which is wider than the interval of the mean.
    """
    half_width = values["half_width"] * math.sqrt(values["n"] + 1)
    return values["mean"] - half_width, values["mean"] + half_width


def what_it_means(accuracy: float, recipe: str, settings: dict[str, Any]) -> str:
    """Return a sentence on the test accuracy (a fraction) of a run of ``recipe`` with these ``settings``.

    It gives the study's prediction interval for a single seed and says whether the accuracy lies in it, or which
    settings differ from the study's.
    """
    try:
        study = study_of(recipe)
    except (KeyError, OSError, ValueError):  # the recipe was not studied, or the file is unreadable
        return f"{accuracy:.2%}; other seeds of this recipe were not studied"
    final = study["summary"]["final"]
    low, high = prediction_interval(final)
    fall = (
        f"95% of seeds of this recipe fall between {low:.2%} and {high:.2%} (mean of {final['n']}: {final['mean']:.2%})"
    )
    studied = study["runs"][0]["recipe"]
    changed = [f"{name} {value}" for name, value in settings.items() if name != "seed" and value != studied.get(name)]
    if changed:
        return f"{accuracy:.2%} with {', '.join(changed)}; as it stands, {fall}"
    where = "as yours does" if low <= accuracy <= high else "yours does not: one in twenty does not either"
    return f"{accuracy:.2%}: {fall}; {where}"


def summarise_study(records: list[dict]) -> dict[str, dict]:
    """Return for each variant its final and best test accuracy, its number of failures, and the paired difference.

    The difference compares the final test accuracy with the first variant's, seed by seed; the first has none. If all
    runs of a variant recorded accuracies on distorted test images, these follow. In a study on validation images,
    "test" stands for these.
    """
    by_variant: dict[str, dict[int, dict]] = {}
    for record in records:
        by_variant.setdefault(record["variant"], {})[record["seed"]] = record
    baseline = next(iter(by_variant.values()))
    summary = {}
    for variant, runs in by_variant.items():
        final = {seed: run["test_accuracy"][-1] for seed, run in runs.items()}
        summary[variant] = {
            "final": interval(list(final.values())),
            "best": interval([max(run["test_accuracy"]) for run in runs.values()]),
            "failures": sum("failure" in run for run in runs.values()),
        }
        if all("distorted" in run for run in runs.values()):
            distorted = [run["distorted"] for run in runs.values()]
            summary[variant]["distorted"] = {
                change: interval([accuracies[change] for accuracies in distorted]) for change in distorted[0]
            }
        if runs is not baseline:
            shared = sorted(final.keys() & baseline.keys())
            differences = [final[seed] - baseline[seed]["test_accuracy"][-1] for seed in shared]
            summary[variant]["difference"] = interval(differences)
    return summary


def percent(values: dict[str, Any]) -> str:
    """Return an interval of fractions as text in percent: mean ± half width, or mean and seeds if it leaves 0..100%."""
    if is_possible(values):
        return f"{values['mean']:.2%} ± {values['half_width'] * 100:.2f}"
    seeds = ", ".join(f"{value * 100:.1f}" for value in values["seeds"])
    return f"{values['mean']:.2%} (seeds: {seeds})"


def study_table(summary: dict[str, dict]) -> str:
    """Return a study's summary as a Markdown table."""
    rows = []
    for variant, values in summary.items():
        difference = values.get("difference")
        points = f"{difference['mean'] * 100:+.2f} ± {difference['half_width'] * 100:.2f} points" if difference else "–"
        final = values["final"]
        rows.append([variant, final["n"], percent(final), f"{final['sd'] * 100:.2f}", percent(values["best"]), points])
    return markdown_table(["variant", "n", "final epoch", "sd", "best epoch", "difference to the first, paired"], rows)


def findings(summary: dict[str, dict]) -> list[str]:
    """Return a sentence for each variant but the first: do these seeds show a difference to the first?"""
    baseline = next(iter(summary))
    sentences = []
    for variant, values in summary.items():
        if "difference" not in values:
            continue
        difference = values["difference"]
        points, half_width = abs(difference["mean"]) * 100, difference["half_width"] * 100
        direction = "lower" if difference["mean"] < 0 else "higher"
        measured = (
            f"{points:.2f} ± {half_width:.2f} points {direction} than *{baseline}* over {difference['n']} paired seeds"
        )
        shown = "a real difference" if points > half_width else "no difference that these seeds can show"
        sentences.append(f"**{variant}**: {measured}: {shown}.")
    return sentences
