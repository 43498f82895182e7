"""Tables of what results/benchmark.json has."""

from helpers.results import read_json
from helpers.runtime.markdown import markdown_table

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


def races() -> str:
    """Return a table of the times to reach a test accuracy, reading the data included."""
    benchmark = read_json("benchmark")
    to_99, to_goal = benchmark["cpu"]["time_to_99"], benchmark["cpu time_to_target"]["time_to_target"]
    rows = [
        ["99.0%", "the usual pipeline, *assignment*", _race(to_99, "stock")],
        ["99.0%", "this project, *assignment*", _race(to_99, "ours")],
        ["99.0%", "this project, *sprint*", _race(to_99, "sprint")],
        ["99.4%", "the usual pipeline, *assignment*", _race(to_goal, "stock")],
        ["99.4%", "this project, *target*", _race(to_goal, "target")],
    ]
    cores = benchmark["cpu"]["machine"]["cores"]
    return markdown_table(["test accuracy", "by", f"time on {cores} CPU cores"], rows, num_left=2)


def _race(race: dict, who: str) -> str:
    """Return the median time of ``who`` and its number of runs; where some did not get there, also how they ended."""
    seconds, reached = race["median"][who], race["reached"][who]
    runs = "one run" if len(reached) == 1 else f"median of {len(reached)} runs"
    if all(reached):
        return f"{seconds:.0f} s ({runs})"
    ends = sorted(curve[-1] for curve in race["test_accuracy"][who])
    end = f"{ends[0]:.2%}" if len(ends) == 1 else f"{ends[0]:.2%} to {ends[-1]:.2%}"
    return f"{sum(reached)} of {len(reached)} runs get there; {seconds:.0f} s, ending at {end}"


def speed() -> str:
    """Return a table for each run of the benchmark, be it of the whole or of one part."""
    parts = []
    benchmark = read_json("benchmark")
    for kind, measured in sorted(benchmark.items()):
        if kind.removesuffix(" quick") in benchmark.keys() - {kind}:
            continue  # the full run says more
        machine = measured["machine"]
        title = f"**{machine['device'] if 'cuda' in kind else machine['cpu']}**, {machine['cores']} CPU cores"
        rows: list[list[str]] = []
        for name, label in MEASURES.items():
            if name not in measured:
                continue
            rows.append([label, *cells_of(measured[name])])
            if "sprint" in measured[name]["median"]:
                rows.append([f"{label}, sprint recipe", *cells_of(measured[name], "sprint")])
        if not rows:
            continue  # a part that the figure shows
        quick = ", epochs extrapolated from fewer images" if "quick" in kind else ""
        rounds = measured["settings"]["rounds"]
        table = markdown_table(["", "stock", "this project", "ratio (least to greatest)"], rows)
        parts += [f"{title}, torch {machine['torch']}, medians of {rounds} rounds{quick}:", table]
    return "\n\n".join(parts)


def cells_of(measurement: dict, ours: str | None = None) -> list[str]:
    """Return the cells of a measurement: stock, this project, and how many times better this project is.

    ``ours`` is its name in the measurement; without it, the second one there.
    """
    names, unit = list(measurement["median"]), measurement["unit"]
    stock, ours = names[0], ours or names[1]
    reached = measurement.get("reached", {})  # runs that never got there have no time
    cells = []
    for who in (stock, ours):
        value = measurement["median"][who]
        number = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        got_there = all(reached.get(who, [True]))
        cells.append(f"{number} {unit}" if got_there else f"not reached in {number} {unit}")
    gain = measurement["times_better"].get(ours)
    if not gain:
        return [*cells, "–"]
    spread = "one run" if len(measurement["rounds"][ours]) == 1 else f"{gain['least']:.1f} to {gain['greatest']:.1f}"
    return [*cells, f"{gain['medians']:.1f} ({spread})"]
