"""Whatever befalls archives, folder and mirrors, loading ends in the right pixels or in one line that says why."""

import gzip
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest
import torch
from torchvision.datasets import MNIST

from conftest import Splits
from helpers.data import load_mnist
from helpers.runtime import archive

NAMES = [name for name, _ in MNIST.resources]
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head><body>...</body></html>\n"
Archives = dict[str, bytes]


def flipped(content: bytes) -> bytes:
    """Return ``content`` with one bit of it flipped."""
    bit = Random(1).randrange(8 * len(content))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def one_pixel_changed(content: bytes) -> bytes:
    """Return a sound archive of a sound file in which one pixel or label differs."""
    plain = gzip.decompress(content)
    return gzip.compress(plain[:-1] + bytes([plain[-1] ^ 1]), mtime=0)


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "cut-short": lambda good: good[: len(good) // 2],
    "flipped": flipped,
    "html": lambda good: HTML,
    "unpacked": gzip.decompress,
    "one-pixel-changed": one_pixel_changed,
}


class Handler(BaseHTTPRequestHandler):
    """Answers ``/KIND/NAME`` with the archive of that name, or with what may go wrong."""

    def do_GET(self) -> None:
        _, kind, name = self.path.split("/")
        self.server.requests.append(self.path)
        if kind == "silent":
            return time.sleep(5)
        if kind == "missing":
            return self.send_error(404)
        content = FAULTS.get(kind, lambda good: good)(self.server.archives[name])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:-9] if kind == "closed-early" else content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    """A mirror on this machine; no test reaches the real ones."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def publish(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make mirrors of these kinds the ones that are known; none is, before that."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", [])
    server.requests = []
    return lambda *kinds: MNIST.mirrors.extend(f"http://127.0.0.1:{server.server_address[1]}/{kind}/" for kind in kinds)


@pytest.fixture
def tiny(
    mnist: Splits, server: ThreadingHTTPServer, publish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Archives:
    """Return the four archives of an MNIST of 12 and 8 images, which is now the official one."""
    contents = []
    for split in (mnist[0][:12], mnist[1][:8]):
        contents.append(struct.pack(">4I", 2051, *split.images.shape) + split.images.numpy().tobytes())
        contents.append(struct.pack(">2I", 2049, len(split)) + split.labels.to(torch.uint8).numpy().tobytes())
    server.archives = {name: gzip.compress(content) for name, content in zip(NAMES, contents, strict=True)}
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in server.archives.items()]
    monkeypatch.setattr(MNIST, "resources", resources)
    return server.archives


@pytest.fixture
def raw(tiny: Archives, tmp_path: Path) -> Path:
    """Return a folder with these archives."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in tiny.items():
        (folder / name).write_bytes(content)
    return folder


def is_right(splits: Splits, mnist: Splits) -> bool:
    """Tell whether these are the first 12 and 8 images."""
    return all(
        torch.equal(split.images, expected.images[:number]) and torch.equal(split.labels, expected.labels[:number])
        for split, expected, number in zip(splits, mnist, (12, 8), strict=True)
    )


def refusal(folder: Path) -> str:
    """Return the one line by which ``load_mnist(folder)`` is refused."""
    with pytest.raises(OSError) as caught:
        load_mnist(folder)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 900
    return line


@pytest.mark.parametrize("fault", FAULTS)
def test_another_file_in_the_place_of_an_archive_is_named_and_never_overwritten(
    raw: Path, server: ThreadingHTTPServer, publish: Callable[..., None], fault: str
) -> None:
    publish("good")
    for name in NAMES:
        path, good = raw / name, (raw / name).read_bytes()
        path.write_bytes(FAULTS[fault](good))
        line = refusal(raw.parents[1])
        assert str(path) in line and "not the official file" in line and "move it away" in line
        assert path.read_bytes() == FAULTS[fault](good)
        path.write_bytes(good)
    assert server.requests == []


def test_what_cannot_be_read_is_named_and_left_alone(raw: Path, publish: Callable[..., None]) -> None:
    publish("good")
    path = raw / NAMES[2]
    path.unlink()
    path.mkdir()
    line = refusal(raw.parents[1])
    assert str(path) in line and "choose another data folder" in line
    assert path.is_dir()


def test_missing_archives_come_from_the_first_mirror_that_has_them(
    raw: Path, tiny: Archives, mnist: Splits, server: ThreadingHTTPServer, publish: Callable[..., None]
) -> None:
    publish("missing", "html", "good")
    for name in NAMES[1:]:
        (raw / name).unlink()
    assert is_right(load_mnist(raw.parents[1]), mnist)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == tiny  # and nothing half done beside them
    assert not any(NAMES[0] in request for request in server.requests)


def test_a_data_folder_that_is_not_there_is_made(
    tiny: Archives, tmp_path: Path, mnist: Splits, publish: Callable[..., None]
) -> None:
    publish("good")
    assert is_right(load_mnist(tmp_path / "new"), mnist)


@pytest.mark.parametrize("kind", ["missing", "html", "one-pixel-changed", "closed-early", "silent"])
def test_mirrors_without_the_file_are_named_and_leave_nothing_behind(
    raw: Path, publish: Callable[..., None], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(archive, "SILENCE_SECONDS", 0.2)
    publish(kind)
    MNIST.mirrors.append("http://127.0.0.1:9/")  # where nobody listens
    (raw / NAMES[1]).unlink()
    start = time.monotonic()
    line = refusal(raw.parents[1])
    assert time.monotonic() - start < 4
    assert str(raw / NAMES[1]) in line and "put the official file there" in line
    assert all(mirror in line for mirror in MNIST.mirrors)
    assert {path.name for path in raw.iterdir()} == set(NAMES) - {NAMES[1]}


def test_two_that_fetch_the_same_archive_at_once_do_not_tear_it(
    raw: Path, tiny: Archives, mnist: Splits, publish: Callable[..., None]
) -> None:
    publish("good")
    (raw / NAMES[0]).unlink()
    with ThreadPoolExecutor(4) as pool:
        assert all(is_right(splits, mnist) for splits in pool.map(load_mnist, [raw.parents[1]] * 4))
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == tiny


@pytest.mark.skipif(os.name == "nt", reason="a folder on Windows has no such permissions")
def test_a_read_only_folder_is_enough(raw: Path, mnist: Splits) -> None:
    raw.chmod(0o500)
    try:
        assert is_right(load_mnist(raw.parents[1]), mnist)
    finally:
        raw.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_named(
    tiny: Archives, tmp_path: Path, publish: Callable[..., None]
) -> None:
    publish("good")
    (tmp_path / "MNIST").write_text("no folder", encoding="utf-8")
    line = refusal(tmp_path)
    assert str(tmp_path / "MNIST") in line
    assert (tmp_path / "MNIST").read_text(encoding="utf-8") == "no folder"
