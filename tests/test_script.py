"""The script and the public functions: what they write, and how they refuse what they cannot use."""

import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import ERAV4S5CNNwithBN as script
from conftest import ROOT, Splits, on_paper
from helpers.augmentation import Augmentation
from helpers.data import Batches, Split, load_mnist
from helpers.model import Net
from helpers.photographs import read_picture, to_mnist
from helpers.recipe import RECIPES, Recipe
from helpers.results import interval, read_json, what_it_means
from helpers.runtime.files import load_tensors, load_weights, save_tensors
from helpers.runtime.history import History
from helpers.runtime.progress import HEADER, row
from helpers.summary import summary
from helpers.training import evaluate, fit, predict


def test_a_run_writes_figure_history_and_weights(
    small_script: Callable[..., int],
    small_mnist: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # a plugin of pytest brings it; this is a terminal
    assert (
        small_script("--epochs=2", "--lr=0.02", "--batch-size=50", "--seed=0", "--threads=1", "--results", tmp_path)
        == 0
    )
    printed = capsys.readouterr().out
    assert "Conv2d(1, 8, 3)" in printed and "Linear-27" in printed and "Total params: 11,874" in printed
    history = History.from_dict(json.loads((tmp_path / "history.json").read_text(encoding="utf-8")))
    assert history.recipe["seed"] == 0 and history.recipe["lr"] == 0.02 and history.num_epochs == 2
    assert (history.recipe["batch_size"], history.threads) == (50, 1)
    assert "CPU threads" not in printed  # which are chosen only where none are given
    lines = printed.splitlines()
    begin = lines.index(HEADER)
    assert lines[begin : begin + 4] == [HEADER, row(history, 0), row(history, 1), ""]
    ends = f"train accuracy {history.train_accuracy[-1]:.2%}, test accuracy {history.test_accuracy[-1]:.2%}"
    assert lines[begin + 4] == ends
    assert lines[-1] == f"written to {tmp_path}: history.json, model.pt and, to look at, results.png"
    checkpoint = load_tensors(tmp_path / "checkpoint.pt")
    assert History.from_dict(checkpoint["history"]) == history
    net = Net()
    load_weights(net, tmp_path / "model.pt")
    assert evaluate(net, Batches(small_mnist[1], 250))[1] == history.test_accuracy[-1]
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_goes_to_a_folder_of_its_recipe_and_says_what_the_number_means(
    small_script: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe, options in (("sprint", ["--seed=7"]), ("assignment", ["--epochs=1", "--batch-size=100"])):
        assert small_script("--recipe", recipe, *options) == 0
        folder = Path("runs", recipe)
        assert {path.name for path in folder.iterdir()} == {"results.png", "history.json", "model.pt", "checkpoint.pt"}
        history = History.from_dict(json.loads((folder / "history.json").read_text(encoding="utf-8")))
        meaning = what_it_means(history.test_accuracy[-1], recipe, history.recipe)
        assert ("with num_epochs 1, batch_size 100; as it stands" in meaning) == (recipe == "assignment")
        lines = capsys.readouterr().out.splitlines()
        assert lines[-2] == meaning and lines[-1].startswith(f"written to {folder}: ")
    assert {path.name for path in tmp_path.rglob("*") if path.is_dir()} == {"runs", "sprint", "assignment"}


def test_pictures_are_read_with_your_own_weights_or_the_committed_ones(
    small_script: Callable[..., int],
    mnist: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    paper, own = on_paper(mnist[1].images[0], tmp_path / "seven.png"), Path("runs", "robust", "model.pt")
    assert small_script("--predict", paper, paper) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"weights: {ROOT / 'results' / 'robust' / 'model.pt'}"
    assert [line.split(" (")[0] for line in printed[1:3]] == [f"{paper}: 7"] * 2
    assert [path.name for path in own.parent.iterdir()] == ["predictions.png"]
    mine, committed = tmp_path / "mine" / "model.pt", ROOT / "results" / "sprint" / "model.pt"
    for weights, options in (
        (own, []),
        (mine, ["--results", mine.parent]),
        (committed, ["--weights", committed, "--results", mine.parent]),
    ):
        if weights != committed:
            save_tensors(weights, Net().state_dict())
        assert small_script("--predict", paper, *options) == 0
        assert f"weights: {weights}\n" in capsys.readouterr().out
    assert (mine.parent / "predictions.png").exists()
    strange = tmp_path / os.fsdecode(b"a$b_$c^\xff" + b"long" * 40 + b".png")
    two = Image.new("L", (70, 40), 255)
    two.paste(Image.open(paper), (5, 5))
    two.paste(Image.open(paper), (38, 5))
    two.save(strange, "PNG")
    assert small_script("--predict", strange, "--weights", committed) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(", digit ")[2][:9] for line in printed[1:3]] == ["1 of 2: 7", "2 of 2: 7"]
    Image.new("L", (50, 40), 255).save(tmp_path / "blank.png")
    blank, none = tmp_path / "blank.png", tmp_path / "none.png"
    assert small_script("--predict", blank, paper, none, paper, "--weights", committed) == 2
    out, err = capsys.readouterr()
    assert [line.split(" (")[0] for line in out.splitlines()[1:3]] == [f"{paper}: 7"] * 2
    told = [f"error: {blank}: the picture of 50x40 pixels is blank", f"error: {none} cannot be read"]
    assert [line.startswith(start) for line, start in zip(err.splitlines(), told, strict=True)] == [True, True]
    assert small_script("--predict", blank) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_what_is_printed_about_a_picture_is_what_the_network_says(
    small_script: Callable[..., int], mnist: Splits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paper = on_paper(mnist[1].images[8], tmp_path / "picture.png")
    assert small_script("--predict", paper, "--results", tmp_path) == 0
    net = RECIPES["robust"].model()
    load_weights(net, ROOT / "results" / "robust" / "model.pt")
    images = to_mnist(read_picture(paper))[None]
    best = predict(net, Batches(Split(images, torch.zeros(1, dtype=torch.int64)))).exp()[0].sort(descending=True)
    answers = [f"{digit} ({share:.1%})" for digit, share in zip(best.indices, best.values, strict=True)]
    mark = "" if best.values[0] >= 0.9 else "unsure, "
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{paper}: {mark}{answers[0]}, then {answers[1]} and {answers[2]}",
        f"written: {tmp_path / 'predictions.png'}",
    ]


def test_the_figure_of_many_digits_shows_the_first_ones(
    small_script: Callable[..., int], mnist: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    paper, figure = on_paper(mnist[1].images[8], tmp_path / "picture.png"), tmp_path / "predictions.png"
    for most, says in ((2, ""), (1, " (the first 1 digits)")):
        monkeypatch.setattr(script, "MOST_DRAWN", most)
        assert small_script("--predict", paper, paper, "--results", tmp_path) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"written: {figure}{says}"


def test_a_path_that_may_not_be_looked_at_is_told_in_a_line(
    small_script: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / ("long" * 100 + ".png")
    assert small_script("--predict", path, "--results", tmp_path) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {path} cannot be read (") and err.endswith("): give another picture\n")


def test_answers_that_nobody_reads_are_no_fault_of_the_figure(
    small_script: Callable[..., int], mnist: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def print_to_a_reader_who_leaves(line: str, **where: object) -> None:
        if line.startswith("written"):
            raise BrokenPipeError("Broken pipe")
        print(line, **where)

    paper = on_paper(mnist[1].images[0], tmp_path / "picture.png")
    monkeypatch.setattr(script, "print", print_to_a_reader_who_leaves, raising=False)
    monkeypatch.setattr(script, "stop_printing", lambda: None)
    assert small_script("--predict", paper, "--results", tmp_path) == 141
    assert capsys.readouterr().err == ""


def test_ctrl_c_says_how_to_go_on_where_one_can(
    small_script: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "fit", stop)
    monkeypatch.setattr(script, "read_picture", stop)
    assert small_script("--predict", "picture.png") == 130
    assert capsys.readouterr().err == "stopped\n"
    assert small_script("--results", tmp_path) == 130
    says = f"stopped; the same command with --resume goes on from the last finished epoch in {tmp_path}\n"
    assert capsys.readouterr().err == says


def test_what_a_number_means_is_where_a_single_seed_falls() -> None:
    runs = read_json("study")["recipes"]["runs"]
    finals = [run["test_accuracy"][-1] for run in runs if run["variant"] == "best"]
    mean, sd, n = statistics.fmean(finals), statistics.stdev(finals), len(finals)
    assert n == 10
    low, high = (mean + side * 2.262 * sd * (1 + 1 / n) ** 0.5 for side in (-1, 1))  # Student's t, 9 degrees
    settings = RECIPES["best"].as_json() | {"seed": 0}
    fall = f"95% of seeds of this recipe fall between {low:.2%} and {high:.2%} (mean of 10: {mean:.2%})"
    assert what_it_means(mean, "best", settings) == f"{mean:.2%}: {fall}; as yours does"
    assert what_it_means(0.98, "best", settings) == f"98.00%: {fall}; yours does not: one in twenty does not either"
    changed = settings | {"num_epochs": 1, "lr": 0.5, "a new setting": True}
    with_these = "with num_epochs 1, lr 0.5, a new setting True"
    assert what_it_means(0.98, "best", changed) == f"98.00% {with_these}; as it stands, {fall}"


def test_without_a_study_there_is_nothing_to_compare_a_number_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.results.RESULTS", tmp_path)
    for content in (None, "{", "{}"):
        if content:
            (tmp_path / "study.json").write_text(content, encoding="utf-8")
        assert what_it_means(0.9, "best", {}) == "90.00%; other seeds of this recipe were not studied"


@pytest.mark.processes
def test_a_run_changes_no_file_that_is_committed(tmp_path: Path) -> None:
    def git(*arguments: str, cwd: Path = tmp_path) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True
        ).stdout

    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the project is no git checkout")
    for name in git("ls-files", cwd=ROOT).splitlines():
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=copy")
    code = (
        "import sys; import ERAV4S5CNNwithBN as script; "
        "full = script.load_mnist; script.load_mnist = lambda root: [split[:500] for split in full(root)]; "
        "sys.exit(script.main(sys.argv[1:]))"
    )
    run = subprocess.run([sys.executable, "-c", code, "--epochs=1", "--device=cpu"], cwd=tmp_path)
    assert run.returncode == 0
    assert (tmp_path / "runs" / "assignment" / "model.pt").exists()
    assert git("status", "--porcelain") == ""


@pytest.mark.parametrize("name", RECIPES)
def test_the_committed_weights_are_those_of_the_committed_run(name: str, mnist: Splits) -> None:
    folder = ROOT / "results" / name
    history = History.from_dict(json.loads((folder / "history.json").read_text(encoding="utf-8")))
    assert history.recipe == json.loads(json.dumps(asdict(RECIPES[name])))
    assert history.num_epochs == RECIPES[name].num_epochs
    net = RECIPES[name].model()
    load_weights(net, folder / "model.pt")
    loss, accuracy = evaluate(net, Batches(mnist[1], 250))
    assert accuracy == pytest.approx(history.test_accuracy[-1], abs=1.5e-4)  # one image on the edge, on another CPU
    assert loss == pytest.approx(history.test_loss[-1], rel=1e-3)


def test_the_data_is_this_projects_wherever_one_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert script.parse_arguments([]).data.samefile(ROOT / "data")


BAD_ARGUMENTS = [
    "--epochs 0", "--epochs 1.5", "--epochs 99999999999", "--epochs", "--batch-size 0", "--batch-size 1e3",
    "--lr 0", "--lr nan", "--lr abc", "--lr 1e9", "--seed -1", "--seed x", "--threads 0", "--threads one",
    "--device tpu", "--device cuda:99", "--device=", "--recipe worst", "--recipe=", "--unknown 3", "surplus",
    "--data no/such/folder", "--data README.md", "--results README.md", "--results README.md/deeper",
    "--resume --results no-such-folder", "--weights model.pt",
    "--predict", "--predict no-such.png", "--predict README.md", "--predict data",
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS)
def test_a_bad_call_gives_one_line_and_status_2(
    arguments: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture, small_mnist: Splits
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("helpers.data.MNIST.mirrors", [])
    if "--data" not in arguments:
        monkeypatch.setattr(script, "load_mnist", lambda root: small_mnist)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("no picture", encoding="utf-8")
    (tmp_path / "data").mkdir()
    try:
        status = script.main(arguments.split())
    except SystemExit as stop:
        status = stop.code
    errors = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert len(errors) == 1, errors
    assert "error: " in errors[0] and len(errors[0]) < 300
    assert sorted(path.name for path in tmp_path.rglob("*.pt")) == []


def images(dtype: torch.dtype = torch.uint8, *shape: int) -> torch.Tensor:
    return torch.zeros(shape or (4, 28, 28), dtype=dtype)


LABELS = torch.arange(4)
BAD_CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: Batches(Split(images(torch.float32), LABELS)), "images are torch.float32"),
    (lambda: Batches(Split(images(torch.uint8, 4, 1, 28, 28), LABELS)), r"images are torch.uint8 \(4, 1, 28, 28\)"),
    (lambda: Batches(Split(images(torch.uint8, 0, 28, 28), LABELS[:0])), "not empty"),
    (lambda: Batches(Split(images(), LABELS[:3])), r"labels are torch.int64 \(3,\): give int64 \(4,\)"),
    (lambda: Batches(Split(images(), LABELS.float())), "labels are torch.float32"),
    (lambda: Batches(Split(images(), LABELS + 8)), "labels run from 8 to 11"),
    (lambda: Batches(Split(images(), LABELS - 1)), "labels run from -1 to 2"),
    (lambda: Batches(Split(images(), LABELS), 0), "batch_size is 0"),
    (lambda: Batches(Split(images(), LABELS), 2.5), "batch_size is 2.5"),
    (lambda: Split(images(), LABELS).hold_out(4, seed=1), "cannot hold out 4 of 4"),
    (lambda: Split(images(), LABELS).hold_out(0, seed=1), "cannot hold out 0 of 4"),
    (lambda: fit(Net(), Split(images(), LABELS), Split(images(), LABELS), device="abacus"), "device 'abacus'"),
    (lambda: fit(Net(), Split(images(), LABELS), Split(images(), LABELS), resume=True), "resume needs a checkpoint"),
    (lambda: predict(Net(), Batches(Split(images(), LABELS), shuffle=True)), "shuffle is True"),
    (lambda: summary(Net(), (28, 28)), r"input of size \(28, 28\)"),
    (lambda: interval([0.1]), "1 values"),
    (lambda: load_weights(Net(), ROOT / "README.md"), "README.md is damaged or holds more than .*: give another file"),
    (
        lambda: load_weights(Net(batch_norm="none"), ROOT / "results" / "assignment" / "model.pt"),
        "not hold this network's weights",
    ),
]


@pytest.mark.parametrize(("call", "says"), BAD_CALLS)
def test_a_bad_argument_raises_a_valueerror_of_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: load_mnist(ROOT / "README.md"),
        lambda: load_tensors(ROOT / "none.pt"),
        lambda: load_tensors(ROOT),
        lambda: load_weights(Net(), ROOT),
        lambda: read_picture(ROOT),
    ],
)
def test_a_file_that_cannot_be_read_raises_an_oserror_of_one_line(
    call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.data.MNIST.mirrors", [])
    with pytest.raises(OSError) as caught:
        call()
    assert "\n" not in str(caught.value) and str(ROOT) in str(caught.value)
    assert re.search(r": (check|give|put|choose|mend|start) ", str(caught.value))  # the remedy


@pytest.mark.parametrize(
    ("names", "inside", "outside"),
    [
        ("num_epochs batch_size", [1, 2**31 - 1], [0, 2**31, 2.0, True]),
        ("seed", [0, 2**31 - 1], [-1, 2**31]),
        ("lr", [1e-9, 99.9], [0, 100, math.nan, "fast", True]),
        ("momentum weight_decay warm_up_fraction label_smoothing dropout", [0, 0.999], [-0.001, 1, None]),
        ("nesterov recalibrate_batch_norm", [True, False], ["no", 1]),
        ("optimizer", ["sgd", "adamw"], ["adam"]),
        ("schedule", ["constant", "one-cycle"], ["cosine"]),
        ("batch_norm", ["after", "before", "none"], ["maybe"]),
        ("initial_weights", ["pytorch", "he"], ["zeros"]),
        ("augmentation", [None, Augmentation()], ["strong"]),
    ],
)
def test_a_recipe_takes_what_is_in_range_and_names_what_is_not(names: str, inside: list, outside: list) -> None:
    for name in names.split():
        for value in inside:
            recipe = Recipe(**{name: value})
            assert getattr(recipe, name) == value
            with pytest.raises(FrozenInstanceError):
                setattr(recipe, name, value)
        for value in outside:
            with pytest.raises(ValueError, match=f"^{name} is {value!r}: (give|choose) .*") as caught:
                Recipe(**{name: value})
            assert not isinstance(inside[0], str) or all(choice in str(caught.value) for choice in inside)


def test_a_recipe_draws_the_weights_of_its_seed() -> None:
    weights = [Recipe(seed=seed).model().state_dict()["conv1.0.weight"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_networks_of_one_seed_start_from_the_same_weights_in_all_layers_that_they_share() -> None:
    weights = [
        replace(Recipe(), seed=3, **changes).model().state_dict()
        for changes in ({}, {"batch_norm": "none"}, {"batch_norm": "before"}, {"dropout": 0.0})
    ]
    names = [name for name in weights[1] if name.endswith("0.weight") or name.startswith("fc")]
    assert len(names) == 7 + 2 and "conv7.0.bias" in weights[1]
    for name in names:
        assert all(torch.equal(weights[0][name], others[name]) for others in weights[1:])
    assert not torch.equal(weights[0]["conv5.0.weight"].flatten()[:100], weights[0]["conv7.0.weight"].flatten()[:100])


def test_initial_weights_are_drawn_as_their_sources_say() -> None:
    he = [Recipe(initial_weights="he", batch_norm="none", seed=seed).model().state_dict() for seed in range(20)]
    usual = [Recipe(batch_norm="none", seed=seed).model().state_dict() for seed in range(20)]
    for name, inputs in {"conv2.0": 8 * 9, "conv4.0": 32 * 9, "fc": 288}.items():
        drawn = torch.cat([weights[f"{name}.weight"].flatten() for weights in he])
        assert drawn.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.03) and abs(drawn.mean()) < 0.01
        assert not any(weights[f"{name}.bias"].any() for weights in he)
        bounded = torch.cat([weights[f"{name}.weight"].flatten() for weights in usual])
        assert bounded.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.01)  # PyTorch's documentation


def test_all_but_one_image_can_be_held_out() -> None:
    split = Split(images(), LABELS)
    for number in (1, 3):
        rest, held_out = split.hold_out(number, seed=1)
        assert (len(rest.labels), len(held_out.labels)) == (4 - number, number)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name: str, mnist: Splits) -> None:
    recipe = replace(RECIPES[name], num_epochs=1)
    assert fit(recipe.model(), mnist[0][:200], mnist[1][:50], recipe, device="cpu").num_epochs == 1
