"""Whatever befalls archives, folder and mirrors, loading ends in the right pixels or in one line that says why."""

import contextlib
import errno
import gzip
import hashlib
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import NamedTuple

import pytest
import torch
from torchvision.datasets import MNIST

from conftest import ROOT, Splits, head
from ERAV4S5CNNwithBN import main
from helpers import data
from helpers.data import load_mnist
from helpers.runtime import files

NAMES = [name for name, _ in MNIST.resources]
EXTRACTED = [name.removesuffix(".gz") for name in NAMES]
POSIX_ONLY = pytest.mark.skipif(os.name == "nt", reason="needs permissions, links or messages as POSIX has them")
REFUSED = "Connection refused" if os.name != "nt" else "10061"  # Windows' number for it; its text is translated
REMEDIES = ("put the official file there", "choose another data folder", "choose another folder")
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head><body>...</body></html>\n"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


class Official(NamedTuple):
    """Four archives, and what loading them must give."""

    archives: dict[str, bytes]
    splits: Splits


def loads_correctly_or_says_why(folder: Path, official: Official) -> str:
    """Return "" where the data came, right to the last pixel, or the one line that says why it did not."""
    start = time.monotonic()
    try:
        splits, line = load_mnist(folder), ""
    except OSError as error:
        splits, line = official.splits, str(error)
        assert line.isprintable() and len(line) < 600
        assert str(folder) in line and line.endswith(REMEDIES)
    assert time.monotonic() - start < 10  # seconds
    for split, expected in zip(splits, official.splits, strict=True):
        assert torch.equal(split.images, expected.images)
        assert torch.equal(split.labels, expected.labels)
    return line


# --- What can befall a file ---------------------------------------------------------------------------------------


def flip(content: bytes, seed: int) -> bytes:
    """Flip one to four bits, drawn at random."""
    flipped = bytearray(content)
    for bit in Random(seed).sample(range(8 * len(content)), 1 + seed % 4):
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def other_pixels(content: bytes) -> bytes:
    """A sound archive of a sound file, in which one pixel or label differs."""
    plain = gzip.decompress(content)
    return gzip.compress(plain[:-1] + bytes([plain[-1] ^ 1]), mtime=0)


CONTENT_FAULTS: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda good: None,
    "empty": lambda good: b"",
    **{f"cut at {k}/8": lambda good, k=k: good[: k * len(good) // 8] for k in range(1, 8)},
    **{f"last {k} bytes lost": lambda good, k=k: good[:-k] for k in (1, 4, 8, 9)},
    **{f"first {k} bytes left": lambda good, k=k: good[:k] for k in (1, 2, 10)},
    **{f"bits flipped, seed {seed}": lambda good, seed=seed: flip(good, seed) for seed in range(12)},
    "an HTML page": lambda good: HTML,
    "a git-lfs pointer": lambda good: LFS_POINTER,
    "zeros": lambda good: bytes(len(good)),
    "read as text": lambda good: good.decode(errors="replace").encode(),
    "one byte more": lambda good: good + b"\0",
    "twice": lambda good: good + good,
    "unpacked": gzip.decompress,
    "packed twice": lambda good: gzip.compress(good, mtime=0),
    "other pixels": other_pixels,
    "another archive": lambda good: gzip.compress(b"another", mtime=0),
}
UNREADABLE: dict[str, Callable[[Path], None]] = {  # by anyone, root too
    "a folder": lambda path: path.mkdir(),
    "a folder with the file in it": lambda path: (path.mkdir(), (path / path.name).touch()),
    **({"a link to itself": lambda path: path.symlink_to(path)} if os.name != "nt" else {}),
}
FAULTS = [*CONTENT_FAULTS, *UNREADABLE]
OF_ARCHIVES_ONLY = ["unpacked", "other pixels", "read as text"]


def damage(path: Path, fault: str) -> None:
    good = path.read_bytes()
    path.unlink()
    if fault in UNREADABLE:
        UNREADABLE[fault](path)
    elif (content := CONTENT_FAULTS[fault](good)) is not None:
        assert content != good
        path.write_bytes(content)


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path under ``folder``, with its content where it has one."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


# --- What a mirror can answer: the bytes on the wire, piece by piece ----------------------------------------------

STOP = threading.Event()  # lets go of the slow ones
BOTH = threading.Barrier(2, timeout=60)


def http(status: str, body: bytes = b"", *headers: str) -> list[bytes]:
    return ["\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode(), body]


def drip(*start: bytes) -> Iterator[bytes]:
    """One byte now and then, without end."""
    yield from start
    while not STOP.wait(0.05):
        yield b"1"


def in_chunks(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)] + [b""]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def together(body: bytes) -> Iterator[bytes]:
    """The file, once two have asked for it."""
    BOTH.wait()
    yield from http("200 OK", body)


def silent(body: bytes) -> Iterator[bytes]:
    STOP.wait()
    yield b""


Answer = Callable[[bytes], Iterable[bytes]]
counter = itertools.count()
CHUNKED = "Transfer-Encoding: chunked"

GOOD_ANSWERS: dict[str, Answer] = {
    "plain": lambda body: http("200 OK", body, f"Content-Length: {len(body)}"),
    "without-length": lambda body: http("200 OK", body),
    "with-wrong-type": lambda body: http("200 OK", body, "Content-Type: text/html", "Content-Encoding: gzip"),
    "in-chunks": lambda body: http("200 OK", in_chunks(body), CHUNKED),
    "in-small-pieces": lambda body: http("200 OK") + [body[i : i + 100] for i in range(0, len(body), 100)],
    "redirected": lambda body: http("302 Found", b"", "Location: ?plain"),
}
BAD_ANSWERS: dict[str, tuple[Answer, str]] = {  # and what the line says about it
    "404": (lambda body: http("404 Not Found", HTML), "404: Not Found"),
    "403": (lambda body: http("403 Forbidden", HTML), "403: Forbidden"),
    "500": (lambda body: http("500 Internal Server Error"), "500: Internal Server Error"),
    "503": (lambda body: http("503 Service Unavailable", b"", "Retry-After: 3600"), "503: Service Unavailable"),
    "503-with-the-file": (lambda body: http("503 Service Unavailable", body), "503: Service Unavailable"),
    "no-content": (lambda body: http("204 No Content"), "wrong content"),
    "empty": (lambda body: http("200 OK"), "wrong content"),
    "html": (lambda body: http("200 OK", HTML, "Content-Type: text/html"), "wrong content"),
    "lfs-pointer": (lambda body: http("200 OK", LFS_POINTER), "wrong content"),
    "flipped": (lambda body: http("200 OK", flip(body, 0)), "wrong content"),
    "other-pixels": (lambda body: http("200 OK", other_pixels(body)), "wrong content"),
    "unpacked": (lambda body: http("200 OK", gzip.decompress(body)), "wrong content"),
    "one-byte-more": (lambda body: http("200 OK", body + b"\0"), "wrong content"),
    "length-too-short": (lambda body: http("200 OK", body, f"Content-Length: {len(body) - 1}"), "wrong content"),
    "closed-midway": (lambda body: http("200 OK", body[:-9], f"Content-Length: {len(body)}"), "wrong content"),
    "closed-midway-without-length": (lambda body: http("200 OK", body[: len(body) // 2]), "wrong content"),
    "closed-in-a-chunk": (lambda body: http("200 OK", in_chunks(body)[:-9], CHUNKED), "IncompleteRead"),
    "nonsense-chunks": (lambda body: http("200 OK", b"zz\r\n" + body, CHUNKED), "IncompleteRead"),
    "closed-in-the-header": (lambda body: [b"HTTP/1.1 200 OK\r\nContent-"], "wrong content"),
    "closed-at-once": (lambda body: [], "closed connection without response"),
    "not-http": (lambda body: [b"SSH-2.0-OpenSSH_9.6\r\n"], "SSH-2.0"),
    "not-text": (lambda body: [body], ""),
    "long-header": (lambda body: http("200 OK", body, "X: " + "x" * 70_000), "more than 65536 bytes"),
    "many-headers": (lambda body: http("200 OK", body, *["X: x"] * 200), "more than 100 headers"),
    "long-reason": (lambda body: http("500 " + "very " * 5000), "500: very very"),
    "redirect-to-itself": (lambda body: http("302 Found", b"", "Location: ?redirect-to-itself"), "infinite loop"),
    "redirect-ever-on": (
        lambda body: http("301 Moved", b"", f"Location: ?redirect-ever-on&{next(counter)}"),
        "infinite loop",
    ),
    "redirect-nowhere": (lambda body: http("302 Found"), "302: Found"),
    "redirect-to-nonsense": (lambda body: http("302 Found", b"", "Location: http://["), "Invalid IPv6 URL"),
    "redirect-to-no-port": (lambda body: http("302 Found", b"", "Location: http://a:b/"), "nonnumeric port"),
    "redirect-to-a-file": (lambda body: http("302 Found", b"", "Location: file:///etc/hosts"), "is not allowed"),
    "endless": (lambda body: itertools.chain(http("200 OK", body), itertools.repeat(bytes(1 << 16))), "wrong content"),
    "silent": (silent, "timed out"),
    "drip-in-the-body": (lambda body: drip(*http("200 OK")), "not finished after 1 s"),
    "drip-in-the-header": (lambda body: drip(b"HTTP/1.1 200 OK\r\nX: "), "not finished after 1 s"),
}
ANSWERS = GOOD_ANSWERS | {kind: answer for kind, (answer, _) in BAD_ANSWERS.items()} | {"together": together}


class Mirror(ThreadingTCPServer):
    """A mirror on this machine: ``http://127.0.0.1:port/KIND/NAME`` answers as ``ANSWERS[KIND]`` does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MirrorHandler)
        self.archives: dict[str, bytes] = {}
        self.requests: list[str] = []

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{kind}/"

    def publish(self, *kinds: str) -> None:
        """Make these the mirrors, for this test."""
        MNIST.mirrors[:] = [self.url(kind) for kind in kinds]

    def handle_error(self, *_: object) -> None:
        """Clients may hang up."""


class MirrorHandler(StreamRequestHandler):
    server: Mirror

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass  # headers
        self.server.requests.append(path)
        kind, name = path.removeprefix("/").split("?")[0].split("/")
        if "?" in path:  # redirected
            kind = path.split("?")[1].split("&")[0]
        for piece in ANSWERS[kind](self.server.archives[name]):
            self.wfile.write(piece)


@pytest.fixture(scope="module")
def server() -> Iterator[Mirror]:
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        STOP.set()
        server.shutdown()


@pytest.fixture(scope="module")
def closed_port() -> Iterator[str]:
    with socket.socket() as bound:  # but not listening
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


@pytest.fixture
def mirror(server: Mirror, closed_port: str, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The local mirror, which nobody knows yet: no test may reach the real ones."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", [closed_port])
    server.requests.clear()
    return server


@pytest.fixture(scope="module")
def tiny_official(mnist: Splits) -> Official:
    """MNIST of 12 and 8 images: the same four archives, only shorter, so that hundreds of cases take seconds."""
    splits = head(mnist[0], 12), head(mnist[1], 8)
    contents = []
    for images, labels in splits:
        contents.append(struct.pack(">4I", 2051, *images.shape) + images.numpy().tobytes())
        contents.append(struct.pack(">2I", 2049, len(labels)) + labels.to(torch.uint8).numpy().tobytes())
    return Official(dict(zip(NAMES, (gzip.compress(content, mtime=0) for content in contents), strict=True)), splits)


@pytest.fixture
def tiny(tiny_official: Official, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Official:
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in tiny_official.archives.items()]
    monkeypatch.setattr(MNIST, "resources", resources)
    contents = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in tiny_official.archives.items()}
    monkeypatch.setattr(
        data, "EXTRACTED", {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    )
    mirror.archives = tiny_official.archives
    return tiny_official


@pytest.fixture
def folder(tiny: Official, tmp_path: Path) -> Path:
    return fill(tmp_path / "data", tiny)


def fill(folder: Path, official: Official) -> Path:
    raw(folder).mkdir(parents=True)
    for name, content in official.archives.items():
        raw(folder, name).write_bytes(content)
    return folder


def raw(folder: Path, name: str = "") -> Path:
    return folder / "MNIST" / "raw" / name


# --- Archives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", CONTENT_FAULTS)
def test_a_broken_archive_is_mended(folder: Path, tiny: Official, mirror: Mirror, fault: str, name: str) -> None:
    sound = listing(folder)
    damage(raw(folder, name), fault)
    mirror.publish("plain")
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert listing(folder) == sound
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert mirror.requests == [f"/plain/{name}"]  # of the first time: the second needs no network


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", CONTENT_FAULTS)
def test_a_broken_archive_without_network_is_named(
    folder: Path, tiny: Official, closed_port: str, fault: str, name: str
) -> None:
    damage(raw(folder, name), fault)
    before = listing(folder)
    line = loads_correctly_or_says_why(folder, tiny)
    said = "is missing" if fault == "missing" else "is not the official file"
    assert line.startswith(f"{raw(folder, name)} {said}")
    assert closed_port in line and REFUSED in line
    assert listing(folder) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", UNREADABLE)
def test_what_is_no_file_is_named_and_left_alone(
    folder: Path, tiny: Official, mirror: Mirror, fault: str, name: str
) -> None:
    damage(raw(folder, name), fault)
    before = listing(folder)
    mirror.publish("plain")
    assert loads_correctly_or_says_why(folder, tiny).startswith(f"{raw(folder, name)} cannot be read")
    assert listing(folder) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_an_archive_that_cannot_be_read_is_named(
    folder: Path, tiny: Official, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    read_bytes = Path.read_bytes

    def read_or_fail(path: Path) -> bytes:
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)
    line = loads_correctly_or_says_why(folder, tiny)
    assert line.startswith(f"{raw(folder, name)} cannot be read ({os.strerror(number)})")


def test_the_data_folder_is_that_of_the_working_directory_by_default(
    folder: Path, tiny: Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert folder.name == "data"
    for split, expected in zip(load_mnist(), tiny.splits, strict=True):
        assert torch.equal(split.images, expected.images)


@POSIX_ONLY
def test_a_link_to_nowhere_is_a_missing_archive(folder: Path, tiny: Official, mirror: Mirror) -> None:
    archive = raw(folder, NAMES[0])
    archive.unlink()
    archive.symlink_to(folder / "nowhere")
    assert "is missing" in loads_correctly_or_says_why(folder, tiny)
    mirror.publish("plain")
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert archive.is_file() and not archive.is_symlink()


# --- Extracted files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXTRACTED)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in OF_ARCHIVES_ONLY])
def test_extracted_files_do_not_matter(folder: Path, tiny: Official, mirror: Mirror, fault: str, name: str) -> None:
    for archive, content in tiny.archives.items():
        raw(folder, archive.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    damage(raw(folder, name), fault)
    before = listing(folder)
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert listing(folder) == before
    assert mirror.requests == []


@pytest.mark.parametrize("name", NAMES)
def test_an_extracted_file_stands_in_for_its_archive(folder: Path, tiny: Official, mirror: Mirror, name: str) -> None:
    raw(folder, name.removesuffix(".gz")).write_bytes(gzip.decompress(tiny.archives[name]))
    raw(folder, name).unlink()
    before = listing(folder)
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert listing(folder) == before and mirror.requests == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["empty", "other pixels", "cut at 4/8", "a folder"])
def test_an_extracted_file_that_is_not_official_does_not(folder: Path, tiny: Official, fault: str, name: str) -> None:
    extracted = raw(folder, name.removesuffix(".gz"))
    damage(raw(folder, name), "missing")
    content = gzip.decompress(tiny.archives[name])
    if fault == "a folder":
        extracted.mkdir()
    else:
        extracted.write_bytes(content[:-1] + b"\xff" if fault == "other pixels" else CONTENT_FAULTS[fault](content))
    assert f"{name} is missing" in loads_correctly_or_says_why(folder, tiny)


# --- Mirrors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(folder: Path) -> Path:
    """An archive that is missing."""
    path = raw(folder, NAMES[2])
    path.unlink()
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "READ_SECONDS", 0.3)
    monkeypatch.setattr(data, "DOWNLOAD_SECONDS", 1.0)


@pytest.mark.parametrize("kind", GOOD_ANSWERS)
def test_however_a_mirror_sends_the_file(
    folder: Path, tiny: Official, mirror: Mirror, archive: Path, kind: str
) -> None:
    mirror.publish(kind)
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert archive.read_bytes() == tiny.archives[archive.name]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_a_bad_mirror_is_named(folder: Path, tiny: Official, mirror: Mirror, archive: Path, kind: str) -> None:
    before = listing(folder)
    mirror.publish(kind)
    line = loads_correctly_or_says_why(folder, tiny)
    assert line.startswith(f"{archive} is missing")
    assert mirror.url(kind) in line and BAD_ANSWERS[kind][1] in line
    assert listing(folder) == before


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_after_a_bad_mirror_comes_the_next(
    folder: Path, tiny: Official, mirror: Mirror, archive: Path, kind: str
) -> None:
    mirror.publish(kind, "plain")
    assert loads_correctly_or_says_why(folder, tiny) == ""
    assert archive.read_bytes() == tiny.archives[archive.name]


def test_every_bad_mirror_is_named(
    folder: Path, tiny: Official, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, archive: Path, closed_port: str
) -> None:
    mirrors = [closed_port, mirror.url("404"), mirror.url("html"), mirror.url("redirect-to-itself")]
    monkeypatch.setattr(MNIST, "mirrors", mirrors)
    line = loads_correctly_or_says_why(folder, tiny)
    assert all(url in line for url in mirrors)


def test_an_unknown_host_is_named(folder: Path, tiny: Official, monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(MNIST, "mirrors", ["http://mirror.invalid/"])
    assert "Name or service not known" in loads_correctly_or_says_why(folder, tiny)


@pytest.mark.usefixtures("impatient")
def test_a_name_server_that_hangs_does_not_hang_us(
    folder: Path, tiny: Official, monkeypatch: pytest.MonkeyPatch, archive: Path
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: STOP.wait(20))
    monkeypatch.setattr(MNIST, "mirrors", ["http://mirror.invalid/"])
    assert "not finished after 1 s" in loads_correctly_or_says_why(folder, tiny)
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert all(thread.daemon for thread in others)  # nor the end of the program


# --- The data folder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [".", "MNIST", "MNIST/raw"])
def test_a_folder_that_does_not_exist_is_made(
    folder: Path, tiny: Official, tmp_path: Path, mirror: Mirror, parts: str
) -> None:
    new = tmp_path / "new"
    (new / parts).parent.mkdir(parents=True, exist_ok=True)
    assert "is missing" in loads_correctly_or_says_why(new, tiny)
    assert not (new / parts).exists()
    mirror.publish("plain")
    assert loads_correctly_or_says_why(new, tiny) == ""
    assert listing(new) == listing(folder)


@POSIX_ONLY
@pytest.mark.parametrize("parts", [".", "MNIST", "MNIST/raw"])
def test_a_file_in_place_of_a_folder_is_named(tiny: Official, tmp_path: Path, mirror: Mirror, parts: str) -> None:
    path = tmp_path / "data" / parts
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file", encoding="utf-8")
    mirror.publish("plain")
    assert "Not a directory" in loads_correctly_or_says_why(tmp_path / "data", tiny)
    assert path.read_text(encoding="utf-8") == "a file"


@pytest.mark.parametrize("call", ["open", "fsync", "replace", "mkdir"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_download_that_cannot_be_kept_is_named(
    folder: Path, tiny: Official, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    damage(raw(folder, NAMES[1]), "cut at 4/8")
    before = listing(folder)
    mirror.publish("plain")
    owner = {"open": files, "mkdir": Path}.get(call, os)
    monkeypatch.setattr(owner, call, fail, raising=call != "open")
    line = loads_correctly_or_says_why(folder, tiny)
    assert line.startswith(f"{raw(folder, NAMES[1])} was not written ({os.strerror(number)})")
    assert listing(folder) == before


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Permissions do not bind root: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def locked(tiny: Official, mirror: Mirror) -> Iterator[Path]:
    """A data folder that may only be read; not below ``tmp_path``, which nobody but its owner may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), tiny)
        raw(folder, NAMES[3]).unlink()
        mirror.publish("plain")
        assert loads_correctly_or_says_why(folder, tiny) == ""  # and imports what nobody may read later
        folders = [folder, folder / "MNIST", raw(folder)]
        for path in folders:
            path.chmod(0o555)
        yield folder
        for path in folders:
            path.chmod(0o755)


@POSIX_ONLY
def test_a_read_only_folder_is_enough(locked: Path, tiny: Official) -> None:
    with ordinary_user():
        assert loads_correctly_or_says_why(locked, tiny) == ""


@POSIX_ONLY
@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_folder_cannot_be_mended(locked: Path, tiny: Official, name: str) -> None:
    raw(locked, name).write_bytes(HTML)
    with ordinary_user():
        line = loads_correctly_or_says_why(locked, tiny)
    assert line.startswith(f"{raw(locked, name)} was not written (Permission denied)")


@POSIX_ONLY
@pytest.mark.parametrize("part", [".", "MNIST", "MNIST/raw", *(f"MNIST/raw/{name}" for name in NAMES)])
def test_a_folder_or_archive_without_permission_is_named(locked: Path, tiny: Official, part: str) -> None:
    mode = (locked / part).stat().st_mode
    (locked / part).chmod(0)
    with ordinary_user():
        line = loads_correctly_or_says_why(locked, tiny)
    (locked / part).chmod(mode)
    assert "cannot be read (Permission denied)" in line


@pytest.mark.parametrize("fault", ["missing", "an HTML page", "a folder"])
def test_the_script_says_it_in_one_line_and_exits_with_2(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    damage(raw(folder, NAMES[0]), fault)
    assert main(["--data", str(folder), "--results", str(tmp_path / "results"), "--device", "cpu"]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and len(errors.splitlines()) == 1
    assert errors.startswith(f"error: {raw(folder, NAMES[0])}") and errors.rstrip().endswith(REMEDIES)
    assert not (tmp_path / "results").exists()


# --- Two at once, and the real archives ---------------------------------------------------------------------------


def test_two_that_write_the_same_archive_at_once_do_not_tear_it(
    folder: Path, tiny: Official, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = listing(folder)
    for name in NAMES:
        raw(folder, name).unlink()
    replace = os.replace
    written = threading.Barrier(2, timeout=10)

    def replace_when_both_have_written(source: Path, target: Path) -> None:
        written.wait()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_when_both_have_written)
    mirror.publish("plain")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: loads_correctly_or_says_why(folder, tiny), range(2))) == ["", ""]
    assert listing(folder) == sound


def test_what_a_killed_download_left_does_not_matter(folder: Path, tiny: Official, mirror: Mirror) -> None:
    raw(folder, f".{NAMES[0]}.0123abcd.partial").write_bytes(tiny.archives[NAMES[0]][:99])
    raw(folder, NAMES[0]).unlink()
    mirror.publish("plain")
    assert loads_correctly_or_says_why(folder, tiny) == ""


@pytest.fixture(scope="module")
def real(mnist: Splits) -> Official:
    return Official({name: raw(ROOT / "data", name).read_bytes() for name in NAMES}, mnist)


@pytest.mark.processes
def test_two_processes_download_the_real_archives_at_once(tmp_path: Path, real: Official, mirror: Mirror) -> None:
    """Another process and this one, in step: each file is sent once both have asked for it."""
    program = """if True:
        import sys, zlib
        from torchvision.datasets import MNIST
        from helpers.data import load_mnist
        folder, MNIST.mirrors = sys.argv[1], sys.argv[2:]
        print("ready", flush=True)
        print(*(zlib.crc32(tensor.numpy()) for split in load_mnist(folder) for tensor in split))
    """
    folder, url = tmp_path / "data", mirror.url("together")
    mirror.archives = real.archives
    mirror.publish("together")
    command = [sys.executable, "-c", program, folder, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        assert loads_correctly_or_says_why(folder, real) == ""
        checksums, _ = other.communicate(timeout=60)
    assert other.returncode == 0
    assert checksums.split() == [str(zlib.crc32(tensor.numpy())) for split in real.splits for tensor in split]
    assert len(mirror.requests) == 2 * len(NAMES)
    assert listing(folder) == listing(fill(tmp_path / "sound", real))


def test_real_archives_with_one_bit_flipped_are_mended(tmp_path: Path, real: Official, mirror: Mirror) -> None:
    folder = fill(tmp_path / "data", real)
    mirror.archives = real.archives
    for seed, name in enumerate(NAMES):
        raw(folder, name).write_bytes(flip(real.archives[name], 4 * seed))
    assert "is not the official file" in loads_correctly_or_says_why(folder, real)
    mirror.publish("plain")
    assert loads_correctly_or_says_why(folder, real) == ""
    assert len(mirror.requests) == len(NAMES)
    assert loads_correctly_or_says_why(folder, real) == ""
    assert len(mirror.requests) == len(NAMES)
