"""The script and the public functions: what they write, and how they refuse what they cannot use."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import ERAV4S5CNNwithBN as script
from conftest import ROOT, Splits, head
from evidence.intervals import interval
from helpers.augmentation import Augmentation
from helpers.data import Batches, Split, load_mnist
from helpers.engine.files import load_tensors, load_weights
from helpers.engine.history import History
from helpers.model import Net
from helpers.prediction import read_picture
from helpers.recipe import RECIPES, Recipe
from helpers.summary import summary
from helpers.training import evaluate, fit, predict


def test_a_run_writes_figure_history_and_weights(
    small_script: Callable[..., int], small_mnist: Splits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert small_script("--epochs=2", "--lr=0.02", "--batch-size=50", "--seed=3", "--results", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "Conv2d(1, 8, 3)" in printed and "Linear-27" in printed and "Total params: 11,874" in printed
    history = History(**json.loads((tmp_path / "history.json").read_text()))
    assert history.recipe["seed"] == 3 and history.recipe["lr"] == 0.02 and history.num_epochs == 2
    for values in (history.train_accuracy, history.test_accuracy):
        assert f"{values[-1]:.2%}" in printed
    net = Net()
    load_weights(net, tmp_path / "model.pt")
    assert evaluate(net, Batches(small_mnist[1], 250))[1] == history.test_accuracy[-1]
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_other_recipes_do_not_overwrite_the_assignments_results(
    small_script: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "model.pt").write_text("precious")
    assert small_script("--recipe=sprint", "--results", tmp_path) == 0
    assert (tmp_path / "model.pt").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.pt", "sprint.pt", "sprint.json", "sprint.png", "sprint-checkpoint.pt"
    }  # fmt: skip


def test_pictures_are_predicted_with_the_recipes_weights(
    small_script: Callable[..., int], mnist: Splits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results, paper = tmp_path / "results", tmp_path / "seven.png"
    results.mkdir()
    shutil.copy(ROOT / "results" / "best" / "model.pt", results / "best.pt")
    Image.fromarray(255 - mnist[1].images[0].numpy()).save(paper)
    assert small_script("--recipe=best", f"--results={results}", "--predict", paper, paper) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in printed[:2]] == [f"{paper}: 7"] * 2
    assert sorted(path.name for path in results.iterdir()) == ["best.pt", "predictions.png"]
    strange = tmp_path / os.fsdecode(b"a$b_$c^\xff" + b"long" * 40 + b".png")
    two = Image.new("L", (70, 40), 255)
    two.paste(Image.open(paper), (5, 5))
    two.paste(Image.open(paper), (38, 5))
    two.save(strange, "PNG")
    assert small_script("--recipe=best", f"--results={results}", "--predict", strange) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(", digit ")[2][:9] for line in printed[:2]] == ["1 of 2: 7", "2 of 2: 7"]
    Image.new("L", (50, 40), 255).save(tmp_path / "blank.png")
    assert small_script("--recipe=best", f"--results={results}", "--predict", paper, tmp_path / "blank.png") == 2
    assert f"error: {tmp_path / 'blank.png'}: the picture of 50x40 pixels is blank" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_the_committed_weights_are_those_of_the_committed_run(name: str, mnist: Splits) -> None:
    _, numbers, weights, _ = script.file_names(name)
    history = History(**json.loads((ROOT / "results" / numbers).read_text()))
    assert history.recipe == json.loads(json.dumps(asdict(RECIPES[name])))
    assert history.num_epochs == RECIPES[name].num_epochs
    net = RECIPES[name].model()
    load_weights(net, ROOT / "results" / weights)
    loss, accuracy = evaluate(net, Batches(mnist[1], 250))
    assert accuracy == pytest.approx(history.test_accuracy[-1], abs=1.5e-4)  # one image on the edge, on another CPU
    assert loss == pytest.approx(history.test_loss[-1], rel=1e-3)


def test_help_names_every_option(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("recipe", "epochs", "batch-size", "lr", "seed", "device", "data", "results", "resume", "predict"):
        assert f"--{option}" in text


BAD_ARGUMENTS = [
    "--epochs 0", "--epochs -1", "--epochs abc", "--epochs 1.5", "--epochs nan", "--epochs 99999999999", "--epochs",
    "--batch-size 0", "--batch-size -64", "--batch-size big", "--batch-size 1e3",
    "--lr 0", "--lr -1", "--lr nan", "--lr inf", "--lr abc", "--lr 1e9",
    "--seed -1", "--seed x", "--seed 99999999999999999999", "--seed 0.5",
    "--device tpu", "--device cuda:99", "--device CPU", "--device=",
    "--recipe worst", "--recipe=", "--data no/such/folder", "--data README.md", "--results README.md",
    "--results README.md/deeper", "--unknown 3", "surplus", "--predict", "--predict no-such.png", "--predict README.md",
    "--predict data", "--resume --results no-such-folder",
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
    (tmp_path / "README.md").write_text("no picture")
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
    (lambda: Recipe(num_epochs=True), "num_epochs is True"),
    (lambda: Recipe(num_epochs=2.0), "num_epochs is 2.0"),
    (lambda: Recipe(batch_size=0), "batch_size is 0"),
    (lambda: Recipe(lr="fast"), "lr is 'fast'"),
    (lambda: Recipe(lr=float("nan")), "lr is nan"),
    (lambda: Recipe(momentum=1.0), "momentum is 1.0"),
    (lambda: Recipe(weight_decay=-0.1), "weight_decay is -0.1"),
    (lambda: Recipe(dropout=1.0), "dropout is 1.0"),
    (lambda: Recipe(label_smoothing=None), "label_smoothing is None"),
    (lambda: Recipe(warm_up=2), "warm_up is 2"),
    (lambda: Recipe(optimizer="adam"), "optimizer is 'adam': choose sgd or adamw"),
    (lambda: Recipe(schedule="cosine"), "schedule is 'cosine'"),
    (lambda: Recipe(batch_norm="maybe"), "batch_norm is 'maybe'"),
    (lambda: Recipe(augmentation="strong"), "augmentation is 'strong'"),
    (lambda: Augmentation(rotation=float("inf")), "rotation is inf"),
    (lambda: Augmentation(crop_probability=1.5), "crop_probability is 1.5"),
    (lambda: Augmentation(crop_size=0), "crop_size is 0"),
    (lambda: Augmentation(zoom=1.0), "zoom is 1.0"),
    (lambda: Augmentation(shift=-0.1), "shift is -0.1"),
    (lambda: Augmentation(elastic=float("nan")), "elastic is nan"),
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
    (lambda: load_weights(Net(), ROOT / "README.md"), "README.md is damaged or holds more than"),
    (lambda: load_weights(Net(batch_norm="none"), ROOT / "results" / "model.pt"), "not hold this network's weights"),
]


@pytest.mark.parametrize(("call", "says"), BAD_CALLS)
def test_a_bad_argument_raises_a_valueerror_of_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call", [lambda: load_mnist(ROOT / "README.md"), lambda: load_tensors(ROOT / "none.pt"), lambda: read_picture(ROOT)]
)
def test_a_file_that_cannot_be_read_raises_an_oserror_of_one_line(
    call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.data.MNIST.mirrors", [])
    with pytest.raises(OSError) as caught:
        call()
    assert "\n" not in str(caught.value) and str(ROOT) in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name: str, mnist: Splits) -> None:
    recipe = replace(RECIPES[name], num_epochs=1)
    assert fit(recipe.model(), head(mnist[0], 200), head(mnist[1], 50), recipe, device="cpu").num_epochs == 1
