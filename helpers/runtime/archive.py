"""Official files: known by their MD5, fetched where they are missing, never overwritten."""

import hashlib
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torchvision.datasets.utils import download_url

from helpers.runtime.files import rename

SILENCE_SECONDS = 10.0  # patience with a mirror that says nothing


def read_official(path: Path, md5: str, mirrors: Sequence[str]) -> bytes:
    """Return the content of the official file ``path``; where it is missing, it is fetched from a mirror first.

    Raises ``OSError`` where it cannot be read or fetched, or where another file is in its place.
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
    """Write the file, whole or not at all, as the first of the ``mirrors`` gives it, and return its content."""
    failures = []
    for mirror in mirrors:
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(SILENCE_SECONDS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
                download_url(mirror + path.name, folder, path.name, md5)
                rename(Path(folder) / path.name, path)
                return path.read_bytes()
        except Exception as error:  # of whatever class the network, the server's answer or the disk leads to
            says = "".join(filter(str.isprintable, str(error)))[:120]  # a server may say much, and in many lines
            failures.append(f"{mirror}: {says}")
        finally:
            socket.setdefaulttimeout(patience)
    raise OSError(f"{path} is missing and was not fetched ({'; '.join(failures)}): put the official file there")
