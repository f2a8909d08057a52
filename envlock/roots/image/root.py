"""The root protocol over an image: paths are looked up in the merged tree, content where it was kept."""

import errno
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from envlock.probe.root import READ_LIMIT, Entry, Stat, TooLargeError, UnobservableError
from envlock.roots.image.gpu_code import Extents
from envlock.roots.image.layers import Kept
from envlock.roots.image.stream import Blob
from envlock.roots.image.tree import LOST, OTHER, SPARSE, Folder, Layer, Node, walk


@dataclass(frozen=True)
class ImageConfig:
    """What an image says of itself, besides its files."""

    reference: str = ""
    """the name it goes by ("registry/app:1.2"), where the archive or layout holds one"""
    digest: str = ""
    """of the manifest, what ``registry/app@sha256:...`` names; "" in a docker-archive, which has none"""
    image_id: str = ""
    """of the configuration, what ``docker images`` shows"""
    platform: str = ""
    """"linux/amd64", with a variant where there is one"""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    diff_ids: tuple[str, ...] = ()
    """digests of the unpacked layers, the lowest first: images on one base share the first ones"""


class ImageRoot:
    """An image's files and environment. Reading what was not kept raises OSError with the reason."""

    kind = "image"

    def __init__(
        self, config: ImageConfig, top: Folder, layers: Sequence[Layer], kept: Sequence[Kept]
    ) -> None:
        self.config = config
        self.environ: Mapping[str, str] = config.environ
        self._top = top
        self._layers = layers
        self._kept = kept
        self._device = int.from_bytes(config.image_id[-15:].encode(), "big") & (1 << 60) - 1

    def _node(self, path: str) -> Node:
        """Return the node at a path, links followed; raises the OSError that the system would."""
        node = walk(self._top, path)[1]
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def realpath(self, path: str) -> str:  # noqa: D102 - see Root
        try:
            return "/" + "/".join(walk(self._top, path)[0])
        except OSError:
            return path

    def _file(self, path: str) -> tuple[Layer, int]:
        node = self._node(path)
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if node is OTHER:
            raise OSError(f"{path}: not a regular file")
        return self._layers[node >> 32], node & 0xFFFFFFFF

    def open(self, path: str) -> BinaryIO:  # noqa: D102 - see Root
        layer, row = self._file(path)
        size, offset = layer.size[row], layer.offset[row]
        if offset < 0 and (size or offset in (SPARSE, LOST)):
            _refuse(path, offset)
        if not size:
            return io.BytesIO()
        kept = self._kept[layer.number]
        assert kept.blob is not None
        blob = Blob(kept.blob.descriptor, kept.blob.offset + offset, size)
        extents = kept.extents.get(offset)
        return Content(blob) if extents is None else Sieved(blob, kept.blob.offset, extents)  # type: ignore[return-value]

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:  # noqa: D102 - see Root
        layer, row = self._file(path)
        if layer.size[row] > limit:
            raise TooLargeError(f"{path}: larger than {limit} bytes")
        with self.open(path) as file:
            return file.read()

    def scan(self, path: str) -> list[Entry]:  # noqa: D102 - see Root
        names, folder = walk(self._top, path)
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if not isinstance(folder, Folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        entries = []
        for name, node in folder.items():
            is_link = isinstance(node, str)
            end = self._end("/".join([*names, name])) if is_link else node
            entries.append(Entry(name, isinstance(end, Folder), _is_file(end), is_link))
        entries.sort()
        return entries

    def _end(self, path: str) -> Node:
        try:
            return walk(self._top, path)[1]
        except OSError:
            return None

    def stat(self, path: str) -> Stat:  # noqa: D102 - see Root
        node = self._node(path)
        if isinstance(node, Folder):
            return Stat(0, 0, self._device, id(node), True, False)
        if node is OTHER:
            return Stat(0, 0, self._device, 0, False, False)
        layer, row = self._layers[node >> 32], node & 0xFFFFFFFF
        return Stat(layer.size[row], layer.mtime[row] * 10**9, self._device, node + 1, False, True)

    def readlink(self, path: str) -> str:  # noqa: D102 - see Root
        node = walk(self._top, path, last=False)[1]
        if isinstance(node, str):
            return node
        number = errno.ENOENT if node is None else errno.EINVAL
        raise OSError(number, os.strerror(number), path)

    def exists(self, path: str) -> bool:  # noqa: D102 - see Root
        return self._end(path) is not None

    def is_dir(self, path: str) -> bool:  # noqa: D102 - see Root
        return isinstance(self._end(path), Folder)

    def is_file(self, path: str) -> bool:  # noqa: D102 - see Root
        return _is_file(self._end(path))

    def run(self, command: Sequence[str], timeout: float = 5.0, limit: int = 1024 * 1024) -> str:  # noqa: D102
        raise UnobservableError("nothing is run in an image")

    def filesystem_size(self, path: str) -> int:  # noqa: D102 - see Root
        raise UnobservableError("an image has no mounted file systems")

    def ask(  # noqa: D102 - see Root
        self, question: str, arguments: Sequence[str] = (), timeout: float = 10.0
    ) -> dict[str, object]:
        raise UnobservableError("an image has no driver to ask")


def _is_file(node: Node) -> bool:
    return isinstance(node, int) and node is not OTHER


def _refuse(path: str, offset: int) -> NoReturn:
    if offset == SPARSE:
        raise OSError(f"{path}: stored as a sparse file, which is not read")
    if offset == LOST:
        raise OSError(f"{path}: a hard link to a file that the image does not hold")
    raise OSError(f"{path}: content not kept when the image was read, since no probe asks for it")


class Content(io.RawIOBase):
    """A kept file's content; many may be open over one descriptor."""

    def __init__(self, blob: Blob) -> None:
        super().__init__()
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that this can be sought."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def _place(self) -> tuple[int, int]:
        """Return where the next byte lies in the open file, and how many follow it there."""
        return self._blob.offset + self._at, self._blob.size - self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fill the buffer as far as there is content."""
        if self._at >= self._blob.size:
            return 0
        place, size = self._place()
        read = os.preadv(self._blob.descriptor, [memoryview(buffer)[:size]], place)
        self._at += read
        return read


class Sieved(Content):
    """A library whose code was not kept; a read ends before it, and a read within it is an error."""

    def __init__(self, blob: Blob, start: int, extents: Extents) -> None:
        super().__init__(blob)
        self._start = start
        self._extents = extents

    def _place(self) -> tuple[int, int]:
        stored, size = self._extents.at(self._at)
        if not size:
            raise OSError(
                f"byte {self._at} is machine or GPU code, which was not kept when the image was read"
            )
        return self._start + stored, size
