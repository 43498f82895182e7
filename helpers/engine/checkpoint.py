"""Checkpoints of a run: plain dictionaries that hold everything it needs to go on as if it had never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.engine.files import load_tensors, save_tensors
from helpers.engine.history import History

State = dict[str, Any]


class Checkpoint:
    """A run's file at ``path``, or none: ``state`` and ``load_state`` give and take what the run has to keep.

    ``load_state`` raises ``ValueError`` for what has not the form of what it needs; ``difference`` tells.
    """

    def __init__(
        self, path: str | Path | None, state: Callable[[], State], load_state: Callable[[State], None]
    ) -> None:
        self.path, self.state, self.load_state = path, state, load_state

    def save(self, history: History) -> None:
        """Write state and history, whole or not at all; raises ``OSError`` where that fails."""
        if self.path is not None:
            save_tensors(self.path, {"trainer": self.state(), "history": history.as_dict()})

    def restore(self, run: History, device: torch.device) -> History:
        """Load the state and return the history of the same run as ``run``, which is empty so far.

        Raises ``ValueError`` where there is no path, or the file is damaged, no checkpoint of this network, or of a
        run under other conditions; ``OSError`` where it cannot be read.
        """
        if self.path is None:
            raise ValueError("resume needs a checkpoint: name its file")
        content = load_tensors(self.path, device)
        try:
            state, history = checked(content)
        except ValueError as error:
            raise self.unusable(error) from error
        if differences := history.differences(run):
            raise ValueError(f"{self.path} is of another run ({differences}): start anew or use its settings")
        try:
            self.load_state(state)
        except ValueError as error:
            raise self.unusable(error) from error
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
