"""A fleet on disk: manifests and an index in a folder, or one file of JSON lines; read lazily, written node by node.

The folder holds ``index.json`` beside one manifest a node::

    {"schema": "envlock-fleet/1", "engine": "ssh",
     "nodes": {"node01": {"file": "node01.toml"}, "node02": {"failed": "no answer within 60 s"}}}

The index is written before the first answer comes: a node whose file is not there was never reached, which is how
a run that was killed reads. A folder without an index is a fleet too, each ``*.toml`` a node named by its stem.
The file has one JSON object a line: a header with the nodes asked for, then one line a node::

    {"schema": "envlock-fleet/1", "engine": "ssh", "asked": ["node01", "node02"]}
    {"node": "node01", "manifest": {"schema": "envlock/1", ...}}
    {"node": "node02", "failed": "no answer within 60 s"}
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, TypeVar

import msgspec

from envlock.errors import EnvlockError
from envlock.files import write_atomically
from envlock.manifest.read import SIZE_LIMIT, printable

if TYPE_CHECKING:
    from envlock.manifest.model import Manifest

SCHEMA = "envlock-fleet/1"
INDEX = "index.json"
NODE_LIMIT = 100_000
"""Nodes of a fleet at most."""

NAME_LIMIT = 200
"""Characters of a node's name at most; a DNS name has 253, but its file's name must fit into 255 bytes."""

_REASON_LIMIT = 500
_INTERRUPTED = "not reached: the capture ended before this node answered"


class IndexedNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node of the index: the file of its manifest, or why there is none."""

    file: str | None = None
    failed: str | None = None


class Index(msgspec.Struct, frozen=True, omit_defaults=True):
    """The index of a folder (``nodes``), or the first line of a file (``asked``)."""

    schema: str
    engine: str | None = None
    nodes: dict[str, IndexedNode] = {}
    asked: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node's line of a file."""

    node: str
    manifest: msgspec.Raw = msgspec.Raw()
    failed: str | None = None


@dataclass(frozen=True)
class Entry:
    """One node of a fleet: its name, and its manifest's bytes on demand or the reason why there are none."""

    node: str
    failed: str | None = None
    place: str = ""
    """What errors call it: the manifest's path, or ``fleet.jsonl:17``."""

    form: Literal["toml", "json"] = "toml"
    content: bytes | None = None
    """The manifest's bytes where they are in memory already (a file's line); else ``read`` opens the path."""

    def read(self) -> bytes:
        """Return the manifest as it is stored, of ``form``; raises EnvlockError."""
        return read_regular(self.place, SIZE_LIMIT) if self.content is None else self.content

    def load(self) -> Manifest:
        """Return the manifest, typed; raises EnvlockError."""
        return parse(self.read(), self.form, self.place)


def parse(content: bytes, form: Literal["toml", "json"], place: str) -> Manifest:
    """Return the manifest that an entry's bytes hold; raises EnvlockError, which names ``place``."""
    from envlock.manifest.model import SCHEMA as MANIFEST
    from envlock.manifest.model import Manifest
    from envlock.manifest.read import loads

    if form == "toml":
        try:
            return loads(content.decode("utf-8-sig"), place)
        except UnicodeDecodeError as error:
            raise EnvlockError(f"{place}: not UTF-8 text (byte {error.start})") from None
    manifest = _decode(content, Manifest, place, "a manifest")
    if manifest.schema != MANIFEST:
        raise EnvlockError(
            f"{place}: schema {printable(manifest.schema[:80])!r} is not known to this envlock, which reads {MANIFEST!r}"
        )
    return manifest


def entries(path: str) -> Iterator[Entry]:
    """Yield the nodes of a fleet, one at a time: a folder's by name, a file's as they stand in it.

    ``-`` is a file on standard input. An entry of a file holds its manifest's bytes; one of a folder only its
    path. Raises EnvlockError where the fleet as a whole cannot be read.
    """
    if path != "-" and os.path.isdir(path):
        return _folder_entries(path)
    return _file_entries(path)


def _folder_entries(folder: str) -> Iterator[Entry]:
    index = read_index(folder)
    if index is None:
        index = _index_of_stems(folder)
    for node, said in sorted(index.nodes.items()):
        path = os.path.join(folder, said.file or "")
        if said.failed is not None:
            yield Entry(node, failed=_reason(said.failed))
        elif os.path.lexists(path):
            yield Entry(node, place=path)
        else:
            yield Entry(node, failed=_INTERRUPTED)


def read_index(folder: str) -> Index | None:
    """Return a folder's index, its names checked; None where it has none. Raises EnvlockError."""
    path = os.path.join(folder, INDEX)
    if not os.path.lexists(path):
        return None
    index = _decode(read_regular(path, 2 * SIZE_LIMIT), Index, path, "an index of a fleet")
    _check_schema(index, path)
    if len(index.nodes) > NODE_LIMIT:
        raise EnvlockError(f"{path}: more than {NODE_LIMIT} nodes, which no fleet has")
    for node, said in index.nodes.items():
        _check_name(node, path)
        if (said.file is None) == (said.failed is None):
            raise EnvlockError(f'{path}: node {node}: expected "file" or "failed"')
        if said.file is not None and not _is_plain_name(said.file):
            raise EnvlockError(
                f"{path}: node {node}: {printable(said.file[:80])!r} is not the name of a file beside it"
            )
    return index


def _index_of_stems(folder: str) -> Index:
    names = []
    with _errors_of(folder), os.scandir(folder) as files:
        for file in files:
            if file.name.endswith(".toml") and not file.name.startswith("."):
                names.append(file.name)
            if len(names) > NODE_LIMIT:
                raise EnvlockError(f"{folder}: more than {NODE_LIMIT} nodes, which no fleet has")
    if not names:
        raise EnvlockError(f"{folder}: no fleet: neither {INDEX} nor a manifest (*.toml) in it")
    for name in names:
        _check_name(name[: -len(".toml")], folder)
    return Index(SCHEMA, nodes={name[: -len(".toml")]: IndexedNode(file=name) for name in names})


def _file_entries(path: str) -> Iterator[Entry]:
    name = "standard input" if path == "-" else path
    with _errors_of(name), _open_lines(path) as file:
        asked = dict.fromkeys(_header(file, name).asked, False)
        count = 0
        while content := file.readline(SIZE_LIMIT + 1):
            count += 1
            place = f"{name}:{count + 1}"
            if len(content) > SIZE_LIMIT:
                raise EnvlockError(f"{place}: longer than {SIZE_LIMIT // 2**20} MiB, which no node's line is")
            if not content.endswith(b"\n"):
                break  # the run was killed while it wrote this: the node counts as not reached
            if not content.strip():
                continue
            line = _decode(content, Line, place, "a node's line")
            _check_name(line.node, place)
            if asked.get(line.node):
                raise EnvlockError(f"{place}: node {line.node} for the second time")
            if len(asked) > NODE_LIMIT:
                raise EnvlockError(f"{place}: more than {NODE_LIMIT} nodes, which no fleet has")
            asked[line.node] = True
            manifest = bytes(line.manifest)
            if line.failed is None and not manifest:
                raise EnvlockError(f'{place}: node {line.node}: expected "manifest" or "failed"')
            if line.failed is not None:
                yield Entry(line.node, failed=_reason(line.failed))
            else:
                yield Entry(line.node, place=place, form="json", content=manifest)
    for node, seen in asked.items():
        if not seen:
            yield Entry(node, failed=_INTERRUPTED)


def _header(file: IO[bytes], name: str) -> Index:
    content = file.readline(SIZE_LIMIT + 1)
    if not content.endswith(b"\n") or len(content) > SIZE_LIMIT:
        raise EnvlockError(f'{name}:1: no fleet: expected a line with "schema": "{SCHEMA}"')
    header = _decode(content, Index, f"{name}:1", "a fleet's header")
    _check_schema(header, f"{name}:1")
    if len(header.asked) > NODE_LIMIT:
        raise EnvlockError(f"{name}:1: more than {NODE_LIMIT} nodes, which no fleet has")
    for node in header.asked:
        _check_name(node, f"{name}:1")
    return header


class Writer:
    """Writes a fleet node by node, so that a run that is killed leaves what it had; a context manager.

    ``path`` is a folder, a file named ``*.jsonl``, or ``-``: lines on standard output. What is there already is
    gone on with if ``resume`` is set, and else refused. Raises EnvlockError.
    """

    def __init__(self, path: str, engine: str, *, resume: bool = False) -> None:
        self.captured: set[str] = set()
        """Nodes that need not be asked again."""

        self._engine = engine
        self._sink = _Lines(path) if path == "-" or path.endswith(".jsonl") else _Folder(path)
        if self._sink.exists():
            if not resume:
                raise EnvlockError(
                    f"{path} is there already: --resume goes on with it, another name starts anew"
                )
            self.captured = self._sink.captured()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._sink.close(failed=kind is not None)

    def ask(self, nodes: Iterable[str]) -> None:
        """Record which nodes this fleet has, before any of them answers."""
        asked = list(dict.fromkeys(nodes))
        for node in asked:
            _check_name(node, "the list of nodes")
        if len(asked) > NODE_LIMIT:
            raise EnvlockError(f"more than {NODE_LIMIT} nodes, which no fleet has")
        self._sink.start(self._engine, asked, self.captured)

    def add(self, node: str, manifest: Manifest) -> None:
        """Write a node's manifest."""
        self._sink.add(node, manifest)

    def fail(self, node: str, reason: str) -> str:
        """Record why there is no manifest of a node; return the reason as it is recorded: one printable line."""
        line = _reason(reason)
        self._sink.fail(node, line)
        return line


class _Folder:
    def __init__(self, path: str) -> None:
        self._path = path
        self._index = Index(SCHEMA)

    def exists(self) -> bool:
        with _errors_of(self._path):
            return os.path.lexists(self._path) and bool(os.listdir(self._path))

    def captured(self) -> set[str]:
        return {entry.node for entry in _folder_entries(self._path) if entry.failed is None}

    def start(self, engine: str, asked: list[str], captured: set[str]) -> None:
        old = (read_index(self._path) or _index_of_stems(self._path)).nodes if captured else {}
        fresh = {node: IndexedNode(file=file_name(node)) for node in asked if node not in captured}
        kept = {node: said for node, said in old.items() if node in captured}
        self._index = Index(SCHEMA, engine, nodes={**kept, **fresh})
        with _errors_of(self._path):
            os.makedirs(self._path, exist_ok=True)
        self._write_index()

    def add(self, node: str, manifest: Manifest) -> None:
        from envlock.manifest.write import write

        write_atomically(os.path.join(self._path, file_name(node)), write(manifest))

    def fail(self, node: str, reason: str) -> None:
        self._index.nodes[node] = IndexedNode(failed=reason)

    def close(self, *, failed: bool) -> None:
        try:
            if self._index.nodes:
                self._write_index()
        except EnvlockError:
            if not failed:  # else the first error is the one to tell
                raise

    def _write_index(self) -> None:
        text = msgspec.json.format(msgspec.json.encode(self._index, order="sorted"), indent=1).decode()
        write_atomically(os.path.join(self._path, INDEX), text + "\n")


class _Lines:
    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def exists(self) -> bool:
        with _errors_of(self._path):
            return self._path != "-" and os.path.lexists(self._path) and os.stat(self._path).st_size > 0

    def captured(self) -> set[str]:
        return {entry.node for entry in _file_entries(self._path) if entry.failed is None}

    def start(self, engine: str, asked: list[str], captured: set[str]) -> None:
        header = Index(SCHEMA, engine, asked=tuple(dict.fromkeys([*asked, *sorted(captured)])))
        if captured:
            self._keep_captured(header)
            self._file = self._open("ab")
        else:
            self._file = sys.stdout.buffer if self._path == "-" else self._open("wb")
            self._append(header)

    def _open(self, mode: str) -> IO[bytes]:
        with _errors_of(self._path):
            return open(self._path, mode, buffering=0)

    def _keep_captured(self, header: Index) -> None:
        """Leave the lines of failed nodes out: they are asked again."""
        part = f"{self._path}.part"
        with _errors_of(part), open(part, "wb") as file:
            file.write(msgspec.json.encode(header) + b"\n")
            for entry in _file_entries(self._path):
                if entry.failed is None:
                    line = Line(entry.node, manifest=msgspec.Raw(entry.read()))
                    file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, self._path)

    def add(self, node: str, manifest: Manifest) -> None:
        from envlock.manifest.model import to_plain

        self._append(Line(node, manifest=msgspec.Raw(msgspec.json.encode(to_plain(manifest)))))

    def fail(self, node: str, reason: str) -> None:
        self._append(Line(node, failed=reason))

    def _append(self, line: Index | Line) -> None:
        """Write one line whole, or leave the file as it was."""
        file = self._file
        assert file is not None, "ask() comes first"
        rest = memoryview(msgspec.json.encode(line) + b"\n")
        regular = self._path != "-" and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        before = os.fstat(file.fileno()).st_size
        try:
            while rest:  # a raw file may write less than it is given
                rest = rest[file.write(rest) or 0 :]
            file.flush()
            if regular:
                os.fsync(file.fileno())
        except BrokenPipeError:
            raise  # whoever reads standard output has seen enough
        except OSError as error:
            if regular:
                os.ftruncate(file.fileno(), before)
            name = "standard output" if self._path == "-" else self._path
            raise EnvlockError(f"cannot write {name}: {error.strerror or error}") from None

    def close(self, *, failed: bool) -> None:
        if self._file is not None and self._path != "-":
            self._file.close()


def file_name(node: str) -> str:
    """Return the name of a node's file: percent-encoded where the node's name could not stand in one."""
    from urllib.parse import quote

    name = quote(node, safe="")
    return f"%2E{name[1:]}.toml" if name.startswith(".") else f"{name}.toml"


def is_node_name(node: str) -> bool:
    """Whether text can be a node's name: short, printable, and of a file's name's length."""
    return (
        0 < len(node) <= NAME_LIMIT
        and node.isprintable()
        and printable(node) == node
        and len(file_name(node)) <= 240
    )


def _check_name(node: str, place: str) -> None:
    if not is_node_name(node):
        raise EnvlockError(f"{place}: {printable(node[:80])!r} is no node's name")


def _is_plain_name(name: str) -> bool:
    return re.fullmatch(r"[^/\\\x00-\x1f\x7f]{1,255}", name) is not None and not name.startswith(".")


def _reason(text: str) -> str:
    """Return a reason fit for an index and a terminal: one short line."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _REASON_LIMIT else line[: _REASON_LIMIT - 1] + "…"


def _check_schema(index: Index, place: str) -> None:
    if index.schema != SCHEMA:
        raise EnvlockError(
            f"{place}: schema {printable(index.schema[:80])!r} is not known to this envlock, which reads {SCHEMA!r}"
        )


def _open_lines(path: str) -> IO[bytes]:
    if path == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return open(path, "rb")


def read_regular(path: str, limit: int) -> bytes:
    """Return the content of a regular file; a link, a device or a pipe in a fleet's folder is none."""
    with _errors_of(path):
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise EnvlockError(f"cannot read {path}: not a regular file")
            content = file.read(limit + 1)
    if len(content) > limit:
        raise EnvlockError(f"{path}: larger than {limit // 2**20} MiB")
    return content


@contextlib.contextmanager
def _errors_of(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise EnvlockError(f"cannot read {path}: a link, not a file") from None
        raise EnvlockError(f"cannot use {path}: {error.strerror or error}") from None


T = TypeVar("T")


def _decode(content: bytes, kind: type[T], place: str, what: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvlockError(f"{place}: not {what}: {printable(str(error)[:200])}") from None
    except RecursionError:
        raise EnvlockError(f"{place}: not {what}: nested too deeply") from None
