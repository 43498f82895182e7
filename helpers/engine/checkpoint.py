"""Checkpoints of a run: everything that it needs to go on as if it had never stopped."""

from dataclasses import asdict
from pathlib import Path

from helpers.engine.files import load_tensors, save_tensors
from helpers.engine.history import History
from helpers.trainer import Trainer


def save_run(path: str | Path, trainer: Trainer, history: History) -> None:
    """Write the run's state, whole or not at all; raises ``OSError`` where that fails."""
    save_tensors(path, {"trainer": trainer.state(), "history": asdict(history)})


def restore_run(path: str | Path, trainer: Trainer, history: History) -> History:
    """Load a checkpoint into ``trainer`` and return its history.

    ``history`` is the empty one of the run that wants to go on. Raises ``ValueError`` where the checkpoint is
    damaged or of another recipe, network, device or library version, ``OSError`` where it cannot be read.
    """
    content = load_tensors(path, trainer.device)
    try:
        saved, state = History(**content["history"]), content["trainer"]
        wanted, found = history.conditions(), saved.conditions()
        differences = [
            f"{name} was {found.get(name)} and is {value}" for name, value in wanted.items() if found.get(name) != value
        ]
        if differences:
            raise ValueError(f"{path} is of another run ({'; '.join(differences)}): start anew or use its settings")
        trainer.load_state(state)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no checkpoint of this network ({reason}): start anew without resuming") from error
    return saved
