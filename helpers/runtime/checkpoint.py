"""Checkpoints of a run: plain dictionaries that hold everything it needs to go on as if it had never stopped."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.runtime.files import load_tensors, rename, save_tensors
from helpers.runtime.history import History, differences

State = dict[str, Any]
SEVERAL_EPOCHS = 2  # what a run that is started anew does not replace


class Checkpoint:
    """A run's file at ``path``, or none: ``state`` and ``load_state`` give and take what the run has to keep.

    ``load_state`` raises ``ValueError`` for what has not the form of what it needs; ``difference`` tells. What its
    user should know is said to ``say`` in one line.
    """

    def __init__(
        self,
        path: str | Path | None,
        state: Callable[[], State],
        load_state: Callable[[State], None],
        say: Callable[[str], None],
    ) -> None:
        self.path, self.state, self.load_state, self.say = path and Path(path), state, load_state, say

    def start(self, run: History, device: torch.device, resume: bool, any_length: bool = False) -> History:
        """Return the history that the run goes on from: what ``restore`` gives, or ``run`` itself, saved."""
        if resume:
            return self.restore(run, device, any_length)
        self.keep_earlier()
        self.save(run)
        return run

    def keep_earlier(self) -> None:
        """Rename a file of several epochs before a run begins anew; raises ``OSError`` where that fails."""
        num_epochs = self.num_epochs_there()
        if num_epochs >= SEVERAL_EPOCHS:
            names = (self.path.with_stem(f"{self.path.stem}-{number}") for number in count(1))
            kept = next(name for name in names if not name.exists())
            try:
                rename(self.path, kept)
            except OSError as error:
                reason = f"{self.path} cannot be kept as {kept.name} ({error.strerror})"
                raise OSError(f"{reason}: allow it or choose another folder") from error
            held = f"{self.path} held {num_epochs} epochs of an earlier run"
            self.say(f"{held}: kept beside it as {kept.name}; to use it: --weights FILE")

    def num_epochs_there(self) -> int:
        """Return how many epochs the file holds, 0 where there is none or it is no checkpoint."""
        try:
            return checked(load_tensors(self.path))[1].num_epochs if self.path else 0
        except (OSError, ValueError):
            return 0

    def save(self, history: History) -> None:
        """Write state and history, whole or not at all; raises ``OSError`` where that fails."""
        if self.path is not None:
            save_tensors(self.path, {"trainer": self.state(), "history": history.as_dict()})

    def restore(self, run: History, device: torch.device, any_length: bool = False) -> History:
        """Load the state and return the history of the same run as ``run``, which is empty so far.

        With ``any_length`` it may have been meant to have more or fewer epochs, as long as no more are done. Raises
        ``ValueError`` where there is no path, or the file is damaged, no checkpoint of this network, or of a run under
        other conditions; ``OSError`` where it cannot be read.
        """
        if self.path is None:
            raise ValueError("resume needs a checkpoint: name its file")
        content = load_tensors(self.path, device)
        try:
            state, history = checked(content)
        except ValueError as error:
            raise self.unusable(error) from error
        was, now = history.conditions(), run.conditions()
        if any_length and history.num_epochs <= now["num_epochs"]:
            was["num_epochs"] = now["num_epochs"]
        if changed := differences(was, now):
            raise ValueError(f"{self.path} is of another run ({changed}): start anew or use its settings")
        try:
            self.load_state(state)
        except ValueError as error:
            raise self.unusable(error) from error
        if history.threads and not run.threads:
            run.threads = min(history.threads, os.cpu_count() or 1)
        if changed := differences(history.details(), run.details()):
            self.say(f"going on from {self.path}, though the last bits may differ: {changed}")
        history.recipe, history.threads = run.recipe, run.threads
        return history

    def unusable(self, error: ValueError) -> ValueError:
        return ValueError(f"{self.path} is no checkpoint of this network ({error}): start anew without resuming")


def checked(content: object) -> tuple[State, History]:
    """Return state and history of a checkpoint's ``content``; raises ``ValueError`` where it has not their form."""
    if not isinstance(content, dict) or content.keys() != {"trainer", "history"}:
        raise ValueError("it does not hold a run's state and history")
    state = content["trainer"]
    if not isinstance(state, dict):
        raise ValueError(f"its state is of type {type(state).__name__}, no dictionary")
    return state, History.from_dict(content["history"])


def difference(expected: object, found: object, place: str = "its state") -> str:
    """Say where ``found`` has another form than ``expected``: other entries, types or shapes; "" where it has not.

    What is not checked here would be found by a step of the optimizer, which may read beyond a tensor's end.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        if odd := expected.keys() ^ found.keys():
            return f"{place} has other entries than it needs: {', '.join(sorted(map(str, odd)))[:200]}"
        pairs = [(f"{place}, {key}", expected[key], found[key]) for key in expected]
        return next(filter(None, (difference(ours, theirs, where) for where, ours, theirs in pairs)), "")
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        return difference(dict(enumerate(expected)), dict(enumerate(found)), place)
    ours, theirs = form(expected), form(found)
    return f"{place}, is {theirs} instead of {ours}" if ours != theirs else ""


def form(value: object) -> str:
    """Return a tensor's type and shape, a string itself (in a state it names something), else the type."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return repr(value)[:80] if isinstance(value, str) else type(value).__name__
