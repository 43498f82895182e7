"""Official files: recognised by their MD5, downloaded if they are missing, never overwritten."""

import hashlib
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torchvision.datasets.utils import download_url

from helpers.runtime.files import rename

SILENCE_SECONDS = 10.0  # how long to wait for a mirror that sends nothing


def read_official(path: Path, md5: str, mirrors: Sequence[str]) -> bytes:
    """Return the content of the official file ``path``; if it is missing, download it from a mirror first.

    Raises ``OSError`` where it cannot be read or downloaded, or where another file is in its place.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = _fetch(path, md5, mirrors)
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): mend it or choose another data folder") from error
    if hashlib.md5(content).hexdigest() != md5:
        raise OSError(f"{path} is not the official file: move it away, and it is fetched anew")
    return content


def _fetch(path: Path, md5: str, mirrors: Sequence[str]) -> bytes:
    """Download the file from the first mirror that has it, write it whole or not at all, and return its content."""
    failures = []
    for mirror in mirrors:
        timeout_before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(SILENCE_SECONDS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
                download_url(mirror + path.name, folder, path.name, md5)
                rename(Path(folder) / path.name, path)
                return path.read_bytes()
        except Exception as error:  # network, server and disk raise errors of many classes
            reason = "".join(filter(str.isprintable, str(error)))[:120]  # a server's message may have many lines
            failures.append(f"{mirror}: {reason}")
        finally:
            socket.setdefaulttimeout(timeout_before)
    raise OSError(f"{path} is missing and was not fetched ({'; '.join(failures)}): put the official file there")
