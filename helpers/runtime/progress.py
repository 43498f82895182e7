"""What a run shows while it trains: one bar for the whole run and one aligned row for each epoch."""

import io
import sys
from contextlib import nullcontext

from tqdm import tqdm

from helpers.runtime.history import History

SLOW, SLOW_SECONDS = 3.0, 1.0  # a slow epoch takes so many times as long as the fastest, and at least so many seconds

HEADER = f"{'epoch':>5}  {'train loss':>10}  {'train acc':>9}  {'test loss':>9}  {'test acc':>8}  {'seconds':>7}"


def row(history: History, epoch: int) -> str:
    """Return the table row of an epoch, counted from 0, aligned under ``HEADER``."""
    return (
        f"{epoch + 1:>5}  {history.train_loss[epoch]:>10.4f}  {history.train_accuracy[epoch]:>9.2%}  "
        f"{history.test_loss[epoch]:>9.4f}  {history.test_accuracy[epoch]:>8.2%}  {history.seconds[epoch]:>7.1f}"
    )


def runs_in_notebook() -> bool:
    """Tell whether output goes to a cell of a notebook; IPython may also be imported by a program in a terminal."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class NotebookBar(tqdm):
    """A progress bar that is a text output of its notebook cell, updated in place; it needs no widget."""

    handle = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        from IPython.display import display

        text = {"text/plain": msg or str(self)}
        if self.handle is None:
            self.handle = display(text, raw=True, display_id=True)
        else:
            self.handle.update(text, raw=True)


class Progress:
    """The bar and rows of a run over ``num_epochs`` epochs of ``num_images`` images each, for a ``with`` block.

    ``finished`` counts the epochs done so far; ``fit`` sets it when a run is resumed. There is a bar only in a
    terminal or a notebook; the rows are always printed.
    """

    def __init__(self, num_epochs: int, num_images: int) -> None:
        self.num_epochs, self.num_images, self.finished = num_epochs, num_images, 0
        self.in_notebook, self.slowness_told = runs_in_notebook(), False
        self.note = print if self.in_notebook else tqdm.write  # prints a line; tqdm's, above the bar

    def __enter__(self) -> "Progress":
        bar_type = NotebookBar if self.in_notebook else tqdm
        where = {"file": io.StringIO(), "ascii": False} if self.in_notebook else {"disable": None}
        layout = "{percentage:3.0f}%|{bar:30}| {elapsed}<{remaining}{postfix}"
        counts = {"total": self.num_epochs * self.num_images, "initial": self.finished * self.num_images}
        self.bar = bar_type(**counts, bar_format=layout, **where)
        self.note(HEADER)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()  # what is printed next gets a line of its own

    def update(self, num_images: int, loss: float, accuracy: float) -> None:
        """Show how far the current epoch is: images so far, their mean loss and their accuracy."""
        self.bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.2%}", refresh=False)
        self.bar.update(self.finished * self.num_images + num_images - self.bar.n)

    def epoch(self, history: History) -> None:
        """Print the row of the epoch that has just finished."""
        self.finished = history.num_epochs
        self.note(row(history, self.finished - 1))
        advice = slowness(history.seconds)
        if advice and not self.slowness_told:
            self.slowness_told = True  # once is enough: on a shared machine, many epochs may be slow
            self.note(advice)


class Silent(nullcontext):
    """Progress that shows nothing."""

    finished = 0

    def note(self, line: str) -> None: ...

    def update(self, num_images: int, loss: float, accuracy: float) -> None: ...

    def epoch(self, history: History) -> None: ...


def slowness(seconds: list[float]) -> str:
    """Return what to do if the last epoch took several times as long as the fastest, and why it may have; else ""."""
    ratio = seconds[-1] / min(seconds)
    if ratio <= SLOW or seconds[-1] < SLOW_SECONDS:
        return ""
    return (
        f"epoch {len(seconds)} took {ratio:.1f} times as long as the fastest: something else may be using "
        "this machine's cores; end it, or stop this run and resume it with one thread"
    )
