"""The number of threads: what bounds it, how it is chosen, where it is kept, and what a slow epoch is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import Interrupt, Splits
from helpers.recipe import Recipe
from helpers.runtime import threads
from helpers.runtime.files import atomic_write, load_tensors, save_tensors
from helpers.runtime.history import History
from helpers.runtime.progress import Progress
from helpers.runtime.threads import available_cores, choose_threads, in_threads
from helpers.training import fit

SHORT = Recipe(num_epochs=2, batch_size=50, lr=0.01)


@pytest.fixture
def tiny_mnist(mnist: Splits) -> Splits:
    """One step an epoch: several threads wait long for each other where a machine is busy."""
    return mnist[0][:50], mnist[1][:50]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be used, and PyTorch's own number, whatever this machine has."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "quotas", lambda root: [])
    with in_threads(4):
        yield


GROUPS = [  # this process's control groups, the files that bound them, and the cores out of four
    (None, {}, 4),  # as on macOS and Windows
    ("0::/", {}, 4),
    ("0::/", {"cpu.max": "max 100000"}, 4),
    ("0::/", {"cpu.max": "100000 100000"}, 1),
    ("0::/", {"cpu.max": "150000 100000"}, 2),
    ("0::/", {"cpu.max": "10000 100000"}, 1),
    ("0::/", {"cpu.max": "900000 100000"}, 4),  # more than there are
    ("0::/", {"cpu.max": "nonsense"}, 4),
    # the tightest of a group and those it is in
    ("0::/user/job", {"user/cpu.max": "300000 100000", "user/job/cpu.max": "max 100000"}, 3),
    # version 1, as a container without a namespace sees it: the path is the host's, the mount is its own
    (
        "5:memory:/docker/1234\n4:cpu,cpuacct:/docker/1234\n0::/system.slice",
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        2,
    ),
    ("1:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, 4),
]


@pytest.mark.parametrize(("groups", "bounds", "cores"), GROUPS)
def test_a_containers_quota_bounds_the_cores(
    groups: str | None, bounds: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    if groups:
        atomic_write(tmp_path / "proc" / "self" / "cgroup", f"{groups}\n")
    for name, content in bounds.items():
        atomic_write(tmp_path / "sys" / "fs" / "cgroup" / name, f"{content}\n")
    assert available_cores(tmp_path) == cores


def test_affinity_bounds_the_cores_and_a_system_without_it_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: {5}, raising=False)
    assert available_cores(tmp_path) == 1
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 12)
    assert available_cores(tmp_path) == 12


class Clock:
    """A clock that goes on only while a step is under way."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def step(self, seconds: dict[int, float], calls: list[int]) -> Callable[[], None]:
        """Return a step that takes so long with each number of threads, and notes with which it was called."""

        def step() -> None:
            calls.append(torch.get_num_threads())
            self.now += seconds[torch.get_num_threads()]

        return step


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("seconds", "best", "tried"),
    [
        ({1: 0.04, 2: 0.02, 4: 0.01}, 4, {1, 2, 4}),
        ({1: 0.02, 2: 0.01, 4: 0.012}, 2, {1, 2, 4}),
        ({1: 0.020, 2: 0.0195, 4: 0.0195}, 1, {1, 2, 4}),  # not worth a thread more
        ({1: 0.01, 2: 0.1}, 1, {1, 2}),  # a neighbour is busy: four are not even tried
        ({1: 3.0, 2: 9.0}, 1, {1, 2}),  # steps that take longer than the trial: one each
    ],
)
def test_the_fastest_number_is_chosen(
    seconds: dict[int, float], best: int, tried: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, calls, said = Clock(), [], []
    monkeypatch.setattr(threads, "time", clock)
    number = choose_threads(clock.step(seconds, calls), 10_000, said.append)
    assert (number, set(calls)) == (best, tried)
    (line,) = said
    assert line.startswith(f"CPU threads: {best} (of 4; milliseconds a step just now with 1: ")
    assert line.count(":") == 1 + len(tried)
    assert clock.now <= threads.TRIAL_SECONDS + sum(seconds.values())  # a step more for each number
    assert torch.get_num_threads() == 4  # as it was


def test_no_trial_where_there_is_no_choice_or_no_time(four_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, said = [], []
    step = Clock().step({}, calls)
    assert choose_threads(step, 28, said.append) == 1
    with in_threads(1):  # OMP_NUM_THREADS=1
        assert choose_threads(step, 10_000, said.append) == 1
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    assert choose_threads(step, 10_000, said.append) == 1
    no_more = "CPU threads: 1 (this process may use no more)"
    assert (calls, said) == ([], ["CPU threads: 1 (the run is too short for a trial)", no_more, no_more])


@pytest.mark.usefixtures("four_cores")
def test_a_trial_draws_from_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "TRIAL_SECONDS", 0.01)
    before = torch.get_rng_state()
    choose_threads(lambda: torch.rand(1000), 10_000, print)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("four_cores")
def test_a_trial_leaves_no_trace_in_the_run(tiny_mnist: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SHORT_STEPS", 0)
    monkeypatch.setattr(threads, "TRIAL_SECONDS", 0.1)
    monkeypatch.setattr(threads, "WORTHWHILE", 0.0)  # one thread, whatever is faster
    tried, notes = SHORT.model(), Interrupt()
    state = torch.get_rng_state()
    chosen = fit(tried, *tiny_mnist, replace(SHORT, num_epochs=1), device="cpu", progress=notes)
    (line,) = notes.lines
    assert line.startswith("CPU threads: 1 (of 4; milliseconds a step just now with 1: ")
    assert chosen.threads == 1
    torch.set_rng_state(state)
    plain = SHORT.model()
    given = fit(plain, *tiny_mnist, replace(SHORT, num_epochs=1), device="cpu", threads=1)
    assert {**vars(chosen), "seconds": 0} == {**vars(given), "seconds": 0}
    assert all(torch.equal(a, b) for a, b in zip(tried.state_dict().values(), plain.state_dict().values(), strict=True))


@pytest.mark.usefixtures("four_cores")
def test_a_run_computes_with_the_threads_it_says(tiny_mnist: Splits) -> None:
    seen = []

    class Looks(Interrupt):
        def epoch(self, history: History) -> None:
            seen.append(torch.get_num_threads())

    history = fit(SHORT.model(), *tiny_mnist, SHORT, device="cpu", threads=2, progress=Looks())
    assert seen == [2, 2] and history.threads == 2 and torch.get_num_threads() == 4


@pytest.mark.parametrize("number", [0, -1, True, 1.0, 5, 10**9, "two"])
def test_a_number_of_threads_without_cores_for_them_is_refused(
    number: object, four_cores: None, tiny_mnist: Splits
) -> None:
    with pytest.raises(ValueError, match=f"threads is {number!r}: give a whole number from 1 to 4"):
        fit(SHORT.model(), *tiny_mnist, SHORT, device="cpu", threads=number)


@pytest.mark.usefixtures("four_cores")
def test_a_resumed_run_takes_its_checkpoints_threads_unless_told_otherwise(tiny_mnist: Splits, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"

    def go_on(notes: Interrupt, **changes: int) -> History:
        return fit(SHORT.model(), *tiny_mnist, SHORT, device="cpu", checkpoint=path, progress=notes, **changes)

    with pytest.raises(KeyboardInterrupt):
        go_on(Interrupt(1), threads=2)
    begun = load_tensors(path)
    assert begun["history"]["threads"] == 2
    assert go_on(notes := Interrupt(), resume=True).threads == 2
    assert notes.lines == []

    save_tensors(path, begun)
    assert go_on(notes := Interrupt(), resume=True, threads=1).threads == 1
    (line,) = notes.lines
    assert line.startswith("going on from ") and line.endswith("the last bits may differ: threads was 2 and is 1")

    begun["history"]["threads"] = 64  # of a larger machine
    save_tensors(path, begun)
    assert go_on(notes := Interrupt(), resume=True).threads == 4
    assert notes.lines[0].endswith("threads was 64 and is 4")

    begun["history"]["threads"] = None  # of a run that was stopped before its first epoch
    save_tensors(path, begun)
    assert go_on(notes := Interrupt(), resume=True).threads == 1
    assert notes.lines == ["CPU threads: 1 (the run is too short for a trial)"]

    begun["history"]["threads"] = "two"
    save_tensors(path, begun)
    with pytest.raises(ValueError, match="threads of its history is 'two'"):
        go_on(Interrupt(), resume=True)


@pytest.mark.parametrize(
    ("seconds", "slow"), [([2.0, 5.9, 6.2, 20.0, 1.0], "epoch 3 took 3.1 times"), ([0.1, 0.9], None)]
)
def test_a_slow_epoch_is_told_once_why_and_what_to_do(
    seconds: list[float], slow: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """5.9 is less than three times 2.0, and 0.9 seconds are short enough to differ."""
    history, progress = History({"lr": 1.0}, "cpu", {}), Progress(len(seconds), 100)
    with progress:
        for epoch in seconds:
            history.append(1.0, 0.5, 1.0, 0.5, epoch)
            progress.epoch(history)
    told = [line for line in capsys.readouterr().out.splitlines() if "took" in line]
    assert len(told) == (1 if slow else 0)
    assert not told or (told[0].startswith(slow) and "one thread" in told[0])
