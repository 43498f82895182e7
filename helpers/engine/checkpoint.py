"""Checkpoints of a run: plain dictionaries that hold everything it needs to go on as if it had never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers.engine.files import load_tensors, save_tensors
from helpers.engine.history import History

State = dict[str, Any]


class Checkpoint:
    """A run's file at ``path``, or none: ``state`` and ``load_state`` give and take what the run has to keep."""

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
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise self.unusable(error) from error
        return history

    def unusable(self, error: Exception) -> ValueError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return ValueError(f"{self.path} is no checkpoint of this network ({reason}): start anew without resuming")


def checked(content: object) -> tuple[State, History]:
    """Return state and history of a checkpoint's ``content``; raises ``ValueError`` where it has not their form."""
    if not isinstance(content, dict) or content.keys() != {"trainer", "history"}:
        raise ValueError("it does not hold a run's state and history")
    state = content["trainer"]
    if not isinstance(state, dict):
        raise ValueError(f"its state is of type {type(state).__name__}, no dictionary")
    return state, History.from_dict(content["history"])
