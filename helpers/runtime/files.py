"""Files that are written whole or not at all, and tensors that are read without running code."""

import contextlib
import errno
import io
import os
import secrets
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

LEFTOVER_SECONDS = 60.0  # no write takes that long
RENAME_SECONDS = 1.0  # patience with another program that has the file open for a moment, such as a virus scanner
IN_USE = (5, 32)  # Windows' error numbers for that: access denied, sharing violation
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content`` in one step: whoever reads it finds either the old file or the new one.

    The content goes to a hidden file beside ``path`` first, which is flushed to the disk and then renamed. If two
    processes write at once, the later one wins. What a killed process left behind is removed by a later write. Raises
    ``OSError`` naming ``path`` where the write fails; the old file then stays as it was.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*.partial"):
            with contextlib.suppress(FileNotFoundError):  # another writer has just finished
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink()
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        rename(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason, remedy = error.strerror or str(error), "make room there" if error.errno in FULL else "mend that"
        if in_use(error):
            remedy = "close the program that has it open, allow writing there"
        raise OSError(f"{path} was not written ({reason}): {remedy} or choose another folder") from error


def rename(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, replacing what is there; where Windows refuses, try again for a second."""
    deadline = time.monotonic() + RENAME_SECONDS
    while True:
        try:
            return os.replace(source, target)
        except OSError as error:
            if not in_use(error) or time.monotonic() > deadline:
                raise
        time.sleep(RENAME_SECONDS / 20)


def in_use(error: OSError) -> bool:
    """Tell whether Windows reports that another program may have the file open."""
    return getattr(error, "winerror", None) in IN_USE


def save_tensors(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state dict, or nested dicts and lists of tensors and plain values, by ``atomic_write``."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_write(path, buffer.getvalue())


def load_tensors(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what ``save_tensors`` wrote; nothing in the file is executed.

    Raises ``OSError`` where the file cannot be read, ``ValueError`` where it is not of that kind.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns about some files before it refuses them
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: start a run before resuming or loading one") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    except Exception as error:  # in a file of another kind, any error may occur
        reason = f"{path} is damaged or holds more than tensors and plain values"
        raise ValueError(f"{reason}: give another file, or start anew without it") from error


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights into ``model``, from a state dict that ``save_tensors`` wrote or from a run's checkpoint.

    Raises ``OSError`` where the file cannot be read, ``ValueError`` where it holds no weights of this network.
    """
    try:
        state = load_tensors(path)
        if isinstance(state, dict) and state.keys() == {"trainer", "history"}:
            state = state["trainer"]["model"]
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        reason = f"{path} does not hold this network's weights ({' '.join(str(error).split())[:200]})"
        raise ValueError(f"{reason}: give the file that its own recipe wrote") from error
