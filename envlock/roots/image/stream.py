"""Bytes on their way through threads: read, decompressed, hashed and cut up, each at its own pace.

zlib, zstd, sha256 and the system's reads and writes all let go of the interpreter lock, so that the
stages of one layer run on several cores; between stages at most ``AHEAD`` pieces wait.
"""

import contextlib
import hashlib
import importlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from envlock.roots.image.errors import ImageError

PIECE = 1 << 20
"""bytes of decompressed content handed on at a time"""
READ = 1 << 18
"""bytes read from a blob at a time"""
AHEAD = 4
"""pieces that wait between two stages"""
WINDOW = 1 << 26
"""bytes of history that a zstd layer may ask a reader to hold; the format recommends 8 MiB"""

T = TypeVar("T")


class Blob(NamedTuple):
    """A range of an open file; read by position, so that threads may share the descriptor."""

    descriptor: int
    offset: int
    size: int

    def pieces(self, length: int = READ) -> Iterator[bytes]:
        """Yield the content in order; ends early where the file does."""
        at, end = self.offset, self.offset + self.size
        while at < end:
            piece = os.pread(self.descriptor, min(length, end - at), at)
            if not piece:
                return
            at += len(piece)
            yield piece

    def head(self, length: int) -> bytes:
        """Return the first bytes, up to length."""
        return os.pread(self.descriptor, min(length, self.size), self.offset)


class Ahead(Generic[T]):
    """An iterator that is run ahead in a thread of its own; what it raises is raised to the reader."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _put(self, item: tuple[str, Any]) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return True
        return False

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(("item", item)):
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the thread that reads
            self._put(("error", error))
        else:
            self._put(("end", None))

    def __iter__(self) -> Iterator[T]:
        while True:
            kind, item = self._queue.get()
            if kind == "item":
                yield item
            elif kind == "error":
                raise item
            else:
                return

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        self._thread.join()


class Digester:
    """Hashes in a thread of its own, for a stream that is read only once."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Any, bytes] | None] = queue.Queue(2 * AHEAD)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            item[0].update(item[1])

    def through(self, pieces: Iterable[bytes], *hashes: Any) -> Iterator[bytes]:
        """Hand the pieces on, and hash each on the way."""
        for piece in pieces:
            for each in hashes:
                self._queue.put((each, piece))
            yield piece

    def close(self) -> None:
        """Wait until all that was handed over is hashed."""
        self._queue.put(None)
        self._thread.join()


def digest_of(blob: Blob, algorithm: str) -> str:
    """Return "sha256:..." of a whole blob."""
    state = hashlib.new(algorithm)
    for piece in blob.pieces(PIECE):
        state.update(piece)
    return f"{algorithm}:{state.hexdigest()}"


GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_UNREAD = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x04\x22\x4d\x18": "lz4"}


def compression(head: bytes) -> str:
    """Name the compression that a blob's first bytes show: "gzip", "zstd" or "" for none."""
    if head.startswith(GZIP):
        return "gzip"
    # A zstd blob may begin with a skippable frame (RFC 8878, 3.1.2).
    if head.startswith(ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    for magic, name in _UNREAD.items():
        if head.startswith(magic):
            raise ImageError(f"is compressed with {name}, which is not read")
    return ""


def decompress(pieces: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """Yield what the pieces unpack to, at most some MiB at a time; raises ImageError on damage."""
    if kind == "gzip":
        return _gunzip(pieces)
    if kind == "zstd":
        return _unzstd(pieces)
    return iter(pieces)


def _gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip members one after the other (RFC 1952, 2.2); zeros after the last are padding."""
    new, failure = _inflater()
    inflater = new()
    fresh = True
    for piece in pieces:
        data = piece
        while data:
            if fresh and not data.strip(b"\0"):
                break
            try:
                unpacked = inflater.decompress(data, PIECE)
            except failure as error:
                raise ImageError(f"cannot be decompressed ({error})") from None
            fresh = False
            if unpacked:
                yield unpacked
            data = inflater.unconsumed_tail
            if inflater.eof:
                data, inflater, fresh = inflater.unused_data, new(), True
    while not fresh and not inflater.eof:
        # What the last call held back for want of room, not of input.
        unpacked = inflater.decompress(b"", PIECE)
        if not unpacked:
            raise ImageError("is cut short")
        yield unpacked


def _inflater() -> tuple[Callable[[], Any], type[Exception]]:
    """Return a maker of decompressors: Intel's isal where it is installed (three times as fast), or zlib."""
    try:
        library: Any = importlib.import_module("isal.isal_zlib")
    except ImportError:
        library = zlib
    return lambda: library.decompressobj(31), library.error


class _Reading:
    """Pieces as the file that zstandard reads from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def read(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")


def _unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError:
        yield from _unzstd_of_python(pieces)
        return
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(
        _Reading(pieces), read_across_frames=True
    )
    try:
        while piece := reader.read(PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise ImageError(f"cannot be decompressed ({error})") from None


def _unzstd_of_python(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack with the standard library of CPython 3.14 and newer."""
    try:
        zstd: Any = importlib.import_module("compression.zstd")
    except ImportError:
        raise ImageError(
            "is compressed with zstd: install envlock-stack[image], which brings zstandard, or use Python 3.14"
        ) from None
    options = {zstd.DecompressionParameter.window_log_max: WINDOW.bit_length() - 1}
    inflater = zstd.ZstdDecompressor(options=options)
    fresh = True
    for piece in pieces:
        data = piece
        while data or not inflater.needs_input:
            try:
                unpacked = inflater.decompress(data, PIECE)
            except zstd.ZstdError as error:
                raise ImageError(f"cannot be decompressed ({error})") from None
            fresh = False
            if unpacked:
                yield unpacked
            data = b""
            if inflater.eof:
                data, inflater, fresh = inflater.unused_data, zstd.ZstdDecompressor(options=options), True
                if not data:
                    break
    if not fresh:
        raise ImageError("is cut short")


class Stream:
    """Pieces as one stream that is cut up front to back; pieces are handed on as they are, not copied."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0
        self._next = b""
        """what was looked at beyond the piece"""
        self.position = 0
        """bytes consumed so far"""

    def _more(self) -> bool:
        self._piece = self._next or next(self._pieces, b"")
        self._next = b""
        self._at = 0
        return bool(self._piece)

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        at = self._at
        taken = self._piece[at : at + size]
        self._at = at + len(taken)
        while len(taken) < size and self._more():
            more = self._piece[: size - len(taken)]
            self._at = len(more)
            taken += more
        self.position += len(taken)
        return taken

    def peek(self, size: int) -> bytes:
        """Return the next bytes without consuming them, fewer only at the end."""
        seen = self._piece[self._at : self._at + size]
        return seen if len(seen) == size else seen + self._beyond(size - len(seen))

    def _beyond(self, size: int) -> bytes:
        """Return the bytes that follow the piece."""
        while len(self._next) < size and (more := next(self._pieces, b"")):
            self._next += more
        return self._next[:size]

    def skip(self, size: int, sink: Callable[[memoryview], object] | None = None) -> int:
        """Pass over the next bytes, given to sink if there is one; return how many there were."""
        left = size
        while left:
            here = min(left, len(self._piece) - self._at)
            if here:
                if sink is not None:
                    sink(memoryview(self._piece)[self._at : self._at + here])
                self._at += here
                left -= here
            elif not self._more():
                break
        self.position += size - left
        return size - left

    def until(self, mark: bytes, size: int, sink: Callable[[memoryview], object]) -> bool:
        """Give sink the next bytes up to where mark begins, or ``size`` of them; tell whether it does."""
        left = size
        while left:
            at, end = self._at, min(self._at + left, len(self._piece))
            if at == end:
                if not self._more():
                    break
                continue
            found = self._piece.find(mark, at, end + len(mark) - 1)
            if found < 0 and end == len(self._piece):
                # The mark may begin in this piece and end beyond it.
                last = max(at, end - len(mark) + 1)
                seam = (self._piece[last:] + self._beyond(len(mark) - 1)).find(mark)
                found = last + seam if seam >= 0 else -1
            left -= self.skip((found if found >= 0 else end) - at, sink)
            if found >= 0:
                return True
        return False


class BlobStream(Stream):
    """A blob cut up front to back, where passing over bytes costs nothing."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(())
        self._blob = blob

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        left = max(0, self._blob.size - self.position)
        taken = os.pread(self._blob.descriptor, min(size, left), self._blob.offset + self.position)
        self.position += len(taken)
        return taken

    def skip(self, size: int, sink: Callable[[memoryview], object] | None = None) -> int:
        """Pass over the next bytes; nothing is read."""
        passed = min(size, max(0, self._blob.size - self.position))
        self.position += passed
        return passed
