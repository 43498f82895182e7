"""The benchmark's figure, drawn from results/benchmark.json: python -m evidence.benchmark.figures [results folder]"""

import json
import sys
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.plots import save_figure

STOCK, OURS = "tab:gray", "tab:blue"


def plot_benchmark(part: dict[str, Any]) -> Figure:
    """Return the ladder on the left and how cost grows on the right; ``part`` has the results of one kind of run."""
    machine, scaling = part["machine"], part["scaling"]
    figure = Figure(figsize=(11, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    _ladder(left.subplots(), part["ladder"])
    by_images, by_batch_size = right.subplots(2, 1)
    for use, style, text in (("train_epoch", "-", "training epoch"), ("data_pipeline", ":", "data pipeline alone")):
        _curves(by_images, scaling[use], style, text)
    by_images.set(title="Time against number of images", xlabel="images (thousands)", ylabel="seconds (median)")
    by_images.set_xticks([int(images) for images in scaling["train_epoch"]])
    by_images.xaxis.set_major_formatter(lambda images, _: f"{images / 1000:g}")
    _curves(by_batch_size, scaling["batch_size"], ":", "data pipeline alone")
    by_batch_size.set(title="Time of an image against batch size", xlabel="batch size (images)", xscale="log")
    by_batch_size.set_ylabel("microseconds (median)")
    by_batch_size.set_xticks([int(size) for size in scaling["batch_size"]], scaling["batch_size"])
    by_batch_size.minorticks_off()
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    figure.suptitle(f"{where}, {machine['cores']} CPU cores, torch {machine['torch'].split('+')[0]}", fontsize=10)
    return figure


def _ladder(axes: Axes, ladder: dict[str, Any]) -> None:
    """Draw a bar for each rung, the stock pipeline on top, with its seconds and its speed-up over stock."""
    names, seconds = list(ladder["median"]), list(ladder["median"].values())
    bars = axes.barh([fill(name, 24) for name in names], seconds, color=[STOCK] + [OURS] * (len(names) - 1))
    gains = [ladder["times_better"].get(name, {"medians": 1.0})["medians"] for name in names]
    labels = [f"{value:.3g} s  ({gain:.1f}x)" for value, gain in zip(seconds, gains, strict=True)]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.4 * max(seconds))
    axes.set(title="Training epoch of 60,000 images", xlabel="seconds (median; less is better)")
    axes.spines[["top", "right"]].set_visible(False)


def _curves(axes: Axes, points: dict[str, Any], style: str, text: str) -> None:
    """Draw one line for each pipeline through the medians of ``points``, whose keys are the x values."""
    for who, name, colour in (("stock", "stock", STOCK), ("ours", "this project", OURS)):
        values = [summary["median"][who] for summary in points.values()]
        label = f"{name}, {text}"
        axes.plot([int(x) for x in points], values, style, color=colour, marker="o", markersize=4, label=label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def can_be_drawn(part: dict[str, Any]) -> bool:
    """Tell whether ``part`` has all that the figure shows, unlike a stopped run or one of a single part."""
    return {"ladder", "scaling"} <= part.keys()


def draw(results: Path, kind: str) -> Path:
    """Draw the runs of this ``kind`` from ``benchmark.json`` and return the figure's path."""
    part = json.loads((results / "benchmark.json").read_text(encoding="utf-8"))[kind]
    name = "benchmark"
    for word in ("cuda", "quick"):
        if word in kind:
            name += f"-{word}"
    path = results / f"{name}.png"
    save_figure(plot_benchmark(part), path)
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    for kind, part in json.loads((folder / "benchmark.json").read_text(encoding="utf-8")).items():
        if can_be_drawn(part):
            print(draw(folder, kind))
