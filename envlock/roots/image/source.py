"""Where an image lies: a folder, a tar archive or a stream; each is a set of named blobs."""

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from typing import BinaryIO, Protocol

from envlock.roots.folder import open_regular
from envlock.roots.image.errors import ImageError, Limits
from envlock.roots.image.stream import Blob, BlobStream, compression, decompress
from envlock.roots.image.tar import FILE, HARD_LINK, LINK, members
from envlock.roots.image.tree import clean

MEMBER_LIMIT = 100_000
"""Files in an archive of an image at most: a layout of many images has some thousand blobs."""
_PIECE = 1 << 20


class Blobs(Protocol):
    """Named blobs: "index.json", "blobs/sha256/9f2c...", "layer.tar"."""

    def find(self, name: str) -> Blob | None:
        """Return the blob of a name, or None where there is none."""


class FolderBlobs:
    """The files of a folder, opened when they are asked for."""

    def __init__(self, folder: str, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def find(self, name: str) -> Blob | None:  # noqa: D102 - see Blobs
        try:
            name = clean(name)
            file = self._stack.enter_context(open_regular(os.path.join(self._folder, name)))
        except (OSError, ValueError):
            return None
        return whole(file)


class ArchiveBlobs:
    """The members of a tar archive; a link among them stands for the member it names."""

    def __init__(self, archive: Blob) -> None:
        self._found: dict[str, Blob] = {}
        self._links: dict[str, str] = {}
        stream = BlobStream(archive)
        for member in members(stream):
            name = clean(member.name)
            if member.kind == FILE:
                start = stream.position
                if member.sparse or start + member.size > archive.size:
                    raise ImageError(f"it is cut short within {name[:200]}")
                self._found[name] = Blob(archive.descriptor, archive.offset + start, member.size)
            elif member.kind == LINK:
                # Older `docker save` links a layer that two images share: "../<id>/layer.tar".
                self._links[name] = clean(os.path.join("/", os.path.dirname(name), member.target))
            elif member.kind == HARD_LINK:
                self._links[name] = clean(member.target)
            if len(self._found) + len(self._links) > MEMBER_LIMIT:
                raise ImageError(f"it holds more than {MEMBER_LIMIT} files")

    def find(self, name: str) -> Blob | None:  # noqa: D102 - see Blobs
        name = clean(name)
        for _ in range(8):
            if name not in self._links:
                break
            name = self._links[name]
        return self._found.get(name)


def whole(file: BinaryIO) -> Blob:
    """Return an open regular file as a blob."""
    return Blob(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def open_archive(source: str | BinaryIO, stack: ExitStack, limits: Limits, tmpdir: str | None) -> Blob:
    """Return an archive as one seekable, uncompressed blob; what is neither is copied to a temporary file."""
    file = stack.enter_context(open_regular(source)) if isinstance(source, str) else source
    blob = _seekable(file)
    if blob is None:
        blob = _copy(iter(lambda: file.read(_PIECE), b""), stack, limits, tmpdir)
    kind = compression(blob.head(8))
    if kind:
        return _copy(decompress(blob.pieces(), kind), stack, limits, tmpdir)
    return blob


def _seekable(file: BinaryIO) -> Blob | None:
    try:
        if not file.seekable():
            return None
        at, blob = file.tell(), whole(file)
    except (OSError, ValueError, AttributeError):
        return None
    return Blob(blob.descriptor, at, blob.size - at)


def _copy(pieces: Iterable[bytes], stack: ExitStack, limits: Limits, tmpdir: str | None) -> Blob:
    """Copy a stream to a temporary file without a name."""
    copy = tempfile.TemporaryFile(prefix="envlock-", dir=tmpdir, buffering=0)  # noqa: SIM115 - closed by the stack
    stack.enter_context(copy)
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limits.unpacked:
            raise ImageError(f"it is larger than {limits.unpacked >> 20} MiB")
        view = memoryview(piece)
        while view:
            view = view[copy.write(view) :]
    return Blob(copy.fileno(), 0, size)


_TAGGED = re.compile(r"(.+):([A-Za-z0-9_][A-Za-z0-9._-]{0,127})", re.DOTALL)


def split_tag(source: str) -> tuple[str, str]:
    """Split "layout:tag" as skopeo and umoci write it; a path that exists as it is has no tag."""
    match = None if os.path.exists(source) else _TAGGED.fullmatch(source)
    if match is not None and os.path.exists(match[1]):
        return match[1], match[2]
    return source, ""
