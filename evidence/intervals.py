"""What several seeds say: means with Student's intervals, and differences over the same seeds."""

import math
import statistics

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from helpers.plots import TEST_COLOUR, new_figure

# Student's t, 97.5% quantile for 1 to 30 degrees of freedom (any table of the distribution).
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def interval(values: list[float]) -> dict[str, float]:
    """Return n, mean, standard deviation (n - 1) and the half width of the mean's 95% interval.

    Raises ``ValueError`` for fewer than 2 or more than 31 values.
    """
    if not 2 <= len(values) <= len(T_975) + 1:
        raise ValueError(f"{len(values)} values: give 2 to {len(T_975) + 1} seeds")
    spread = statistics.stdev(values)
    half_width = T_975[len(values) - 2] * spread / math.sqrt(len(values))
    return {"n": len(values), "mean": statistics.fmean(values), "sd": spread, "half_width": half_width}


def one_seed(values: dict[str, float]) -> tuple[float, float]:
    """Return the bounds between which one more seed falls with 95% probability, from what ``interval`` returned.

    That is Student's prediction interval, t sd sqrt(1 + 1/n) to either side of the mean: wider than the mean's own.
    """
    half_width = values["half_width"] * math.sqrt(values["n"] + 1)
    return values["mean"] - half_width, values["mean"] + half_width


def summarise(records: list[dict]) -> dict[str, dict]:
    """Return for each variant its final and best test accuracy, its final train accuracy, and the paired difference.

    The difference is that of the final test accuracy to the first variant's, seed by seed; the first has none.
    Where the runs recorded them, the accuracies on distorted test images follow. In a study on validation images
    these take the place of the test images.
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
            "train": interval([run["train_accuracy"][-1] for run in runs.values()]),
        }
        records = list(runs.values())
        if all("distorted" in run for run in records):
            summary[variant]["distorted"] = {
                change: interval([run["distorted"][change] for run in records]) for change in records[0]["distorted"]
            }
        if runs is not baseline:
            shared = sorted(final.keys() & baseline.keys())
            differences = [final[seed] - baseline[seed]["test_accuracy"][-1] for seed in shared]
            summary[variant]["difference"] = interval(differences)
    return summary


def percent(values: dict[str, float]) -> str:
    """Return mean and half width of the 95% interval, of fractions, as percentages."""
    return f"{values['mean']:.2%} ± {values['half_width'] * 100:.2f}"


def to_markdown(summary: dict[str, dict]) -> str:
    """Return a study's summary as a Markdown table."""
    lines = [
        "| variant | n | final epoch | sd | best epoch | difference to the first, paired |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for variant, values in summary.items():
        difference = values.get("difference")
        points = f"{difference['mean'] * 100:+.2f} ± {difference['half_width'] * 100:.2f} points" if difference else "–"
        final = values["final"]
        cells = [variant, final["n"], percent(final), f"{final['sd'] * 100:.2f}", percent(values["best"]), points]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def answers(summary: dict[str, dict]) -> list[str]:
    """Return a sentence for each variant but the first: what its difference to the first one shows, if anything."""
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


def plot_intervals(summary: dict[str, dict]) -> Figure:
    """Return final test (or validation) accuracies of a study's variants: means with 95% intervals, n in the label."""
    figure = new_figure(8, 0.9 + 0.45 * len(summary))
    axes = figure.subplots()
    names = [f"{name} (n = {values['final']['n']})" for name, values in summary.items()]
    means = [values["final"]["mean"] for values in summary.values()]
    widths = [values["final"]["half_width"] for values in summary.values()]
    axes.errorbar(means, names, xerr=widths, fmt="o", capsize=4, color=TEST_COLOUR)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set_xlabel("accuracy after the last epoch (% of images), mean and its 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return figure
