"""The record of a run: its settings, its machine, and its curves."""

import json
import math
import platform
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

import torch

from helpers.runtime.settings import is_whole_number

CURVES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")


@dataclass
class History:
    """Settings, machine and curves of a run.

    A curve has a value for each epoch: losses are means over images, accuracies fractions, ``seconds`` wall time. Train
    values are measured while the network learns, with dropout, augmentation and label smoothing. ``threads`` is the
    number of CPU threads, where that is known.
    """

    recipe: dict[str, Any]  # plain values, as read from JSON
    device: str
    versions: dict[str, str]
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    threads: int | None = None

    @classmethod
    def begin(cls, recipe: dict[str, Any], device: torch.device, threads: int | None = None) -> "History":
        """Return the empty history of a run with these settings on this machine."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        versions = {package: version(package) for package in ("torch", "torchvision")}
        return cls(recipe, name, {"python": platform.python_version(), **versions}, threads=threads)

    @classmethod
    def from_dict(cls, content: object) -> "History":
        """Return the history that ``as_dict`` gave; raises ``ValueError`` where ``content`` is anything else."""
        if not isinstance(content, dict) or content.keys() != {field.name for field in fields(cls)}:
            raise ValueError("its history has missing or unknown entries")
        history = cls(**content)
        if history.threads is not None and not is_whole_number(history.threads, 1):
            raise ValueError(f"threads of its history is {history.threads!r}, no number of threads")
        for name in ("recipe", "versions"):
            if not _is_plain_dictionary(content[name]):
                raise ValueError(f"{name} of its history is {str(content[name])[:80]!r}, no dictionary of plain values")
        for name in CURVES:
            curve = content[name]
            if not isinstance(curve, list) or not all(isinstance(v, float) and math.isfinite(v) for v in curve):
                raise ValueError(f"{name} of its history is {curve!r}, no list of finite numbers")
        if len({len(content[name]) for name in CURVES}) > 1:
            raise ValueError("the curves of its history differ in length")
        return history

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def num_epochs(self) -> int:
        return len(self.seconds)

    def append(self, *values: float) -> None:
        """Add an epoch: train loss, train accuracy, test loss, test accuracy, seconds."""
        for name, value in zip(CURVES, values, strict=True):
            getattr(self, name).append(value)

    def conditions(self) -> dict[str, Any]:
        """Return by name what has to be equal for a checkpoint to be of the same run."""
        device = self.device if self.device in ("cpu", "mps") else "cuda"
        python = ".".join(str(self.versions.get("python")).split(".")[:2])
        return {**self.recipe, **self.versions, "device": device, "python": python}

    def details(self) -> dict[str, Any]:
        """Return by name what may change when a run is resumed, although it can change the last bits of the result."""
        return {"device": self.device, "python": self.versions.get("python"), "threads": self.threads}


def _is_plain_dictionary(value: object) -> bool:
    """Tell whether ``value`` is a dictionary that JSON can hold."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return isinstance(value, dict)


def differences(was: dict[str, Any], now: dict[str, Any]) -> str:
    """Return as text what differs; empty if nothing does."""
    changed = {name: value for name, value in now.items() if was.get(name) != value}
    return "; ".join(f"{name} was {was.get(name)} and is {value}" for name, value in changed.items())
