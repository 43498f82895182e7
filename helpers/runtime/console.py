"""Output that any console can show, and a quiet end when the reader of a pipe has gone."""

import codecs
import os
import sys

LOOKALIKES = {"×": "x", "±": "+-", "≈": "~", "–": "-", "…": "..."}


def suit_any_console() -> None:
    """Replace characters that stdout or stderr cannot encode by similar ones, and flush every line at once.

    So a log file or a pipe gets the row of an epoch when the epoch ends, not when the run does.
    """
    codecs.register_error("lookalikes", lookalikes)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream has no encoding
            stream.reconfigure(errors="lookalikes", line_buffering=True)


def lookalikes(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded, as an error handler of ``codecs``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(LOOKALIKES.get(character, "?") for character in characters), error.end


def stop_printing() -> None:
    """Discard everything that is still written to stdout, when its reader, such as ``head``, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
