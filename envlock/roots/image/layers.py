"""Layers read to the end, once each and several at a time: digests verified, files found, content kept.

A compressed layer's content goes to a temporary file without a name, so that nothing stays behind
however the process ends; of a plain layer only the places are remembered.
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from envlock.roots.image.errors import ImageError, Limits
from envlock.roots.image.gpu_code import WORTH, Extents, Sieve
from envlock.roots.image.stream import Ahead, Blob, Digester, Stream, compression, decompress, digest_of
from envlock.roots.image.tar import FILE, members
from envlock.roots.image.tree import HIDDEN, SPARSE, UNWANTED, Folder, Layer, clean, overlay
from envlock.roots.image.wanted import searched

WORKERS = 4
"""Layers read at a time at most; each holds some ten MiB, and what zstd asks for."""

Wanted = Callable[[str, int, int], bool]

_DIGEST = re.compile(r"(sha256):[0-9a-f]{64}|(sha512):[0-9a-f]{128}")


def algorithm_of(digest: str) -> str:
    """Return the hash that a digest names; raises ImageError for any but sha256 and sha512."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ImageError(f"holds something else than a digest ({digest[:80]!r})")
    return match[1] or match[2]


class Packed(NamedTuple):
    """A layer as the image holds it."""

    blob: Blob
    digest: str
    """of the blob; "" where the image does not state it"""
    diff_id: str
    """digest of the decompressed tar; "" where the image does not state it"""


class Kept:
    """Where the content of one layer's files lies: in the layer's own blob, or in a temporary file."""

    def __init__(self, blob: Blob | None, tmpdir: str | None, budget: "Budget") -> None:
        self.blob = blob
        """the plain layer; None where content is copied"""
        self._tmpdir = tmpdir
        self._budget = budget
        self._file: BinaryIO | None = None
        self._at = 0
        self.extents: dict[int, Extents] = {}
        """by where a file begins, for those of which only ranges were kept"""

    def copy(self, stream: Stream, size: int, whole: bool) -> int:
        """Copy the next bytes of the stream and return where they lie; code is left out unless whole."""
        sieved = not whole and size >= WORTH and stream.peek(4) == b"\x7fELF"
        self._budget.keep(0 if sieved else size, self._tmpdir)
        if self._file is None:
            raw = tempfile.TemporaryFile(prefix="envlock-", dir=self._tmpdir, buffering=0)  # noqa: SIM115
            self._file = io.BufferedRandom(raw, 1 << 20)
        start = self._at
        try:
            if sieved:
                self._sieve(stream, size)
            else:
                self._at += stream.skip(size, self._file.write)
        except OSError as error:
            raise ImageError(
                f"needs more room in the temporary folder: {error.strerror}; set TMPDIR"
            ) from None
        return start

    def _sieve(self, stream: Stream, size: int) -> None:
        def store(data: memoryview) -> None:
            assert self._file is not None
            self._budget.keep(len(data), self._tmpdir)
            self._file.write(data)

        sieve = Sieve(stream, size, store, self._at)
        sieve.run()
        if sieve.stored - self._at < size:
            self.extents[self._at] = sieve.extents
        self._at = sieve.stored

    def finish(self) -> None:
        """Make all that was copied readable through ``blob``."""
        if self._file is not None:
            self._file.flush()
            self.blob = Blob(self._file.fileno(), 0, self._at)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()


class Budget:
    """What all layers together have cost so far; raises ImageError where that is too much."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.stopped = False
        """set when another layer has failed"""
        self._lock = threading.Lock()
        self._unpacked = 0
        self._entries = 0
        self._kept = 0

    def entries(self, count: int) -> None:
        """Count entries."""
        # No lock: a count lost between two threads does no harm.
        self._entries += count
        if self._entries > self.limits.entries:
            raise ImageError(f"holds more than {self.limits.entries} files")

    def unpack(self, size: int) -> None:
        """Count decompressed bytes."""
        with self._lock:
            self._unpacked += size
        if self._unpacked > self.limits.unpacked:
            raise ImageError(f"unpacks to more than {self.limits.unpacked >> 20} MiB")
        if self.stopped:
            raise ImageError("was not read to the end, since another layer failed")

    def keep(self, size: int, tmpdir: str | None) -> None:
        """Count bytes copied to the temporary folder, before they are."""
        with self._lock:
            self._kept += size
        if self._kept > self.limits.kept:
            raise ImageError(f"holds more than {self.limits.kept >> 20} MiB of libraries and metadata")
        if size > 1 << 24:
            folder = tmpdir or tempfile.gettempdir()
            if shutil.disk_usage(folder).free < size:
                raise ImageError(f"needs more room in the temporary folder {folder}: set TMPDIR")


def _bounded(pieces: Iterator[bytes], packed: int, budget: Budget) -> Iterator[bytes]:
    """Hand pieces on until they are more than an honest layer would have."""
    limits = budget.limits
    most = max(limits.ratio_floor, limits.ratio * packed)
    held = 0
    for piece in pieces:
        held += len(piece)
        budget.unpack(len(piece))
        if held > most:
            raise ImageError(f"unpacks to more than {most >> 20} MiB from {packed} bytes")
        yield piece


def read_layer(
    packed: Packed,
    layer: Layer,
    kept: Kept,
    keep: Callable[[str, int, int], int],
    whole: bool,
    budget: Budget,
) -> None:
    """Fill a layer from its blob and verify both digests.

    ``keep`` returns 0 for a file whose content is kept, else the reason why not.
    """
    kind = compression(packed.blob.head(8))
    hashes = {name: hashlib.new(algorithm_of(name)) for name in {packed.digest, packed.diff_id} if name}
    digester = Digester()
    try:
        pieces: Iterator[bytes] = packed.blob.pieces()
        if kind:
            if packed.digest:
                pieces = digester.through(pieces, hashes[packed.digest])
            pieces = decompress(pieces, kind)
        pieces = _bounded(pieces, packed.blob.size, budget)
        unpacked = (packed.diff_id,) if kind else (packed.digest, packed.diff_id)
        ahead = Ahead(digester.through(pieces, *(hashes[name] for name in {*unpacked} if name)))
        try:
            stream = Stream(ahead)
            _fill(stream, layer, kept, keep, whole)
            while stream.skip(1 << 30):
                pass
        finally:
            ahead.close()
    finally:
        digester.close()
    for digest, state in hashes.items():
        if f"{algorithm_of(digest)}:{state.hexdigest()}" != digest:
            raise ImageError(f"does not match its digest ({digest})")


def _fill(
    stream: Stream, layer: Layer, kept: Kept, keep: Callable[[str, int, int], int], whole: bool
) -> None:
    for member in members(stream):
        path = clean(member.name)
        offset = UNWANTED
        if member.kind == FILE:
            offset = SPARSE if member.sparse else keep(path, member.size, member.mode)
            if not offset:
                offset = stream.position
                if kept.blob is None:
                    offset = kept.copy(stream, member.size, whole or searched(path))
        layer.add(path, member, offset)


def read_layers(
    layers: Sequence[Packed],
    stack: ExitStack,
    wanted: Wanted,
    limits: Limits,
    tmpdir: str | None,
    whole: bool,
) -> tuple[Folder, list[Layer], list[Kept]]:
    """Read all layers, the uppermost first, and lay them over one another.

    The first layer is the lowest. Raises ImageError with the number of the layer that is at fault.
    """
    if len(layers) > limits.layers:
        raise ImageError(f"it has more than {limits.layers} layers")
    budget = Budget(limits)
    trees = [Layer(number, budget.entries) for number in range(len(layers))]
    stores: list[Kept] = []
    for packed in layers:
        plain = _is_plain(packed.blob)
        store = Kept(packed.blob if plain else None, tmpdir, budget)
        stack.callback(store.close)
        stores.append(store)
    done: set[int] = set()

    def keep(number: int) -> Callable[[str, int, int], int]:
        above = range(number + 1, len(layers))

        def decide(path: str, size: int, mode: int) -> int:
            if not wanted(path, size, mode):
                return UNWANTED
            if size and any(upper in done and trees[upper].hides(path) for upper in above):
                return HIDDEN
            return 0

        return decide

    def read(number: int) -> None:
        packed, store = layers[number], stores[number]
        try:
            try:
                read_layer(packed, trees[number], store, keep(number), whole, budget)
            except ImageError:
                # Damage shows in many ways; that the digest is wrong says most.
                _verify(packed, budget)
                raise
        except ImageError as error:
            raise ImageError(f"layer {number + 1} of {len(layers)} {error}") from None
        trees[number].close()
        store.finish()
        done.add(number)

    _each(read, range(len(layers) - 1, -1, -1), budget)
    top = Folder()
    taken: list[tuple[str, int]] = []
    for tree in trees:
        taken += tree.taken
        taken += overlay(top, tree)
        tree.top = Folder()
    _keep_taken(taken, layers, trees, stores, wanted, budget)
    return top, trees, stores


def _is_plain(blob: Blob) -> bool:
    try:
        return not compression(blob.head(8))
    except ImageError:
        return True


def _verify(packed: Packed, budget: Budget) -> None:
    if (
        packed.digest
        and not budget.stopped
        and digest_of(packed.blob, algorithm_of(packed.digest)) != packed.digest
    ):
        raise ImageError(f"does not match its digest ({packed.digest})")


def _each(read: Callable[[int], None], numbers: Sequence[int], budget: Budget) -> None:
    """Call read with every number, on all cores; the error of the first that fails is raised."""
    workers = min(WORKERS, os.cpu_count() or 1, len(numbers))
    if not workers:
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(read, number) for number in numbers]
        finished, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [future for future in finished if future.exception() is not None]
        if failed:
            budget.stopped = True
            for future in waiting:
                future.cancel()
            failed[0].result()


def _keep_taken(
    taken: Sequence[tuple[str, int]],
    layers: Sequence[Packed],
    trees: Sequence[Layer],
    stores: Sequence[Kept],
    wanted: Wanted,
    budget: Budget,
) -> None:
    """Read those layers again of which a hard link needs a file that was not kept under its first name."""
    missed: dict[int, set[int]] = {}
    for path, number in taken:
        tree, row = trees[number >> 32], number & 0xFFFFFFFF
        if tree.offset[row] in (UNWANTED, HIDDEN) and wanted(path.lstrip("/"), tree.size[row], 0o755):
            missed.setdefault(number >> 32, set()).add(row)
    for number, rows in missed.items():
        packed, tree, store = layers[number], trees[number], stores[number]
        stream = Stream(
            _bounded(
                decompress(packed.blob.pieces(), compression(packed.blob.head(8))), packed.blob.size, budget
            )
        )
        plain = _is_plain(packed.blob)
        row = -1
        for member in members(stream):
            row += member.kind == FILE
            if member.kind == FILE and row in rows:
                tree.offset[row] = stream.position if plain else store.copy(stream, member.size, True)
        store.finish()
