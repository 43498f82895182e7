"""Output that any console can show, and that a closed pipe ends quietly."""

import codecs
import os
import sys

LOOKALIKES = {"×": "x", "±": "+-", "≈": "~", "–": "-", "…": "..."}


def suit_any_console() -> None:
    """Have what the encoding of stdout and stderr lacks printed by something alike, and every line at once.

    A row of a log is then in its file, or gone through its pipe, when the epoch ends and not when the run does.
    """
    codecs.register_error("lookalikes", lookalikes)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has no encoding
            stream.reconfigure(errors="lookalikes", line_buffering=True)


def lookalikes(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded, as an error handler of ``codecs``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(LOOKALIKES.get(character, "?") for character in characters), error.end


def stop_printing() -> None:
    """Let nothing more go to stdout, whose reader has gone away, as ``head`` does; what is left to flush is dropped."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
