"""Which packages an rpm database holds and the files that they came with, in each format that rpm has written.

Databases: SQLite (rpmdb.sqlite; Fedora 33, RHEL 9), ndb (Packages.db; SUSE) as rpm's lib/backend/ndb/rpmpkg.c
lays it out, and a hash of Berkeley DB (Packages; RHEL up to 8) as its src/dbinc/db_page.h does. All hold the same header blobs
(https://rpm-software-management.github.io/rpm/manual/format_header.html).
"""

import re
import struct
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from envlock.probe.root import Root

if TYPE_CHECKING:
    import sqlite3

_FOLDERS = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
_LIMIT = 512 * 1024 * 1024
_HEADER_ENTRIES = 65536
_VALUES = 1_000_000

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_DIRINDEXES, _BASENAMES, _DIRNAMES = 1116, 1117, 1118
_INT32, _STRINGS = 4, (6, 8, 9)


class RpmError(Exception):
    """A database is there and cannot be read; the text is the reason."""


class RpmPackage(NamedTuple):
    """One installed package."""

    name: str
    version: str
    """epoch:version-release, the epoch only where there is one"""
    arch: str


def read_headers(root: Root) -> Optional[List[bytes]]:
    """Return the header blobs of the database that is there, None where there is none; raises RpmError."""
    formats: Sequence[Tuple[str, Callable[[bytes], List[bytes]]]] = (
        ("rpmdb.sqlite", _sqlite_blobs),
        ("Packages.db", _ndb_blobs),
        ("Packages", _hash_blobs),
    )
    for folder in _FOLDERS:
        for name, blobs in formats:
            path = f"{folder}/{name}"
            if root.is_file(path):
                try:
                    return blobs(root.read(path, _LIMIT))
                except OSError as error:
                    raise RpmError(f"{path} cannot be read: {error.strerror or error}") from None
                except _DamagedError as error:
                    raise RpmError(f"{path} {error}") from None
    return None


class _DamagedError(Exception):
    """What is wrong with a database; the text follows its path."""


# ---- headers --------------------------------------------------------------------------------------------


def read_package(blob: bytes) -> Optional[RpmPackage]:
    """Return the package that a header describes; None for what is no header, and for keys (gpg-pubkey)."""
    tags = _tags(blob, (_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH))
    name, version = _text(tags, _NAME), _text(tags, _VERSION)
    if not name or not version or name == "gpg-pubkey":
        return None
    release, epoch = _text(tags, _RELEASE), tags.get(_EPOCH)
    whole = f"{version}-{release}" if release else version
    return RpmPackage(name, f"{epoch[0]}:{whole}" if epoch else whole, _text(tags, _ARCH))


def read_files(blob: bytes) -> Iterator[bytes]:
    """Yield the paths of the files that a header's package owns."""
    tags = _tags(blob, (_DIRINDEXES, _BASENAMES, _DIRNAMES))
    folders = tags.get(_DIRNAMES, [])
    for index, name in zip(tags.get(_DIRINDEXES, []), tags.get(_BASENAMES, [])):
        if isinstance(index, int) and index < len(folders):
            yield f"{folders[index]}{name}".encode("utf-8", "surrogateescape")


def _text(tags: Dict[int, List[object]], tag: int) -> str:
    values = tags.get(tag)
    return str(values[0]) if values else ""


def _tags(blob: bytes, wanted: Sequence[int]) -> Dict[int, List[object]]:
    """Return the values of some tags of a header: counts of index and data, index entries, data."""
    tags: Dict[int, List[object]] = {}
    if len(blob) < 8:
        return tags
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * entries
    if entries > _HEADER_ENTRIES or start + size > len(blob):
        return tags
    data = blob[start : start + size]
    for tag, kind, offset, count in struct.iter_unpack(">IIII", blob[8:start]):
        if tag not in wanted or offset >= size or count > _VALUES:
            continue
        if kind in _STRINGS:
            texts = (
                data[offset:].split(b"\x00", count)[:count]
                if count > 1
                else [data[offset:].split(b"\x00", 1)[0]]
            )
            tags[tag] = [text.decode("utf-8", "surrogateescape") for text in texts]
        elif kind == _INT32 and offset + 4 * count <= size:
            tags[tag] = list(struct.unpack_from(f">{count}I", data, offset))
    return tags


# ---- SQLite ---------------------------------------------------------------------------------------------


def _sqlite_blobs(content: bytes) -> List[bytes]:
    try:
        import sqlite3
    except ImportError:
        raise _DamagedError("cannot be read: this Python has no sqlite3 module") from None
    if len(content) < 100 or content[:16] != b"SQLite format 3\x00":
        raise _DamagedError("is no SQLite database")
    # rpm writes in WAL mode, which a database in memory does not have: mark it as a plain one
    # (https://www.sqlite.org/fileformat.html, offsets 18 and 19).
    content = content[:18] + b"\x01\x01" + content[20:]
    try:
        return _read_database(content)
    except (OSError, sqlite3.Error) as error:
        raise _DamagedError(f"cannot be read: {error}") from None
    except UnicodeDecodeError:  # sqlite3's own error, where it quotes what is damaged
        raise _DamagedError("cannot be read: its schema is damaged") from None


def _read_database(content: bytes) -> List[bytes]:
    import os
    import sqlite3
    import tempfile

    connection = sqlite3.connect(":memory:")
    try:
        if hasattr(connection, "deserialize"):
            connection.deserialize(content)
            return _select_blobs(connection, len(content))
    finally:
        connection.close()
    with tempfile.TemporaryDirectory() as folder:  # CPython before 3.11 reads files only
        copy = os.path.join(folder, "rpmdb.sqlite")
        with open(copy, "wb") as file:
            file.write(content)
        connection = sqlite3.connect(copy)
        try:
            return _select_blobs(connection, len(content))
        finally:
            connection.close()


def _select_blobs(connection: "sqlite3.Connection", size: int) -> List[bytes]:
    """Return the blobs, which together are no longer than the database's own bytes."""
    # A view or a computed column is a program in a stranger's file, and may run for ever; rpm has neither.
    for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
        if not isinstance(sql, str) or re.search(r"(?i)\b(?:as|virtual)\b", sql):
            raise _DamagedError("holds more than tables, which no rpm database does")
    blobs = []
    for (blob,) in connection.execute("SELECT blob FROM Packages"):
        if isinstance(blob, bytes):
            size -= len(blob)
            if size < 0:
                raise _DamagedError("has packages that overlap")
            blobs.append(blob)
    return blobs


# ---- ndb ------------------------------------------------------------------------------------------------

_NDB_PAGE, _NDB_BLOCK = 4096, 16


def _ndb_blobs(content: bytes) -> List[bytes]:
    """Read a header of 32 bytes, then slots of 16 up to the end of its pages; each says where a blob lies."""
    if content[:4] != b"RpmP" or len(content) < 32:
        raise _DamagedError("is no rpm database in ndb format")
    version, _, pages = struct.unpack_from("<III", content, 4)
    end = pages * _NDB_PAGE
    if version != 0:
        raise _DamagedError(f"is an rpm database in version {version} of the ndb format; only 0 is read")
    if end > len(content):
        raise _DamagedError("ends before its table of packages does")
    blobs = []
    left = len(content)  # blobs do not overlap, so that all of them are no longer than the file
    for magic, package, block, _ in struct.iter_unpack("<4sIII", content[32:end]):
        if magic != b"Slot":
            raise _DamagedError("has a damaged table of packages")
        if block:
            blob = _ndb_blob(content, package, block * _NDB_BLOCK)
            left -= len(blob)
            if left < 0:
                raise _DamagedError("has packages that overlap")
            blobs.append(blob)
    return blobs


def _ndb_blob(content: bytes, package: int, at: int) -> bytes:
    """Return a blob: behind its magic, the package's number, a generation and its length."""
    head = content[at : at + 16]
    if len(head) == 16:
        magic, number, _, size = struct.unpack("<4sIII", head)
        if magic == b"BlbS" and number == package and at + 16 + size <= len(content):
            return content[at + 16 : at + 16 + size]
    raise _DamagedError(f"has a damaged entry at byte {at}")


# ---- Berkeley DB ----------------------------------------------------------------------------------------

_HASH_MAGIC = 0x061561
_PAGE_HEADER = 26
_UNSORTED, _OVERFLOW, _SORTED = 2, 7, 13
_KEYDATA, _OFFPAGE = 1, 3


def _hash_blobs(content: bytes) -> List[bytes]:
    """Read the values of every hash page: on the page itself, or on a chain of overflow pages."""
    order = next((order for order in "<>" if content[12:16] == struct.pack(order + "I", _HASH_MAGIC)), None)
    if order is None or len(content) < 72:
        raise _DamagedError("is no Berkeley DB hash")
    page = struct.unpack_from(order + "I", content, 20)[0]
    if page not in (512 << power for power in range(8)):
        raise _DamagedError(f"has pages of {page} bytes, which Berkeley DB does not make")
    if content[24]:
        raise _DamagedError("is encrypted")
    last = struct.unpack_from(order + "I", content, 32)[0]
    if (last + 1) * page > len(content):
        raise _DamagedError("ends before its last page")
    database = _Hash(content, order, page)
    return [
        blob
        for start in range(page, len(content) - page + 1, page)
        if content[start + 25] in (_UNSORTED, _SORTED)
        for blob in database.values(start)
    ]


class _Hash:
    """The pages of a Berkeley DB hash in one byte order; each overflow page belongs to one value."""

    def __init__(self, content: bytes, order: str, page: int) -> None:
        self._content = content
        self._order = order
        self._page = page
        self._followed: Dict[int, None] = {}

    def values(self, start: int) -> Iterator[bytes]:
        """Yield the values of the page at a byte offset: every second item; items grow from its end downward."""
        count = struct.unpack_from(self._order + "H", self._content, start + 20)[0]
        if _PAGE_HEADER + 2 * count > self._page:
            raise _DamagedError(f"has a damaged page at byte {start}")
        offsets = struct.unpack_from(f"{self._order}{count}H", self._content, start + _PAGE_HEADER)
        for key, value in zip(offsets[::2], offsets[1::2]):
            if not _PAGE_HEADER <= value < key <= self._page:
                raise _DamagedError(f"has a damaged page at byte {start}")
            item = self._content[start + value : start + key]
            if item[0] == _KEYDATA:
                yield item[1:]
            elif item[0] == _OFFPAGE and len(item) >= 12:
                yield self._chain(*struct.unpack_from(self._order + "II", item, 4))

    def _chain(self, number: int, size: int) -> bytes:
        """Return a value of so many bytes that lies on overflow pages, from this one on."""
        pieces = []
        while number:
            start = number * self._page
            if start + self._page > len(self._content) or number in self._followed:
                raise _DamagedError(f"has a damaged chain of pages at page {number}")
            self._followed[number] = None
            following, _, held = struct.unpack_from(self._order + "IHH", self._content, start + 16)
            if self._content[start + 25] != _OVERFLOW or _PAGE_HEADER + held > self._page:
                raise _DamagedError(f"has a damaged chain of pages at page {number}")
            pieces.append(self._content[start + _PAGE_HEADER : start + _PAGE_HEADER + held])
            number = following
        value = b"".join(pieces)
        if len(value) != size:
            raise _DamagedError(f"has a package of {len(value)} bytes where it names {size}")
        return value
