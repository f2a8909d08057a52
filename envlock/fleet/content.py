"""A manifest's bytes cut at its tables, so that what is equal on many nodes is parsed once; never by its [digest].

A manifest states digests of its own sections, but it may have been edited since, or lie: only bytes that are equal
are trusted to be equal. TOML is cut at lines that open a table. The pieces are read one by one; wherever that could
mean something else than reading the whole (a table in two places, text over several lines), the whole is read.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from envlock.errors import EnvlockError
from envlock.manifest.address import facts
from envlock.manifest.model import SCHEMA, Manifest, to_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envlock.fleet.store import Entry

Form = Literal["toml", "json"]

NOT_COMPARED = frozenset({"schema", "digest", "lock", "requires"})
"""Tables that set no node apart: what is stated about others, and what people or packages ask for."""

ANALYSED = frozenset({"host", "environ", "python", "container"})
"""Tables whose facts are looked at one by one: some belong to the node."""

_OPENS = re.compile(rb"\n[ \t]*\[")
"""A line that opens a table, or a list within a list; sought from the line end, since that is a plain byte."""
_NAME = re.compile(rb"\[?[ \t]*([A-Za-z0-9_-]+)[ \t]*[].]")
_TIME = re.compile(rb"^time[ \t]*=[ \t]*[0-9TtZz:+. -]*(?:#[^\r\n]*)?\r?\n", re.MULTILINE)
LATELY = 4
"""Texts of one table that are compared before it is searched for its end."""

BELOW = b"/{prefix}"
"""Stands for the node's own python.prefix before paths below it: an environment on a disk of each node's own
(/local/node17/venv) would make every node another. The prefix itself is compared as what it is, once."""

_PREFIX = re.compile(rb'\n\[python\][ \t]*\r?\n(?:[^\[\n][^\n]*\n)*?prefix = "(/[^"\\\r\n/]+/[^"\\\r\n]+)"')
"""At least two folders deep, so that it is no system's own (/usr)."""

_AS_IT_IS = frozenset({"schema", "capture", "python"})

_PACKED = 2048
"""Bytes from which a piece is kept compressed."""


class Part(NamedTuple):
    """One table of a manifest, as all nodes hold it whose bytes are the same."""

    section: str
    content: bytes
    """Equal for equal facts, however they are written: 16 bytes; none where nothing is held that could differ."""
    text: bytes
    form: Form
    facts: Mapping[str, Any]
    """Address -> plain value, for the tables of ``ANALYSED``; else empty."""
    unobserved: Mapping[str, str]
    """Address -> reason, for [capture]."""

    def plain(self, prefix: str = "") -> dict[str, Any]:
        """Return the table as a manifest that holds nothing else, of a node whose Python has this prefix."""
        packed = self.text.startswith(b"\0")
        text = zlib.decompress(self.text[1:]) if packed else self.text
        return _parse(self.section, text.replace(BELOW, prefix.encode()) if prefix else text, self.form)


class Reader:
    """Reads the manifests of many nodes and remembers each table's bytes that it has seen."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Part] = {}
        self._lately: dict[str, list[tuple[bytes, Part]]] = {}
        """For each table the texts seen last: most nodes hold one of them, and to compare is faster than to search."""

    def read(self, entry: Entry) -> tuple[Part, ...]:
        """Return the tables of a node's manifest; raises EnvlockError for one that is no manifest."""
        content = entry.read()
        try:
            parts = self._read_toml(content) if entry.form == "toml" else self._read_json(content)
        except (EnvlockError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
            parts = None  # the whole says it with the right line, or is a manifest after all
        if parts is None:
            parts = self._read_json(msgspec.json.encode(to_plain(entry.load())))
        return parts

    def _read_json(self, content: bytes) -> tuple[Part, ...]:
        tables = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        if "schema" not in tables:
            raise EnvlockError("no schema")
        prefix = _json_prefix(tables.get("python"))
        return tuple(
            self._part(
                section, bytes(raw) if section in _AS_IT_IS else _below(bytes(raw), prefix), "json"
            )
            for section, raw in tables.items() if section != "digest"
        )  # fmt: skip

    def _read_toml(self, content: bytes) -> tuple[Part, ...] | None:
        """Cut TOML into its top-level tables, what stands before the first as "schema"; None where that is not certain."""
        content = _with_paths_below(b"\n" + content.removeprefix(b"\xef\xbb\xbf"))
        parts: list[Part] = []
        done = set()
        section, start = "schema", 0
        while True:
            done.add(section)
            part, end, following = self._known(section, content, start)
            if part is None:
                end, following = _end(section, content, start)
                text = content[start:end]
                if b'"""' in text or b"'''" in text:
                    return None  # a line that opens a table may be part of a text
                if section != "digest":
                    part = self._part(section, _TIME.sub(b"", text) if section == "capture" else text, "toml")
                    self._lately.setdefault(section, []).insert(0, (text, part))
                    del self._lately[section][LATELY:]
            if part is not None:
                parts.append(part)
            if end == len(content):
                return tuple(parts)
            if following is None or following in done:
                return None
            section, start = following, end

    def _known(self, section: str, content: bytes, start: int) -> tuple[Part | None, int, str | None]:
        """Return the table at a place, if it is one of those seen last, where it ends, and which table follows."""
        for text, part in self._lately.get(section, ()):
            if content.startswith(text, start):
                end = start + len(text)
                following = _opened(content, end)
                if following != section and (end == len(content) or following is not None):
                    return part, end, following
        return None, start, None

    def _part(self, section: str, text: bytes, form: Form) -> Part:
        key = hashlib.sha256(b"%s %s\0%s" % (form.encode(), section.encode(), text)).digest()
        part = self._seen.get(key)
        if part is None:
            part = self._seen[key] = _part(section, text, form)
        return part


def _with_paths_below(content: bytes) -> bytes:
    """Return TOML with the paths below the node's Python written as such in the tables after [python]."""
    found = _PREFIX.search(content)
    after = content.find(b"\n[", found.end()) if found else -1
    return content[:after] + _below(content[after:], found[1]) if found and after >= 0 else content


def _json_prefix(python: msgspec.Raw | None) -> bytes:
    found = msgspec.json.decode(python) if python else {}
    prefix = found.get("prefix") if isinstance(found, dict) else None
    if not isinstance(prefix, str) or not re.fullmatch(r'/[^"\\/]+/[^"\\]+', prefix):
        return b""
    return prefix.encode()


def _below(text: bytes, prefix: bytes) -> bytes:
    if prefix:
        for after in (b"/", b'"', b":"):
            text = text.replace(prefix + after, BELOW + after)
    return text


def _end(section: str, content: bytes, start: int) -> tuple[int, str | None]:
    """Return where another table than this one begins, and its name; None for one whose name is not plain."""
    for found in _OPENS.finditer(content, start + 1):
        name = _opened(content, found.start())
        if name != section:
            return found.start(), name
    return len(content), None


def _opened(content: bytes, place: int) -> str | None:
    """Return the table that the line after a line end opens, if it opens one by a plain name."""
    opens = _OPENS.match(content, place)
    named = _NAME.match(content, opens.end()) if opens else None
    return named[1].decode() if named else None


def _parse(section: str, text: bytes, form: Form) -> dict[str, Any]:
    if form == "json":
        return {section: msgspec.json.decode(text)}
    from envlock.manifest.read import parse_toml

    plain = parse_toml(text.decode("utf-8"), section)
    if plain.keys() - {section}:
        raise EnvlockError("a table of another name")
    return plain


def _part(section: str, text: bytes, form: Form) -> Part:
    plain = _parse(section, text, form)
    if section == "schema" and plain != {"schema": SCHEMA}:
        raise EnvlockError("another schema")
    manifest = msgspec.convert(plain, Manifest)
    held: Any = None
    if section == "capture":
        held = [sorted(manifest.capture.unobserved), manifest.capture.source]
    elif section not in NOT_COMPARED:
        held = facts(manifest)
    empty = held in (None, {}, [[], None])
    digest = (
        b"" if empty else hashlib.sha256(msgspec.json.encode([section, held], order="sorted")).digest()[:16]
    )
    return Part(
        section,
        digest,
        b"\0" + zlib.compress(text, 1) if len(text) >= _PACKED or text.startswith(b"\0") else text,
        form,
        held if section in ANALYSED else {},
        manifest.capture.unobserved,
    )


def join(parts: tuple[Part, ...]) -> Manifest:
    """Return the manifest that the tables make up."""
    plain: dict[str, Any] = {}
    ordered = sorted(parts, key=lambda part: part.section != "python")
    for part in ordered:
        if part.section not in ("lock", "schema"):
            plain.update(part.plain(plain.get("python", {}).get("prefix") or ""))
    return msgspec.convert(plain, Manifest)
