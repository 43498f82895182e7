"""What results/benchmark.json says, as rows of README's tables."""

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


def races(to_99: dict, to_target: dict) -> list[list[str]]:
    """Return the headline's rows on how long it takes to reach an accuracy, or to end below it."""
    evidence = "one run each, on the same cores"
    stock, same, _ = cells_of(to_99)
    sprint = cells_of(to_99, "sprint")[1]
    times = f"**{sprint}** by *sprint*, {same} by the assignment's recipe, {stock} by stock"
    stock_end, target_end = (
        f"{to_target['median'][who]:.0f} s, {len(curve)} epochs, {curve[-1]:.2%}"
        for who, curve in to_target["test_accuracy"].items()
    )
    return [
        ["Time to 99.0% test accuracy", times, evidence],
        ["A whole run for the course's 99.4%", f"**{target_end}** by *target*; {stock_end} by stock", evidence],
    ]


def speed() -> str:
    """Return a table for each run of the benchmark, of a whole or of one part."""
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
