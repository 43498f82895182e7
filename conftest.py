"""What the tests share: the real data, read once, slices of it, the script on such slices, and one seed."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import ERAV4S5CNNwithBN as script
from helpers.data import Split, load_mnist
from helpers.recipe import RECIPES
from helpers.runtime.files import load_weights
from helpers.runtime.history import History
from helpers.runtime.progress import Silent

ROOT = Path(__file__).parent
Splits = tuple[Split, Split]


def pytest_configure(config: pytest.Config) -> None:
    """Find what sanitises the notebook's outputs wherever pytest is called from; this file is here for that."""
    option = config.option
    option.nbval_sanitize_with = option.nbval_sanitize_with or str(ROOT / "tests" / "nbval_sanitize.cfg")


class Interrupt(Silent):
    """Progress that keeps what is said, and stops the run after so many epochs, as Ctrl-C would."""

    def __init__(self, *after: int) -> None:
        super().__init__()
        self.after = after
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def epoch(self, history: History) -> None:
        if history.num_epochs in self.after:
            raise KeyboardInterrupt


def on_paper(image: torch.Tensor, path: Path) -> Path:
    """Save a digit of MNIST as dark ink on white paper; return the picture's path."""
    Image.fromarray(255 - image.numpy()).save(path)
    return path


@pytest.fixture(scope="session")
def mnist() -> Splits:
    return load_mnist(ROOT / "data")


@pytest.fixture(scope="session")
def small_mnist(mnist: Splits) -> Splits:
    """Slices of the real splits: 700 training and 300 test images."""
    return mnist[0][:700], mnist[1][:300]


@pytest.fixture(scope="session")
def robust_net() -> nn.Module:
    """The trained network of the committed run with the recipe ``robust``, in eval mode."""
    net = RECIPES["robust"].model()
    load_weights(net, ROOT / "results" / "robust" / "model.pt")
    return net.eval()


@pytest.fixture
def small_script(monkeypatch: pytest.MonkeyPatch, small_mnist: Splits) -> Callable[..., int]:
    """The script on these slices; pytest keeps its own signal handlers."""
    monkeypatch.setattr(script, "load_mnist", lambda root: small_mnist)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return lambda *arguments: script.main(["--device=cpu", *map(str, arguments)])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For small tensors, where more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
