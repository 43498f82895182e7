"""Studies: many runs, each written as soon as it is done, merged into means, intervals and paired differences.

On this machine, one process per core or GPU:  python -m evidence.study ablation
On two machines of eight GPUs each, no shared folder needed, on both:
    torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 -m evidence.study ablation
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.run import main as torchrun

from helpers.data import Batches, Split, load_mnist
from helpers.inspection import distortions
from helpers.plots import plot_intervals, plot_rates, save_figure
from helpers.recipe import ASSIGNMENT, RECIPES, Recipe
from helpers.results import networks_by_rate, study_table, summarise_study
from helpers.runtime.console import suit_any_console
from helpers.runtime.device import choose_device
from helpers.runtime.files import atomic_write
from helpers.runtime.history import History
from helpers.runtime.progress import Silent
from helpers.runtime.threads import available_cores, in_threads
from helpers.training import EVALUATION_BATCH, evaluate, fit

DECIMALS = 6


@dataclass(frozen=True)
class Study:
    """Variants by name, each run with every seed; the others are compared with the first one.

    With ``held_out`` the runs are tested on so many training images, drawn anew for each seed, and train on the
    rest: a choice between variants then makes no use of the test set.
    """

    variants: dict[str, Recipe]
    num_seeds: int
    seeds_of: dict[str, int] = field(default_factory=dict)  # of single variants, instead of num_seeds
    held_out: int = 0

    def runs(self) -> list[tuple[str, Recipe]]:
        """Return name and recipe of every run, all variants of one seed before the next seed."""
        numbers = {name: self.seeds_of.get(name, self.num_seeds) for name in self.variants}
        return [
            (name, replace(recipe, seed=seed))
            for seed in range(1, max(numbers.values()) + 1)
            for name, recipe in self.variants.items()
            if seed <= numbers[name]
        ]


def sensitivity() -> dict[str, Recipe]:
    """Return the variants of the study of learning rates: three networks, each at rates from too low to too high."""
    networks = {
        "batch norm": ASSIGNMENT,
        "no batch norm": replace(ASSIGNMENT, batch_norm="none"),
        "no batch norm, He's weights": replace(ASSIGNMENT, batch_norm="none", initial_weights="he"),
    }
    rates = (0.0001, 0.001, 0.01, 0.03, 0.1, 0.3)
    return {f"{name}, lr {lr:g}": replace(recipe, lr=lr) for name, recipe in networks.items() for lr in rates}


STUDIES = {
    "ablation": Study(
        {
            "assignment": ASSIGNMENT,
            "no batch norm": replace(ASSIGNMENT, batch_norm="none"),
            "batch norm before ReLU": replace(ASSIGNMENT, batch_norm="before"),
            "no dropout": replace(ASSIGNMENT, dropout=0.0),
            "no augmentation": replace(ASSIGNMENT, augmentation=None),
        },
        num_seeds=3,
        seeds_of={"assignment": 10, "no batch norm": 4},
    ),
    "sensitivity": Study(  # a variant that is also in the ablation has as many seeds as there
        sensitivity(),
        num_seeds=4,
        seeds_of={"batch norm, lr 0.001": 10} | {name: 3 for name in sensitivity() if name.endswith("lr 0.3")},
    ),
    "recipes": Study(
        {name: RECIPES[name] for name in RECIPES if name != "assignment"}, num_seeds=10, seeds_of={"robust": 6}
    ),
}


class LastHistory(Silent):
    """Progress that shows nothing and keeps the history so far, in case the run fails."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        super().__init__()
        self.history = History.begin(recipe.as_json(), choose_device(device), threads=1)

    def epoch(self, history: History) -> None:
        self.history = history


def record_of_run(study: Study, name: str, recipe: Recipe, train: Split, test: Split, device: str) -> dict:
    """Do one run and return its record: variant, seed, recipe, device, versions and the rounded curves.

    It ends with the accuracy on each distortion of the test images (``inspection.distortions``). A run whose loss is no
    longer finite has the error under ``failure``, and the broken network's accuracy as its last test accuracy.
    """
    if study.held_out:
        train, test = train.hold_out(study.held_out, seed=recipe.seed)
    model, progress, failure = recipe.model(), LastHistory(recipe, device), {}
    # Many runs finish sooner in one-thread processes side by side than one by one on all cores.
    try:
        fit(model, train, test, recipe, device=device, threads=1, progress=progress)
    except FloatingPointError as error:
        progress.history.test_accuracy.append(evaluate(model, Batches(test, EVALUATION_BATCH, device=device))[1])
        failure = {"failure": str(error)}
    with in_threads(1):
        distorted = {
            change: evaluate(model, Batches(split, EVALUATION_BATCH, device=device))[1]
            for change, split in distortions(test).items()
        }
    record = {"variant": name, "seed": recipe.seed, **progress.history.as_dict(), **failure, "distorted": distorted}
    return {
        key: [round(number, DECIMALS) for number in value] if isinstance(value, list) else value
        for key, value in record.items()
    }


def read_records(paths: Iterable[Path]) -> list[dict]:
    """Return the records in these files; raises ``ValueError`` naming a file that is damaged or not a record."""
    records = []
    for path in paths:
        try:
            records.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is no record of a run: remove it, and its run is done again") from error
    return records


def do_share(title: str, folder: Path, known: list[dict], data: Path, device: str) -> list[dict] | None:
    """Do this rank's share of the missing runs; return all records on rank 0, which gathers them, else None.

    A run is missing if it has no record, neither in ``known``, from earlier studies, nor in the ``folder`` of any rank.
    A record is that of a run if the recipes are equal, whatever the variant is called.
    """
    study, rank, world_size = STUDIES[title], dist.get_rank(), dist.get_world_size()
    found: list = [None] * world_size
    dist.all_gather_object(found, known + read_records(sorted(folder.glob("*.json"))))
    records = [record for part in found for record in part]
    missing = [(name, recipe) for name, recipe in study.runs() if record_of(recipe, records) is None]
    mine = []
    splits = load_mnist(data) if missing[rank::world_size] else None
    for name, recipe in missing[rank::world_size]:
        mine.append(record_of_run(study, name, recipe, *splits, device))
        atomic_write(folder / f"{name.replace(' ', '-')}-{recipe.seed}.json", json.dumps(mine[-1]))
        print(f"{name}, seed {recipe.seed}: {mine[-1]['test_accuracy'][-1]:.2%}", flush=True)
    gathered: list | None = [None] * world_size if rank == 0 else None
    dist.gather_object(mine, gathered)
    if gathered is None:
        return None
    records += [record for part in gathered for record in part]
    return [{**record_of(recipe, records), "variant": name} for name, recipe in study.runs()]


def record_of(recipe: Recipe, records: list[dict]) -> dict | None:
    """Return the record of the run with this recipe, which includes its seed, or None."""
    settings = recipe.as_json()
    return next((record for record in records if record["recipe"] == settings), None)


def join_the_others(device: torch.device) -> None:
    """Join the processes that torchrun started, with a GPU of its own for each; without torchrun, be the only one."""
    store, rank, world_size = dist.HashStore(), 0, 1
    if "RANK" in os.environ:
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        store, rank, world_size = next(dist.rendezvous("env://"))
        # After a restart the store still holds the addresses of the processes that died: look under another prefix.
        store = dist.PrefixStore(f"restart {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(days=7))


def take_part(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Do this process's share of the runs; on rank 0, write ``study.json`` and the figure, and print a table."""
    join_the_others(device)
    path = options.results / "study.json"
    comparable = [title for title, study in STUDIES.items() if study.held_out == STUDIES[options.study].held_out]
    known = [run for title, study in read_studies(path).items() if title in comparable for run in study["runs"]]
    records = do_share(options.study, folder, known, options.data, device.type)
    if records is not None:
        summary = summarise_study(records)
        # Read again: another study may have ended meanwhile.
        studies = read_studies(path) | {options.study: {"summary": summary, "runs": records}}
        atomic_write(path, json.dumps(studies) + "\n")
        figure = plot_rates(networks_by_rate(summary)) if options.study == "sensitivity" else plot_intervals(summary)
        save_figure(figure, options.results / f"{options.study.replace(' ', '-')}.png")
        print(study_table(summary))
    dist.destroy_process_group()


def read_studies(path: Path) -> dict[str, dict]:
    """Return the studies in this file by title; there are none if there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> int:
    """Do what is missing of a study, in processes that torchrun starts; return 0, or 2 after one line about an error.

    On Windows, whose PyTorch lacks the libuv that torchrun asks for, this process does all runs itself.
    """
    parser = argparse.ArgumentParser(description="Run a study; what is there already is not run again.")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.add_argument("--workers", type=int, help="processes on this machine; default: one per GPU, or one per core")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    suit_any_console()
    folder = options.results / "runs" / options.study
    try:
        device = choose_device(options.device)
        if "RANK" in os.environ or os.name == "nt":
            take_part(options, folder, device)
            return 0
        read_records(folder.glob("*.json"))  # report a damaged one once, not from each process at each restart
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    workers = options.workers or (torch.cuda.device_count() if device.type == "cuda" else available_cores())
    torchrun(["--standalone", f"--nproc-per-node={workers}", "--max-restarts=3", "-m", "evidence.study", *sys.argv[1:]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
