"""Checkpoints of a run: plain dictionaries that hold everything it needs to go on as if it had never stopped."""

import os
from collections.abc import Callable
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from helpers.runtime.files import load_tensors, rename, save_tensors
from helpers.runtime.history import History, differences

State = dict[str, Any]
SEVERAL_EPOCHS = 2  # a file with at least so many is kept when a new run starts


class Stateful(Protocol):
    """Has a state to keep: ``load_state`` takes what ``state`` returned, and raises ``ValueError`` for another one."""

    def state(self) -> State: ...

    def load_state(self, state: State) -> None: ...


class Checkpoint:
    """The checkpoint file of a run, or none if ``path`` is None. ``say`` gets each line that its user should read."""

    def __init__(self, path: str | Path | None, say: Callable[[str], None]) -> None:
        self.path, self.say = None if path is None else Path(path), say

    def begin(self, trainer: Stateful, history: History) -> None:
        """Write the first checkpoint of a new run; keep the file of an earlier run."""
        if self.path is not None:
            self._keep_earlier()
        self.save(trainer, history)

    def save(self, trainer: Stateful, history: History) -> None:
        """Write the trainer's state and the history, whole or not at all; raises ``OSError`` where that fails."""
        if self.path is not None:
            save_tensors(self.path, {"trainer": trainer.state(), "history": history.as_dict()})

    def resume(self, trainer: Stateful, run: History, device: torch.device, any_length: bool = False) -> History:
        """Load the file's state into ``trainer`` and return its history.

        ``run``, an empty history, has the conditions that the file's run must have had. With ``any_length`` the two may
        differ in their number of epochs, unless the file already has more than ``run`` asks for. Raises ``ValueError``
        where there is no path, or where the file is damaged or belongs to another network or to a run under other
        conditions; ``OSError`` where it cannot be read.
        """
        if self.path is None:
            raise ValueError("resume needs a checkpoint: name its file")
        content = load_tensors(self.path, device)
        try:
            state, history = _parts(content)
        except ValueError as error:
            raise self._unusable(error) from error
        was, now = history.conditions(), run.conditions()
        if any_length and history.num_epochs <= now["num_epochs"]:
            was["num_epochs"] = now["num_epochs"]
        if changed := differences(was, now):
            raise ValueError(f"{self.path} is of another run ({changed}): start anew or use its settings")
        try:
            trainer.load_state(state)
        except ValueError as error:
            raise self._unusable(error) from error
        if history.threads and not run.threads:
            run.threads = min(history.threads, os.cpu_count() or 1)
        if changed := differences(history.details(), run.details()):
            self.say(f"going on from {self.path}, though the last bits may differ: {changed}")
        history.recipe, history.threads = run.recipe, run.threads
        return history

    def _keep_earlier(self) -> None:
        """Rename a file of several epochs before a new run replaces it; raises ``OSError`` where that fails."""
        try:
            num_epochs = _parts(load_tensors(self.path))[1].num_epochs
        except (OSError, ValueError):
            return  # there is none, or it is no checkpoint
        if num_epochs < SEVERAL_EPOCHS:
            return
        names = (self.path.with_stem(f"{self.path.stem}-{number}") for number in count(1))
        kept = next(name for name in names if not name.exists())
        try:
            rename(self.path, kept)
        except OSError as error:
            reason = f"{self.path} cannot be kept as {kept.name} ({error.strerror})"
            raise OSError(f"{reason}: allow it or choose another folder") from error
        held = f"{self.path} held {num_epochs} epochs of an earlier run"
        self.say(f"{held}: kept beside it as {kept.name}; to use it: --weights FILE")

    def _unusable(self, error: ValueError) -> ValueError:
        return ValueError(f"{self.path} is no checkpoint of this network ({error}): start anew without resuming")


def _parts(content: object) -> tuple[State, History]:
    """Return the state and history in the ``content`` of a file; raises ``ValueError`` if it is not a checkpoint's."""
    if not isinstance(content, dict) or content.keys() != {"trainer", "history"}:
        raise ValueError("it does not hold a run's state and history")
    state = content["trainer"]
    if not isinstance(state, dict):
        raise ValueError(f"its state is of type {type(state).__name__}, no dictionary")
    return state, History.from_dict(content["history"])


def check_same_form(expected: object, found: object, place: str = "its state") -> None:
    """Raise ``ValueError`` where nested dictionaries and lists differ in names, or their values in type or shape.

    Without this check, a step of the optimizer might read beyond the end of a tensor.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        if odd := expected.keys() ^ found.keys():
            raise ValueError(f"{place} has other entries than it needs: {', '.join(sorted(map(str, odd)))[:200]}")
        for key in expected:
            check_same_form(expected[key], found[key], f"{place}, {key}")
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        check_same_form(dict(enumerate(expected)), dict(enumerate(found)), place)
    elif _form(expected) != _form(found):
        raise ValueError(f"{place}, is {_form(found)} instead of {_form(expected)}")


def check_optimizer_state(optimizer: torch.optim.Optimizer, found: object) -> None:
    """Raise ``ValueError`` unless ``found`` is a state of ``optimizer`` from before or after its first step."""
    is_before = isinstance(found, dict) and not found.get("state")
    expected = optimizer.state_dict() if is_before else _state_after_a_step(optimizer)
    check_same_form(expected, found, "its state, optimizer")


def _state_after_a_step(optimizer: torch.optim.Optimizer) -> State:
    """Return the state of a copy of ``optimizer`` after a step: the first step adds momentum and the like."""
    stepped = deepcopy(optimizer)
    for group in stepped.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    stepped.step()
    return stepped.state_dict()


def _form(value: object) -> str:
    """Return a tensor's type and shape, a string itself (a state uses strings as names), and otherwise the type."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return repr(value)[:80] if isinstance(value, str) else type(value).__name__
